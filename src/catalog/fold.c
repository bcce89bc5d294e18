/*
 * fold.c - new segments: of the whole table, or of the delta, when it is known which rows were
 * changed.
 *
 * A fold marks the old rows of changed keys dead, and makes one new segment of the current vectors
 * of those keys. Which other segments go into it:
 *
 *   - Changes that are few beside the largest segment, the base, make a small segment of their own,
 *     which takes in every other one that is at most twice its size, smallest first, and every one
 *     of which more than a fifth is dead. So sizes at least double from segment to segment.
 *   - Once dead rows and small segments come to a fiftieth of the base, the base takes all of them
 *     in and is written anew (engine_grow): searches look at one graph, or at one and little else.
 *   - What comes to half of the base is built anew together with it, which is no more work.
 *
 * A row is built into small segments about log2(rows / 50) times in its life, and inserted once.
 */
#include "catalog/search.h"

enum {
    FOLD_FLAT_BELOW = 4096, /* rows; fewer than that make no lists */
    FOLD_BASE = 100,        /* rows; a smaller segment is built anew */
    FOLD_SHARE = 50
};

annex_status fold_open(struct fold *fold, annex_db *db, struct catalog_index *index,
                       annex_error *error)
{
    *fold = (struct fold){.db = db, .index = index, .n_older = index->n_parts};
    fold->keys.integer = index->shape.integer;
    return memory_new(&db->env, MAX(index->n_parts, (size_t)1), sizeof *fold->absorbed,
                      &fold->absorbed, error);
}

void fold_close(struct fold *fold)
{
    const annex_env *env = &fold->db->env;
    memory_free(env, fold->absorbed, MAX(fold->n_older, (size_t)1), sizeof *fold->absorbed);
    rowkey_set_free(env, &fold->keys);
    *fold = (struct fold){.db = NULL};
}

void fold_absorb(struct fold *fold, size_t part)
{
    fold->n_absorbed += !fold->absorbed[part];
    fold->absorbed[part] = true;
}

static void fold_absorb_all(struct fold *fold)
{
    for (size_t i = 0; i < fold->n_older; i++) {
        fold_absorb(fold, i);
    }
}

static void fold_mark_dead(struct fold *fold)
{
    struct catalog_index *index = fold->index;
    for (size_t i = 0; i < index->delta.keys.n; i++) {
        struct rowkey key = rowkey_set_at(&index->delta.keys, i);
        for (size_t j = 0; j < fold->n_older; j++) {
            struct catalog_part *part = &index->parts[j];
            uint32_t row = 0;
            if (part_find(part, &key, &row) && !part_is_dead(part, row)) {
                bitmap_set(part->dead, row);
                part->n_dead++;
                part->dead_changed = true;
                fold->n_deleted++;
            }
        }
    }
}

/* ---- which segments go into the new one -------------------------------------------------------*/

static uint64_t part_live(const struct catalog_part *part)
{
    return part->slots - part->n_dead;
}

/* The largest segment, if it can grow; NULL. */
static struct catalog_part *fold_base(const struct fold *fold)
{
    struct catalog_part *base = NULL;
    for (size_t i = 0; i < fold->n_older; i++) {
        struct catalog_part *part = &fold->index->parts[i];
        bool can = !fold->absorbed[i] && part_live(part) >= FOLD_BASE &&
                   engine_native_index(part->index) != NULL;
        base = can && (base == NULL || part_live(part) > part_live(base)) ? part : base;
    }
    return base;
}

/* The new segment takes in what is not much larger than itself. */
static void fold_choose_small(struct fold *fold, const struct catalog_part *base)
{
    uint64_t size = fold->index->delta.keys.n;
    bool chosen = true;
    while (chosen) {
        chosen = false;
        for (size_t i = 0; i < fold->n_older; i++) {
            const struct catalog_part *part = &fold->index->parts[i];
            if (part != base && !fold->absorbed[i] &&
                (part_live(part) <= 2 * size || 5 * part->n_dead > part->slots)) {
                fold_absorb(fold, i);
                size += part_live(part);
                chosen = true;
            }
        }
    }
}

/* Returns the segment that grows; NULL: a new one is built. */
static const struct catalog_part *fold_choose(struct fold *fold)
{
    const struct catalog_part *base = fold_base(fold);
    uint64_t coming = fold->index->delta.keys.n;
    fold_choose_small(fold, base);
    for (size_t i = 0; i < fold->n_older; i++) {
        const struct catalog_part *part = &fold->index->parts[i];
        coming += part != base && part->index != NULL ? part_live(part) : 0;
    }
    if (base == NULL || FOLD_SHARE * (coming + base->n_dead) < base->slots) {
        return NULL;
    }
    fold_absorb_all(fold);
    return part_live(base) > 2 * coming ? base : NULL;
}

/* ---- making it -------------------------------------------------------------------------------*/

static annex_status fold_take_keys(struct fold *fold, const struct catalog_part *part,
                                   annex_error *error)
{
    size_t position = 0;
    bool added = false;
    for (uint32_t row = 0; part->index != NULL && row < part->slots; row++) {
        struct rowkey key;
        if (part_is_dead(part, row)) {
            continue;
        }
        TRY(part_row_key(part, fold->index->shape, row, &key, error));
        TRY(rowkey_set_add(&fold->db->env, &fold->keys, &key, &position, &added, error));
    }
    return ANNEX_OK;
}

/* Changed keys, and those of absorbed segments, but for the one that grows. */
static annex_status fold_collect(struct fold *fold, const struct catalog_part *base,
                                 annex_error *error)
{
    const struct rowkey_set *changed = &fold->index->delta.keys;
    size_t position = 0;
    bool added = false;
    for (size_t i = 0; i < fold->n_older; i++) {
        if (fold->absorbed[i] && &fold->index->parts[i] != base) {
            TRY(fold_take_keys(fold, &fold->index->parts[i], error));
        }
    }
    for (size_t i = 0; i < changed->n; i++) {
        struct rowkey key = rowkey_set_at(changed, i);
        TRY(rowkey_set_add(&fold->db->env, &fold->keys, &key, &position, &added, error));
    }
    return ANNEX_OK;
}

/* What was asked for is meant for the whole; a small segment is better off when it is flat. */
static annex_family fold_family(const struct fold *fold)
{
    annex_family family = fold->index->definition.family;
    bool small = family == ANNEX_IVF && fold->keys.n < FOLD_FLAT_BELOW;
    return family == ANNEX_GRAPH || small ? ANNEX_FAMILY_AUTO : family;
}

/* A new segment of the keys, or `base` grown by them: *made says whether that was worth it. */
static annex_status fold_make(struct fold *fold, const struct catalog_part *base, bool *made,
                              annex_error *error)
{
    struct source_rows rows;
    *made = true;
    TRY(fold_collect(fold, base, error));
    if (fold->keys.n == 0 && base == NULL) {
        return ANNEX_OK;
    }
    TRY(source_rows_open(fold->db, fold->index, &fold->keys, "", false, &rows, error));
    annex_rows view = source_rows_view(&rows);
    annex_status status =
        base != NULL ? store_grow(fold->db, fold->index, base, &view, fold->keys.n, made, error)
                     : store_build(fold->db, fold->index, &view, fold_family(fold), error);
    if (status == ANNEX_OK && *made) {
        source_say_left_out(&rows);
    }
    source_rows_close(&rows);
    return status;
}

annex_status catalog_build(annex_db *db, struct catalog_index *index, bool strict,
                           annex_error *error)
{
    struct source_rows rows;
    uint64_t started_us = budget_now_us();
    /* What a sync knows already stays, whatever the first rows have become since. */
    if (strict || !definition_is_complete(&index->definition)) {
        TRY(source_learn(db, index, error));
    }
    if (!definition_is_complete(&index->definition)) {
        return ANNEX_OK; /* there are no rows */
    }
    TRY(source_rows_open(db, index, NULL, "", strict, &rows, error));
    annex_rows view = source_rows_view(&rows);
    annex_status status = store_build(db, index, &view, index->definition.family, error);
    if (status == ANNEX_OK) {
        source_say_left_out(&rows);
    }
    source_rows_close(&rows);
    uint64_t took_ms = (budget_now_us() - started_us) / 1000;
    index->definition.build_ms = (uint32_t)MIN(took_ms, (uint64_t)UINT32_MAX);
    return status;
}

annex_status fold_run(struct fold *fold, annex_error *error)
{
    bool made = false;
    fold_mark_dead(fold);
    const struct catalog_part *base = fold_choose(fold);
    if (base != NULL || fold->n_absorbed < fold->n_older) {
        TRY(fold_make(fold, base, &made, error));
    }
    /* When no segment stays, the table is read in its own order instead of key by key. */
    fold->anew = !made;
    return made ? ANNEX_OK : catalog_build(fold->db, fold->index, false, error);
}
