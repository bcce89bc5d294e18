/*
 * search_plan.c - xBestIndex of annex_search and annex_within.
 *
 * Invariants
 *   1. What a condition means does not depend on the plan. With a k, only `key IN (…)` is a filter
 *      of the search: SQLite tells it apart (sqlite3_vtab_in), and a plan in which its values are
 *      not known yet is refused. Everything else, `key = ?` too, is left to SQLite and so applies
 *      to the k nearest: a join on the key must not turn "the rows of docs among the k nearest"
 *      into "the k nearest rows of docs" as soon as SQLite makes docs the outer loop. Without a k
 *      all rows come, before and after is the same, and every condition that helps is used.
 *   2. SQLite checks all conditions once more, by its own rules of comparison, and applies LIMIT
 *      and OFFSET itself: here they only tell how many rows are worth searching for at first.
 *   3. ORDER BY is taken over when it is `distance`, or `distance, key …` in the order of the
 *      columns, ascending: rows come in that order. Without a k the very last ones may not
 *      (stream.c), which must not tear groups apart: GROUP BY and DISTINCT are left to SQLite.
 *   4. Costs are high, because a search costs as much as thousands of rows of a table: SQLite then
 *      searches once and looks up the rows of other tables by key, not the other way round. That
 *      holds for a search for one key as well: there may be more of them than SQLite believes.
 */
#include "sqlite/search.h"

/* Rows that SQLite is told to expect when nothing is known. */
#define PLAN_MANY_ROWS 100000

/* Which constraints of a plan are values and IN lists: positions in aConstraint. */
struct search_plan {
    int values[SEARCH_VALUES]; /* -1: not given */
    int lists[SEARCH_MAX_LISTS];
    int n_lists;
    bool within;
    bool has_k; /* of which it is known that it is none of NULL */
};

static void plan_take(struct search_plan *plan, int value, int constraint)
{
    if (plan->values[value] < 0) {
        plan->values[value] = constraint;
    }
}

/* Conditions on the distance. `distance IN (…)` is several searches, one a value. */
static void plan_read_distance(sqlite3_index_info *info, struct search_plan *plan, int i)
{
    switch (info->aConstraint[i].op) {
    case SQLITE_INDEX_CONSTRAINT_GT:
    case SQLITE_INDEX_CONSTRAINT_GE:
        plan_take(plan, VALUE_LEAST, i);
        break;
    case SQLITE_INDEX_CONSTRAINT_LT:
    case SQLITE_INDEX_CONSTRAINT_LE:
        plan_take(plan, VALUE_MOST, i);
        break;
    case SQLITE_INDEX_CONSTRAINT_EQ:
        if (!sqlite3_vtab_in(info, i, -1)) {
            plan_take(plan, VALUE_EQUAL, i);
        }
        break;
    default:
        break;
    }
}

/* Conditions on the key. False: an IN list that is not known yet. */
static bool plan_read_key(sqlite3_index_info *info, struct search_plan *plan, int i)
{
    bool usable = info->aConstraint[i].usable != 0;

    if (info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ) {
        return true;
    }
    if (!sqlite3_vtab_in(info, i, -1)) {
        if (usable) {
            plan_take(plan, VALUE_KEY, i);
        }
        return true;
    }
    if (usable && plan->n_lists < SEARCH_MAX_LISTS) {
        plan->lists[plan->n_lists++] = i;
    }
    return usable;
}

/* False when the plan needs a value that it does not have yet: SQLite then tries another. */
static bool plan_read(sqlite3_index_info *info, struct search_plan *plan)
{
    bool unusable[SEARCH_ARGUMENTS] = {false};

    for (int i = 0; i < SEARCH_VALUES; i++) {
        plan->values[i] = -1;
    }
    for (int i = 0; i < info->nConstraint; i++) {
        const struct sqlite3_index_constraint *constraint = &info->aConstraint[i];
        int argument = constraint->iColumn - COLUMN_INDEX;
        bool equal = constraint->op == SQLITE_INDEX_CONSTRAINT_EQ;
        bool usable = constraint->usable != 0;

        if (constraint->op == SQLITE_INDEX_CONSTRAINT_LIMIT ||
            constraint->op == SQLITE_INDEX_CONSTRAINT_OFFSET) {
            if (usable) {
                plan_take(plan,
                          constraint->op == SQLITE_INDEX_CONSTRAINT_LIMIT ? VALUE_LIMIT
                                                                          : VALUE_OFFSET,
                          i);
            }
        } else if (argument >= 0 && argument < SEARCH_ARGUMENTS) {
            if (equal && usable) {
                plan_take(plan, VALUE_INDEX + argument, i);
            }
            unusable[argument] = unusable[argument] || (equal && !usable);
        } else if (constraint->iColumn == COLUMN_KEY) {
            if (!plan_read_key(info, plan, i)) {
                return false;
            }
        } else if (constraint->iColumn == COLUMN_DISTANCE && usable) {
            plan_read_distance(info, plan, i);
        }
    }
    for (int i = 0; i < SEARCH_ARGUMENTS; i++) {
        if (unusable[i] && plan->values[i] < 0) {
            return false;
        }
    }
    return true;
}

/* A constant of the statement; `otherwise` when it is not known yet, or no integer. */
static sqlite3_int64 plan_constant(sqlite3_index_info *info, int constraint,
                                   sqlite3_int64 otherwise)
{
    sqlite3_value *value = NULL;

    if (constraint < 0 || sqlite3_vtab_rhs_value(info, constraint, &value) != SQLITE_OK ||
        value == NULL || sqlite3_value_numeric_type(value) != SQLITE_INTEGER) {
        return otherwise;
    }
    return sqlite3_value_int64(value);
}

/* How many rows to expect. */
static sqlite3_int64 plan_rows(sqlite3_index_info *info, const struct search_plan *plan)
{
    sqlite3_int64 limit = plan_constant(info, plan->values[VALUE_LIMIT], -1);
    sqlite3_int64 offset = plan_constant(info, plan->values[VALUE_OFFSET], 0);
    sqlite3_int64 k = plan_constant(info, plan->values[VALUE_BOUND], plan->within ? 100 : 10);

    if (plan->within) {
        return 100;
    }
    if (plan->values[VALUE_BOUND] >= 0) {
        return k < 1 ? 1 : k > 1000000 ? 1000000 : k;
    }
    if (plan->values[VALUE_KEY] >= 0) {
        return 1;
    }
    return limit < 0 || limit > PLAN_MANY_ROWS || offset < 0 || offset > PLAN_MANY_ROWS
               ? PLAN_MANY_ROWS
               : limit + offset + 1;
}

/* For one key hardly less than for all rows: see the last invariant. */
static double plan_cost(const sqlite3_index_info *info, const struct search_plan *plan)
{
    bool one_key = plan->values[VALUE_KEY] >= 0 && plan->values[VALUE_BOUND] < 0;

    return 10000.0 + (one_key ? 9.0 * PLAN_MANY_ROWS : 10.0 * (double)info->estimatedRows);
}

static bool plan_is_in_order(sqlite3_index_info *info, const struct search_plan *plan)
{
    if (info->nOrderBy == 0 || (!plan->has_k && sqlite3_vtab_distinct(info) != 0)) {
        return false;
    }
    for (int i = 0; i < info->nOrderBy; i++) {
        int column = i == 0 ? COLUMN_DISTANCE : COLUMN_KEY + i - 1;

        if (info->aOrderBy[i].desc || info->aOrderBy[i].iColumn != column ||
            i > SEARCH_VISIBLE_KEYS) {
            return false;
        }
    }
    return true;
}

/* For EXPLAIN QUERY PLAN. NULL without memory. */
static char *plan_describe(const struct search_plan *plan, bool in_order)
{
    bool endless = !plan->within && plan->values[VALUE_BOUND] < 0;
    bool equal = plan->values[VALUE_EQUAL] >= 0;

    return sqlite3_mprintf(
        "%s%s%s%s%s%s%s",
        plan->within ? "annex_within distance"
        : endless    ? "annex_search as many as are read"
                     : "annex_search k nearest",
        plan->n_lists > 0 ? ", key filter" : "",
        endless && plan->values[VALUE_KEY] >= 0 ? ", one key" : "",
        endless && (plan->values[VALUE_LEAST] >= 0 || equal) ? ", from a distance" : "",
        endless && (plan->values[VALUE_MOST] >= 0 || equal) ? ", up to a distance" : "",
        endless && plan->values[VALUE_LIMIT] >= 0 ? ", limit known" : "",
        in_order ? ", in order" : "");
}

int search_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    struct search_plan plan = {.within = ((struct search_table *)table)->within};
    bool in_order;
    int next = 0;

    if (!plan_read(info, &plan)) {
        return SQLITE_CONSTRAINT;
    }
    plan.has_k = plan.within || plan_constant(info, plan.values[VALUE_BOUND], -1) >= 0;
    info->idxNum = plan.n_lists << SEARCH_LISTS_SHIFT;
    for (int i = 0; i < SEARCH_VALUES; i++) {
        if (plan.values[i] >= 0 && (i < SEARCH_ARGUMENTS || !plan.within)) {
            info->aConstraintUsage[plan.values[i]].argvIndex = ++next;
            info->aConstraintUsage[plan.values[i]].omit = i < SEARCH_ARGUMENTS;
            info->idxNum |= SEARCH_HAS(i);
        }
    }
    for (int i = 0; i < plan.n_lists; i++) {
        sqlite3_vtab_in(info, plan.lists[i], 1);
        info->aConstraintUsage[plan.lists[i]].argvIndex = ++next;
    }
    in_order = plan_is_in_order(info, &plan);
    info->orderByConsumed = in_order;
    info->idxStr = plan_describe(&plan, in_order);
    info->needToFreeIdxStr = 1;
    info->estimatedRows = plan_rows(info, &plan);
    info->estimatedCost = plan_cost(info, &plan);
    if (plan.values[VALUE_INDEX] < 0 || plan.values[VALUE_QUERY] < 0) {
        /* A branch of an OR does not see the arguments: never choose it. Where it is the only plan,
         * xFilter says what is missing. */
        info->estimatedCost = 1e30;
    }
    return info->idxStr == NULL ? SQLITE_NOMEM : SQLITE_OK;
}
