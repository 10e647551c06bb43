/* The model inside, or that of an argument: a text whole and token by token, tokens, logits. */
#include "check.h"

#define PROMPT "Once upon a time"

static void tokens(const samebits_model *model) {
    size_t count = 0;
    REFUSED(SAMEBITS_CAPACITY, "are needed", samebits_tokenize(model, PROMPT, NULL, 0, &count));
    uint32_t ids[64];
    CHECK(count > 0 && count <= 64);
    OK(samebits_tokenize(model, PROMPT, ids, 64, &count));
    char text[64];
    samebits_buffer buffer = {text, 3, 0};
    REFUSED(SAMEBITS_CAPACITY, "a buffer of 3 bytes", samebits_detokenize(model, ids, count, &buffer));
    CHECK(buffer.length == strlen(PROMPT));
    buffer.capacity = sizeof text;
    OK(samebits_detokenize(model, ids, count, &buffer));
    CHECK(strcmp(text, PROMPT) == 0);
}

static void logits(const samebits_engine *engine, const samebits_model *model) {
    samebits_model_info info;
    OK(samebits_model_describe(model, &info));
    uint32_t ids[64];
    size_t count;
    OK(samebits_tokenize(model, PROMPT, ids, 64, &count));
    float *last = malloc(info.vocab * sizeof *last), *each = malloc(count * info.vocab * sizeof *each);
    CHECK(last && each);
    OK(samebits_logits(engine, model, ids, count, last, info.vocab));
    OK(samebits_logits(engine, model, ids, count, each, count * info.vocab));
    CHECK(memcmp(last, each + (count - 1) * info.vocab, info.vocab * sizeof *last) == 0);
    REFUSED(SAMEBITS_ARGUMENT, "len is 7", samebits_logits(engine, model, ids, count, last, 7));
    REFUSED(SAMEBITS_ARGUMENT, "ids is NULL", samebits_logits(engine, model, NULL, count, last, info.vocab));
    REFUSED(SAMEBITS_ARGUMENT, "at least one token", samebits_logits(engine, model, ids, 0, last, info.vocab));
    ids[1] = 4000000000u;
    REFUSED(SAMEBITS_DATA, "token 4000000000", samebits_logits(engine, model, ids, count, last, info.vocab));
    free(last), free(each);
}

static void refusals(const samebits_engine *engine, const samebits_model *model) {
    samebits_model *none = NULL;
    REFUSED(SAMEBITS_IO, "no-such-model", samebits_model_open(engine, "no-such-model.gguf", &none));
    REFUSED(SAMEBITS_ARGUMENT, "model is NULL", samebits_model_open(engine, NULL, NULL));
    CHECK(none == NULL);
    char text[8];
    samebits_buffer buffer = {text, sizeof text, 0}, nothing = {NULL, 0, 0}, null = {NULL, 8, 0};
    REFUSED(SAMEBITS_ARGUMENT, "prompt is NULL", samebits_generate(engine, model, NULL, NULL, &buffer));
    REFUSED(SAMEBITS_ARGUMENT, "prompt is not UTF-8", samebits_generate(engine, model, "\xc3(", NULL, &buffer));
    REFUSED(SAMEBITS_CAPACITY, "a buffer of 0 bytes", samebits_generate(engine, model, PROMPT, NULL, &nothing));
    REFUSED(SAMEBITS_ARGUMENT, "buffer.data is NULL", samebits_generate(engine, model, PROMPT, NULL, &null));
    samebits_generate_options options;
    OK(samebits_generate_defaults(&options));
    options.temperature = -1;
    REFUSED(SAMEBITS_ARGUMENT, "temperature", samebits_generate(engine, model, PROMPT, &options, &buffer));
    samebits_session *session = NULL;
    REFUSED(SAMEBITS_ARGUMENT, "model is NULL", samebits_session_open(NULL, NULL, 0, &session));
    OK(samebits_session_open(model, NULL, 8, &session));
    uint32_t id, many[9] = {0};
    REFUSED(SAMEBITS_DATA, "no next token", samebits_session_next(engine, session, &id));
    REFUSED(SAMEBITS_DATA, "the context has room for 8", samebits_session_feed(engine, session, many, 9));
    samebits_session_close(session);
    samebits_session_close(NULL);
    samebits_model_close(NULL);
}

/* Token by token, in a session that outlives its model, through a buffer of a few bytes. */
static void step(const samebits_engine *engine, samebits_model *model, const char *whole, size_t most) {
    uint32_t ids[64], id;
    size_t count, length = 0;
    OK(samebits_tokenize(model, PROMPT, ids, 64, &count));
    samebits_session *session;
    OK(samebits_session_open(model, NULL, 0, &session));
    samebits_model_close(model);
    OK(samebits_session_feed(engine, session, ids, count));
    char few[5], text[4096];
    for (size_t i = 0; i < most; i++) {
        samebits_status status = samebits_session_next(engine, session, &id);
        if (status == SAMEBITS_END) break;
        CHECK(status == SAMEBITS_OK);
        samebits_buffer buffer = {few, sizeof few, 0};
        do {
            OK(samebits_session_text(session, &buffer));
            CHECK(length + buffer.length < sizeof text);
            memcpy(text + length, few, buffer.length), length += buffer.length;
        } while (buffer.length > 0);
    }
    text[length] = 0;
    CHECK(length > 0 && strcmp(text, whole) == 0);
    samebits_session_close(session);
}

int main(int argc, char **argv) {
    const size_t most = 60;
    char first[4096] = "", text[4096];
    samebits_engine *engine = NULL;
    samebits_model *model = NULL;
    for (size_t threads = 1; threads <= 2; threads++) {
        OK(samebits_engine_open(threads == 1 ? "scalar" : NULL, threads, &engine));
        OK(samebits_model_open(engine, argc > 1 ? argv[1] : NULL, &model));
        samebits_buffer buffer = {text, sizeof text, 0};
        samebits_generate_options options;
        OK(samebits_generate_defaults(&options));
        options.max_tokens = most;
        OK(samebits_generate(engine, model, PROMPT, &options, &buffer));
        CHECK(buffer.length == strlen(text) && buffer.length > 0);
        CHECK(threads == 1 || strcmp(first, text) == 0);
        strcpy(first, text);
        if (threads == 2) break;
        samebits_model_close(model);
        samebits_engine_close(engine);
    }
    /* As much as fits, in whole characters. */
    samebits_buffer small = {text, 10, 0};
    OK(samebits_generate(engine, model, PROMPT, NULL, &small));
    CHECK(small.length <= 9 && strncmp(first, text, small.length) == 0);
    tokens(model);
    logits(engine, model);
    refusals(engine, model);
    step(engine, model, first, most);
    samebits_engine_close(engine);
    printf("generate: %s%s\n", PROMPT, first);
    return 0;
}
