/*
 * part.c - rows of an open part: by key, and the key of a row.
 *
 * Rows are asked for that the catalog knows of; a segment is validated when it is opened.
 */
#include "catalog/catalog.h"

bool part_find(const struct catalog_part *part, const struct rowkey *key, uint32_t *row)
{
    if (part->index == NULL) {
        return false;
    }
    annex_status status = engine_find_row(part->index, key->integer, key->bytes, key->n_bytes, row);
    return status == ANNEX_OK && *row < part->slots;
}

bool part_is_dead(const struct catalog_part *part, uint32_t row)
{
    return bitmap_get(part->dead, row);
}

annex_status part_row_key(const struct catalog_part *part, struct rowkey_shape shape, uint32_t row,
                          struct rowkey *key, annex_error *error)
{
    const void *bytes = NULL;
    *key = (struct rowkey){0};
    if (shape.integer) {
        return engine_row_key(part->index, row, &key->integer, error);
    }
    TRY(engine_row_key_bytes(part->index, row, &bytes, &key->n_bytes, error));
    key->bytes = bytes;
    return ANNEX_OK;
}
