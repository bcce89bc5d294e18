/*
 * hybrid_options.c - the options of annex_hybrid: its own are read here, by SQLite's JSON
 * functions, and the others go on to the search by vector as they are.
 */
#include <math.h>
#include <string.h>

#include "sqlite/hybrid/hybrid.h"
#include "sqlite/statement.h"

#define HYBRID_RRF_K 60.0
#define HYBRID_CANDIDATES 100

static annex_status options_refuse(annex_error *error, const char *sentence)
{
    connection_refuse(error, "%s", sentence);
    return error->status;
}

/* [vector, text], each 0 or more and not both 0. */
static annex_status options_read_weights(sqlite3 *handle, const char *json,
                                         struct hybrid_options *options, annex_error *error)
{
    static const char refused[] = "the weights of annex_hybrid must be two numbers, 0 or more and "
                                  "not both 0: {\"weights\": [vector, text]}";
    sqlite3_stmt *statement;
    bool row;
    size_t n = 0;
    annex_status status = statement_ask(handle, &statement, &row, json, NULL, error,
                                        "SELECT value FROM json_each(?1)");

    while (status == ANNEX_OK && row) {
        double weight = sqlite3_column_double(statement, 0);
        int type = sqlite3_column_type(statement, 0);

        if (n == HYBRID_LISTS || (type != SQLITE_INTEGER && type != SQLITE_FLOAT) ||
            !(weight >= 0) || isinf(weight)) {
            status = options_refuse(error, refused);
        } else {
            options->weights[n++] = weight;
            status = statement_step(statement, &row, error);
        }
    }
    if (status == ANNEX_OK &&
        (n < HYBRID_LISTS || options->weights[0] + options->weights[1] <= 0)) {
        status = options_refuse(error, refused);
    }
    sqlite3_finalize(statement);
    return status;
}

static annex_status options_read_fts_key(sqlite3_stmt *statement, struct hybrid_options *options,
                                         annex_error *error)
{
    sqlite3_free(options->fts_key); /* the member may be there twice */
    return statement_copy(statement, 3, &options->fts_key, error);
}

/* One member; the columns are key, type, value, value as JSON. Those not known here are left. */
static annex_status options_read_member(sqlite3 *handle, sqlite3_stmt *statement,
                                        struct hybrid_options *options, annex_error *error)
{
    const char *name = (const char *)sqlite3_column_text(statement, 0);
    const char *type = (const char *)sqlite3_column_text(statement, 1);
    const char *json = (const char *)sqlite3_column_text(statement, 3);
    double number = sqlite3_column_double(statement, 2);
    bool is_number;

    if (name == NULL || type == NULL || json == NULL) {
        return statement_nomem(error);
    }
    is_number = strcmp(type, "integer") == 0 || strcmp(type, "real") == 0;
    if (strcmp(name, "weights") == 0) {
        return options_read_weights(handle, json, options, error);
    }
    if (strcmp(name, "rrf_k") == 0) {
        options->rrf_k = number;
        return is_number && number >= 0 && !isinf(number)
                   ? ANNEX_OK
                   : options_refuse(error, "rrf_k must be a number, 0 or more; 60 is usual");
    }
    if (strcmp(name, "candidates") == 0) {
        options->candidates = (size_t)sqlite3_column_int64(statement, 2);
        return strcmp(type, "integer") == 0 && number >= 1
                   ? ANNEX_OK
                   : options_refuse(error, "candidates must be an integer, 1 or more: how many "
                                           "rows of each list are fused");
    }
    if (strcmp(name, "fts_key") == 0) {
        return strcmp(type, "text") == 0 || strcmp(type, "array") == 0
                   ? options_read_fts_key(statement, options, error)
                   : options_refuse(error, "fts_key must be the name of a column of the FTS5 "
                                           "table, or an array of names");
    }
    if (strcmp(name, "mmr") == 0 || strcmp(name, "group") == 0) {
        connection_refuse(error,
                          "annex_hybrid has no option %s, which would hold for one of its two "
                          "lists only; annex_search has it",
                          name);
        return error->status;
    }
    return ANNEX_OK;
}

static annex_status options_read_members(sqlite3 *handle, const char *json,
                                         struct hybrid_options *options, annex_error *error)
{
    sqlite3_stmt *statement;
    bool row;
    annex_status status =
        statement_ask(handle, &statement, &row, json, NULL, error,
                      "SELECT key, type, value, json_quote(value) FROM json_each(?1)");

    while (status == ANNEX_OK && row) {
        status = options_read_member(handle, statement, options, error);
        if (status == ANNEX_OK) {
            status = statement_step(statement, &row, error);
        }
    }
    sqlite3_finalize(statement);
    return status;
}

/* What is left without the members above; also refuses what is no object. */
static annex_status options_read_rest(sqlite3 *handle, const char *json,
                                      struct hybrid_options *options, annex_error *error)
{
    sqlite3_stmt *statement;
    bool row;
    annex_status status =
        statement_ask(handle, &statement, &row, json, NULL, error,
                      "SELECT json_remove(?1, '$.weights', '$.rrf_k', '$.candidates', '$.fts_key')"
                      " WHERE CASE WHEN json_valid(?1) THEN json_type(?1) = 'object' END");

    if (status == ANNEX_OK) {
        status = row ? statement_copy(statement, 0, &options->search, error)
                     : options_refuse(error, "the options of annex_hybrid are not a JSON object; "
                                             "an example is {\"weights\": [1, 0.5]}");
    }
    sqlite3_finalize(statement);
    return status;
}

annex_status hybrid_options_read(sqlite3 *handle, const char *json, struct hybrid_options *options,
                                 annex_error *error)
{
    annex_status status;

    *options = (struct hybrid_options){
        .weights = {1, 1}, .rrf_k = HYBRID_RRF_K, .candidates = HYBRID_CANDIDATES};
    if (json == NULL) {
        return ANNEX_OK;
    }
    status = options_read_rest(handle, json, options, error);
    if (status == ANNEX_OK) {
        status = options_read_members(handle, json, options, error);
    }
    if (status != ANNEX_OK) {
        hybrid_options_free(options);
    }
    return status;
}

void hybrid_options_free(struct hybrid_options *options)
{
    sqlite3_free(options->search);
    sqlite3_free(options->fts_key);
    options->search = NULL;
    options->fts_key = NULL;
}
