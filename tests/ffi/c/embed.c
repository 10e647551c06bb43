/* Vectors of texts by the table inside, or by the model of an argument. */
#include "check.h"
#include <math.h>

static const char *const texts[] = {"A cat sleeps on the warm mat.", "The kitten is asleep on a rug.",
                                    "Interest rates rose in March.", ""};

static double cosine(const float *a, const float *b, size_t dim) {
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < dim; i++) dot += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
    return dot / sqrt(aa * bb);
}

int main(int argc, char **argv) {
    enum { COUNT = sizeof texts / sizeof *texts };
    const char *path = argc > 1 ? argv[1] : NULL;
    samebits_engine *engine;
    samebits_embedder *embedder, *none = NULL;
    OK(samebits_engine_open(NULL, 2, &engine));
    OK(samebits_embedder_open(engine, path, SAMEBITS_NORMALIZE, &embedder));
    size_t dim;
    OK(samebits_embedder_dim(embedder, &dim));
    float *all = malloc(COUNT * dim * sizeof *all), *one = malloc(dim * sizeof *one);
    CHECK(all && one);
    OK(samebits_embed(engine, embedder, texts, COUNT, all, COUNT * dim));
    double near = cosine(all, all + dim, dim), far = cosine(all, all + 2 * dim, dim);
    CHECK(near > far);
    for (size_t i = 0; i < COUNT; i++) {
        OK(samebits_embed(engine, embedder, texts + i, 1, one, dim));
        CHECK(memcmp(one, all + i * dim, dim * sizeof *one) == 0); /* the same alone and beside others */
    }
    OK(samebits_embed(engine, embedder, NULL, 0, NULL, 0));

    const char *const bad[] = {"fine", NULL}, *const latin[] = {"caf\xe9"};
    REFUSED(SAMEBITS_ARGUMENT, "texts[1] is NULL", samebits_embed(engine, embedder, bad, 2, all, 2 * dim));
    REFUSED(SAMEBITS_ARGUMENT, "texts[0] is not UTF-8", samebits_embed(engine, embedder, latin, 1, one, dim));
    REFUSED(SAMEBITS_ARGUMENT, "len is 3", samebits_embed(engine, embedder, texts, 1, one, 3));
    REFUSED(SAMEBITS_ARGUMENT, "vectors is NULL", samebits_embed(engine, embedder, texts, 1, NULL, dim));
    REFUSED(SAMEBITS_ARGUMENT, "embedder is NULL", samebits_embed(engine, NULL, texts, 1, one, dim));
    REFUSED(SAMEBITS_ARGUMENT, "flags is 2", samebits_embedder_open(engine, path, 2, &none));
    REFUSED(SAMEBITS_IO, "no-such-folder", samebits_embedder_open(engine, "no-such-folder", 0, &none));
    CHECK(none == NULL);
    free(all), free(one);
    samebits_embedder_close(embedder);
    samebits_embedder_close(NULL);
    samebits_engine_close(engine);
    printf("embed: cosine %.4f of two sentences that say the same, %.4f of two that do not\n", near, far);
    return 0;
}
