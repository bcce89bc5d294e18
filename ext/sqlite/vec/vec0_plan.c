/*
 * vec0_plan.c - which plan answers a query on a vec0 table.
 *
 *   nearest   there is a MATCH: the index of the column is searched
 *   point     the key is known
 *   scan      everything else
 *
 * Invariants
 *   1. With MATCH, every condition on a partition key, metadata or auxiliary column, on the
 *      distance, and `key IN (…)` is a filter of the search: there are k rows that fulfil them, if
 *      the table has so many. `key = ?` is not: a join on the key must not become a search for
 *      each row of the other table.
 *   2. LIMIT and OFFSET are taken over only when every other condition is, and rows come in the
 *      order that is asked for.
 * Refuses, in the words of sqlite-vec, what has no good meaning.
 */
#include "sqlite/vec/vec0.h"

const char *const vec0_clause_texts[VEC0_CLAUSES] = {
    [VEC0_CLAUSE_K] = " k=?",
    [VEC0_CLAUSE_LIMIT] = " limit=?",
    [VEC0_CLAUSE_OFFSET] = " offset=?",
    [VEC0_CLAUSE_ABOVE] = " distance>?",
    [VEC0_CLAUSE_FROM] = " distance>=?",
    [VEC0_CLAUSE_BELOW] = " distance<?",
    [VEC0_CLAUSE_TO] = " distance<=?",
    [VEC0_CLAUSE_KEYS] = " key in list",
};

/* ---- idxNum -----------------------------------------------------------------------------------*/

#define PLAN_KIND_BITS 2
#define PLAN_COLUMN_BITS 6
#define PLAN_VECTORS_SHIFT (PLAN_KIND_BITS + PLAN_COLUMN_BITS)
#define PLAN_AUXILIARY_SHIFT (PLAN_VECTORS_SHIFT + VEC0_MAX_VECTORS)

static int plan_pack(const struct vec0_plan *plan)
{
    return (int)((unsigned)plan->kind | plan->column << PLAN_KIND_BITS |
                 plan->vectors << PLAN_VECTORS_SHIFT |
                 (unsigned)plan->auxiliary << PLAN_AUXILIARY_SHIFT |
                 (unsigned)plan->any_order << (PLAN_AUXILIARY_SHIFT + 1));
}

struct vec0_plan vec0_plan_unpack(int number)
{
    unsigned bits = (unsigned)number;

    return (struct vec0_plan){
        .kind = (enum vec0_plan_kind)(bits & ((1U << PLAN_KIND_BITS) - 1)),
        .column = bits >> PLAN_KIND_BITS & ((1U << PLAN_COLUMN_BITS) - 1),
        .vectors = bits >> PLAN_VECTORS_SHIFT & ((1U << VEC0_MAX_VECTORS) - 1),
        .auxiliary = (bits >> PLAN_AUXILIARY_SHIFT & 1) != 0,
        .any_order = (bits >> (PLAN_AUXILIARY_SHIFT + 1) & 1) != 0,
    };
}

/* Which of the wide columns the statement reads. */
static void plan_read_columns(const struct vec0_declaration *declaration, sqlite3_uint64 used,
                              struct vec0_plan *plan)
{
    unsigned vector = 0;

    for (size_t i = 0; i < declaration->n; i++) {
        bool read = (used >> i & 1) != 0;

        plan->auxiliary |= read && declaration->columns[i].role == VEC0_AUXILIARY;
        if (declaration->columns[i].role == VEC0_VECTOR) {
            plan->vectors |= (unsigned)read << vector++;
        }
    }
    plan->any_order = used == 0;
}

/* ---- Constraints ------------------------------------------------------------------------------*/

struct plan_work {
    struct vec0_table *table;
    sqlite3_index_info *info;
    sqlite3_str *text; /* idxStr */
    int match;         /* positions in aConstraint, -1: there is none */
    int k;
    int limit;
    int offset;
    int point;
    bool limit_seen; /* also when it cannot be used */
    int arguments;   /* given to xFilter so far */
};

static int plan_hidden(const struct plan_work *work, int hidden)
{
    return (int)work->table->declaration.n + hidden;
}

/* NULL for the hidden columns and the rowid. */
static const struct vec0_column *plan_column(const struct plan_work *work, int constraint)
{
    int column = work->info->aConstraint[constraint].iColumn;

    return column >= 0 && column < (int)work->table->declaration.n
               ? &work->table->declaration.columns[column]
               : NULL;
}

/* The key, under its name or as rowid. LIMIT and OFFSET name no column at all. */
static bool plan_is_key(const struct plan_work *work, int constraint)
{
    const struct sqlite3_index_constraint *at = &work->info->aConstraint[constraint];

    return at->iColumn <= 0 && at->op == SQLITE_INDEX_CONSTRAINT_EQ;
}

static bool plan_is_list(const struct plan_work *work, int constraint)
{
    return work->info->aConstraint[constraint].op == SQLITE_INDEX_CONSTRAINT_EQ &&
           sqlite3_vtab_in(work->info, constraint, -1) != 0;
}

/* Makes the right side of a constraint the next argument of xFilter. */
static void plan_take(struct plan_work *work, int constraint, bool omit)
{
    work->info->aConstraintUsage[constraint].argvIndex = ++work->arguments;
    work->info->aConstraintUsage[constraint].omit = omit;
}

/* Finds what decides on the plan. SQLITE_CONSTRAINT: a value is not known in this plan. */
static int plan_find(struct plan_work *work)
{
    for (int i = 0; i < work->info->nConstraint; i++) {
        const struct sqlite3_index_constraint *constraint = &work->info->aConstraint[i];
        const struct vec0_column *column = plan_column(work, i);
        bool equal = constraint->op == SQLITE_INDEX_CONSTRAINT_EQ;

        if (constraint->op == SQLITE_INDEX_CONSTRAINT_LIMIT) {
            work->limit_seen = true;
            work->limit = constraint->usable ? i : -1;
        } else if (constraint->op == SQLITE_INDEX_CONSTRAINT_OFFSET) {
            work->offset = constraint->usable ? i : -1;
        } else if (constraint->op == SQLITE_INDEX_CONSTRAINT_MATCH) {
            if (column == NULL || column->role != VEC0_VECTOR) {
                continue;
            }
            if (!constraint->usable) {
                return SQLITE_CONSTRAINT;
            }
            if (work->match >= 0) {
                return vec0_refuse(work->table,
                                   "only 1 MATCH operator is allowed in a single vec0 query");
            }
            work->match = i;
        } else if (equal && constraint->iColumn == plan_hidden(work, VEC0_COLUMN_K)) {
            if (!constraint->usable) {
                return SQLITE_CONSTRAINT;
            }
            work->k = i;
        } else if (plan_is_key(work, i) && constraint->usable) {
            work->point = i;
        }
    }
    return SQLITE_OK;
}

/* ---- Scan and point ---------------------------------------------------------------------------*/

static int plan_rows(struct plan_work *work)
{
    sqlite3_index_info *info = work->info;
    struct vec0_plan plan = {.kind = work->point >= 0 ? VEC0_POINT : VEC0_SCAN};

    plan_read_columns(&work->table->declaration, info->colUsed, &plan);
    if (work->point >= 0) {
        plan_take(work, work->point, false);
        info->idxFlags = SQLITE_INDEX_SCAN_UNIQUE;
        info->estimatedRows = 1;
        info->estimatedCost = 10;
    } else {
        info->estimatedRows = 100000;
        info->estimatedCost = 1000000;
    }
    sqlite3_str_appendall(work->text, work->point >= 0 ? "row by key" : "all rows");
    info->idxNum = plan_pack(&plan);
    return SQLITE_OK;
}

/* ---- Nearest: conditions ----------------------------------------------------------------------*/

/* What a search makes of a constraint. */
enum plan_use { PLAN_LEFT, PLAN_NUMBER, PLAN_DISTANCE, PLAN_KEYS, PLAN_WHERE };

/* The operator in SQL, NULL when the constraint is left to SQLite. */
static const char *plan_operator(unsigned char op)
{
    switch (op) {
    case SQLITE_INDEX_CONSTRAINT_EQ:
        return "=";
    case SQLITE_INDEX_CONSTRAINT_NE:
        return "<>";
    case SQLITE_INDEX_CONSTRAINT_GT:
        return ">";
    case SQLITE_INDEX_CONSTRAINT_GE:
        return ">=";
    case SQLITE_INDEX_CONSTRAINT_LT:
        return "<";
    case SQLITE_INDEX_CONSTRAINT_LE:
        return "<=";
    case SQLITE_INDEX_CONSTRAINT_IS:
    case SQLITE_INDEX_CONSTRAINT_ISNULL:
        return "IS";
    case SQLITE_INDEX_CONSTRAINT_ISNOT:
    case SQLITE_INDEX_CONSTRAINT_ISNOTNULL:
        return "IS NOT";
    case SQLITE_INDEX_CONSTRAINT_LIKE:
        return "LIKE";
    case SQLITE_INDEX_CONSTRAINT_GLOB:
        return "GLOB";
    case SQLITE_INDEX_CONSTRAINT_REGEXP:
        return "REGEXP";
    default:
        return NULL;
    }
}

static enum plan_use plan_use(const struct plan_work *work, int constraint)
{
    const struct sqlite3_index_constraint *at = &work->info->aConstraint[constraint];
    const struct vec0_column *column = plan_column(work, constraint);

    if (constraint == work->match || constraint == work->k || constraint == work->limit ||
        constraint == work->offset) {
        return PLAN_NUMBER;
    }
    if (plan_is_key(work, constraint) && plan_is_list(work, constraint)) {
        return PLAN_KEYS;
    }
    if (at->iColumn == plan_hidden(work, VEC0_COLUMN_DISTANCE) && plan_operator(at->op) != NULL) {
        return PLAN_DISTANCE;
    }
    return column != NULL && column->role != VEC0_KEY && column->role != VEC0_VECTOR &&
                   plan_operator(at->op) != NULL
               ? PLAN_WHERE
               : PLAN_LEFT;
}

/* SQLITE_CONSTRAINT when a list is not known in this plan. */
static int plan_check_uses(struct plan_work *work, bool *all)
{
    *all = true;
    for (int i = 0; i < work->info->nConstraint; i++) {
        enum plan_use use = plan_use(work, i);
        bool usable = work->info->aConstraint[i].usable != 0;

        if (!usable && plan_is_list(work, i)) {
            return SQLITE_CONSTRAINT;
        }
        *all = *all && usable && use != PLAN_LEFT;
    }
    return SQLITE_OK;
}

static int plan_add_distance(struct plan_work *work, int constraint)
{
    enum vec0_clause clause;

    switch (work->info->aConstraint[constraint].op) {
    case SQLITE_INDEX_CONSTRAINT_GT:
        clause = VEC0_CLAUSE_ABOVE;
        break;
    case SQLITE_INDEX_CONSTRAINT_GE:
        clause = VEC0_CLAUSE_FROM;
        break;
    case SQLITE_INDEX_CONSTRAINT_LT:
        clause = VEC0_CLAUSE_BELOW;
        break;
    case SQLITE_INDEX_CONSTRAINT_LE:
        clause = VEC0_CLAUSE_TO;
        break;
    default:
        return vec0_refuse(work->table,
                           "Illegal WHERE constraint on distance column in a KNN query. "
                           "Only one of GT, GE, LT, LE constraints are allowed.");
    }
    sqlite3_str_appendall(work->text, vec0_clause_texts[clause]);
    /* SQLite looks once more, at the distances that it is given. */
    plan_take(work, constraint, false);
    return SQLITE_OK;
}

static void plan_add_number(struct plan_work *work, int constraint, enum vec0_clause clause)
{
    if (constraint >= 0) {
        sqlite3_str_appendall(work->text, vec0_clause_texts[clause]);
        plan_take(work, constraint, true);
    }
}

static void plan_add_keys(struct plan_work *work, int constraint)
{
    sqlite3_vtab_in(work->info, constraint, 1);
    sqlite3_str_appendall(work->text, vec0_clause_texts[VEC0_CLAUSE_KEYS]);
    plan_take(work, constraint, true);
}

/* "genre" = ? */
static void plan_add_where(struct plan_work *work, int constraint, const char *before)
{
    bool list = plan_is_list(work, constraint);
    const char *op = plan_operator(work->info->aConstraint[constraint].op);
    const char *collation = sqlite3_vtab_collation(work->info, constraint);

    sqlite3_str_appendall(work->text, before);
    vec0_append_name(work->text, plan_column(work, constraint));
    if (collation != NULL && sqlite3_stricmp(collation, "BINARY") != 0) {
        sqlite3_str_appendf(work->text, " COLLATE \"%w\"", collation);
    }
    sqlite3_str_appendf(work->text, " %s %s", list ? "IN" : op, list ? VEC0_PLAN_LIST : "?");
    if (list) {
        sqlite3_vtab_in(work->info, constraint, 1);
    }
    plan_take(work, constraint, true);
}

static int plan_add_conditions(struct plan_work *work)
{
    const char *before = VEC0_PLAN_WHERE;
    int n = work->info->nConstraint;
    int code = SQLITE_OK;

    for (int i = 0; i < n && code == SQLITE_OK; i++) {
        if (work->info->aConstraint[i].usable && plan_use(work, i) == PLAN_DISTANCE) {
            code = plan_add_distance(work, i);
        } else if (plan_use(work, i) == PLAN_KEYS) {
            plan_add_keys(work, i);
        }
    }
    for (int i = 0; i < n && code == SQLITE_OK; i++) {
        if (work->info->aConstraint[i].usable && plan_use(work, i) == PLAN_WHERE) {
            plan_add_where(work, i, before);
            before = VEC0_PLAN_AND;
        }
    }
    return code;
}

/* ---- Nearest: order and number ----------------------------------------------------------------*/

/* Whether rows come in the order that is asked for. */
static int plan_check_order(struct plan_work *work, bool *in_order)
{
    sqlite3_index_info *info = work->info;
    bool by_distance =
        info->nOrderBy > 0 && info->aOrderBy[0].iColumn == plan_hidden(work, VEC0_COLUMN_DISTANCE);

    *in_order =
        info->nOrderBy == 0 || (info->nOrderBy == 1 && by_distance && !info->aOrderBy[0].desc);
    info->orderByConsumed = *in_order && info->nOrderBy > 0;
    if (*in_order || sqlite3_vtab_distinct(info) != 0) {
        return SQLITE_OK;
    }
    if (by_distance && info->aOrderBy[0].desc) {
        return vec0_refuse(work->table, "Only ascending in ORDER BY distance clause is supported, "
                                        "DESC is not supported yet.");
    }
    if (work->k < 0) {
        return vec0_refuse(work->table,
                           "Only a single 'ORDER BY distance' clause is allowed on vec0 KNN "
                           "queries%s",
                           by_distance ? "" : ", not on other columns");
    }
    return SQLITE_OK;
}

static int plan_check_number(struct plan_work *work)
{
    return work->k >= 0 || work->limit_seen
               ? SQLITE_OK
               : vec0_refuse(work->table,
                             "A LIMIT or 'k = ?' constraint is required on vec0 knn queries.");
}

/* The number of rows that a constraint of the statement names, 10 when it is not known yet. */
static sqlite3_int64 plan_estimate(struct plan_work *work, int constraint)
{
    sqlite3_value *value = NULL;
    sqlite3_int64 rows = 10;

    if (constraint >= 0 && sqlite3_vtab_rhs_value(work->info, constraint, &value) == SQLITE_OK &&
        value != NULL) {
        rows = sqlite3_value_int64(value);
    }
    return rows < 1 ? 1 : rows > 1000000 ? 1000000 : rows;
}

/* k rows; or LIMIT and OFFSET, if nothing stands between them and the rows; or all of them. */
static void plan_add_numbers(struct plan_work *work, bool takes_limit)
{
    if (work->k >= 0) {
        plan_add_number(work, work->k, VEC0_CLAUSE_K);
    } else if (takes_limit && work->limit >= 0) {
        plan_add_number(work, work->limit, VEC0_CLAUSE_LIMIT);
        plan_add_number(work, work->offset, VEC0_CLAUSE_OFFSET);
    }
}

static int plan_nearest(struct plan_work *work)
{
    sqlite3_index_info *info = work->info;
    const struct vec0_column *column = plan_column(work, work->match);
    struct vec0_plan plan = {.kind = VEC0_NEAREST,
                             .column = (unsigned)info->aConstraint[work->match].iColumn};
    bool in_order = false;
    bool all_used = false;
    int code = plan_check_number(work);

    code = code == SQLITE_OK ? plan_check_order(work, &in_order) : code;
    code = code == SQLITE_OK ? plan_check_uses(work, &all_used) : code;
    if (code != SQLITE_OK) {
        return code;
    }
    plan_read_columns(&work->table->declaration, info->colUsed, &plan);
    info->idxNum = plan_pack(&plan);
    sqlite3_str_appendf(work->text, VEC0_PLAN_NEAREST "%.*s", (int)column->name.bytes,
                        column->name.text);
    plan_take(work, work->match, true);
    plan_add_numbers(work, in_order && all_used);
    info->estimatedRows = plan_estimate(work, work->k >= 0 ? work->k : work->limit);
    info->estimatedCost = 10000.0 + 10.0 * (double)info->estimatedRows;
    return plan_add_conditions(work);
}

int vec0_best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    struct vec0_table *table = (struct vec0_table *)base;
    struct plan_work work = {table, info, NULL, -1, -1, -1, -1, -1, false, 0};
    int code;

    work.text = sqlite3_str_new(table->handle);
    code = plan_find(&work);
    if (code == SQLITE_OK) {
        code = work.match >= 0 ? plan_nearest(&work) : plan_rows(&work);
    }
    info->idxStr = sqlite3_str_finish(work.text);
    info->needToFreeIdxStr = 1;
    return code == SQLITE_OK && info->idxStr == NULL ? SQLITE_NOMEM : code;
}
