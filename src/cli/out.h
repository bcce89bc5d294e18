/*
 * out.h - results on standard output, in the form that was asked for.
 *
 * A list is rows of cells under names; a record is one thing with named values. In JSON, JSONL and
 * CSV the names and their order are part of the interface; the layout for people is not.
 */
#ifndef ANNEX_CLI_OUT_H
#define ANNEX_CLI_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex.h"
#include "emit.h"

enum out_mode { OUT_TABLE, OUT_JSON, OUT_JSONL, OUT_CSV };

/* ---- lists ------------------------------------------------------------------------------------*/

struct list_cell {
    char *text;
    bool is_number;
};

struct list {
    enum out_mode mode;
    const char *const *columns; /* [n_columns] */
    size_t n_columns;
    size_t column; /* where the next value goes; the last one ends the row */
    bool grouped;
    uint64_t groups, rows; /* begun */
    struct emitter json;
    struct list_cell *cells; /* OUT_TABLE: all rows, to know how wide the columns are */
    size_t n_cells, cell_capacity;
};

/*
 * `columns` is kept until list_end. A grouped list has a first column with the number of the group,
 * written by list_group alone; in JSON it is an array of arrays without that column.
 */
void list_begin(struct list *list, enum out_mode mode, const char *const *columns, size_t n_columns,
                bool grouped);
void list_group(struct list *list);
void list_null(struct list *list);
void list_bool(struct list *list, bool value);
void list_integer(struct list *list, int64_t value);
void list_count(struct list *list, uint64_t value);
void list_size(struct list *list, uint64_t bytes); /* people read "5.9 MiB" */
void list_real(struct list *list, double value);
void list_text(struct list *list, const char *text);
void list_bytes(struct list *list, const char *text, size_t bytes);
void list_value(struct list *list, const annex_value *value); /* blobs as x'0a0b' */
void list_json(struct list *list, const char *text);          /* JSON; as text in a table and CSV */
void list_end(struct list *list);

/* ---- records ----------------------------------------------------------------------------------*/

struct record {
    bool is_json;
    struct emitter json;
};

void record_begin(struct record *record, enum out_mode mode);
void record_text(struct record *record, const char *name, const char *text);
void record_count(struct record *record, const char *name, uint64_t value);
void record_size(struct record *record, const char *name, uint64_t bytes);
void record_real(struct record *record, const char *name, double value); /* NaN: unknown */
void record_bool(struct record *record, const char *name, bool value);
void record_end(struct record *record);

/* "5.9 MiB" */
void out_format_size(uint64_t bytes, char *text, size_t capacity);

#endif
