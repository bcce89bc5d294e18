/*
 * change.c - inserting, updating and deleting rows of an open index.
 *
 * A new row gets the slot behind the last one. A deleted row keeps its slot until annex_index_save
 * leaves it out; mend.c takes it out of the graph.
 *
 * Invariants
 *   1. A batch is checked as a whole and memory for it reserved before anything changes; after that
 *      nothing can fail: a change is all or nothing.
 *   2. Slots are never reused while the index is open: row numbers stay what they were.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "build/change.h"

/* ---- checks ----------------------------------------------------------------------------------*/

static struct key_view batch_key(const annex_index *index, const annex_batch *batch, size_t i)
{
    return build_batch_key(index->header.key_kind, batch, i,
                           0); /* changes always name their keys */
}

static annex_status check_batch(const annex_index *index, const annex_batch *batch,
                                annex_error *error)
{
    bool integers = index->header.key_kind == ANNEX_KEY_INTEGER;
    if (batch->n && (integers ? !batch->keys : !batch->key_ends)) {
        return error_set(error, ANNEX_INVALID, "a change needs %s keys",
                         integers ? "integer" : "byte");
    }
    for (size_t i = 0; i < batch->n; i++) {
        struct key_view key = batch_key(index, batch, i);
        if (key.n_bytes > 65535) {
            return error_set(error, ANNEX_INVALID,
                             "a key has %zu bytes, expected at most 65535 bytes", key.n_bytes);
        }
    }
    return ANNEX_OK;
}

static annex_status check_vectors(const annex_index *index, const annex_batch *batch,
                                  annex_error *error)
{
    uint32_t dimension = index->codec.dimension;
    for (size_t i = 0; !codec_is_bits(index->codec.metric) && i < batch->n; i++) {
        const float *vector = (const float *)batch->vectors + i * dimension;
        bool zero, accepted = codec_accepts(index->codec.metric, vector, dimension, &zero);
        if (accepted && stored_holds(&index->codec, index_stored(index), vector)) {
            continue;
        }
        char text[64], what[96];
        snprintf(what, sizeof what, "the vector with key %s",
                 key_text(batch_key(index, batch, i), text));
        return accepted ? stored_refuse(what, error) : codec_refuse(vector, dimension, what, error);
    }
    return ANNEX_OK;
}

static int compare_keys(const void *a, const void *b)
{
    return key_compare(*(const struct key_view *)a, *(const struct key_view *)b);
}

/* No key twice in the batch; each key present, absent, or either (expect 1, 0, -1). */
static annex_status check_keys(const annex_index *index, const annex_batch *batch, int expect,
                               annex_error *error)
{
    struct key_view *sorted;
    char text[64];
    annex_status status = ANNEX_OK;
    TRY(memory_new(&index->env, batch->n, sizeof *sorted, &sorted, error));
    for (size_t i = 0; i < batch->n && !status; i++) {
        uint32_t slot;
        struct key_view key = batch_key(index, batch, i);
        sorted[i] = key;
        bool found = key_find(index, key, &slot);
        if (expect == 0 && found) {
            status = error_set(error, ANNEX_EXISTS,
                               "the index already has the key %s; use annex_index_update",
                               key_text(key, text));
        } else if (expect == 1 && !found) {
            status =
                error_set(error, ANNEX_NOT_FOUND, "no row has the key %s", key_text(key, text));
        }
    }
    if (!status && batch->n) {
        qsort(sorted, batch->n, sizeof *sorted, compare_keys);
    }
    for (size_t i = 1; i < batch->n && !status; i++) {
        if (key_compare(sorted[i - 1], sorted[i]) == 0) {
            status = error_set(error, ANNEX_INVALID, "the change names the key %s twice",
                               key_text(sorted[i], text));
        }
    }
    memory_free(&index->env, sorted, batch->n, sizeof *sorted);
    return status;
}

/* ---- one row ---------------------------------------------------------------------------------*/

/* Vectors are kept from now on: those that codes hold exactly. */
static annex_status keep_vectors(annex_index *index, annex_error *error)
{
    struct owned *owned = index->owned;
    size_t bytes = codec_vector_bytes(&index->codec);
    assert(index_stored(index) == ANNEX_CODES_AUTO); /* or they would have been kept all along */
    TRY(memory_new(&index->env, owned->capacity, bytes, &owned->raw, error));
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        codec_decode(&index->codec, index_code(index, slot), owned->raw + slot * bytes);
    }
    index->raw = owned->raw;
    index->keeps_raw = true;
    return ANNEX_OK;
}

/* Rows that codes do not hold end the losslessness of all. */
static annex_status end_lossless(annex_index *index, annex_error *error)
{
    if (!index->keeps_raw) {
        TRY(keep_vectors(index, error));
    }
    index->codec.lossless = false;
    index->header.lossless = 0;
    if (index->codec.metric != ANNEX_L1 && index->codec.codes == ANNEX_CODES_Q8) {
        index->codec.fixed_scale = index->header.fixed_scale = 0; /* rows have their own from now */
    }
    return ANNEX_OK;
}

/* The vector as the index holds it, there or in unit[dimension]; NULL: left out. */
static const void *as_row(const annex_index *index, const void *vector, float *unit)
{
    const struct codec *codec = &index->codec;
    if (codec->metric == ANNEX_COSINE) {
        if (!codec_normalize(vector, unit, codec->dimension)) {
            return NULL;
        }
        vector = unit;
    }
    if (index_stored(index) != ANNEX_CODES_AUTO) {
        stored_round(codec, index_stored(index), vector, unit);
        vector = unit;
    }
    return vector;
}

static bool is_exact_batch(const annex_index *index, const annex_batch *batch, float *unit)
{
    size_t bytes = codec_vector_bytes(&index->codec);
    for (size_t i = 0; i < batch->n; i++) {
        const float *row = as_row(index, (const char *)batch->vectors + i * bytes, unit);
        if (row && !codec_holds(&index->codec, row)) {
            return false;
        }
    }
    return true;
}

static void raise_max_norm(annex_index *index, const float *vector)
{
    double sum = 0;
    for (uint32_t j = 0; j < index->codec.dimension; j++) {
        sum += (double)vector[j] * vector[j];
    }
    float norm = nextafterf((float)sqrt(sum), INFINITY);
    if (norm > index->codec.max_norm) {
        bool lists = index->header.family == ANNEX_IVF; /* whose rows are coded otherwise */
        codec_raise_max_norm(&index->codec, norm, index->owned->codes, lists ? 0 : index->slots);
        index->header.max_norm = index->codec.max_norm;
    }
}

/* `unit`: room for two vectors. */
static void add_row(annex_index *index, struct key_view key, const void *vector, float *unit)
{
    struct owned *owned = index->owned;
    uint32_t slot = index->slots;
    float lost;
    vector = as_row(index, vector, unit);
    if (!vector) {
        index->header.skipped++;
        return;
    }
    if (index->codec.metric == ANNEX_IP) {
        raise_max_norm(index, vector);
    }
    bool lists = index->header.family == ANNEX_IVF;
    uint8_t *row = owned->codes + (lists ? 0 : (size_t)slot * index->codec.row_bytes);
    codec_encode(&index->codec, vector, row, unit + index->codec.dimension, &lost);
    if (owned->errors) {
        owned->errors[slot] = lost;
    }
    if (owned->raw) {
        size_t bytes = stored_bytes(&index->codec, index_stored(index));
        stored_pack(&index->codec, index_stored(index), vector, owned->raw + slot * bytes);
    }
    owned->keys[slot] = key.number;
    if (key.bytes) {
        memcpy(owned->key_bytes + index->n_key_bytes, key.bytes, key.n_bytes);
        index->n_key_bytes += key.n_bytes;
        owned->keys[slot] = (int64_t)index->n_key_bytes;
    }
    bitmap_clear(owned->dead, slot);
    if (index->header.family == ANNEX_GRAPH) {
        mend_insert(index, slot);
    } else {
        if (lists) {
            lists_insert(index, slot, lost);
        }
        index->graph.slots = index->slots = slot + 1;
    }
    thaw_hash(owned, key_of(index, slot), slot);
    index->header.inserted++;
    index->live++;
}

static void delete_slot(annex_index *index, uint32_t slot)
{
    bitmap_set(index->owned->dead, slot);
    index->live--;
    if (index->header.family == ANNEX_GRAPH) {
        mend_delete(index, slot);
    }
}

/* ---- public ----------------------------------------------------------------------------------*/

static annex_status change(annex_index *index, const annex_batch *batch, bool remove, bool add,
                           int expect, annex_error *error)
{
    uint64_t key_bytes = add && batch->key_ends && batch->n ? batch->key_ends[batch->n - 1] : 0;
    float *unit = NULL;
    annex_status status;
    index_begin_write(index);
    TRY_CLEANUP(check_batch(index, batch, error));
    TRY_CLEANUP(check_keys(index, batch, expect, error));
    if (add) {
        TRY_CLEANUP(check_vectors(index, batch, error));
    }
    TRY_CLEANUP(memory_new(&index->env, index->codec.dimension, 2 * sizeof *unit, &unit, error));
    TRY_CLEANUP(thaw(index, add ? (uint32_t)MIN(batch->n, ANNEX_MAX_ROWS) : 0, key_bytes, error));
    if (add && index->codec.lossless && !codec_is_bits(index->codec.metric) &&
        !is_exact_batch(index, batch, unit)) {
        TRY_CLEANUP(end_lossless(index, error));
    }
    index->dirty = index->dirty || batch->n > 0;
    for (size_t i = 0; i < batch->n; i++) {
        uint32_t slot;
        struct key_view key = batch_key(index, batch, i);
        if (remove && key_find(index, key, &slot)) {
            delete_slot(index, slot);
        }
        if (add) {
            size_t bytes = codec_vector_bytes(&index->codec);
            add_row(index, key, (const char *)batch->vectors + i * bytes, unit);
        }
        if (index->header.family == ANNEX_GRAPH) {
            mend_some(index);
        }
        pthread_rwlock_unlock(&index->lock); /* readers wait for one row at most */
        index_begin_write(index);
    }
cleanup:
    pthread_rwlock_unlock(&index->lock);
    memory_free(&index->env, unit, index->codec.dimension, 2 * sizeof *unit);
    if (!status && add) {
        refit_grown(index);
    }
    return status;
}

annex_status annex_index_insert(annex_index *index, const annex_batch *batch, annex_error *error)
{
    return change(index, batch, false, true, 0, error);
}

annex_status annex_index_update(annex_index *index, const annex_batch *batch, annex_error *error)
{
    return change(index, batch, true, true, -1, error);
}

annex_status annex_index_delete(annex_index *index, const annex_batch *keys, annex_error *error)
{
    return change(index, keys, true, false, 1, error);
}
