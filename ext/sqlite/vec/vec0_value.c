/*
 * vec0_value.c - which values the columns of a vec0 table take.
 *
 * A vector has the type that its subtype says. SQLite loses subtypes in subqueries and in most
 * UPDATEs, so a blob without one, of just the right length, is taken as what the column holds.
 */
#include "sqlite/vec/vec0.h"

/* ---- Vectors ----------------------------------------------------------------------------------*/

static void value_refuse(const struct vec0_column *column, enum vec0_use use, const char *why,
                         annex_error *error)
{
    static const char *const starts[] = {"Query vector on", "Inserted vector for",
                                         "Updated vector for"};

    connection_refuse(error, "%s the \"%.*s\" column is invalid: %s", starts[use],
                      (int)column->name.bytes, column->name.text, why);
}

static bool value_check_shape(const struct vec0_column *column, enum vec0_use use,
                              const struct vec_value *vector, annex_error *error)
{
    static const char *const starts[] = {"Query", "Inserted", "Updated"};
    static const char *const middles[] = {"query", "inserted", "new updated"};

    if (vector->type != column->elements) {
        connection_refuse(error,
                          "%s vector for the \"%.*s\" column is expected to be of type %s, but a "
                          "%s vector was provided.",
                          starts[use], (int)column->name.bytes, column->name.text,
                          vec_type_name(column->elements), vec_type_name(vector->type));
        return false;
    }
    if (vector->dimensions != column->dimension) {
        connection_refuse(error,
                          "Dimension mismatch for %s vector for the \"%.*s\" column. Expected %zu "
                          "dimensions but received %zu.",
                          middles[use], (int)column->name.bytes, column->name.text,
                          column->dimension, vector->dimensions);
        return false;
    }
    return true;
}

bool vec0_read_vector(const struct vec0_column *column, sqlite3_value *value, enum vec0_use use,
                      struct vec_value *vector, annex_error *error)
{
    bool bare = sqlite3_value_type(value) == SQLITE_BLOB && sqlite3_value_subtype(value) == 0 &&
                (size_t)sqlite3_value_bytes(value) == vec0_vector_bytes(column);
    bool valid = bare ? vec_value_read_as(value, column->elements, vector, error)
                      : vec_value_read(value, vector, error);

    if (!valid) {
        annex_error why = *error;

        value_refuse(column, use, why.message, error);
        return false;
    }
    valid = value_check_shape(column, use, vector, error);
    if (!valid) {
        vec_value_free(vector);
    }
    return valid;
}

/* ---- Other values -----------------------------------------------------------------------------*/

static const char *value_type_name(sqlite3_value *value)
{
    static const char *const names[] = {"INTEGER", "FLOAT", "TEXT", "BLOB", "NULL"};

    return names[sqlite3_value_type(value) - SQLITE_INTEGER];
}

static bool value_fits(enum vec0_type type, sqlite3_value *value)
{
    int given = sqlite3_value_type(value);

    switch (type) {
    case VEC0_INTEGER:
        return given == SQLITE_INTEGER;
    case VEC0_TEXT:
        return given == SQLITE_TEXT;
    case VEC0_FLOAT:
        return given == SQLITE_FLOAT || given == SQLITE_INTEGER;
    case VEC0_BOOLEAN:
        return given == SQLITE_INTEGER &&
               (sqlite3_value_int64(value) == 0 || sqlite3_value_int64(value) == 1);
    case VEC0_BLOB:
        return given == SQLITE_BLOB;
    }
    return false;
}

static int value_refuse_metadata(struct vec0_table *table, const struct vec0_column *column,
                                 sqlite3_value *value)
{
    static const char *const names[] = {"integer", "text", "float"};
    int bytes = (int)column->name.bytes;

    if (column->type == VEC0_BOOLEAN) {
        return vec0_refuse(table, "Expected 0 or 1 for BOOLEAN metadata column %.*s", bytes,
                           column->name.text);
    }
    return vec0_refuse(table, "Expected %s for %s metadata column %.*s, received %s",
                       names[column->type], vec0_type_name(column->type), bytes, column->name.text,
                       value_type_name(value));
}

int vec0_check_value(struct vec0_table *table, const struct vec0_column *column,
                     sqlite3_value *value)
{
    int bytes = (int)column->name.bytes;

    if (sqlite3_value_type(value) == SQLITE_NULL || value_fits(column->type, value)) {
        return SQLITE_OK;
    }
    if (column->role == VEC0_METADATA) {
        return value_refuse_metadata(table, column, value);
    }
    if (column->role == VEC0_PARTITION) {
        return vec0_refuse(table,
                           "Parition key type mismatch: The partition key column %.*s has type %s, "
                           "but %s was provided.",
                           bytes, column->name.text, vec0_type_name(column->type),
                           value_type_name(value));
    }
    (void)vec0_refuse(table,
                      "Auxiliary column type mismatch: The auxiliary column %.*s has type %s, but "
                      "%s was provided.",
                      bytes, column->name.text, vec0_type_name(column->type),
                      value_type_name(value));
    return SQLITE_CONSTRAINT_DATATYPE;
}

int vec0_check_key(struct vec0_table *table, sqlite3_value *value)
{
    int type = sqlite3_value_type(value);

    if (vec0_key_is_text(table) && type != SQLITE_TEXT) {
        return vec0_refuse(table,
                           "The %s virtual table was declared with a TEXT primary key, but a "
                           "non-TEXT value was provided in an INSERT.",
                           table->name);
    }
    if (!vec0_key_is_text(table) && type != SQLITE_INTEGER && type != SQLITE_NULL) {
        return vec0_refuse(table, "Only integers are allows for primary key values on %s",
                           table->name);
    }
    return SQLITE_OK;
}
