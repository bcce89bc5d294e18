/*
 * base.h - what every room stands on: errors, memory, checked sizes, growing buffers, bitmaps,
 * hashing, random numbers, parallel loops, files replaced atomically. Needs libc and pthreads only.
 *
 * Invariants
 *   1. No function here keeps global state.
 *   2. Every allocation, file and thread goes through the annex_env that is handed in.
 *   3. Sizes that come from outside are multiplied and added with the checked helpers.
 */
#ifndef ANNEX_BASE_H
#define ANNEX_BASE_H

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "annex.h"

#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Returns from the calling function when `expression` is not ANNEX_OK. */
#define TRY(expression)                         \
    do {                                        \
        annex_status try_status = (expression); \
        if (try_status != ANNEX_OK) {           \
            return try_status;                  \
        }                                       \
    } while (0)

/* The same for functions that own something: goes to `cleanup` with `status` set. */
#define TRY_CLEANUP(expression)   \
    do {                          \
        status = (expression);    \
        if (status != ANNEX_OK) { \
            goto cleanup;         \
        }                         \
    } while (0)

/* ---- error.c ---------------------------------------------------------------------------------*/

/* Fills `error` (may be NULL) with a formatted sentence and returns `status`. */
annex_status error_set(annex_error *error, annex_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* ANNEX_NOMEM, naming the bytes that were wanted. */
annex_status error_nomem(annex_error *error, uint64_t bytes);
/* The status for an errno value, with "cannot <action> <path>: <reason>". */
annex_status error_io(annex_error *error, int errno_value, const char *action, const char *path);

/* ---- memory.c --------------------------------------------------------------------------------*/

/* *out = zeroed, 64-byte aligned [n x size] bytes; NULL for zero bytes. ANNEX_NOMEM on overflow. */
annex_status memory_new(const annex_env *env, size_t n, size_t size, void *out, annex_error *error);
/*
 * The same without zeroing. Blocks of 2 MiB and more are aligned to 2 MiB and offered huge pages.
 */
annex_status memory_new_raw(const annex_env *env, size_t n, size_t size, void *out,
                            annex_error *error);
/* `n` and `size` as given to memory_new. NULL is allowed. */
void memory_free(const annex_env *env, void *pointer, size_t n, size_t size);

bool checked_add(uint64_t a, uint64_t b, uint64_t *sum); /* false on overflow */
bool checked_multiply(uint64_t a, uint64_t b, uint64_t *product);
static inline uint64_t round_up(uint64_t value, uint64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

/* A growing array of bytes. Zero-initialised is empty; data[bytes] is 0 after the first append. */
struct buffer {
    char *data;
    size_t bytes;
    size_t capacity;
};

annex_status buffer_reserve(const annex_env *env, struct buffer *buffer, size_t extra_bytes,
                            annex_error *error);
annex_status buffer_append(const annex_env *env, struct buffer *buffer, const void *data,
                           size_t bytes, annex_error *error);
void buffer_free(const annex_env *env, struct buffer *buffer);

/* ---- bitmap (inline) -------------------------------------------------------------------------*/

static inline size_t bitmap_words(size_t bits)
{
    return (bits + 63) / 64;
}
static inline bool bitmap_get(const uint64_t *map, size_t i)
{
    return map[i / 64] >> (i % 64) & 1;
}
static inline void bitmap_set(uint64_t *map, size_t i)
{
    map[i / 64] |= UINT64_C(1) << (i % 64);
}
static inline void bitmap_clear(uint64_t *map, size_t i)
{
    map[i / 64] &= ~(UINT64_C(1) << (i % 64));
}
/* Number of set bits among the first `bits`. */
size_t bitmap_count(const uint64_t *map, size_t bits);

/* ---- hash.c ----------------------------------------------------------------------------------*/

uint64_t hash_bytes(const void *data, size_t bytes, uint64_t seed); /* XXH3-64 */
static inline uint64_t hash_mix(uint64_t x) /* splitmix64 finaliser: a bijection of 64 bits */
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* ---- random (inline): splitmix64, Steele et al., OOPSLA 2014 ----------------------------------*/

static inline uint64_t random_next(uint64_t *state)
{
    return hash_mix(*state += UINT64_C(0x9e3779b97f4a7c15));
}
/* A number below n > 0; the bias is below n / 2^64. */
static inline uint64_t random_below(uint64_t *state, uint64_t n)
{
    return (uint64_t)((unsigned __int128)random_next(state) * n >> 64);
}

/* ---- parallel.c ------------------------------------------------------------------------------*/

/* Threads to use for a request of `wanted` (0: all that the environment offers). */
unsigned parallel_threads(const annex_env *env, unsigned wanted);
/*
 * Calls work(argument, worker, first, end) for disjoint ranges that cover [0, n), `grain` items
 * each (the last may be shorter), on up to `threads` threads; worker < threads tells them apart. A
 * status other than ANNEX_OK stops handing out ranges; the first one is returned, its message in
 * `error`. Which worker gets which range varies: results must not depend on it.
 */
typedef annex_status (*parallel_work)(void *argument, unsigned worker, size_t first, size_t end,
                                      annex_error *error);
annex_status parallel_for(const annex_env *env, unsigned threads, size_t n, size_t grain,
                          parallel_work work, void *argument, annex_error *error);

/* ---- progress.c ------------------------------------------------------------------------------*/

/* Rate-limits annex_log.progress; a phase is announced at once. Used by one thread. */
struct progress {
    const annex_env *env;
    const char *phase;
    uint64_t done; /* of total, when it was updated last */
    uint64_t total;
    uint64_t next_report_ns;
};

/* Both return ANNEX_CANCELLED when the caller asks to stop. */
annex_status progress_begin(struct progress *progress, const annex_env *env, const char *phase,
                            uint64_t total, annex_error *error);
annex_status progress_update(struct progress *progress, uint64_t done, annex_error *error);
/* parallel_for during which `progress` may ask to stop, after a range of the calling thread. */
annex_status progress_for(struct progress *progress, unsigned threads, size_t n, size_t grain,
                          parallel_work work, void *argument, annex_error *error);
/* A line for annex_log.message. */
void log_message(const annex_env *env, annex_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- replace.c: a file that appears whole or not at all ---------------------------------------*/

/* Written as "<path>.tmp-<random>" beside the target, then synced and renamed. */
struct replace_file {
    const annex_env *env;
    void *file;
    char *path;
    char *temporary;
};

annex_status replace_begin(struct replace_file *replace, const annex_env *env, const char *path,
                           annex_error *error);
annex_status replace_write(struct replace_file *replace, const void *data, size_t bytes,
                           uint64_t offset, annex_error *error);
/* sync, close, rename, sync of the directory. On failure the temporary is removed. */
annex_status replace_commit(struct replace_file *replace, annex_error *error);
/* Removes the temporary; harmless after replace_commit. */
void replace_abort(struct replace_file *replace);

#endif
