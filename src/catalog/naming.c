/*
 * naming.c - what an index and what belongs to it are called: its table and its log, quoted for
 * SQL, and the call that a message tells people to run.
 *
 * Does not: read the database, or change a name in it (db_names.c).
 */
#include "catalog/catalog.h"

#include <stdio.h>

annex_status catalog_name_table(struct catalog_index *index, const char *table, annex_error *error)
{
    TRY(arena_text(&index->arena, table, strlen(table), &index->table, error));
    TRY(host_quote(&index->arena, table, &index->column_sql, error));
    return arena_printf(&index->arena, &index->table_sql, error, "%s.%s", index->schema_sql,
                        index->column_sql);
}

annex_status catalog_name(struct catalog_index *index, annex_error *error)
{
    index->shape = (struct rowkey_shape){index->definition.integer_key, index->definition.n_keys};
    index->delta.keys.integer = index->shape.integer;
    TRY(catalog_name_table(index, index->definition.table, error));
    TRY(arena_printf(&index->arena, &index->log, error, "annex_log_%lld", (long long)index->id));
    return arena_printf(&index->arena, &index->log_sql, error, "%s.\"%s\"", index->schema_sql,
                        index->log);
}

const char *catalog_call(const struct catalog_index *index, const char *function,
                         char text[CALL_TEXT_BYTES])
{
    bool main = strcmp(index->schema, "main") == 0;
    const char *const pieces[] = {main ? "" : index->schema, main ? "" : ".", index->name};
    size_t n = (size_t)snprintf(text, CALL_TEXT_BYTES, "%s('", function);
    for (size_t i = 0; i < ARRAY_LENGTH(pieces); i++) {
        for (const char *c = pieces[i]; *c != '\0' && n < CALL_TEXT_BYTES - 5; c++) {
            if (*c == '.' && i == 2) {
                break; /* a member: what is to be run is for all of the index */
            }
            text[n++] = *c;
            if (*c == '\'') {
                text[n++] = *c;
            }
        }
    }
    memcpy(text + n, "')", sizeof "')");
    return text;
}
