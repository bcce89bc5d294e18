/*
 * hybrid.c - the table-valued function annex_hybrid(index, query, fts_table, fts_query, k, options)
 *
 * Invariants
 *   1. `key IN (…)` filters both halves before they rank; every other condition applies to the k
 *      rows, as with annex_search (search.c says why).
 *   2. Rows come in the order of (score descending, key). ORDER BY is taken over only when it is
 *      exactly `score DESC`.
 *
 * hybrid_search.c does the searching.
 */
#include <math.h>
#include <string.h>

#include "sqlite/hybrid/hybrid.h"

enum {
    COLUMN_KEY = 0, /* and three more */
    COLUMN_SCORE = 4,
    COLUMN_DISTANCE,
    COLUMN_BM25,
    COLUMN_VECTOR_RANK,
    COLUMN_TEXT_RANK,
    COLUMN_INDEX, /* from here on hidden: the arguments … */
    COLUMN_PLAN = COLUMN_INDEX + 6,
    COLUMN_COMPLETE,
    COLUMN_KEY5
};

#define HYBRID_VISIBLE_KEYS 4
#define HYBRID_MAX_LISTS 7

/* idxNum: a bit for each argument, one for the distance, the number of IN lists above them. */
#define HYBRID_HAS(argument) (1 << (argument))
#define HYBRID_WANTS_DISTANCE (1 << HYBRID_ARGUMENTS)
#define HYBRID_LISTS_SHIFT (HYBRID_ARGUMENTS + 1)

/* ---- The table --------------------------------------------------------------------------------*/

static int hybrid_connect(sqlite3 *handle, void *connection, int n, const char *const *arguments,
                          sqlite3_vtab **table, char **message)
{
    struct hybrid_table *hybrid;
    int code = sqlite3_declare_vtab(
        handle, "CREATE TABLE x(key, key2, key3, key4, score REAL, distance REAL, bm25 REAL,"
                " vector_rank INTEGER, text_rank INTEGER, \"index\" HIDDEN, query HIDDEN,"
                " fts_table HIDDEN, fts_query HIDDEN, k HIDDEN, options HIDDEN, plan HIDDEN,"
                " complete HIDDEN, key5 HIDDEN, key6 HIDDEN, key7 HIDDEN, key8 HIDDEN)");

    (void)n;
    (void)arguments;
    (void)message;
    *table = NULL;
    if (code != SQLITE_OK) {
        return code;
    }
    hybrid = sqlite3_malloc64(sizeof *hybrid);
    if (hybrid == NULL) {
        return SQLITE_NOMEM;
    }
    *hybrid = (struct hybrid_table){.handle = handle, .connection = connection};
    *table = &hybrid->base;
    connection_hold(connection);
    return SQLITE_OK;
}

static int hybrid_disconnect(sqlite3_vtab *table)
{
    struct hybrid_table *hybrid = (struct hybrid_table *)table;

    connection_detach_table(hybrid->connection);
    sqlite3_free(hybrid);
    return SQLITE_OK;
}

/* ---- Planning ---------------------------------------------------------------------------------*/

/* Which constraints of a plan are arguments and IN lists: positions in aConstraint. */
struct hybrid_plan {
    int arguments[HYBRID_ARGUMENTS]; /* -1: not given */
    int lists[HYBRID_MAX_LISTS];
    int n_lists;
};

/* False when the plan needs a value that it does not have yet: SQLite then tries another. */
static bool hybrid_read_constraints(sqlite3_index_info *info, struct hybrid_plan *plan)
{
    bool unusable[HYBRID_ARGUMENTS] = {false};

    *plan = (struct hybrid_plan){.arguments = {-1, -1, -1, -1, -1, -1}};
    for (int i = 0; i < info->nConstraint; i++) {
        const struct sqlite3_index_constraint *constraint = &info->aConstraint[i];
        int argument = constraint->iColumn - COLUMN_INDEX;

        if (constraint->op != SQLITE_INDEX_CONSTRAINT_EQ) {
            continue;
        }
        if (argument >= 0 && argument < HYBRID_ARGUMENTS) {
            if (!constraint->usable) {
                unusable[argument] = true;
            } else if (plan->arguments[argument] < 0) {
                plan->arguments[argument] = i;
            }
        } else if (constraint->iColumn == COLUMN_KEY && sqlite3_vtab_in(info, i, -1)) {
            if (!constraint->usable) {
                return false;
            }
            if (plan->n_lists < HYBRID_MAX_LISTS) {
                plan->lists[plan->n_lists++] = i;
            }
        }
    }
    for (int i = 0; i < HYBRID_ARGUMENTS; i++) {
        if (unusable[i] && plan->arguments[i] < 0) {
            return false;
        }
    }
    return true;
}

static int hybrid_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    struct hybrid_plan plan;
    int next = 0;

    (void)table;
    if (!hybrid_read_constraints(info, &plan)) {
        return SQLITE_CONSTRAINT;
    }
    info->idxNum = plan.n_lists << HYBRID_LISTS_SHIFT;
    if ((info->colUsed & (UINT64_C(1) << COLUMN_DISTANCE)) != 0) {
        info->idxNum |= HYBRID_WANTS_DISTANCE;
    }
    for (int i = 0; i < HYBRID_ARGUMENTS; i++) {
        if (plan.arguments[i] >= 0) {
            info->aConstraintUsage[plan.arguments[i]].argvIndex = ++next;
            info->aConstraintUsage[plan.arguments[i]].omit = 1;
            info->idxNum |= HYBRID_HAS(i);
        }
    }
    for (int i = 0; i < plan.n_lists; i++) {
        sqlite3_vtab_in(info, plan.lists[i], 1);
        info->aConstraintUsage[plan.lists[i]].argvIndex = ++next;
    }
    info->idxStr =
        (char *)(plan.n_lists > 0 ? "annex_hybrid k best, key filter" : "annex_hybrid k best");
    info->orderByConsumed =
        info->nOrderBy == 1 && info->aOrderBy[0].desc && info->aOrderBy[0].iColumn == COLUMN_SCORE;
    info->estimatedRows = 10;
    info->estimatedCost = 20000;
    for (int i = 0; i <= ARGUMENT_FTS_QUERY; i++) {
        if (plan.arguments[i] < 0) {
            info->estimatedCost = 1e30; /* xFilter says what is missing */
        }
    }
    return SQLITE_OK;
}

/* ---- The cursor -------------------------------------------------------------------------------*/

static int hybrid_open(sqlite3_vtab *table, sqlite3_vtab_cursor **cursor)
{
    struct hybrid_cursor *hybrid = sqlite3_malloc64(sizeof *hybrid);

    (void)table;
    if (hybrid == NULL) {
        return SQLITE_NOMEM;
    }
    memset(hybrid, 0, sizeof *hybrid);
    *cursor = &hybrid->base;
    return SQLITE_OK;
}

static void hybrid_clear(struct hybrid_cursor *hybrid)
{
    hybrid_rows_free(&hybrid->rows);
    sqlite3_free(hybrid->plan);
    hybrid->plan = NULL;
    for (int i = 0; i < HYBRID_ARGUMENTS; i++) {
        sqlite3_value_free(hybrid->arguments[i]);
        hybrid->arguments[i] = NULL;
    }
    hybrid->row = 0;
}

static int hybrid_close(sqlite3_vtab_cursor *cursor)
{
    struct hybrid_cursor *hybrid = (struct hybrid_cursor *)cursor;

    hybrid_clear(hybrid);
    hybrid_text_free(hybrid->text);
    sqlite3_free(hybrid);
    return SQLITE_OK;
}

/* Copies the arguments, which xColumn may be asked for, and reads the IN lists behind them. */
static int hybrid_read_values(struct hybrid_cursor *hybrid, int plan, sqlite3_value **values,
                              struct keylist *list)
{
    int next = 0;
    int n_lists = plan >> HYBRID_LISTS_SHIFT;
    int code = SQLITE_OK;

    for (int i = 0; i < HYBRID_ARGUMENTS; i++) {
        if ((plan & HYBRID_HAS(i)) != 0) {
            hybrid->arguments[i] = sqlite3_value_dup(values[next++]);
            if (hybrid->arguments[i] == NULL) {
                return SQLITE_NOMEM;
            }
        }
    }
    for (int i = 0; i < n_lists && code == SQLITE_OK; i++) {
        struct keylist more = {.connection = list->connection};

        code = keylist_read(i == 0 ? list : &more, values[next++]);
        if (i > 0 && code == SQLITE_OK) {
            code = keylist_intersect(list, &more);
        }
        keylist_free(&more);
    }
    return code;
}

static int hybrid_filter(sqlite3_vtab_cursor *cursor, int plan, const char *description, int n,
                         sqlite3_value **values)
{
    struct hybrid_cursor *hybrid = (struct hybrid_cursor *)cursor;
    struct keylist keys = {.connection = ((struct hybrid_table *)cursor->pVtab)->connection};
    int code;

    (void)description;
    (void)n;
    hybrid_clear(hybrid);
    code = hybrid_read_values(hybrid, plan, values, &keys);
    if (code == SQLITE_OK) {
        code = hybrid_run(hybrid, &keys, plan >> HYBRID_LISTS_SHIFT > 0,
                          (plan & HYBRID_WANTS_DISTANCE) != 0);
    }
    keylist_free(&keys);
    return code;
}

static int hybrid_next(sqlite3_vtab_cursor *cursor)
{
    ((struct hybrid_cursor *)cursor)->row++;
    return SQLITE_OK;
}

static int hybrid_eof(sqlite3_vtab_cursor *cursor)
{
    const struct hybrid_cursor *hybrid = (struct hybrid_cursor *)cursor;

    return hybrid->row >= hybrid->rows.n;
}

static int hybrid_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid)
{
    *rowid = (sqlite3_int64)((struct hybrid_cursor *)cursor)->row + 1;
    return SQLITE_OK;
}

static void hybrid_column_key(sqlite3_context *context, const struct hybrid_row *row, size_t column)
{
    if (column < row->key_columns) {
        connection_result(context, &row->key[column]);
    }
}

static void hybrid_column_number(sqlite3_context *context, double number)
{
    if (!isnan(number)) {
        sqlite3_result_double(context, number);
    }
}

static void hybrid_column_rank(sqlite3_context *context, size_t rank)
{
    if (rank > 0) {
        sqlite3_result_int64(context, (sqlite3_int64)rank);
    }
}

static int hybrid_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int column)
{
    const struct hybrid_cursor *hybrid = (struct hybrid_cursor *)cursor;
    const struct hybrid_row *row = &hybrid->rows.rows[hybrid->row];

    if (column >= COLUMN_KEY5) {
        hybrid_column_key(context, row, (size_t)(column - COLUMN_KEY5) + HYBRID_VISIBLE_KEYS);
    } else if (column == COLUMN_PLAN) {
        sqlite3_result_text(context, hybrid->plan, -1, SQLITE_TRANSIENT);
    } else if (column == COLUMN_COMPLETE) {
        sqlite3_result_int(context, hybrid->complete);
    } else if (column >= COLUMN_INDEX) {
        if (hybrid->arguments[column - COLUMN_INDEX] != NULL) {
            sqlite3_result_value(context, hybrid->arguments[column - COLUMN_INDEX]);
        }
    } else if (column >= COLUMN_VECTOR_RANK) {
        hybrid_column_rank(context, row->ranks[column - COLUMN_VECTOR_RANK]);
    } else if (column == COLUMN_SCORE) {
        sqlite3_result_double(context, row->score);
    } else if (column >= COLUMN_DISTANCE) {
        hybrid_column_number(context, column == COLUMN_DISTANCE ? row->distance : row->bm25);
    } else {
        hybrid_column_key(context, row, (size_t)column);
    }
    return SQLITE_OK;
}

/* Without xCreate a module is a table-valued function and nothing else. */
const sqlite3_module hybrid_module = {
    .xConnect = hybrid_connect,
    .xBestIndex = hybrid_best_index,
    .xDisconnect = hybrid_disconnect,
    .xOpen = hybrid_open,
    .xClose = hybrid_close,
    .xFilter = hybrid_filter,
    .xNext = hybrid_next,
    .xEof = hybrid_eof,
    .xColumn = hybrid_column,
    .xRowid = hybrid_rowid,
};
