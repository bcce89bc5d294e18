/*
 * annex-engine.h - engines: what searches the segments of an index, as a table of functions. The
 * engine of Annex itself is such a table (annex_engine_native); others are shared objects.
 *
 *   1. An engine proposes rows, Annex answers. A segment is built once from a stream of vectors,
 *      whose rows are numbered from 0; a search names rows that may be near. Annex keeps the keys,
 *      reads the vectors of those rows from the table, computes distances, applies the filter,
 *      finds what is missing up to k, and masks what was changed. So no engine can make an answer
 *      stale, too short or wrong in its distances; it decides how fast and how complete one is.
 *   2. An engine allocates, logs and reports progress through the annex_env it is given.
 *   3. Errors: a status and one sentence; Annex puts the engine's name before it. After an error
 *      nothing is left behind. ANNEX_CANCELLED when annex_log.progress asks to stop.
 *   4. Threads: any number of searches at the same time, no change besides them.
 *   5. An image is one stream of bytes that `save` writes and `open` reads. Annex stores it beside
 *      the keys, with a checksum: `open` gets the very bytes that `save` wrote, or is not called.
 *   6. Versions: the table begins with abi and struct_bytes. A later Annex adds members at the
 *      end, which it takes as NULL where struct_bytes says that they are not there; whatever
 *      changes the meaning of a member changes ANNEX_ENGINE_ABI.
 *   7. A shared object exports annex_engine_entry. Annex loads it only from a path that the user
 *      gives: an index names its engine, but never makes Annex load code.
 *
 * docs/ENGINES.md shows the use, examples/engine/ a whole engine.
 */
#ifndef ANNEX_ENGINE_H
#define ANNEX_ENGINE_H

#include "annex.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ANNEX_ENGINE_ABI 1
#define ANNEX_ENGINE_NAME_BYTES 32 /* with the terminator */

/* What an engine keeps of one segment: its own type. */
typedef struct annex_engine_index annex_engine_index;

typedef struct annex_engine_info {
    size_t struct_bytes; /* set by the caller */
    uint64_t rows;       /* row numbers are below this */
    double recall;       /* measured, of a search without effort; 1: exact; 0: not known */
} annex_engine_info;

/* Takes the next `bytes` bytes of an image. */
typedef annex_status (*annex_engine_write)(void *context, const void *data, size_t bytes,
                                           annex_error *error);

enum {
    /*
     * Images hold keys and checksums, and are files of their own (`path` below). The engine of
     * Annex has this; a plug-in that does is refused.
     */
    ANNEX_ENGINE_FILES = 1
};

typedef struct annex_engine {
    uint32_t abi;        /* ANNEX_ENGINE_ABI */
    uint32_t flags;      /* 0 */
    size_t struct_bytes; /* sizeof(annex_engine) */
    const char *name;    /* 1 to 31 of a-z 0-9 - _; not "annex" or a family of it */
    /*
     * Builds a segment. Of `options` metric, dimension and threads matter; `json` is the object
     * "engine_options" of the index, "{}" when there is none. Vectors are f32 or packed bits, none
     * zero under cosine, none with NaN. batch.keys is NULL. `path` is NULL.
     */
    annex_status (*build)(const annex_env *env, const annex_build_options *options,
                          const char *json, const annex_rows *rows, const char *path,
                          annex_engine_index **index, annex_error *error);
    /* Opens an image, 64-byte aligned, kept until `close`. `path` is NULL, `flags` is 0. */
    annex_status (*open)(const annex_env *env, const char *path, const void *image, uint64_t bytes,
                         unsigned flags, annex_engine_index **index, annex_error *error);
    /* NULL is allowed. */
    void (*close)(annex_engine_index *index);
    void (*describe)(const annex_engine_index *index, annex_engine_info *info);
    annex_status (*save)(const annex_engine_index *index, annex_engine_write write, void *context,
                         annex_error *error);
    /*
     * Up to k rows for each query, nearest first, hits[q * k .. q * k + found[q]), as
     * annex_index_search has it: `row` is what counts, distance and key may be left alone. Of
     * `options` effort and recall say how much work is wanted, `allowed` (a bitmap over rows, or
     * NULL) which rows count; others waste a place. `fetch` gives the vectors of today, for an
     * engine that keeps none; max_scan and stop may end a search early. stats, never NULL, gets
     * how many distances were computed.
     */
    annex_status (*search)(const annex_engine_index *index, const void *queries, size_t n_queries,
                           size_t k, const annex_search_options *options, annex_hit *hits,
                           size_t *found, annex_error *error);
    /*
     * Changes in place. Either may be NULL: then a segment is what it was built as. A segment of a
     * plug-in is never changed in a database, but built anew: its frame names every row.
     */
    annex_status (*add)(annex_engine_index *index, const annex_batch *batch, annex_error *error);
    annex_status (*remove)(annex_engine_index *index, const uint32_t *rows, size_t n,
                           annex_error *error);
} annex_engine;

/*
 * What a shared object exports, as "annex_engine_entry". `abi` is that of the Annex that asks; NULL
 * when the engine cannot serve it. The table stays valid while the object is loaded.
 */
typedef const annex_engine *(*annex_engine_entry_function)(uint32_t abi);
#if defined(ANNEX_ENGINE_PLUGIN)
ANNEX_API const annex_engine *annex_engine_entry(uint32_t abi);
#endif

/*
 * The engine "annex". Its indexes are annex_index handles with integer keys or byte keys; for these
 * `path` is a file to write to or to open, and open flags are those of annex_index_open.
 */
ANNEX_API const annex_engine *annex_engine_native(void);

/*
 * Makes an engine known to `db` until it is closed; the table is kept. ANNEX_EXISTS when another
 * one has its name, ANNEX_INVALID for a table that is not whole, ANNEX_TOO_NEW or ANNEX_UNSUPPORTED
 * for another ABI.
 */
ANNEX_API annex_status annex_db_engine_add(annex_db *db, const annex_engine *engine,
                                           annex_error *error);
/*
 * The same from a shared object, which is unloaded with `db`. `path` is that file and no other: a
 * name without a slash is looked for in the current directory only. Loading runs its code, with
 * all that the program may do. *name (may be NULL) is what the engine is called, kept by `db`.
 * ANNEX_NOT_FOUND when there is no such file, ANNEX_INVALID when it is no engine.
 */
ANNEX_API annex_status annex_db_engine_load(annex_db *db, const char *path, const char **name,
                                            annex_error *error);

#ifdef __cplusplus
}
#endif
#endif
