/*
 * sample.c - keys drawn at random from the rows of an index: questions to measure it with.
 *
 * Does not: look whether the rows are still in the table; whoever uses a key finds out.
 */
#include "catalog/search.h"

struct sampling {
    annex_db *db;
    struct catalog_index *index;
    struct rowkey_set keys; /* drawn so far */
    uint64_t state;         /* of the random numbers */
};

/* All places that a row can have: those of the segments, then those of the delta. */
static uint64_t sample_places(const struct catalog_index *index)
{
    uint64_t n = index->delta.keys.n;
    for (size_t i = 0; i < index->n_parts; i++) {
        n += index->parts[i].slots;
    }
    return n;
}

/* The key at a place. False in *found for a row that is gone, or also in the delta. */
static annex_status sample_key(const struct catalog_index *index, uint64_t place,
                               struct rowkey *key, bool *found, annex_error *error)
{
    for (size_t i = 0; i < index->n_parts; i++) {
        const struct catalog_part *part = &index->parts[i];
        if (place < part->slots) {
            *found = bitmap_get(part->allowed, (size_t)place);
            return *found ? part_row_key(part, index->shape, (uint32_t)place, key, error)
                          : ANNEX_OK;
        }
        place -= part->slots;
    }
    *found = true;
    *key = rowkey_set_at(&index->delta.keys, (size_t)place);
    return ANNEX_OK;
}

static annex_status sample_draw(struct sampling *self, size_t n, annex_error *error)
{
    enum { TRIES_A_ROW = 20 };
    uint64_t places = sample_places(self->index);
    for (uint64_t i = 0; places > 0 && i < TRIES_A_ROW * (uint64_t)n && self->keys.n < n; i++) {
        struct rowkey key;
        size_t position = 0;
        bool found = false, added = false;
        uint64_t place = random_below(&self->state, places);
        TRY(sample_key(self->index, place, &key, &found, error));
        if (found) {
            TRY(rowkey_set_add(&self->db->env, &self->keys, &key, &position, &added, error));
        }
    }
    return ANNEX_OK;
}

static annex_status sample_fill(struct sampling *self, annex_result *result, annex_error *error)
{
    struct rowkey_shape shape = self->index->shape;
    const char *label = sources_label(self->index);
    size_t n = self->keys.n;
    result->key_columns = shape.n_columns;
    TRY(arena_new(&result->arena, n, sizeof *result->distances, &result->distances, error));
    TRY(arena_new(&result->arena, n * shape.n_columns, sizeof *result->keys, &result->keys, error));
    TRY(arena_new(&result->arena, 1, sizeof *result->names, &result->names, error));
    TRY(arena_text(&result->arena, label, strlen(label), result->names, error));
    for (size_t i = 0; i < n; i++) {
        struct rowkey key = rowkey_set_at(&self->keys, i);
        TRY(rowkey_decode(shape, &key, &result->arena, &result->keys[i * shape.n_columns], error));
    }
    result->n = n;
    return ANNEX_OK;
}

annex_status annex_db_sample(annex_db *db, const char *name, size_t n, uint64_t seed,
                             annex_result **result, annex_error *error)
{
    struct sampling self = {.db = db, .state = seed};
    struct host_statement *hold = NULL;
    annex_result *made = NULL;
    *result = NULL;
    TRY(sources_open(db, name, &self.index, &hold, error));
    self.keys.integer = self.index->shape.integer;
    annex_status status = sources_refuse(self.index, "drawing rows", error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(catalog_inspect(db, self.index, error));
    TRY_CLEANUP(store_open_all(db, self.index, error));
    TRY_CLEANUP(delta_refresh(db, self.index, error));
    TRY_CLEANUP(sample_draw(&self, n, error));
    TRY_CLEANUP(result_new(&db->env, &made, error));
    TRY_CLEANUP(sample_fill(&self, made, error));
    *result = made;
cleanup:
    db->host->type->finish(hold);
    rowkey_set_free(&db->env, &self.keys);
    if (status != ANNEX_OK) {
        annex_result_free(made);
    }
    return status;
}
