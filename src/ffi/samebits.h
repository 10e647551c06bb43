/*
 * samebits.h: the C interface of samebits, a CPU numerics engine for language models whose results have the same
 * bits on every instruction set, for any number of threads and any batch.
 *
 *   cargo rustc --release --lib --features ffi --crate-type staticlib     # target/release/libsamebits.a
 *   cargo rustc --release --lib --features ffi --crate-type cdylib        # target/release/libsamebits.so
 *   cc -I src/ffi program.c target/release/libsamebits.a -lpthread -ldl -lm
 *
 * Status.   Every function that can fail returns a samebits_status. SAMEBITS_OK is 0. What failed stands in
 *           samebits_last_error(), in one line, for the thread that called. After a failure outputs hold anything,
 *           unless their function says more.
 * Handles.  samebits_engine, _model, _session, _embedder, _index: made by _open or _build, ended by _close (for which
 *           NULL is nothing), each independent of the others: a model may be closed before its sessions.
 * Memory.   Results go to memory of the caller. Only two things point into the library: the texts of a
 *           samebits_hit, until its index is closed, and samebits_last_error(). Inputs may be freed when a call
 *           returns. An output must not overlap an input (softmax in place aside): that is refused. Pointers may be
 *           NULL where it is said, and where there are no elements. Scratch is kept by the engine's threads and
 *           reused; it grows with the depth of products, not with their size.
 * Threads.  Engines, models, embedders and indexes do not change: any number of threads may use them at once. (A call
 *           that finds the threads of an engine busy computes alone.) A session belongs to one thread at a time. No
 *           global state but each thread's last error; two users in one process do not meet. After fork() a child may
 *           go on with everything, on one thread; it must not fork during a call.
 * Files.    Read into memory, not mapped: nothing that happens to a file after it was opened matters, and no handler
 *           of a signal is set.
 * Failure.  Nothing unwinds into the caller. A bug of the library is SAMEBITS_INTERNAL. Only where the system has no
 *           memory left does the process end, as the Rust allocator does.
 * Text.     UTF-8. Paths too.
 */
#ifndef SAMEBITS_H
#define SAMEBITS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a call ended. */
typedef enum samebits_status {
    SAMEBITS_OK = 0,
    SAMEBITS_ARGUMENT = 1, /* NULL, misaligned, of the wrong size, out of range */
    SAMEBITS_IO = 2,       /* the system refused a file */
    SAMEBITS_DATA = 3,     /* a file or a value breaks a rule of its kind */
    SAMEBITS_TIER = 4,     /* no such instruction set here */
    SAMEBITS_CAPACITY = 5, /* a buffer is too small; what is needed was written beside it */
    SAMEBITS_END = 6,      /* no failure: the text is over */
    SAMEBITS_INTERNAL = 7  /* a bug of the library */
} samebits_status;

typedef struct samebits_engine samebits_engine;
typedef struct samebits_model samebits_model;
typedef struct samebits_session samebits_session;
typedef struct samebits_embedder samebits_embedder;
typedef struct samebits_index samebits_index;

/* ---- the library */

/* This thread's last failure; "" before the first. Valid until its next one. */
const char *samebits_last_error(void);

/* The number of this interface that the library has, and the one of this header: they must be equal. */
#define SAMEBITS_ABI 1
uint32_t samebits_abi(void);

/* "0.1.0" */
const char *samebits_version(void);

/* ---- engines: an instruction set and threads */

/* tier: "scalar", "avx2", "avx512", "neon", perhaps with extras taken away ("avx512,-vnni"); NULL for SAMEBITS_TIER of
 * the environment, else the best of this machine. threads: the caller's counts; 0 for SAMEBITS_THREADS, else all that
 * this process may use. Neither changes a bit of any result. */
samebits_status samebits_engine_open(const char *tier, size_t threads, samebits_engine **engine);
/* A constant string. */
samebits_status samebits_engine_tier(const samebits_engine *engine, const char **tier);
samebits_status samebits_engine_threads(const samebits_engine *engine, size_t *threads);
void samebits_engine_close(samebits_engine *engine);

/* ---- kernels */

/* Element (r, c) is data[r * row_stride + c * col_stride]; strides may be 0 or negative where nothing is written. */
typedef struct samebits_matrix {
    const float *data;
    size_t rows;
    size_t cols;
    ptrdiff_t row_stride;
    ptrdiff_t col_stride;
} samebits_matrix;

/* To write: no two elements in one place. Memory between its elements is not touched, but must not be used by
 * anybody else during the call. */
typedef struct samebits_matrix_mut {
    float *data;
    size_t rows;
    size_t cols;
    ptrdiff_t row_stride;
    ptrdiff_t col_stride;
} samebits_matrix_mut;

#define SAMEBITS_ACCUMULATE 1

/* C (m, n) = A (m, k) * B (k, n); with SAMEBITS_ACCUMULATE in flags, else 0, C + A * B. */
samebits_status samebits_gemm(const samebits_engine *engine, const samebits_matrix *a, const samebits_matrix *b,
                              const samebits_matrix_mut *c, uint32_t flags);

/* The softmax of each row; out may be x itself (the same data and strides). A NaN makes its row NaN. */
samebits_status samebits_softmax(const samebits_engine *engine, const samebits_matrix *x,
                                 const samebits_matrix_mut *out);

/* Element (b, h, t, d), that is batch, head, token, component, is data[b * strides[0] + … + d * strides[3]]. */
typedef struct samebits_heads {
    const float *data;
    size_t shape[4];
    ptrdiff_t strides[4];
} samebits_heads;

typedef struct samebits_heads_mut {
    float *data;
    size_t shape[4];
    ptrdiff_t strides[4];
} samebits_heads_mut;

#define SAMEBITS_FULL 0   /* every query sees every key */
#define SAMEBITS_CAUSAL 1 /* the last query stands at the last key; each sees the keys up to its own */
#define SAMEBITS_WINDOW 2 /* of these the last `window` */

typedef struct samebits_attention_args {
    samebits_heads q;       /* (batch, heads, queries, qk_dim) */
    samebits_heads k;       /* (batch, kv_heads, keys, qk_dim); heads is a multiple of kv_heads */
    samebits_heads v;       /* (batch, kv_heads, keys, v_dim) */
    samebits_heads_mut out; /* (batch, heads, queries, v_dim) */
    float scale;            /* 0 for 1 / sqrt(qk_dim) */
    uint32_t pattern;
    size_t window;
} samebits_attention_args;

/* softmax(scale * q k^T) v for each head; the scores never lie in memory. A query that sees no key gets zeros. */
samebits_status samebits_attention(const samebits_engine *engine, const samebits_attention_args *args);

/* ---- NF4: weights of four bits, as bitsandbytes stores them */

/* A weight (n, k) = (output features, input features), row after row: two codes a byte, the first in the high half,
 * (n * k + 1) / 2 bytes; one absmax for blocksize (64 is usual) consecutive elements. */
typedef struct samebits_nf4 {
    size_t n;
    size_t k;
    size_t blocksize;
    const uint8_t *codes;
    const float *absmax;
} samebits_nf4;

typedef struct samebits_nf4_mut {
    size_t n;
    size_t k;
    size_t blocksize;
    uint8_t *codes;
    float *absmax;
} samebits_nf4_mut;

/* The same in the order in which products read it; both pointers at multiples of 64 bytes (aligned_alloc). */
typedef struct samebits_nf4_packed {
    size_t n;
    size_t k;
    size_t blocksize;
    uint8_t *codes;
    size_t code_bytes;
    float *scales;
    size_t scale_count;
} samebits_nf4_packed;

/* From n * k floats. A NaN or an infinity has no code: SAMEBITS_DATA. */
samebits_status samebits_nf4_quantize(const samebits_engine *engine, const float *x, const samebits_nf4_mut *out);
/* To n * k floats. */
samebits_status samebits_nf4_dequantize(const samebits_engine *engine, const samebits_nf4 *weight, float *out);
/* What a packed weight needs. */
samebits_status samebits_nf4_packed_size(size_t n, size_t k, size_t blocksize, size_t *code_bytes,
                                         size_t *scale_count);
samebits_status samebits_nf4_pack(const samebits_nf4 *weight, const samebits_nf4_packed *packed);
/* The bytes that were packed. */
samebits_status samebits_nf4_unpack(const samebits_nf4_packed *packed, const samebits_nf4_mut *out);
/* C (m, n) = A (m, k) * W^T, or C + A * W^T; the bits that samebits_gemm gives of the decoded weight. */
samebits_status samebits_gemm_nf4(const samebits_engine *engine, const samebits_matrix *a,
                                  const samebits_nf4_packed *weight, const samebits_matrix_mut *c, uint32_t flags);

/* ---- models that continue texts */

/* Memory of the caller for a text: capacity bytes at data. What is written ends with a zero, which length does not
 * count. */
typedef struct samebits_buffer {
    char *data;
    size_t capacity;
    size_t length;
} samebits_buffer;

typedef struct samebits_model_info {
    size_t vocab;
    size_t context; /* tokens that it was made for */
    size_t dim;
    size_t layers;
} samebits_model_info;

/* max_tokens 0: until the model ends the text or no character fits the buffer. temperature 0: the likeliest token. */
typedef struct samebits_generate_options {
    size_t max_tokens;
    float temperature;
    float top_p;          /* 1 for all */
    float min_p;          /* 0 for all */
    float repeat_penalty; /* 1 changes nothing */
    size_t top_k;         /* 0 for all */
    uint64_t seed;
} samebits_generate_options;

/* A folder as on Hugging Face, a GGUF file, a checkpoint of llama2.c; NULL for the little model inside the library. */
samebits_status samebits_model_open(const samebits_engine *engine, const char *path, samebits_model **model);
void samebits_model_close(samebits_model *model);
samebits_status samebits_model_describe(const samebits_model *model, samebits_model_info *info);
/* count is written also where there is no room (SAMEBITS_CAPACITY): ask with ids NULL and capacity 0. */
samebits_status samebits_tokenize(const samebits_model *model, const char *text, uint32_t *ids, size_t capacity,
                                  size_t *count);
/* All of the text or, with SAMEBITS_CAPACITY, its length alone. */
samebits_status samebits_detokenize(const samebits_model *model, const uint32_t *ids, size_t count,
                                    samebits_buffer *text);
/* Of what follows the tokens: after the last (len = vocab) or after each (len = count * vocab). */
samebits_status samebits_logits(const samebits_engine *engine, const samebits_model *model, const uint32_t *ids,
                                size_t count, float *logits, size_t len);
/* Fills options with: the likeliest token each time. */
samebits_status samebits_generate_defaults(samebits_generate_options *options);
/* What follows the prompt; options NULL for the defaults. */
samebits_status samebits_generate(const samebits_engine *engine, const samebits_model *model, const char *prompt,
                                  const samebits_generate_options *options, samebits_buffer *text);

/* ---- a text token by token */

/* context: tokens at most, 0 for what the model was made for; max_tokens of options does not count here. */
samebits_status samebits_session_open(const samebits_model *model, const samebits_generate_options *options,
                                      size_t context, samebits_session **session);
/* Tokens that somebody else says: at least those of a beginning. */
samebits_status samebits_session_feed(const samebits_engine *engine, samebits_session *session, const uint32_t *ids,
                                      size_t count);
/* SAMEBITS_END, and id untouched, where the model ends the text or the context is full. */
samebits_status samebits_session_next(const samebits_engine *engine, samebits_session *session, uint32_t *id);
/* Takes out the text of what was drawn since: as many whole characters as fit; the others come with the next call. */
samebits_status samebits_session_text(samebits_session *session, samebits_buffer *text);
void samebits_session_close(samebits_session *session);

/* ---- vectors of texts */

#define SAMEBITS_NORMALIZE 1 /* scaled to length 1, whatever the model says: what indexes are made with */

/* The folder of an encoder or of model2vec; NULL for the table inside the library. */
samebits_status samebits_embedder_open(const samebits_engine *engine, const char *path, uint32_t flags,
                                       samebits_embedder **embedder);
samebits_status samebits_embedder_dim(const samebits_embedder *embedder, size_t *dim);
void samebits_embedder_close(samebits_embedder *embedder);
/* count vectors, one after the other: len = count * dim. */
samebits_status samebits_embed(const samebits_engine *engine, const samebits_embedder *embedder,
                               const char *const *texts, size_t count, float *vectors, size_t len);

/* ---- search */

typedef struct samebits_document {
    const char *id; /* no two alike; its ending (".md", ".rs") says how the text is cut */
    const char *text;
} samebits_document;

#define SAMEBITS_HYBRID 0  /* words and meaning where there is an embedder, else words */
#define SAMEBITS_LEXICAL 1 /* words */
#define SAMEBITS_DENSE 2   /* meaning */

typedef struct samebits_query {
    const char *text;
    const samebits_embedder *embedder; /* the one of the index; may be NULL where words alone count */
    uint32_t mode;
    const char *filter; /* documents that count, as `samebits search --filter`; NULL for all */
} samebits_query;

/* document and text have no zero at their ends, and live as long as the index. */
typedef struct samebits_hit {
    double score;
    size_t chunk;
    size_t line; /* of the document, from 1 on */
    const char *document;
    size_t document_len;
    const char *text;
    size_t text_len;
} samebits_hit;

/* A file of `samebits index` or samebits_index_save, read into memory. */
samebits_status samebits_index_open(const char *path, samebits_index **index);
/* embedder NULL: an index of words alone. */
samebits_status samebits_index_build(const samebits_engine *engine, const samebits_embedder *embedder,
                                     const samebits_document *documents, size_t count, samebits_index **index);
/* One that was built: whole, or not at all. */
samebits_status samebits_index_save(const samebits_index *index, const char *path);
samebits_status samebits_index_count(const samebits_index *index, size_t *documents, size_t *chunks);
/* The best first; count is capacity, or less where there are not so many. */
samebits_status samebits_index_search(const samebits_engine *engine, const samebits_index *index,
                                      const samebits_query *query, samebits_hit *hits, size_t capacity,
                                      size_t *count);
void samebits_index_close(samebits_index *index);

#ifdef __cplusplus
}
#endif

#endif
