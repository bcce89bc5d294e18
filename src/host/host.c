/*
 * host.c - conveniences over struct host_type that are the same for every database.
 */
#include "host/host.h"

#include <stdio.h>

static annex_status host_prepare_list(struct host *host, struct host_statement **statement,
                                      annex_error *error, const char *format, va_list arguments)
    __attribute__((format(printf, 4, 0)));

static annex_status host_prepare_list(struct host *host, struct host_statement **statement,
                                      annex_error *error, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) {
        return error_set(error, ANNEX_INTERNAL, "an SQL statement could not be formatted");
    }
    char *sql = NULL;
    TRY(memory_new_raw(host->env, (size_t)length + 1, 1, &sql, error));
    vsnprintf(sql, (size_t)length + 1, format, arguments);
    annex_status status = host->type->prepare(host, sql, statement, error);
    memory_free(host->env, sql, (size_t)length + 1, 1);
    return status;
}

annex_status host_prepare(struct host *host, struct host_statement **statement, annex_error *error,
                          const char *format, ...)
{
    *statement = NULL;
    va_list arguments;
    va_start(arguments, format);
    annex_status status = host_prepare_list(host, statement, error, format, arguments);
    va_end(arguments);
    return status;
}

annex_status host_run(struct host *host, annex_error *error, const char *format, ...)
{
    struct host_statement *statement = NULL;
    va_list arguments;
    va_start(arguments, format);
    annex_status status = host_prepare_list(host, &statement, error, format, arguments);
    va_end(arguments);
    if (status == ANNEX_OK) {
        status = host_finish_step(host, statement, error);
    }
    host->type->finish(statement);
    return status;
}

annex_status host_finish_step(struct host *host, struct host_statement *statement,
                              annex_error *error)
{
    bool row = true;
    annex_status status = ANNEX_OK;
    while (status == ANNEX_OK && row) {
        status = host->type->step(statement, &row, error);
    }
    host->type->reset(statement);
    return status;
}

annex_status host_bind_integer(struct host *host, struct host_statement *statement, int parameter,
                               int64_t value, annex_error *error)
{
    annex_value bound = {.type = ANNEX_INTEGER, .integer = value};
    return host->type->bind(statement, parameter, &bound, error);
}

annex_status host_bind_text(struct host *host, struct host_statement *statement, int parameter,
                            const char *text, annex_error *error)
{
    annex_value bound = {.type = ANNEX_TEXT, .data = text, .bytes = strlen(text)};
    return host->type->bind(statement, parameter, &bound, error);
}

int64_t host_integer(struct host *host, struct host_statement *statement, int column)
{
    annex_value value;
    host->type->column(statement, column, &value);
    return value.type == ANNEX_INTEGER ? value.integer : 0;
}

annex_status host_text(struct host *host, struct host_statement *statement, int column,
                       struct arena *arena, const char **out, annex_error *error)
{
    annex_value value;
    host->type->column(statement, column, &value);
    bool has_text = value.type == ANNEX_TEXT || value.type == ANNEX_BLOB;
    return arena_text(arena, has_text ? value.data : "", has_text ? value.bytes : 0, out, error);
}

annex_status host_quote(struct arena *arena, const char *name, const char **out, annex_error *error)
{
    size_t bytes = strlen(name);
    char *quoted = NULL;
    *out = NULL;
    TRY(arena_new(arena, 2 * bytes + 3, 1, &quoted, error));
    *out = quoted;
    *quoted++ = '"';
    for (size_t i = 0; i < bytes; i++) {
        if (name[i] == '"') {
            *quoted++ = '"';
        }
        *quoted++ = name[i];
    }
    *quoted = '"';
    return ANNEX_OK;
}
