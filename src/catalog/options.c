/*
 * options.c - options as a person writes them: a JSON object, whose names are checked and whose
 * mistakes are explained.
 */
#include <jansson.h>
#include <stdio.h>

#include "catalog/catalog.h"

/* Number of letters to insert, remove or replace; both texts are shorter than 32. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[33];
    size_t n = strlen(b);
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = MIN(replaced, MIN(row[j], row[j + 1]) + 1);
        }
    }
    return row[n];
}

annex_status option_unknown(const char *name, const char *const *known, size_t n_known,
                            annex_error *error)
{
    const char *nearest = NULL;
    size_t best = 4; /* farther names are no help */
    for (size_t i = 0; i < n_known && strlen(name) < 32; i++) {
        size_t distance = edit_distance(name, known[i]);
        if (distance < best) {
            best = distance;
            nearest = known[i];
        }
    }
    if (nearest != NULL) {
        return error_set(error, ANNEX_INVALID, "there is no option \"%.40s\"; did you mean \"%s\"?",
                         name, nearest);
    }
    char list[160] = "";
    size_t used = 0;
    for (size_t i = 0; i < n_known && used < sizeof list - 20; i++) {
        used +=
            (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", known[i]);
    }
    return error_set(error, ANNEX_INVALID, "there is no option \"%.40s\"; there are: %s", name,
                     list);
}

annex_status options_open(const char *text, json_t **object, annex_error *error)
{
    json_error_t where;
    *object = json_loads(text, JSON_REJECT_DUPLICATES, &where);
    if (*object == NULL) {
        return error_set(error, ANNEX_INVALID, "the options are not JSON: %s at character %d",
                         where.text, where.position);
    }
    if (!json_is_object(*object)) {
        json_decref(*object);
        *object = NULL;
        return error_set(error, ANNEX_INVALID,
                         "the options must be a JSON object such as {\"metric\": \"cosine\"}");
    }
    return ANNEX_OK;
}
