/*
 * vec0_declare.c - the arguments of CREATE VIRTUAL TABLE … USING vec0(…).
 *
 *   emb float[768] distance_metric=cosine indexed by flat()     a vector
 *   id integer primary key, user_id integer partition key       keys
 *   genre text, +note text                                      metadata, an auxiliary column
 *   chunk_size=1024                                             an option
 *
 * What sqlite-vec accepts is accepted: the beginning of a word stands for the word, and text behind
 * the type of a column that is no vector means nothing. chunk_size is checked and has no effect.
 * INDEXED BY diskann(…), ivf(…) and rescore(…) ask for an approximate index; what stands in the
 * parentheses has no effect.
 */
#include "sqlite/vec/vec0_declare.h"

#include <string.h>

#define DECLARE_ERROR "vec0 constructor error: "
#define DECLARE_MAX_CHUNK_SIZE 4096

/* The beginning of several is the first of them. */
static const struct {
    const char *name;
    enum vec0_type type;
} declare_types[] = {
    {"boolean", VEC0_BOOLEAN}, {"int64", VEC0_INTEGER}, {"integer64", VEC0_INTEGER},
    {"float64", VEC0_FLOAT},   {"f64", VEC0_FLOAT},     {"double", VEC0_FLOAT},
    {"text", VEC0_TEXT},       {"blob", VEC0_BLOB},
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

annex_format vec0_format(const struct vec0_column *column)
{
    return column->elements == VEC_F32    ? ANNEX_F32
           : column->elements == VEC_INT8 ? ANNEX_I8
                                          : ANNEX_BITS;
}

size_t vec0_vector_bytes(const struct vec0_column *column)
{
    return column->elements == VEC_F32    ? column->dimension * sizeof(float)
           : column->elements == VEC_INT8 ? column->dimension
                                          : column->dimension / 8;
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

bool vec0_declare_column(struct vec0_declaration *declaration, const struct vec0_column *column,
                         annex_error *error)
{
    size_t *count = &declaration->counts[column->role];
    struct vec0_column *added;

    if (*count == declare_limits[column->role].most) {
        connection_refuse(error, DECLARE_ERROR "%s", declare_limits[column->role].refusal);
        return false;
    }
    added = &declaration->columns[column->role == VEC0_KEY ? 0 : declaration->n++];
    *added = *column;
    added->number = (*count)++;
    return true;
}

/* "could not parse vector column" and the like, and the argument. */
static bool declare_refuse(const char *what, struct piece argument, annex_error *error)
{
    connection_refuse(error, DECLARE_ERROR "%s '%.*s'", what, (int)argument.bytes, argument.text);
    return false;
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
        if (piece_starts(word, names[i].start)) {
            *elements = names[i].elements;
            return true;
        }
    }
    return false;
}

static bool declare_metric(struct piece *rest, struct vec0_column *column)
{
    static const annex_metric metrics[] = {ANNEX_L2, ANNEX_L1, ANNEX_COSINE};
    bool assigned = piece_is(declaration_word(rest), "=");
    struct piece name = declaration_word(rest);

    if (!assigned || column->elements == VEC_BIT) {
        return false;
    }
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        if (piece_abbreviates(name, annex_metric_name(metrics[i]))) {
            column->metric = metrics[i];
            return true;
        }
    }
    return false;
}

static bool declare_index(struct piece *rest, struct vec0_column *column)
{
    bool by = piece_abbreviates(declaration_word(rest), "by");
    struct piece name = declaration_word(rest);
    size_t depth = 0;

    column->approximate = !piece_abbreviates(name, "flat");
    if (!by || (column->approximate && !piece_abbreviates(name, "diskann") &&
                !piece_abbreviates(name, "ivf") && !piece_abbreviates(name, "rescore"))) {
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
        bool known = piece_abbreviates(word, "distance_metric") ? declare_metric(&rest, column)
                     : piece_abbreviates(word, "indexed")       ? declare_index(&rest, column)
                                                                : false;

        if (!known) {
            return false;
        }
    }
    return true;
}

static bool declare_vector(struct vec0_declaration *declaration, struct piece argument,
                           struct piece rest, struct vec0_column column, annex_error *error)
{
    column.role = VEC0_VECTOR;
    column.metric = column.elements == VEC_BIT ? ANNEX_HAMMING : ANNEX_L2;
    if (!declare_vector_rest(rest, &column)) {
        return declare_refuse("could not parse vector column", argument, error);
    }
    if (column.dimension > ANNEX_MAX_DIMENSION) {
        connection_refuse(error,
                          DECLARE_ERROR "Dimension on vector column too large, provided %zu, "
                                        "maximum %d",
                          column.dimension, ANNEX_MAX_DIMENSION);
        return false;
    }
    return vec0_declare_column(declaration, &column, error);
}

/* ---- Other columns and options ----------------------------------------------------------------*/

static bool declare_type(struct piece word, enum vec0_type *type)
{
    for (size_t i = 0; i < sizeof declare_types / sizeof declare_types[0]; i++) {
        if (piece_abbreviates(word, declare_types[i].name)) {
            *type = declare_types[i].type;
            return true;
        }
    }
    return false;
}

static bool declare_plain(struct vec0_declaration *declaration, struct piece argument,
                          struct piece type, struct piece rest, struct vec0_column column,
                          annex_error *error)
{
    bool known = declare_type(type, &column.type);
    struct piece first = declaration_word(&rest);

    if (column.role != VEC0_AUXILIARY && piece_abbreviates(declaration_word(&rest), "key")) {
        column.role = piece_abbreviates(first, "partition") ? VEC0_PARTITION
                      : piece_abbreviates(first, "primary") ? VEC0_KEY
                                                            : VEC0_METADATA;
    }
    known = known && (column.role == VEC0_AUXILIARY || column.type != VEC0_BLOB);
    if (column.role == VEC0_KEY || column.role == VEC0_PARTITION) {
        known = known && (column.type == VEC0_INTEGER || column.type == VEC0_TEXT);
    }
    if (!known) {
        return declare_refuse("Could not parse", argument, error);
    }
    return vec0_declare_column(declaration, &column, error);
}

static bool declare_option(struct piece argument, struct piece name, struct piece rest,
                           annex_error *error)
{
    struct piece value = declaration_word(&rest);
    size_t chunk_size;

    if (value.bytes == 0 || declaration_word(&rest).bytes > 0) {
        return declare_refuse("could not parse table option", argument, error);
    }
    if (!piece_abbreviates(name, "chunk_size")) {
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

bool vec0_declare_add(struct vec0_declaration *declaration, struct piece argument,
                      annex_error *error)
{
    struct vec0_column column = {.role = VEC0_METADATA};
    struct piece rest = argument;
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
        return declare_refuse("Could not parse", argument, error);
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
