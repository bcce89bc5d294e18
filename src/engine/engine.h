/*
 * engine.h - segments of any engine, as the catalog uses them, and the engines that are known.
 *
 *   registry.c  the engines of a database: the native one, and those the user has loaded
 *   native.c    the engine of Annex as a table over annex_index
 *   engine.c    an opened segment: by the native engine as it is, by another one in a frame
 *   frame.c     keys, fingerprints and checksum around the image of a plug-in
 *   grow.c      a segment with some rows less and others more
 *   propose.c   an answer from the rows that a plug-in proposes
 *
 * Invariants
 *   1. What a plug-in returns is checked: counts, row numbers, statuses, text of errors.
 *   2. Distances of answers come from vectors that annex_search_options.fetch gives.
 */
#ifndef ANNEX_ENGINE_ENGINE_H
#define ANNEX_ENGINE_ENGINE_H

#include "annex-engine.h"
#include "base/base.h"

/* ---- registry.c -------------------------------------------------------------------------------*/

struct engine_known {
    const annex_engine *engine;
    void *library; /* NULL: not from a shared object */
};

/* Zero-initialised: only the native engine is known. */
struct engine_list {
    struct buffer known; /* struct engine_known[] */
};

annex_status engine_list_add(const annex_env *env, struct engine_list *list,
                             const annex_engine *engine, annex_error *error);
annex_status engine_list_load(const annex_env *env, struct engine_list *list, const char *path,
                              const char **name, annex_error *error);
/* Unloads the shared objects: nothing of their engines may be open. */
void engine_list_free(const annex_env *env, struct engine_list *list);
/* NULL when there is none of this name; "" is the native one. */
const annex_engine *engine_find(const struct engine_list *list, const char *name);
/* Whether it is a name that a plug-in can have. */
bool engine_name_is_valid(const char *name);
/* What a plug-in said went wrong, as an error of Annex. */
annex_status engine_failed(const annex_engine *engine, annex_status status, const annex_error *why,
                           annex_error *error);

/* ---- frame.c ----------------------------------------------------------------------------------*/

/* A segment of a plug-in: docs/FORMAT.md, "Segments of other engines". Pointers into the image. */
struct frame {
    annex_metric metric;
    uint32_t dimension;
    annex_key_kind key_kind;
    uint32_t rows;
    uint64_t content[2];
    const int64_t *keys;      /* integer keys [rows] */
    const uint64_t *key_ends; /* byte keys [rows] */
    const char *key_bytes;
    const uint32_t *order;  /* rows by key [rows] */
    const uint64_t *prints; /* fingerprints of the vectors [rows] */
    const char *engine_image;
    uint64_t engine_bytes;
};

/* Builds by `engine` and frames the image, which the caller frees, also after an error. */
annex_status frame_build(const annex_env *env, const annex_engine *engine,
                         const annex_build_options *options, const char *json,
                         const annex_rows *rows, struct buffer *image, annex_error *error);
/* Verifies everything but the engine's own bytes, whose checksum it compares. */
annex_status frame_read(const char *engine_name, const void *image, uint64_t bytes,
                        struct frame *frame, annex_error *error);
/* The row of an integer key, or of byte keys. ANNEX_NOT_FOUND, without a message. */
annex_status frame_find(const struct frame *frame, int64_t integer, const void *bytes,
                        size_t n_bytes, uint32_t *row);
/* Byte keys only. */
const void *frame_key_bytes(const struct frame *frame, uint32_t row, size_t *bytes);
/* Below 0, 0 or above 0, as the key of `row` comes before the other, is it, or comes after it. */
int frame_compare_key(const struct frame *frame, uint32_t row, int64_t integer, const void *bytes,
                      size_t n_bytes);
int frame_compare_rows(const struct frame *frame, uint32_t a, uint32_t b);
uint64_t frame_print(const struct frame *frame, const void *vector);

/* ---- engine.c: mirrors annex_index_* ----------------------------------------------------------*/

struct engine_index {
    annex_env env;
    const annex_engine *engine;
    annex_engine_index *handle;
    struct frame frame; /* of a plug-in */
    const void *image;  /* of the frame */
    uint64_t bytes;
    void *file;          /* it is mapped from there; NULL: it is not */
    struct buffer owned; /* or it lies here */
};

/* The segment as the native engine has it; NULL when it is one of a plug-in. */
annex_index *engine_native_index(const struct engine_index *index);
annex_status engine_build(const annex_env *env, const annex_engine *engine,
                          const annex_build_options *options, const char *json,
                          const annex_rows *rows, const char *path, struct engine_index **index,
                          annex_error *error);
annex_status engine_open(const annex_env *env, const annex_engine *engine, const char *path,
                         struct engine_index **index, annex_error *error);
/* Compares every checksum. `image` is kept. */
annex_status engine_open_image(const annex_env *env, const annex_engine *engine, const void *image,
                               uint64_t bytes, struct engine_index **index, annex_error *error);
void engine_close(struct engine_index *index);
void engine_describe(const struct engine_index *index, annex_index_info *info);
/* What is stored of it. */
const void *engine_image(const struct engine_index *index, uint64_t *bytes);
annex_status engine_find_row(const struct engine_index *index, int64_t integer, const void *bytes,
                             size_t n_bytes, uint32_t *row);
/* The key of a row that the segment has, of its kind of keys. */
annex_status engine_row_key(const struct engine_index *index, uint32_t row, int64_t *key,
                            annex_error *error);
annex_status engine_row_key_bytes(const struct engine_index *index, uint32_t row, const void **key,
                                  size_t *bytes, annex_error *error);
annex_status engine_check(const struct engine_index *index, annex_error *error);
/* `options` must have fetch, and no accept. */
annex_status engine_search(const struct engine_index *index, const void *query, size_t k,
                           const annex_search_options *options, annex_hit *hits, size_t *found,
                           annex_error *error);
/* *hits is freed by engine_hits_free. */
annex_status engine_within(const struct engine_index *index, const void *query, double distance,
                           const annex_search_options *options, annex_hit **hits, size_t *n,
                           annex_error *error);
void engine_hits_free(const struct engine_index *index, annex_hit *hits, size_t n);

/* ---- grow.c -----------------------------------------------------------------------------------*/

struct engine_change {
    const uint32_t *gone; /* rows to leave out */
    size_t n_gone;
    const annex_rows *rows; /* to add: none of their keys is left */
    uint64_t n_rows;        /* at most so many, for the progress */
};

/*
 * Writes what `from` is after the change to `path`, and opens it. *grown is NULL when that is not
 * to be had or not worth it: a plug-in made `from`, or codes and graph no longer fit the rows.
 */
annex_status engine_grow(const struct engine_index *from, const struct engine_change *change,
                         const char *path, struct engine_index **grown, annex_error *error);

/* ---- propose.c --------------------------------------------------------------------------------*/

annex_status propose_search(const struct engine_index *index, const void *query, size_t k,
                            const annex_search_options *options, annex_hit *hits, size_t *found,
                            annex_error *error);
/* Every row that `options` allow; *hits is [frame.rows]. */
annex_status propose_within(const struct engine_index *index, const void *query, double distance,
                            const annex_search_options *options, annex_hit **hits, size_t *n,
                            annex_error *error);

#endif
