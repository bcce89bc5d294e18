/*
 * vec0_declare.c - the arguments of CREATE VIRTUAL TABLE … USING vec0(…).
 *
 *   emb float[768] distance_metric=cosine indexed by flat()     a vector
 *   id integer primary key, user_id integer partition key       keys
 *   genre text, +note text                                      metadata, an auxiliary column
 *   chunk_size=1024                                             an option
 *
 * What is accepted is what sqlite-vec accepts: text behind the type of a column that is no vector
 * means nothing, chunk_size is checked and has no effect. INDEXED BY diskann(…), ivf(…) and
 * rescore(…) ask for an approximate index; what stands in the parentheses has no effect.
 */
#include <string.h>

#include "sqlite/vec/vec0.h"

#define DECLARE_ERROR "vec0 constructor error: "
#define DECLARE_MAX_CHUNK_SIZE 4096

static const struct {
    const char *name;
    enum vec0_type type;
} declare_types[] = {
    {"text", VEC0_TEXT},       {"int", VEC0_INTEGER},   {"integer", VEC0_INTEGER},
    {"int64", VEC0_INTEGER},   {"float", VEC0_FLOAT},   {"integer64", VEC0_INTEGER},
    {"double", VEC0_FLOAT},    {"float64", VEC0_FLOAT}, {"f64", VEC0_FLOAT},
    {"boolean", VEC0_BOOLEAN}, {"bool", VEC0_BOOLEAN},  {"blob", VEC0_BLOB},
};

static const struct {
    size_t most;
    const char *refusal;
} declare_limits[VEC0_ROLES] = {
    [VEC0_KEY] = {1, "More than one primary key definition was provided, vec0 only suports a "
                     "single primary key column"},
    [VEC0_VECTOR] = {VEC0_MAX_VECTORS, "Too many provided vector columns, maximum 16"},
    [VEC0_PARTITION] = {VEC0_MAX_PARTITIONS, "More than 4 partition key columns were provided"},
    [VEC0_METADATA] = {VEC0_MAX_METADATA, "More than 16 metadata columns were provided"},
    [VEC0_AUXILIARY] = {VEC0_MAX_AUXILIARY, "More than 16 auxiliary columns were provided"},
};

const char *vec0_type_name(enum vec0_type type)
{
    static const char *const names[] = {"INTEGER", "TEXT", "FLOAT", "BOOLEAN", "BLOB"};

    return names[type];
}

size_t vec0_vector_bytes(const struct vec0_column *column)
{
    switch (column->elements) {
    case VEC_F32:
        return column->dimension * sizeof(float);
    case VEC_INT8:
        return column->dimension;
    case VEC_BIT:
        break;
    }
    return column->dimension / 8;
}

void vec0_declare_begin(struct vec0_declaration *declaration)
{
    memset(declaration, 0, sizeof *declaration);
    declaration->columns[0].role = VEC0_KEY;
    declaration->columns[0].name = (struct piece){"rowid", 5};
    declaration->n = 1;
}

bool vec0_declare_end(const struct vec0_declaration *declaration, annex_error *error)
{
    if (declaration->counts[VEC0_VECTOR] == 0) {
        connection_refuse(error, DECLARE_ERROR "At least one vector column is required");
        return false;
    }
    return true;
}

/* Takes the column in, unless there are too many of its role. */
static bool declare_take(struct vec0_declaration *declaration, const struct vec0_column *column,
                         annex_error *error)
{
    size_t *count = &declaration->counts[column->role];

    if (*count == declare_limits[column->role].most) {
        connection_refuse(error, DECLARE_ERROR "%s", declare_limits[column->role].refusal);
        return false;
    }
    ++*count;
    declaration->columns[column->role == VEC0_KEY ? 0 : declaration->n++] = *column;
    return true;
}

static bool declare_is_name(struct piece word)
{
    char first = word.bytes > 0 ? word.text[0] : '0';

    return (first >= 'a' && first <= 'z') || (first >= 'A' && first <= 'Z') || first == '_' ||
           (unsigned char)first >= 0x80;
}

/* ---- Vectors ----------------------------------------------------------------------------------*/

/* What comes first decides: float8 and float32 are float, as in sqlite-vec. */
static bool declare_elements(struct piece word, enum vec_type *elements)
{
    static const struct {
        const char *start;
        enum vec_type elements;
    } names[] = {
        {"float", VEC_F32}, {"f32", VEC_F32}, {"int8", VEC_INT8},
        {"i8", VEC_INT8},   {"bit", VEC_BIT},
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t bytes = strlen(names[i].start);

        if (word.bytes >= bytes && piece_is((struct piece){word.text, bytes}, names[i].start)) {
            *elements = names[i].elements;
            return true;
        }
    }
    return false;
}

static bool declare_metric(struct piece *rest, struct vec0_column *column)
{
    bool assigned = piece_is(declaration_word(rest), "=");
    struct piece name = declaration_word(rest);

    column->metric = piece_is(name, "l2")       ? ANNEX_L2
                     : piece_is(name, "l1")     ? ANNEX_L1
                     : piece_is(name, "cosine") ? ANNEX_COSINE
                                                : column->metric;
    return assigned && column->elements != VEC_BIT &&
           (piece_is(name, "l2") || piece_is(name, "l1") || piece_is(name, "cosine"));
}

static bool declare_index(struct piece *rest, struct vec0_column *column)
{
    bool by = piece_is(declaration_word(rest), "by");
    struct piece name = declaration_word(rest);
    size_t depth = 0;

    column->approximate = !piece_is(name, "flat");
    if (!by || (column->approximate && !piece_is(name, "diskann") && !piece_is(name, "ivf") &&
                !piece_is(name, "rescore"))) {
        return false;
    }
    do {
        struct piece word = declaration_word(rest);

        if (word.bytes == 0 || (depth == 0 && !piece_is(word, "("))) {
            return false;
        }
        depth += piece_is(word, "(");
        depth -= piece_is(word, ")");
    } while (depth > 0);
    return true;
}

/* What follows the opening bracket of the dimension. */
static bool declare_vector_rest(struct piece rest, struct vec0_column *column)
{
    struct piece word = declaration_word(&rest);

    if (!piece_number(word, SIZE_MAX / 2, &column->dimension) || column->dimension == 0 ||
        !piece_is(declaration_word(&rest), "]") ||
        (column->elements == VEC_BIT && column->dimension % 8 != 0)) {
        return false;
    }
    for (word = declaration_word(&rest); word.bytes > 0; word = declaration_word(&rest)) {
        bool known = piece_is(word, "distance_metric") ? declare_metric(&rest, column)
                     : piece_is(word, "indexed")       ? declare_index(&rest, column)
                                                       : false;

        if (!known) {
            return false;
        }
    }
    return true;
}

static bool declare_vector(struct vec0_declaration *declaration, const char *argument,
                           struct piece rest, struct vec0_column column, annex_error *error)
{
    column.role = VEC0_VECTOR;
    column.metric = column.elements == VEC_BIT ? ANNEX_HAMMING : ANNEX_L2;
    if (!declare_vector_rest(rest, &column)) {
        connection_refuse(error, DECLARE_ERROR "could not parse vector column '%s'", argument);
        return false;
    }
    if (column.dimension > ANNEX_MAX_DIMENSION) {
        connection_refuse(error,
                          DECLARE_ERROR "Dimension on vector column too large, provided %zu, "
                                        "maximum %d",
                          column.dimension, ANNEX_MAX_DIMENSION);
        return false;
    }
    return declare_take(declaration, &column, error);
}

/* ---- Other columns and options ----------------------------------------------------------------*/

static bool declare_type(struct piece word, enum vec0_type *type)
{
    for (size_t i = 0; i < sizeof declare_types / sizeof declare_types[0]; i++) {
        if (piece_is(word, declare_types[i].name)) {
            *type = declare_types[i].type;
            return true;
        }
    }
    return false;
}

static bool declare_plain(struct vec0_declaration *declaration, const char *argument,
                          struct piece type, struct piece rest, struct vec0_column column,
                          annex_error *error)
{
    bool known = declare_type(type, &column.type);
    struct piece first = declaration_word(&rest);

    if (column.role != VEC0_AUXILIARY && piece_is(declaration_word(&rest), "key")) {
        column.role = piece_is(first, "primary")     ? VEC0_KEY
                      : piece_is(first, "partition") ? VEC0_PARTITION
                                                     : VEC0_METADATA;
    }
    known = known && (column.role == VEC0_AUXILIARY || column.type != VEC0_BLOB);
    if (column.role == VEC0_KEY || column.role == VEC0_PARTITION) {
        known = known && (column.type == VEC0_INTEGER || column.type == VEC0_TEXT);
    }
    if (!known) {
        connection_refuse(error, DECLARE_ERROR "Could not parse '%s'", argument);
        return false;
    }
    return declare_take(declaration, &column, error);
}

static bool declare_option(const char *argument, struct piece name, struct piece rest,
                           annex_error *error)
{
    struct piece value = declaration_word(&rest);
    size_t chunk_size;

    if (value.bytes == 0 || declaration_word(&rest).bytes > 0) {
        connection_refuse(error, DECLARE_ERROR "could not parse table option '%s'", argument);
    } else if (!piece_is(name, "chunk_size")) {
        connection_refuse(error, DECLARE_ERROR "Unknown table option: %.*s", (int)name.bytes,
                          name.text);
    } else if (!piece_number(value, SIZE_MAX / 2, &chunk_size) || chunk_size == 0) {
        connection_refuse(error, DECLARE_ERROR "chunk_size must be a non-zero positive integer");
    } else if (chunk_size % 8 != 0) {
        connection_refuse(error, DECLARE_ERROR "chunk_size must be divisible by 8");
    } else if (chunk_size > DECLARE_MAX_CHUNK_SIZE) {
        connection_refuse(error, DECLARE_ERROR "chunk_size too large");
    } else {
        return true;
    }
    return false;
}

bool vec0_declare_add(struct vec0_declaration *declaration, const char *argument,
                      annex_error *error)
{
    struct vec0_column column = {.role = VEC0_METADATA};
    struct piece rest = {argument, strlen(argument)};
    struct piece second, behind;

    column.name = declaration_word(&rest);
    if (column.name.bytes == 0) {
        return true;
    }
    if (piece_is(column.name, "+")) {
        column.role = VEC0_AUXILIARY;
        column.name = declaration_word(&rest);
    }
    second = declaration_word(&rest);
    if (!declare_is_name(column.name)) {
        connection_refuse(error, DECLARE_ERROR "Could not parse '%s'", argument);
        return false;
    }
    if (column.role == VEC0_METADATA && piece_is(second, "=")) {
        return declare_option(argument, column.name, rest, error);
    }
    behind = rest;
    if (column.role == VEC0_METADATA && piece_is(declaration_word(&behind), "[") &&
        declare_elements(second, &column.elements)) {
        return declare_vector(declaration, argument, behind, column, error);
    }
    return declare_plain(declaration, argument, second, rest, column, error);
}
