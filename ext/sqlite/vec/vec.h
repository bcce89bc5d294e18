/*
 * vec.h - what the files of the compatibility with sqlite-vec share: its values, its scalar
 * functions, its vec0 tables. docs/VEC.md describes them for users.
 *
 * Invariants
 *   1. Nothing here is registered by sqlite3_annex_init: only sqlite3_annex_vec_init does.
 *   2. Results and the texts of errors are those of sqlite-vec, which programs compare.
 */
#ifndef ANNEX_VEC_H
#define ANNEX_VEC_H

#include "sqlite/extension.h"

/* ---- vec_value.c ------------------------------------------------------------------------------*/

/* The type of the elements of a vector; also the subtype of the blob that SQL passes around. */
enum vec_type {
    VEC_F32 = 223,
    VEC_BIT = 224, /* element i is bit i % 8 of byte i / 8 */
    VEC_INT8 = 225
};

/* The subtype of JSON text, which json_array and others give. */
#define VEC_SUBTYPE_JSON 'J'

/* "float32", "bit", "int8". */
const char *vec_type_name(enum vec_type type);

/* A vector that was read. Zero-initialised holds nothing. */
struct vec_value {
    enum vec_type type;
    size_t dimensions;    /* at least 1 */
    size_t bytes;         /* of the elements */
    const void *elements; /* aligned for the type; owned, or borrowed from the sqlite3_value */
    void *owned;          /* what vec_value_free frees, or NULL */
};

/*
 * Reads a vector of the type that its subtype says: JSON text or a blob without one is f32. False:
 * an error in the words of sqlite-vec, and nothing to free.
 */
bool vec_value_read(sqlite3_value *value, struct vec_value *vector, annex_error *error);
/* The same for a given type, whatever the subtype. Bits have no JSON form. */
bool vec_value_read_as(sqlite3_value *value, enum vec_type type, struct vec_value *vector,
                       annex_error *error);
void vec_value_free(struct vec_value *vector);

/* Makes `elements`, of sqlite3_malloc64, the result and SQLite's. NULL: there was no memory. */
void vec_result(sqlite3_context *context, enum vec_type type, void *elements, size_t bytes);

/* ---- vec_distance.c ---------------------------------------------------------------------------*/

/*
 * The distance of two vectors of one type and dimension: L2, COSINE, L1 over f32 and int8, HAMMING
 * over bits. As in sqlite-vec it is an f32, except for L1. NaN: there is none (a zero vector under
 * cosine).
 */
double vec_distance(annex_metric metric, const struct vec_value *a, const struct vec_value *b);

/* ---- vec_functions.c, vec_pairs.c, vec_each.c, vec0_table.c -----------------------------------*/

/* Flags of a function that computes from its arguments alone; and of one that gives a subtype. */
#define VEC_TAKES (SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS | SQLITE_SUBTYPE)
#define VEC_GIVES SQLITE_RESULT_SUBTYPE

/* Both end with a NULL name. */
extern const struct function vec_functions[];
extern const struct function vec_pair_functions[];

extern const sqlite3_module vec_each_module;

/* Registers the module vec0. A result code of SQLite. */
int vec0_register(sqlite3 *handle, struct connection *connection);

#endif
