/*
 * import_faiss.h - the vectors inside a serialised FAISS index.
 *
 * Read are the indexes that keep vectors as they are: Flat, IVF and HNSW over Flat, with or without
 * a map of ids around them. Nothing is copied or allocated; this needs neither SQLite nor FAISS.
 */
#ifndef ANNEX_IMPORT_FAISS_H
#define ANNEX_IMPORT_FAISS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex.h"

struct faiss_vectors {
    size_t n;
    size_t dimension;
    annex_metric metric;
    const uint8_t *ids; /* [n] i64, or NULL: the position is the id */
    /* A flat index: [n * dimension] f32. Else NULL, and the lists of an IVF index: */
    const uint8_t *flat;
    const uint8_t *sizes; /* u64, every sizes_stride bytes */
    size_t sizes_stride;
    size_t n_lists;
    const uint8_t *lists; /* of each list its vectors, then their positions, i64 */
};

/*
 * False: *why says what the index is, as the end of "the index is …". `blob` must outlive the
 * result; everything that faiss_vectors_each reads has been checked to lie inside.
 */
bool faiss_vectors_read(const uint8_t *blob, size_t bytes, struct faiss_vectors *vectors,
                        const char **why);

/* Calls `each` for every vector, whose bytes are not aligned, until it returns false. */
bool faiss_vectors_each(const struct faiss_vectors *vectors,
                        bool (*each)(void *context, int64_t id, const uint8_t *vector),
                        void *context);

#endif
