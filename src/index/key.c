/*
 * key.c - from a slot to its key and back, through a hash table stored in the segment.
 */
#include <inttypes.h>
#include <stdio.h>

#include "index/index.h"

struct key_view key_of(const annex_index *index, uint32_t slot)
{
    assert(slot < index->slots);
    if (index->header.key_kind == ANNEX_KEY_INTEGER) {
        return (struct key_view){.number = index->keys[slot]};
    }
    /* Offsets come from the file: keep them inside the bytes and in order. */
    uint64_t end = MIN((uint64_t)index->keys[slot], index->n_key_bytes);
    uint64_t begin = slot ? MIN((uint64_t)index->keys[slot - 1], end) : 0;
    const char *bytes = index->key_bytes ? index->key_bytes : "";
    return (struct key_view){.bytes = bytes + begin, .n_bytes = end - begin};
}

int key_compare(struct key_view a, struct key_view b)
{
    if (!a.bytes) {
        return a.number < b.number ? -1 : a.number > b.number;
    }
    int order = memcmp(a.bytes, b.bytes, MIN(a.n_bytes, b.n_bytes));
    return order ? order : a.n_bytes < b.n_bytes ? -1 : a.n_bytes > b.n_bytes;
}

uint64_t key_hash(struct key_view key)
{
    return key.bytes ? hash_bytes(key.bytes, key.n_bytes, 0)
                     : hash_mix((uint64_t)key.number + UINT64_C(0x9e3779b97f4a7c15));
}

bool key_find(const annex_index *index, struct key_view key, uint32_t *slot)
{
    if (index->hash_size == 0) {
        return false;
    }
    uint64_t mask = index->hash_size - 1;
    uint64_t i = key_hash(key) & mask;
    for (uint64_t probes = 0; probes < index->hash_size; probes++, i = (i + 1) & mask) {
        uint32_t entry = index->key_hash[i];
        if (entry == 0) {
            return false;
        }
        if (entry - 1 < index->slots && index_is_live(index, entry - 1) &&
            key_compare(key_of(index, entry - 1), key) == 0) {
            *slot = entry - 1;
            return true;
        }
    }
    return false;
}

const char *key_text(struct key_view key, char text[64])
{
    if (!key.bytes) {
        snprintf(text, 64, "%" PRId64, key.number);
        return text;
    }
    size_t n = 0;
    text[n++] = '\'';
    for (size_t i = 0; i < key.n_bytes && n < 56; i++) {
        unsigned char c = (unsigned char)key.bytes[i];
        text[n++] = c >= 32 && c < 127 ? (char)c : '.';
    }
    snprintf(text + n, 64 - n, key.n_bytes > 55 ? "...'" : "'");
    return text;
}

/* ---- public ----------------------------------------------------------------------------------*/

/* The lock is not part of an index's value. */
static void lock_for_reading(const annex_index *index)
{
    pthread_rwlock_rdlock(&((annex_index *)(uintptr_t)index)->lock);
}

static void unlock(const annex_index *index)
{
    pthread_rwlock_unlock(&((annex_index *)(uintptr_t)index)->lock);
}

static annex_status find(const annex_index *index, struct key_view key, uint32_t *row,
                         annex_error *error)
{
    char text[64];
    *row = 0;
    lock_for_reading(index);
    bool found = key_find(index, key, row);
    unlock(index);
    if (found) {
        return ANNEX_OK;
    }
    /* Callers that only want to know whether there is a row ask often: no text for them. */
    return error == NULL
               ? ANNEX_NOT_FOUND
               : error_set(error, ANNEX_NOT_FOUND, "no row has the key %s", key_text(key, text));
}

static annex_status require_kind(const annex_index *index, annex_key_kind kind, annex_error *error)
{
    if (index->header.key_kind == kind) {
        return ANNEX_OK;
    }
    return error_set(error, ANNEX_INVALID, "the keys of this index are %s: use %s",
                     kind == ANNEX_KEY_INTEGER ? "bytes" : "integers",
                     kind == ANNEX_KEY_INTEGER ? "annex_index_find_bytes and annex_index_key_bytes"
                                               : "annex_index_find and annex_index_key");
}

annex_status annex_index_find(const annex_index *index, int64_t key, uint32_t *row,
                              annex_error *error)
{
    *row = 0;
    TRY(require_kind(index, ANNEX_KEY_INTEGER, error));
    return find(index, (struct key_view){.number = key}, row, error);
}

annex_status annex_index_find_bytes(const annex_index *index, const void *key, size_t bytes,
                                    uint32_t *row, annex_error *error)
{
    *row = 0;
    TRY(require_kind(index, ANNEX_KEY_BYTES, error));
    return find(index, (struct key_view){.bytes = bytes ? key : "", .n_bytes = bytes}, row, error);
}

static annex_status require_row(const annex_index *index, uint32_t row, annex_error *error)
{
    if (row < index->slots) {
        return ANNEX_OK;
    }
    return error_set(error, ANNEX_INVALID, "row %" PRIu32 " does not exist: the index has %" PRIu32,
                     row, index->slots);
}

annex_status annex_index_key(const annex_index *index, uint32_t row, int64_t *key,
                             annex_error *error)
{
    *key = 0;
    TRY(require_kind(index, ANNEX_KEY_INTEGER, error));
    lock_for_reading(index);
    annex_status status = require_row(index, row, error);
    if (!status) {
        *key = index->keys[row];
    }
    unlock(index);
    return status;
}

annex_status annex_index_key_bytes(const annex_index *index, uint32_t row, const void **key,
                                   size_t *bytes, annex_error *error)
{
    *key = NULL;
    *bytes = 0;
    TRY(require_kind(index, ANNEX_KEY_BYTES, error));
    lock_for_reading(index);
    annex_status status = require_row(index, row, error);
    if (!status) {
        struct key_view view = key_of(index, row);
        *key = view.bytes;
        *bytes = view.n_bytes;
    }
    unlock(index);
    return status;
}

annex_status annex_index_vector(const annex_index *index, uint32_t row, void *vector,
                                annex_error *error)
{
    lock_for_reading(index);
    annex_status status = require_row(index, row, error);
    const void *raw = status ? NULL : index_raw(index, row);
    if (raw) {
        stored_unpack(&index->codec, index_stored(index), raw, vector);
    } else if (!status && index->header.family == ANNEX_IVF) {
        status = ivf_vector(index, row, vector, error);
    } else if (!status) {
        codec_decode(&index->codec, index_code(index, row), vector);
    }
    unlock(index);
    return status;
}
