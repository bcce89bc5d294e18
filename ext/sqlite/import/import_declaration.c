/*
 * import_declaration.c - the arguments of vec0 and vss0.
 *
 *   vec0(id integer primary key, embedding float[384] distance_metric=cosine, lang text,
 *        user integer partition key, +title text, chunk_size=1024)
 *   vss0(headline(384), body(384) factory="IVF4096,Flat,IDMap2" metric_type=INNER_PRODUCT)
 *
 * Where sqlite-vec takes the beginning of a word for the word, so does this.
 */
#include "sqlite/import/import_declaration.h"

#define IMPORT_MAX_DIMENSION 65536

/* The first words of an argument. */
struct import_words {
    struct piece at[5];
    struct piece rest; /* behind them */
};

static struct import_words import_split(struct piece argument)
{
    struct import_words words = {.rest = argument};

    for (size_t i = 0; i < sizeof words.at / sizeof words.at[0]; i++) {
        words.at[i] = declaration_word(&words.rest);
    }
    return words;
}

static bool import_abbreviates(struct piece piece, const char *const *words)
{
    while (*words != NULL && !piece_abbreviates(piece, *words)) {
        words++;
    }
    return *words != NULL;
}

/* The type of a column that holds no vector. */
static bool import_scalar_type(struct piece word, enum import_type *type)
{
    static const char *const booleans[] = {"boolean", NULL};
    static const char *const integers[] = {"integer64", "int64", NULL};
    static const char *const reals[] = {"float64", "f64", "double", NULL};
    static const char *const texts[] = {"text", NULL};
    static const char *const blobs[] = {"blob", NULL};
    static const struct {
        const char *const *words;
        enum import_type type;
    } types[] = {{booleans, IMPORT_BOOLEAN},
                 {integers, IMPORT_INTEGER},
                 {reals, IMPORT_REAL},
                 {texts, IMPORT_TEXT},
                 {blobs, IMPORT_BLOB}};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (import_abbreviates(word, types[i].words)) {
            *type = types[i].type;
            return true;
        }
    }
    return false;
}

static bool import_vector_type(struct piece word, struct import_column *column)
{
    column->metric = "l2";
    if (piece_starts(word, "float") || piece_starts(word, "f32")) {
        column->type = IMPORT_F32;
    } else if (piece_starts(word, "int8") || piece_starts(word, "i8")) {
        column->type = IMPORT_I8;
    } else if (piece_starts(word, "bit")) {
        column->type = IMPORT_BITS;
        column->metric = "hamming";
    } else {
        return false;
    }
    return true;
}

/* distance_metric=…, and "indexed by flat()", which is how every vec0 table is stored here. */
static bool import_vector_options(struct piece rest, struct import_column *column)
{
    static const char *const metrics[] = {"l2", "l1", "cosine"};
    struct import_words words = import_split(rest);
    size_t i = 0;

    if (words.at[0].bytes == 0) {
        return true;
    }
    if (piece_abbreviates(words.at[0], "indexed")) {
        return piece_is(words.at[1], "by") && piece_abbreviates(words.at[2], "flat") &&
               piece_is(words.at[3], "(") && piece_is(words.at[4], ")") && words.rest.bytes == 0;
    }
    if (!piece_abbreviates(words.at[0], "distance_metric") || !piece_is(words.at[1], "=") ||
        words.at[3].bytes > 0 || column->type == IMPORT_BITS) {
        return false;
    }
    while (i < sizeof metrics / sizeof metrics[0] && !piece_abbreviates(words.at[2], metrics[i])) {
        i++;
    }
    if (i == sizeof metrics / sizeof metrics[0]) {
        return false;
    }
    column->metric = metrics[i];
    return true;
}

/* name type[dimension] options */
static bool import_read_vector(struct piece argument, struct import_column *column)
{
    struct import_words words = import_split(argument);

    column->kind = IMPORT_VECTOR;
    column->name = words.at[0];
    return import_vector_type(words.at[1], column) && piece_is(words.at[2], "[") &&
           piece_number(words.at[3], IMPORT_MAX_DIMENSION, &column->dimension) &&
           column->dimension > 0 && piece_is(words.at[4], "]") &&
           (column->type != IMPORT_BITS || column->dimension % 8 == 0) &&
           import_vector_options(words.rest, column);
}

/* One argument of vec0. A table option is no column: kind is IMPORT_KINDS. */
static bool import_read_vec0(struct piece argument, struct import_column *column)
{
    struct import_words words = import_split(argument);
    size_t number;

    if (piece_is(words.at[2], "[")) {
        return import_read_vector(argument, column);
    }
    if (piece_is(words.at[1], "=")) {
        column->kind = IMPORT_KINDS;
        return piece_abbreviates(words.at[0], "chunk_size") &&
               piece_number(words.at[2], SIZE_MAX, &number);
    }
    if (piece_is(words.at[0], "+")) {
        column->kind = IMPORT_AUXILIARY;
        column->name = words.at[1];
        return import_scalar_type(words.at[2], &column->type) && column->type != IMPORT_BOOLEAN;
    }
    column->kind = IMPORT_METADATA;
    column->name = words.at[0];
    if (!import_scalar_type(words.at[1], &column->type)) {
        return false;
    }
    if (words.at[2].bytes > 0 && piece_abbreviates(words.at[3], "key")) {
        if (piece_abbreviates(words.at[2], "partition")) {
            column->kind = IMPORT_PARTITION;
        } else if (piece_abbreviates(words.at[2], "primary")) {
            column->kind = IMPORT_KEY;
        }
    }
    return column->kind == IMPORT_METADATA
               ? column->type != IMPORT_BLOB
               : column->type == IMPORT_INTEGER || column->type == IMPORT_TEXT;
}

/* name(dimension); the index inside says whatever the options behind it say. */
static bool import_read_vss0(struct piece argument, struct import_column *column)
{
    struct import_words words = import_split(argument);

    column->kind = IMPORT_VECTOR;
    column->type = IMPORT_F32;
    column->name = words.at[0];
    return piece_is(words.at[1], "(") &&
           piece_number(words.at[2], IMPORT_MAX_DIMENSION, &column->dimension) &&
           column->dimension > 0 && piece_is(words.at[3], ")");
}

/* Adds a column, unless there are too many or a second key. */
static bool import_add(struct import_declaration *declaration, const struct import_column *column)
{
    struct import_column *added = &declaration->columns[declaration->n];

    if (column->kind == IMPORT_KINDS) {
        return true;
    }
    if (declaration->n == IMPORT_MAX_COLUMNS || column->name.bytes == 0 ||
        (column->kind == IMPORT_KEY && declaration->counts[IMPORT_KEY] > 0)) {
        return false;
    }
    *added = *column;
    added->number = declaration->counts[column->kind]++;
    declaration->n++;
    return true;
}

bool import_declaration_read(const char *sql, size_t bytes, struct import_declaration *declaration)
{
    struct declaration table;
    struct piece argument;

    *declaration = (struct import_declaration){.unread = {sql, 0}};
    if (!declaration_read(sql, bytes, &table)) {
        return false;
    }
    declaration->is_vss = piece_names(table.module, "vss0");
    if (!declaration->is_vss && !piece_names(table.module, "vec0")) {
        return false;
    }
    while (declaration_next(&table.arguments, &argument)) {
        struct import_column column = {.kind = IMPORT_KINDS};
        bool read = declaration->is_vss ? import_read_vss0(argument, &column)
                                        : import_read_vec0(argument, &column);

        if (!read || !import_add(declaration, &column)) {
            declaration->unread = argument;
            return false;
        }
    }
    return declaration->counts[IMPORT_VECTOR] > 0;
}

size_t import_column_bytes(const struct import_column *column)
{
    return column->type == IMPORT_F32    ? 4 * column->dimension
           : column->type == IMPORT_BITS ? column->dimension / 8
                                         : column->dimension;
}
