/* An index of a few documents: built, searched, saved to the file of the first argument, opened, searched again. */
#include "check.h"

static const samebits_document documents[] = {
    {"harbour.md", "# The harbour\n\nAt night the boats lie still. The lighthouse turns, and Ann sails out alone."},
    {"bread.txt", "Flour, water, salt and time: a loaf needs nothing else. Bake it hot."},
    {"gemm.rs", "/// C = A B, the product of matrices\nfn gemm(a: &[f32], b: &[f32], c: &mut [f32]) {}\n"},
};
enum { COUNT = sizeof documents / sizeof *documents };

static void expect(const samebits_engine *engine, const samebits_index *index, const samebits_query *query,
                   const char *document) {
    samebits_hit hits[2];
    size_t count = 0;
    OK(samebits_index_search(engine, index, query, hits, 2, &count));
    CHECK(count >= 1 && count <= 2);
    CHECK(hits[0].document_len == strlen(document) && memcmp(hits[0].document, document, hits[0].document_len) == 0);
    CHECK(hits[0].line >= 1 && hits[0].text_len > 0 && hits[0].score > 0);
    CHECK(count == 1 || hits[0].score >= hits[1].score);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    samebits_engine *engine;
    samebits_embedder *embedder;
    samebits_index *index, *words, *opened, *none = NULL;
    OK(samebits_engine_open(NULL, 2, &engine));
    OK(samebits_embedder_open(engine, NULL, SAMEBITS_NORMALIZE, &embedder));
    OK(samebits_index_build(engine, embedder, documents, COUNT, &index));
    OK(samebits_index_build(engine, NULL, documents, COUNT, &words));
    size_t many, chunks;
    OK(samebits_index_count(index, &many, &chunks));
    CHECK(many == COUNT && chunks >= COUNT);
    samebits_query night = {"who sails at night?", NULL, SAMEBITS_HYBRID, NULL};
    expect(engine, words, &night, "harbour.md");
    samebits_query ships = {"ships on the sea", embedder, SAMEBITS_DENSE, NULL};
    expect(engine, index, &ships, "harbour.md");
    samebits_query bread = {"bake bread", embedder, SAMEBITS_HYBRID, NULL};
    expect(engine, index, &bread, "bread.txt");
    bread.filter = "id = gemm.rs";
    expect(engine, index, &bread, "gemm.rs");

    OK(samebits_index_save(index, argv[1]));
    OK(samebits_index_open(argv[1], &opened));
    samebits_hit here[COUNT], there[COUNT];
    size_t n, m;
    bread.filter = NULL;
    OK(samebits_index_search(engine, index, &bread, here, COUNT, &n));
    OK(samebits_index_search(engine, opened, &bread, there, COUNT, &m));
    CHECK(n == m && n > 0);
    for (size_t i = 0; i < n; i++) CHECK(here[i].score == there[i].score && here[i].chunk == there[i].chunk);

    REFUSED(SAMEBITS_ARGUMENT, "opened from a file", samebits_index_save(opened, argv[1]));
    REFUSED(SAMEBITS_IO, "no-such-folder", samebits_index_save(index, "no-such-folder/index.sbi"));
    REFUSED(SAMEBITS_IO, "missing.sbi", samebits_index_open("missing.sbi", &none));
    REFUSED(SAMEBITS_DATA, "search.c", samebits_index_open(__FILE__, &none));
    REFUSED(SAMEBITS_ARGUMENT, "path is NULL", samebits_index_open(NULL, &none));
    samebits_document twice[] = {{"a", "one"}, {NULL, "two"}};
    REFUSED(SAMEBITS_ARGUMENT, "documents[1].id is NULL", samebits_index_build(engine, NULL, twice, 2, &none));
    twice[1].id = "a";
    REFUSED(SAMEBITS_ARGUMENT, "documents[1].id is \"a\"", samebits_index_build(engine, NULL, twice, 2, &none));
    night.mode = 3;
    REFUSED(SAMEBITS_ARGUMENT, "mode is 3", samebits_index_search(engine, words, &night, here, COUNT, &n));
    night.mode = SAMEBITS_DENSE;
    REFUSED(SAMEBITS_DATA, "needs the model", samebits_index_search(engine, words, &night, here, COUNT, &n));
    night.embedder = embedder;
    REFUSED(SAMEBITS_DATA, "was made with the model none", samebits_index_search(engine, words, &night, here, 1, &n));
    night.text = NULL;
    REFUSED(SAMEBITS_ARGUMENT, "query.text is NULL", samebits_index_search(engine, words, &night, here, 1, &n));
    bread.filter = "((";
    REFUSED(SAMEBITS_DATA, "", samebits_index_search(engine, index, &bread, here, 1, &n));
    REFUSED(SAMEBITS_ARGUMENT, "hits is NULL", samebits_index_search(engine, index, &bread, NULL, 1, &n));
    CHECK(none == NULL);
    samebits_index_close(index), samebits_index_close(words), samebits_index_close(opened), samebits_index_close(NULL);
    samebits_embedder_close(embedder);
    samebits_engine_close(engine);
    printf("search: %zu documents in %zu chunks; words, meaning, both, conditions; saved and opened\n", many, chunks);
    return 0;
}
