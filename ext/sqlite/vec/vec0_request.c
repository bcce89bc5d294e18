/*
 * vec0_request.c - the arguments of a search for neighbours, read by the text that vec0_plan.c has
 * written for them.
 *
 * Values become part of the condition as literals that SQLite itself has written: the condition is
 * SQL over t_rows, and means there what it means anywhere else.
 */
#include <math.h>
#include <string.h>

#include "sqlite/vec/vec0.h"

/* ---- The condition ----------------------------------------------------------------------------*/

/* Text as a cast blob, so that it may hold anything. */
static const char request_literal_sql[] =
    "SELECT CASE typeof(?1) WHEN 'text' THEN 'CAST(' || quote(CAST(?1 AS BLOB)) || ' AS TEXT)'"
    " ELSE quote(?1) END";

static bool request_add_literal(struct vec0_table *table, sqlite3_str *sql, sqlite3_value *value,
                                annex_error *error)
{
    sqlite3_stmt *statement = table->kept[VEC0_LITERAL];
    bool row = false;
    int code;

    if (sqlite3_value_type(value) == SQLITE_INTEGER) {
        sqlite3_str_appendf(sql, "%lld", sqlite3_value_int64(value));
        return true;
    }
    if (statement == NULL) {
        statement =
            vec0_statement(table, VEC0_LITERAL, sqlite3_mprintf("%s", request_literal_sql), error);
    }
    if (statement == NULL) {
        return false;
    }
    code = sqlite3_bind_value(statement, 1, value);
    if (code != SQLITE_OK) {
        (void)statement_fail(table->handle, code, error);
    } else if (statement_step(statement, &row, error) == ANNEX_OK) {
        sqlite3_str_appendf(sql, "%s", sqlite3_column_text(statement, 0));
    }
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return row;
}

static bool request_add_list(struct vec0_table *table, sqlite3_str *sql, sqlite3_value *list,
                             annex_error *error)
{
    sqlite3_value *value = NULL;
    const char *before = "(";
    int code = sqlite3_vtab_in_first(list, &value);

    for (; code == SQLITE_OK && value != NULL; code = sqlite3_vtab_in_next(list, &value)) {
        sqlite3_str_appendall(sql, before);
        if (!request_add_literal(table, sql, value, error)) {
            return false;
        }
        before = ",";
    }
    if (code != SQLITE_OK && code != SQLITE_DONE) {
        (void)statement_fail(table->handle, code, error);
        return false;
    }
    sqlite3_str_appendall(sql, *before == '(' ? "()" : ")");
    return true;
}

/* Replaces each placeholder outside of quotes by the next value. */
static bool request_read_where(struct vec0_table *table, const char *text, sqlite3_value **values,
                               struct vec0_request *request, annex_error *error)
{
    sqlite3_str *sql = sqlite3_str_new(table->handle);
    bool quoted = false;
    bool valid = true;

    while (valid && *text != '\0') {
        size_t list = strlen(VEC0_PLAN_LIST);

        quoted ^= *text == '"';
        if (!quoted && *text == '?') {
            valid = request_add_literal(table, sql, *values++, error);
            text++;
        } else if (!quoted && strncmp(text, VEC0_PLAN_LIST, list) == 0) {
            valid = request_add_list(table, sql, *values++, error);
            text += list;
        } else {
            sqlite3_str_appendchar(sql, 1, *text++);
        }
    }
    request->where = sqlite3_str_finish(sql);
    if (valid && request->where == NULL) {
        valid = statement_nomem(error) == ANNEX_OK;
    }
    return valid;
}

/* ---- Numbers, distances, keys -----------------------------------------------------------------*/

/* Keeps the narrower of two bounds. `sign` is 1 for a lower bound, -1 for an upper one. */
static void request_narrow(struct vec0_request *request, struct vec0_bound *bound, int sign,
                           bool open, sqlite3_value *value)
{
    double at = sqlite3_value_double(value);

    request->empty |= sqlite3_value_type(value) == SQLITE_NULL;
    if (!bound->given || sign * at > sign * bound->at || (at == bound->at && open)) {
        *bound = (struct vec0_bound){true, open, at};
    }
}

static bool request_read_keys(struct vec0_table *table, sqlite3_value *value,
                              struct vec0_request *request, annex_error *error)
{
    struct keylist more = {0};
    int code = keylist_read(request->has_keys ? &more : &request->keys, value);

    if (request->has_keys && code == SQLITE_OK) {
        keylist_intersect(&request->keys, &more);
    }
    request->has_keys = true;
    keylist_free(&more);
    if (code != SQLITE_OK) {
        (void)statement_fail(table->handle, code, error);
    }
    return code == SQLITE_OK;
}

static bool request_read_k(sqlite3_value *value, struct vec0_request *request, annex_error *error)
{
    request->k = sqlite3_value_int64(value);
    if (request->k < 0) {
        connection_refuse(error, "k value in knn queries must be greater than or equal to 0.");
    }
    return request->k >= 0;
}

static bool request_read_clause(struct vec0_table *table, enum vec0_clause clause,
                                sqlite3_value *value, struct vec0_request *request,
                                annex_error *error)
{
    switch (clause) {
    case VEC0_CLAUSE_K:
        return request_read_k(value, request, error);
    case VEC0_CLAUSE_LIMIT:
        request->k = sqlite3_value_int64(value);
        break;
    case VEC0_CLAUSE_OFFSET:
        request->offset = sqlite3_value_int64(value);
        break;
    case VEC0_CLAUSE_ABOVE:
    case VEC0_CLAUSE_FROM:
        request_narrow(request, &request->lower, 1, clause == VEC0_CLAUSE_ABOVE, value);
        break;
    case VEC0_CLAUSE_BELOW:
    case VEC0_CLAUSE_TO:
        request_narrow(request, &request->upper, -1, clause == VEC0_CLAUSE_BELOW, value);
        break;
    case VEC0_CLAUSE_KEYS:
        return request_read_keys(table, value, request, error);
    }
    return true;
}

/* ---- All of it --------------------------------------------------------------------------------*/

/* The clause at the start of `text`, VEC0_CLAUSES when there is none. */
static int request_find_clause(const char *text)
{
    int clause = 0;

    while (clause < VEC0_CLAUSES &&
           strncmp(text, vec0_clause_texts[clause], strlen(vec0_clause_texts[clause])) != 0) {
        clause++;
    }
    return clause;
}

static bool request_read_text(struct vec0_table *table, const char *text, sqlite3_value **values,
                              struct vec0_request *request, annex_error *error)
{
    int clause;

    text += strlen(VEC0_PLAN_NEAREST);
    text += strcspn(text, " "); /* the name of the column */
    while ((clause = request_find_clause(text)) < VEC0_CLAUSES) {
        if (!request_read_clause(table, (enum vec0_clause)clause, *values++, request, error)) {
            return false;
        }
        text += strlen(vec0_clause_texts[clause]);
    }
    return *text == '\0' ||
           request_read_where(table, text + strlen(VEC0_PLAN_WHERE), values, request, error);
}

bool vec0_request_read(struct vec0_table *table, const struct vec0_column *column, const char *text,
                       sqlite3_value **values, struct vec0_request *request, annex_error *error)
{
    *request = (struct vec0_request){.k = -1};
    if (vec0_read_vector(column, values[0], VEC0_QUERIED, &request->query, error) &&
        request_read_text(table, text, values + 1, request, error)) {
        /* Nothing has a distance from a zero vector under cosine. */
        request->empty |= isnan(vec_distance(column->metric, &request->query, &request->query));
        return true;
    }
    vec0_request_free(request);
    return false;
}

void vec0_request_free(struct vec0_request *request)
{
    vec_value_free(&request->query);
    keylist_free(&request->keys);
    sqlite3_free(request->where);
    *request = (struct vec0_request){0};
}
