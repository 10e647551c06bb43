/* Opens what each argument names, a model or the folder of an encoder, and an index that it writes to the first: after
 * each the process has the signal handlers that it had before. A mapped file would have set one. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <signal.h>

enum { SIGNALS = 32 };
typedef void (*handler)(int);

static void handlers(handler *all) {
    for (int i = 1; i < SIGNALS; i++) {
        struct sigaction now;
        all[i] = sigaction(i, NULL, &now) == 0 ? now.sa_handler : SIG_ERR;
    }
}

static void unchanged(const handler *before, const char *after) {
    handler now[SIGNALS];
    handlers(now);
    for (int i = 1; i < SIGNALS; i++) {
        if (now[i] != before[i]) {
            fprintf(stderr, "%s: signal %d has another handler than before\n", after, i);
            exit(1);
        }
    }
}

int main(int argc, char **argv) {
    CHECK(argc > 2);
    handler before[SIGNALS];
    handlers(before);
    samebits_engine *engine;
    OK(samebits_engine_open(NULL, 2, &engine));
    samebits_document document = {"bread.txt", "Flour, water, salt and time: a loaf needs nothing else."};
    samebits_index *index;
    OK(samebits_index_build(engine, NULL, &document, 1, &index));
    OK(samebits_index_save(index, argv[1]));
    samebits_index_close(index);
    OK(samebits_index_open(argv[1], &index));
    unchanged(before, argv[1]);
    samebits_index_close(index);
    for (int i = 2; i < argc; i++) {
        samebits_model *model = NULL;
        samebits_embedder *embedder = NULL;
        if (samebits_model_open(engine, argv[i], &model) != SAMEBITS_OK) {
            OK(samebits_embedder_open(engine, argv[i], 0, &embedder));
        }
        unchanged(before, argv[i]);
        samebits_model_close(model);
        samebits_embedder_close(embedder);
    }
    samebits_engine_close(engine);
    unchanged(before, "closing");
    printf("files: an index and %d models are opened, and no signal has another handler\n", argc - 2);
    return 0;
}
