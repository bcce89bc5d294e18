/*
 * vec0_declare.h - the columns that a CREATE VIRTUAL TABLE ... USING vec0(...) declares, for the
 * vec0 tables of Annex and for annex_import.
 */
#ifndef ANNEX_VEC0_DECLARE_H
#define ANNEX_VEC0_DECLARE_H

#include "sqlite/declaration.h"
#include "sqlite/vec/vec.h"

#define VEC0_MAX_VECTORS 16
#define VEC0_MAX_PARTITIONS 4
#define VEC0_MAX_METADATA 16
#define VEC0_MAX_AUXILIARY 16
#define VEC0_MAX_COLUMNS \
    (1 + VEC0_MAX_VECTORS + VEC0_MAX_PARTITIONS + VEC0_MAX_METADATA + VEC0_MAX_AUXILIARY)

/* What a column is for. */
enum vec0_role { VEC0_KEY, VEC0_VECTOR, VEC0_PARTITION, VEC0_METADATA, VEC0_AUXILIARY };
#define VEC0_ROLES 5

enum vec0_type { VEC0_INTEGER, VEC0_TEXT, VEC0_FLOAT, VEC0_BOOLEAN, VEC0_BLOB };

struct vec0_column {
    enum vec0_role role;
    size_t number;          /* among the columns of its role, from 0 */
    struct piece name;      /* letters, digits, '_', bytes beyond ASCII */
    enum vec0_type type;    /* of a column that is no vector */
    enum vec_type elements; /* of a vector … */
    size_t dimension;
    annex_metric metric;
    bool approximate; /* INDEXED BY something else than flat() */
};

struct vec0_declaration {
    struct vec0_column columns[VEC0_MAX_COLUMNS]; /* the key first, then as declared */
    size_t n;
    size_t counts[VEC0_ROLES];
};

/* A declaration without arguments: the key is the rowid. */
void vec0_declare_begin(struct vec0_declaration *declaration);
/*
 * Adds an argument, whose text must live as long as the declaration. False: an error in the words
 * of sqlite-vec.
 */
bool vec0_declare_add(struct vec0_declaration *declaration, struct piece argument,
                      annex_error *error);
/* Adds a column, all but its number, unless there are too many of its role. */
bool vec0_declare_column(struct vec0_declaration *declaration, const struct vec0_column *column,
                         annex_error *error);
bool vec0_declare_end(const struct vec0_declaration *declaration, annex_error *error);

/* How the index of a vector column calls the elements, and the bytes of one vector. */
annex_format vec0_format(const struct vec0_column *column);
size_t vec0_vector_bytes(const struct vec0_column *column);
/* "INTEGER", "TEXT", "FLOAT", "BOOLEAN", "BLOB". */
const char *vec0_type_name(enum vec0_type type);

#endif
