/*
 * import_declaration.h - what the CREATE VIRTUAL TABLE of a vec0 or vss0 table declares.
 *
 * Names are pieces of the text that was read. Like declaration.h this needs no SQLite.
 */
#ifndef ANNEX_IMPORT_DECLARATION_H
#define ANNEX_IMPORT_DECLARATION_H

#include <stdint.h>

#include "sqlite/declaration.h"

enum import_kind {
    IMPORT_KEY,
    IMPORT_VECTOR,
    IMPORT_PARTITION,
    IMPORT_METADATA,
    IMPORT_AUXILIARY,
    IMPORT_KINDS
};

enum import_type {
    IMPORT_INTEGER,
    IMPORT_REAL,
    IMPORT_BOOLEAN,
    IMPORT_TEXT,
    IMPORT_BLOB,
    IMPORT_F32, /* these three of vectors */
    IMPORT_I8,
    IMPORT_BITS
};

struct import_column {
    struct piece name;
    enum import_kind kind;
    enum import_type type;
    size_t number; /* among those of its kind, from 0 */
    /* Of vectors: */
    size_t dimension;
    const char *metric; /* as annex_create calls it; NULL: the index inside says so */
};

#define IMPORT_MAX_COLUMNS 64

struct import_declaration {
    bool is_vss;
    struct import_column columns[IMPORT_MAX_COLUMNS];
    size_t n;
    size_t counts[IMPORT_KINDS];
    struct piece unread; /* the first argument that was not understood */
};

/*
 * False: `sql` declares no vec0 or vss0 table (unread is empty), or one with an argument that is
 * not understood.
 */
bool import_declaration_read(const char *sql, size_t bytes, struct import_declaration *declaration);

/* Bytes of a vector of the column. */
size_t import_column_bytes(const struct import_column *column);

#endif
