/* What the programs of this folder have in common: each prints one line and ends with 0, or says what is wrong. */
#ifndef CHECK_H
#define CHECK_H

#include <samebits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition, \
                    samebits_last_error());                                               \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

#define OK(call) CHECK((call) == SAMEBITS_OK)

/* The call must be refused with that status and a message that has those words, on one line. */
#define REFUSED(status, words, call)                          \
    do {                                                      \
        CHECK((call) == (status));                            \
        CHECK(strstr(samebits_last_error(), (words)) != NULL); \
        CHECK(strchr(samebits_last_error(), '\n') == NULL);   \
    } while (0)

/* Numbers that look random, the same everywhere: from -1 to 1. */
static inline float draw(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 8388608.0f - 1.0f;
}

static inline float *drawn(size_t n, uint32_t seed) {
    float *x = malloc((n ? n : 1) * sizeof *x);
    CHECK(x != NULL);
    for (size_t i = 0; i < n; i++) x[i] = draw(&seed);
    return x;
}

static inline samebits_matrix matrix(const float *data, size_t rows, size_t cols) {
    return (samebits_matrix){data, rows, cols, (ptrdiff_t)cols, 1};
}

static inline samebits_matrix_mut matrix_mut(float *data, size_t rows, size_t cols) {
    return (samebits_matrix_mut){data, rows, cols, (ptrdiff_t)cols, 1};
}

/* FNV-1a of the bits. */
static inline uint64_t hash(const void *data, size_t bytes) {
    const unsigned char *at = data;
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < bytes; i++) h = (h ^ at[i]) * 1099511628211u;
    return h;
}

#endif
