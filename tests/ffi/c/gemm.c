/* Products, softmax, attention and NF4 from C: against plain loops, on every tier of this machine, with bad arguments. */
#include "check.h"
#include <math.h>

enum { M = 33, K = 300, N = 70 };

static void plain_product(const float *a, const float *b, double *c) {
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int p = 0; p < K; p++) sum += (double)a[i * K + p] * b[p * N + j];
            c[i * N + j] = sum;
        }
}

static uint64_t products(const samebits_engine *engine) {
    float *a = drawn(M * K, 1), *b = drawn(K * N, 2), *c = malloc(M * N * sizeof *c), *d = drawn(M * N, 3);
    double *truth = malloc(M * N * sizeof *truth);
    CHECK(c && truth);
    plain_product(a, b, truth);
    samebits_matrix A = matrix(a, M, K), B = matrix(b, K, N);
    samebits_matrix_mut C = matrix_mut(c, M, N), D = matrix_mut(d, M, N);
    OK(samebits_gemm(engine, &A, &B, &C, 0));
    for (int i = 0; i < M * N; i++) CHECK(fabs(c[i] - truth[i]) < 1e-4);
    float before = d[5];
    OK(samebits_gemm(engine, &A, &B, &D, SAMEBITS_ACCUMULATE));
    CHECK(fabs(d[5] - (before + truth[5])) < 1e-4);

    /* A transposed in place by its strides, from its last row up: the same product, upside down. */
    float *t = malloc(M * K * sizeof *t);
    CHECK(t);
    for (int i = 0; i < M; i++)
        for (int p = 0; p < K; p++) t[p * M + i] = a[i * K + p];
    samebits_matrix T = {t + M - 1, M, K, -1, M};
    OK(samebits_gemm(engine, &T, &B, &D, 0));
    for (int i = 0; i < M; i++) CHECK(memcmp(d + i * N, c + (M - 1 - i) * N, N * sizeof *c) == 0);
    uint64_t h = hash(c, M * N * sizeof *c);
    free(a), free(b), free(c), free(d), free(t), free(truth);
    return h;
}

static uint64_t rows(const samebits_engine *engine) {
    float *x = drawn(M * K, 4), *y = malloc(M * K * sizeof *y);
    CHECK(y);
    samebits_matrix X = matrix(x, M, K);
    samebits_matrix_mut Y = matrix_mut(y, M, K), same = matrix_mut(x, M, K);
    OK(samebits_softmax(engine, &X, &Y));
    for (int i = 0; i < M; i++) {
        double sum = 0;
        for (int p = 0; p < K; p++) sum += y[i * K + p];
        CHECK(fabs(sum - 1) < 1e-6);
    }
    OK(samebits_softmax(engine, &X, &same));
    CHECK(memcmp(x, y, M * K * sizeof *x) == 0);
    uint64_t h = hash(y, M * K * sizeof *y);
    free(x), free(y);
    return h;
}

enum { HEADS = 4, KV = 2, TOKENS = 70, DIM = 24 };

static samebits_heads heads(const float *data, size_t h) {
    return (samebits_heads){data, {1, h, TOKENS, DIM}, {(ptrdiff_t)h * TOKENS * DIM, TOKENS * DIM, DIM, 1}};
}

static uint64_t attend(const samebits_engine *engine) {
    float *q = drawn(HEADS * TOKENS * DIM, 5), *k = drawn(KV * TOKENS * DIM, 6), *v = drawn(KV * TOKENS * DIM, 7);
    float *out = malloc(HEADS * TOKENS * DIM * sizeof *out);
    CHECK(out);
    samebits_heads shape = heads(out, HEADS);
    samebits_attention_args args = {heads(q, HEADS), heads(k, KV), heads(v, KV), {out, {0}, {0}}, 0,
                                    SAMEBITS_CAUSAL, 0};
    memcpy(args.out.shape, shape.shape, sizeof shape.shape);
    memcpy(args.out.strides, shape.strides, sizeof shape.strides);
    OK(samebits_attention(engine, &args));
    /* The first query sees one key: its value comes out. */
    for (int h = 0; h < HEADS; h++)
        CHECK(memcmp(out + h * TOKENS * DIM, v + h / 2 * TOKENS * DIM, DIM * sizeof *out) == 0);
    uint64_t bits = hash(out, HEADS * TOKENS * DIM * sizeof *out);
    args.pattern = 9;
    REFUSED(SAMEBITS_ARGUMENT, "pattern is 9", samebits_attention(engine, &args));
    args.pattern = SAMEBITS_FULL, args.k.shape[3] = DIM - 1;
    REFUSED(SAMEBITS_ARGUMENT, "attention of q", samebits_attention(engine, &args));
    args.k.shape[3] = DIM, args.out.data = k;
    REFUSED(SAMEBITS_ARGUMENT, "out overlaps k", samebits_attention(engine, &args));
    free(q), free(k), free(v), free(out);
    return bits;
}

static uint64_t nf4(const samebits_engine *engine) {
    enum { BLOCK = 64, CODES = (N * K + 1) / 2, BLOCKS = (N * K + BLOCK - 1) / BLOCK };
    float *w = drawn(N * K, 8), *a = drawn(M * K, 9), *decoded = malloc(N * K * sizeof *decoded);
    uint8_t *codes = malloc(CODES), *codes2 = malloc(CODES);
    float *absmax = malloc(BLOCKS * sizeof *absmax), *absmax2 = malloc(BLOCKS * sizeof *absmax2);
    float *c = malloc(M * N * sizeof *c), *d = malloc(M * N * sizeof *d);
    CHECK(decoded && codes && codes2 && absmax && absmax2 && c && d);
    samebits_nf4_mut to = {N, K, BLOCK, codes, absmax}, back = {N, K, BLOCK, codes2, absmax2};
    samebits_nf4 weight = {N, K, BLOCK, codes, absmax};
    OK(samebits_nf4_quantize(engine, w, &to));
    OK(samebits_nf4_dequantize(engine, &weight, decoded));
    for (int i = 0; i < N * K; i++) CHECK(fabsf(decoded[i] - w[i]) <= 0.1520001f * absmax[i / BLOCK]);

    samebits_nf4_packed packed = {N, K, BLOCK, NULL, 0, NULL, 0};
    OK(samebits_nf4_packed_size(N, K, BLOCK, &packed.code_bytes, &packed.scale_count));
    size_t scale_bytes = packed.scale_count * sizeof(float);
    packed.codes = aligned_alloc(64, packed.code_bytes), packed.scales = aligned_alloc(64, scale_bytes);
    CHECK(packed.codes && packed.scales);
    OK(samebits_nf4_pack(&weight, &packed));
    OK(samebits_nf4_unpack(&packed, &back));
    CHECK(memcmp(codes, codes2, CODES) == 0 && memcmp(absmax, absmax2, BLOCKS * sizeof *absmax) == 0);

    /* A product with the packed weight has the bits of one with the decoded weight. */
    samebits_matrix A = matrix(a, M, K), W = {decoded, K, N, 1, K};
    samebits_matrix_mut C = matrix_mut(c, M, N), D = matrix_mut(d, M, N);
    OK(samebits_gemm_nf4(engine, &A, &packed, &C, 0));
    OK(samebits_gemm(engine, &A, &W, &D, 0));
    CHECK(memcmp(c, d, M * N * sizeof *c) == 0);

    w[77] = NAN;
    REFUSED(SAMEBITS_DATA, "element 77 is NaN", samebits_nf4_quantize(engine, w, &to));
    to.blocksize = 0;
    REFUSED(SAMEBITS_ARGUMENT, "blocksize is 0", samebits_nf4_quantize(engine, w, &to));
    packed.code_bytes -= 64;
    REFUSED(SAMEBITS_ARGUMENT, "a packed weight (70, 300) has", samebits_nf4_pack(&weight, &packed));
    packed.code_bytes += 64, packed.codes += 1;
    REFUSED(SAMEBITS_ARGUMENT, "not aligned to 64 bytes", samebits_nf4_pack(&weight, &packed));
    packed.codes -= 1;
    weight.n = SIZE_MAX / 2;
    REFUSED(SAMEBITS_ARGUMENT, "leaves the address space", samebits_nf4_dequantize(engine, &weight, decoded));
    uint64_t h = hash(c, M * N * sizeof *c);
    free(w), free(a), free(decoded), free(codes), free(codes2), free(absmax), free(absmax2), free(c), free(d);
    free(packed.codes), free(packed.scales);
    return h;
}

static void refusals(const samebits_engine *engine) {
    float a[6] = {1, 2, 3, 4, 5, 6}, b[12] = {0}, c[8] = {0};
    samebits_matrix A = matrix(a, 2, 3), B = matrix(b, 3, 4);
    samebits_matrix_mut C = matrix_mut(c, 2, 4), bad;
    REFUSED(SAMEBITS_ARGUMENT, "engine is NULL", samebits_gemm(NULL, &A, &B, &C, 0));
    REFUSED(SAMEBITS_ARGUMENT, "b is NULL", samebits_gemm(engine, &A, NULL, &C, 0));
    REFUSED(SAMEBITS_ARGUMENT, "flags is 2", samebits_gemm(engine, &A, &B, &C, 2));
    bad = matrix_mut(c, 2, 3);
    REFUSED(SAMEBITS_ARGUMENT, "A (2, 3) times B (3, 4)", samebits_gemm(engine, &A, &B, &bad, 0));
    bad = matrix_mut(NULL, 2, 4);
    REFUSED(SAMEBITS_ARGUMENT, "c is NULL", samebits_gemm(engine, &A, &B, &bad, 0));
    bad = matrix_mut((float *)((char *)c + 1), 2, 4);
    REFUSED(SAMEBITS_ARGUMENT, "c is not aligned", samebits_gemm(engine, &A, &B, &bad, 0));
    bad = matrix_mut(b + 4, 2, 4);
    REFUSED(SAMEBITS_ARGUMENT, "c overlaps b", samebits_gemm(engine, &A, &B, &bad, 0));
    bad = C, bad.row_stride = 1;
    REFUSED(SAMEBITS_ARGUMENT, "two elements in one place", samebits_gemm(engine, &A, &B, &bad, 0));
    bad = C, bad.rows = SIZE_MAX, A.rows = SIZE_MAX;
    REFUSED(SAMEBITS_ARGUMENT, "leaves the address space", samebits_gemm(engine, &A, &B, &bad, 0));
    A = matrix(a, 0, 3), bad = matrix_mut(NULL, 0, 4);
    OK(samebits_gemm(engine, &A, &B, &bad, 0));
    samebits_matrix X = matrix(b, 3, 4);
    bad = matrix_mut(b, 3, 3);
    REFUSED(SAMEBITS_ARGUMENT, "x is (3, 4)", samebits_softmax(engine, &X, &bad));

    samebits_engine *none = NULL;
    REFUSED(SAMEBITS_TIER, "\"mmx\" does not run here", samebits_engine_open("mmx", 1, &none));
    REFUSED(SAMEBITS_ARGUMENT, "threads is 99999", samebits_engine_open(NULL, 99999, &none));
    REFUSED(SAMEBITS_ARGUMENT, "engine is NULL", samebits_engine_open(NULL, 1, NULL));
    REFUSED(SAMEBITS_ARGUMENT, "tier is not UTF-8 from byte 1 on", samebits_engine_open("a\xff", 1, &none));
    samebits_engine_close(NULL);
}

int main(void) {
    const char *tiers[] = {"scalar", "avx2", "avx512", "neon"};
    uint64_t first = 0;
    int ran = 0;
    CHECK(samebits_abi() == SAMEBITS_ABI);
    CHECK(strcmp(samebits_last_error(), "") == 0);
    for (int i = 0; i < 4; i++)
        for (size_t threads = 1; threads <= 3; threads += 2) {
            samebits_engine *engine = NULL;
            if (samebits_engine_open(tiers[i], threads, &engine) != SAMEBITS_OK) continue;
            const char *tier;
            size_t many;
            OK(samebits_engine_tier(engine, &tier));
            OK(samebits_engine_threads(engine, &many));
            CHECK(strcmp(tier, tiers[i]) == 0 && many >= 1 && many <= threads);
            uint64_t bits = products(engine) ^ 3 * rows(engine) ^ 5 * attend(engine) ^ 7 * nf4(engine);
            CHECK(ran == 0 || bits == first);
            first = bits, ran++;
            refusals(engine);
            samebits_engine_close(engine);
        }
    CHECK(ran >= 2);
    printf("gemm: the same bits, %016llx, of %d tiers and threads; samebits %s\n", (unsigned long long)first, ran,
           samebits_version());
    return 0;
}
