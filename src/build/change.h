/*
 * change.h - the memory of an index that is changed: between thaw.c, change.c and save.c.
 *
 * The first change copies all arrays out of the image (thaw); from then on the index points into a
 * `struct owned`, which is replaced by a larger one when it is full.
 */
#ifndef ANNEX_CHANGE_H
#define ANNEX_CHANGE_H

#include "build/build.h"

struct owned {
    uint32_t capacity;     /* slots there is room for */
    uint64_t key_capacity; /* bytes of byte keys there is room for */
    uint8_t *codes;        /* [capacity x row_bytes] */
    float *errors;         /* [capacity] */
    uint8_t *raw;          /* [capacity x vector_bytes], by slot */
    uint32_t *same;        /* [capacity] rings; graphs only */
    uint32_t *neighbours;  /* [capacity x degree] */
    int64_t *keys;         /* [capacity] */
    char *key_bytes;       /* [key_capacity] */
    uint32_t *key_hash;    /* [hash_size] */
    uint64_t hash_size;    /* power of two, >= 2 x capacity */
    uint64_t *dead;        /* bitmap [capacity] */
    float *center;         /* [dimension] */
    uint32_t entries[GRAPH_MAX_ENTRIES];
    struct linker linker; /* graphs only */
};

/*
 * Makes the index own arrays with room for `more` rows and `key_bytes` bytes of keys. On failure
 * the index is as before. The caller holds the lock for writing.
 */
annex_status thaw(annex_index *index, uint32_t more, uint64_t key_bytes, annex_error *error);
/* Enters a slot into the key hash. */
void thaw_hash(struct owned *owned, struct key_view key, uint32_t slot);

#endif
