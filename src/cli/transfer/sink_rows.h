/*
 * sink_rows.h - items into the rows of a table, in one transaction.
 *
 * sink_rows.c writes rows; what differs between an ordinary table and llm's embeddings is which
 * columns there are and what is put into them (struct row_target).
 */
#ifndef ANNEX_CLI_SINK_ROWS_H
#define ANNEX_CLI_SINK_ROWS_H

#include "transfer/sql.h"
#include "transfer/transfer.h"

#define ROW_COLUMNS (TRANSFER_KEYS + 8)

struct row_target {
    const char *table;
    const char *columns[ROW_COLUMNS]; /* the columns of the key first */
    size_t n_columns, n_key;
};

struct rows_sink {
    struct sink base;
    struct session *session;
    const struct items *source;
    sqlite3 *db;
    bool is_new; /* the file was not there before */
    bool committed;
    struct row_target target;
    sqlite3_stmt *insert, *update;
    /* Called for the first item: makes or checks the table and fills in `target`. */
    annex_status (*prepare)(struct rows_sink *sink, const struct item *item, annex_error *error);
    /* The values of an item, one for each column of the target. */
    annex_status (*values)(struct rows_sink *sink, const struct item *item, annex_value *values,
                           annex_error *error);
};

/* Sets up `sink`, opens the database of the command line, and begins the transaction. */
annex_status rows_sink_begin(struct rows_sink *sink, struct session *session,
                             const struct items *source, annex_error *error);
/* The vector of an item as it is stored. */
annex_value rows_sink_vector(const struct rows_sink *sink, const struct item *item);

#endif
