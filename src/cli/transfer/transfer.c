/* transfer.c - the loop between a source and a sink, and what both sides say about items. */
#include "transfer.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "progress.h"

static void describe_value(const annex_value *value, char *text, size_t bytes)
{
    switch (value->type) {
    case ANNEX_NULL:
        snprintf(text, bytes, "NULL");
        break;
    case ANNEX_INTEGER:
        snprintf(text, bytes, "%" PRId64, value->integer);
        break;
    case ANNEX_REAL:
        snprintf(text, bytes, "%.17g", value->real);
        break;
    case ANNEX_TEXT:
        snprintf(text, bytes, "\"%.*s\"%s", (int)(value->bytes < 24 ? value->bytes : 24),
                 (const char *)value->data, value->bytes > 24 ? "..." : "");
        break;
    case ANNEX_BLOB:
        snprintf(text, bytes, "a blob of %zu bytes", value->bytes);
        break;
    }
}

void transfer_describe_key(const struct item *item, char text[96])
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < item->n_key && used < 90; i++) {
        char value[64];
        describe_value(&item->key[i], value, sizeof(value));
        int n = snprintf(text + used, 96 - used, "%s%s", i > 0 ? ", " : "", value);
        used += n > 0 ? (size_t)n : 0;
    }
}

annex_status transfer_error(const struct items *source, const struct item *item, annex_error *error,
                            annex_status status, const char *format, ...)
{
    char what[ANNEX_ERROR_BYTES], key[96];
    va_list values;
    va_start(values, format);
    vsnprintf(what, sizeof(what), format, values);
    va_end(values);
    if (source->unit != NULL) {
        return session_error(error, status, "%s, %s %" PRIu64 ": %s", source->name, source->unit,
                             source->at, what);
    }
    transfer_describe_key(item, key);
    return session_error(error, status, "%s, key %s: %s", source->name, key, what);
}

static annex_status check_vector(const struct items *source, const struct item *item,
                                 annex_error *error)
{
    const float *vector = item->vector;
    if (source->bits) {
        return ANNEX_OK;
    }
    for (size_t i = 0; i < item->dimension; i++) {
        if (!isfinite(vector[i])) {
            return transfer_error(source, item, error, ANNEX_INVALID,
                                  "element %zu of the vector is %s; vectors have finite elements",
                                  i, isnan(vector[i]) ? "NaN" : "infinite");
        }
    }
    return ANNEX_OK;
}

/* Compares an item with those before it. */
static annex_status check_item(const struct items *source, const struct item *item,
                               const struct item *first, annex_error *error)
{
    if (item->vector != NULL && (item->dimension == 0 || item->dimension > ANNEX_MAX_DIMENSION)) {
        return transfer_error(source, item, error, ANNEX_INVALID,
                              "the vector has %zu elements; a vector has 1 to %d", item->dimension,
                              ANNEX_MAX_DIMENSION);
    }
    if (item->dimension != first->dimension) {
        return transfer_error(source, item, error, ANNEX_INVALID,
                              "the vector has %zu elements, those before it %zu", item->dimension,
                              first->dimension);
    }
    if (item->n_key != first->n_key) {
        return transfer_error(source, item, error, ANNEX_INVALID,
                              "the key has %zu columns, those before it %zu", item->n_key,
                              first->n_key);
    }
    return item->vector == NULL ? ANNEX_OK : check_vector(source, item, error);
}

annex_status transfer_run(struct items *source, struct sink *sink, const char *phase,
                          annex_error *error)
{
    struct item item = {0}, first = {0};
    for (;;) {
        annex_status status = source->next(source, &item, error);
        if (status != ANNEX_OK) {
            return status;
        }
        if (progress_report(NULL, phase, source->done, source->total) != 0) {
            return session_error(error, ANNEX_CANCELLED, "interrupted");
        }
        if (item.n_key == 0) {
            return sink->commit(sink, error);
        }
        if (first.n_key == 0) {
            first.n_key = item.n_key;
            first.dimension = sink->dimension = item.dimension;
        }
        status = check_item(source, &item, &first, error);
        if (status == ANNEX_OK) {
            status = sink->put(sink, &item, error);
        }
        if (status != ANNEX_OK) {
            return status;
        }
    }
}

size_t transfer_split_names(char *text, const char *names[TRANSFER_KEYS])
{
    size_t n = 0;
    char *rest = NULL;
    for (char *name = strtok_r(text, ",", &rest); name != NULL && n < TRANSFER_KEYS;
         name = strtok_r(NULL, ",", &rest)) {
        name += strspn(name, " ");
        size_t length = strlen(name);
        while (length > 0 && name[length - 1] == ' ') {
            name[--length] = '\0';
        }
        names[n++] = name;
    }
    return n;
}

bool transfer_ends_with(const char *text, const char *ending)
{
    size_t n = strlen(text), m = strlen(ending);
    return n >= m && strcmp(text + n - m, ending) == 0;
}

void items_close(struct items *source)
{
    if (source != NULL) {
        source->close(source);
    }
}

void sink_close(struct sink *sink)
{
    if (sink != NULL) {
        sink->close(sink);
    }
}
