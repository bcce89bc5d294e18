/*
 * extension.h - what the files of the SQLite extension share.
 *
 * Invariants
 *   1. One annex_db for each connection, made by the first call that needs it and closed before the
 *      connection is: see connection.c.
 *   2. No error of Annex reaches SQLite with a code that makes SQLite give up a transaction of the
 *      user: see connection_code.
 *   3. Only annex.h is used of Annex, and of SQLite only what 3.38 has.
 */
#ifndef ANNEX_EXTENSION_H
#define ANNEX_EXTENSION_H

#include <stdbool.h>

#include "annex.h"
#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

/* Since 3.45 a function says that its result has a subtype; older versions ignore the flag. */
#ifndef SQLITE_RESULT_SUBTYPE
#    define SQLITE_RESULT_SUBTYPE 0x001000000
#endif

/* ---- connection.c -----------------------------------------------------------------------------*/

struct connection;

/* One reference for the caller; NULL without memory. */
struct connection *connection_new(sqlite3 *handle);
/* Every function, module and table holds a reference, so that the last one frees. */
void connection_hold(struct connection *connection);
void connection_release(void *connection);

/*
 * The annex_db of the connection, opened on first use, for calls until connection_end. Refuses when
 * the connection is already between the two: SQL that Annex runs has called Annex.
 */
annex_status connection_begin(struct connection *connection, annex_db **annex, annex_error *error);
void connection_end(struct connection *connection);
/*
 * To be called in xDisconnect of each table, whose xConnect has called connection_hold. Closes the
 * annex_db.
 */
void connection_detach_table(struct connection *connection);
/* Between the two the annex_db stays: a cursor uses something of it. */
void connection_enter(struct connection *connection);
void connection_leave(struct connection *connection);

/*
 * Whether sqlite3_interrupt was called, or a progress handler, which gets its turn here, asks to
 * stop. For long work between connection_begin and connection_end.
 */
bool connection_is_interrupted(struct connection *connection);
/* Keeps something, freed with the annex_db; between connection_begin and connection_end. */
void connection_keep(struct connection *connection, void *kept, void (*free_kept)(void *kept));
/* What is kept, NULL at first. */
void *connection_kept(struct connection *connection);

/* The result code of SQLite for a status. */
int connection_code(annex_status status);
/* Makes the error the result of a function, and the error of a virtual table. */
void connection_fail_function(sqlite3_context *context, const annex_error *error);
int connection_fail_table(sqlite3_vtab *table, const annex_error *error);
/* The same with a sentence of our own; the status is ANNEX_INVALID. */
void connection_refuse(annex_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Borrows from `value`. Text is UTF-8. */
annex_value connection_value(sqlite3_value *value);
/* Makes the value the result of a function or column. */
void connection_result(sqlite3_context *context, const annex_value *value);

/* ---- functions.c, vectors.c, import.c ---------------------------------------------------------*/

struct function {
    const char *name;
    int least_arguments;
    int most_arguments;
    int flags; /* SQLITE_DETERMINISTIC, SQLITE_DIRECTONLY … */
    void (*call)(sqlite3_context *context, int n, sqlite3_value **arguments);
};

/* Both lists end with a NULL name. */
extern const struct function index_functions[];
extern const struct function vector_functions[];
extern const struct function import_functions[];

/* *text = the argument, which must be text without a zero byte. `what` names it in the message. */
bool function_text(sqlite3_value *argument, const char *what, const char **text,
                   annex_error *error);
/* The index of the list that `name` means, perhaps with its schema ("aux.docs_idx") or as that of a
 * table with a default index; or NULL. */
const annex_db_index *function_find_index(const annex_db_index *list, size_t n, const char *name);
/* Says that there is none. Always ANNEX_NOT_FOUND. */
annex_status function_no_index(const char *name, annex_error *error);

/* ---- extension.c ------------------------------------------------------------------------------*/

/*
 * Registers Annex with `handle` unless that has been done. *connection is borrowed from what is
 * registered; NULL when that was another version of Annex. A result code of SQLite.
 */
int extension_load(sqlite3 *handle, struct connection **connection, char **message);
/* Registers functions, which hold the connection. */
int extension_add_functions(sqlite3 *handle, struct connection *connection,
                            const struct function *functions);

/* ---- operand.c --------------------------------------------------------------------------------*/

/* A vector as SQL gave it. One allocation: sqlite3_free. */
struct operand {
    size_t n;         /* elements */
    size_t bytes;     /* of the elements */
    bool is_text;     /* it was JSON */
    float elements[]; /* f32, or packed bits, or another format after operand_narrow */
};

/* Reads a blob of `format`, or JSON text, as f32, as packed bits for ANNEX_BITS. NULL: error. */
struct operand *operand_read(sqlite3_value *value, annex_format format, annex_error *error);
/* Both take `vector` and give another one, or NULL with an error. */
struct operand *operand_narrow(struct operand *vector, annex_format format, annex_error *error);
struct operand *operand_unpack_bits(struct operand *packed, annex_error *error);

/* ---- search.c, keylist.c, indexes.c -----------------------------------------------------------*/

extern const sqlite3_module search_module;
extern const sqlite3_module within_module;
extern const sqlite3_module indexes_module;

/* k as SQL gives it: an integer, or text or a real number that is one (a web form sends text). */
bool search_read_k(sqlite3_value *value, size_t *k, annex_error *error);

/* What `key IN (…)` allows. Zero-initialised is empty. */
struct keylist {
    annex_value *keys;
    size_t n;
    size_t capacity;
    sqlite3_value **owners;        /* [n] keep the data of the keys */
    struct connection *connection; /* NULL, or whose interrupts are obeyed */
};

/*
 * Adds the values of an argument of xFilter that sqlite3_vtab_in has announced. NULLs are left out.
 */
int keylist_read(struct keylist *list, sqlite3_value *argument);
/* Keeps the keys of `list` that are also in `other`. */
int keylist_intersect(struct keylist *list, struct keylist *other);
/* Adds one value. */
int keylist_add(struct keylist *list, sqlite3_value *value);
void keylist_free(struct keylist *list);
/* Sorts the keys, after which nothing may be added; keylist_holds then finds them. */
void keylist_sort(struct keylist *list);
bool keylist_holds(const struct keylist *list, const annex_value *key);
/* Two annex_value, in SQLite's order without affinity and collation; for qsort and bsearch. */
int keylist_compare(const void *left, const void *right);

/* ---- hybrid.c ---------------------------------------------------------------------------------*/

extern const sqlite3_module hybrid_module;

#endif
