/*
 * settings.c - the options of a search: JSON as a person writes it.
 */
#include "catalog/search.h"

#include <jansson.h>

static annex_status setting_wrong(const char *name, const char *expected, annex_error *error)
{
    return error_set(error, ANNEX_INVALID, "the option \"%s\" must be %s", name, expected);
}

static annex_status setting_integer(const json_t *value, const char *name, json_int_t least,
                                    json_int_t most, json_int_t *out, annex_error *error)
{
    *out = json_integer_value(value);
    if (!json_is_integer(value) || *out < least || *out > most) {
        return error_set(error, ANNEX_INVALID,
                         "the option \"%s\" must be an integer from %lld to %lld", name,
                         (long long)least, (long long)most);
    }
    return ANNEX_OK;
}

static annex_status setting_effort(const json_t *value, uint32_t *effort, annex_error *error)
{
    bool exact = json_is_string(value) && strcmp(json_string_value(value), "exact") == 0;
    json_int_t number = json_integer_value(value);
    if (!exact && (!json_is_integer(value) || number < 1 || number > 1000000)) {
        return setting_wrong("effort", "\"exact\" or an integer from 1 to 1000000", error);
    }
    *effort = exact ? ANNEX_EFFORT_EXACT : (uint32_t)number;
    return ANNEX_OK;
}

/* A share: more than 0 for a recall, which 0 would ask nothing of. */
static annex_status setting_share(const json_t *value, const char *name, bool positive, double *out,
                                  annex_error *error)
{
    *out = json_number_value(value);
    if (!json_is_number(value) || !(*out >= 0 && *out <= 1) || (positive && *out == 0)) {
        return setting_wrong(
            name, positive ? "a number above 0 and at most 1" : "a number from 0 to 1", error);
    }
    return ANNEX_OK;
}

static annex_status setting_name(const json_t *value, const char *name, const char *expected,
                                 struct arena *arena, const char **out, annex_error *error)
{
    const char *text = json_string_value(value);
    size_t bytes = json_string_length(value);
    if (text == NULL || bytes == 0 || memchr(text, '\0', bytes) != NULL) {
        return setting_wrong(name, expected, error);
    }
    return arena_text(arena, text, bytes, out, error);
}

static annex_status setting_read(const char *name, const json_t *value, struct arena *arena,
                                 struct search_settings *settings, annex_error *error)
{
    static const char *const known[] = {"effort", "recall",     "threads", "max_scan", "timeout_ms",
                                        "mmr",    "candidates", "group",   "model"};
    json_int_t number = 0;
    if (strcmp(name, "effort") == 0) {
        return setting_effort(value, &settings->effort, error);
    }
    if (strcmp(name, "recall") == 0) {
        return setting_share(value, name, true, &settings->recall, error);
    }
    if (strcmp(name, "threads") == 0) {
        TRY(setting_integer(value, name, 0, 1024, &number, error));
        settings->threads = (uint32_t)number;
        return ANNEX_OK;
    }
    if (strcmp(name, "max_scan") == 0) {
        TRY(setting_integer(value, name, 1, INT64_C(1) << 40, &number, error));
        settings->max_scan = (uint64_t)number;
        return ANNEX_OK;
    }
    if (strcmp(name, "timeout_ms") == 0) {
        TRY(setting_integer(value, name, 1, INT32_MAX, &number, error));
        settings->timeout_ms = (uint32_t)number;
        return ANNEX_OK;
    }
    if (strcmp(name, "mmr") == 0) {
        settings->has_mmr = true;
        return setting_share(value, name, false, &settings->mmr, error);
    }
    if (strcmp(name, "candidates") == 0) {
        TRY(setting_integer(value, name, 1, DIVERSIFY_MOST_ROWS, &number, error));
        settings->candidates = (uint32_t)number;
        return ANNEX_OK;
    }
    if (strcmp(name, "group") == 0) {
        return setting_name(value, name, "the name of a column of the table", arena,
                            &settings->group, error);
    }
    if (strcmp(name, "model") == 0) {
        return setting_name(value, name, "the name of the model that made the query", arena,
                            &settings->model, error);
    }
    return option_unknown(name, known, ARRAY_LENGTH(known), error);
}

static annex_status settings_check(const struct search_settings *settings, annex_error *error)
{
    if (settings->effort > 0 && settings->recall > 0) {
        return error_set(error, ANNEX_INVALID,
                         "give an effort or a recall, not both: a recall chooses the effort");
    }
    if (settings->candidates > 0 && !settings->has_mmr) {
        return error_set(error, ANNEX_INVALID,
                         "the option \"candidates\" is how many rows mmr chooses from; give "
                         "\"mmr\" as well");
    }
    return ANNEX_OK;
}

annex_status settings_parse(struct arena *arena, const char *options,
                            struct search_settings *settings, annex_error *error)
{
    json_t *object = NULL, *value = NULL;
    const char *name = NULL;
    *settings = (struct search_settings){.effort = 0};
    if (options == NULL || options[strspn(options, " \t\r\n")] == '\0') {
        return ANNEX_OK;
    }
    TRY(options_open(options, &object, error));
    annex_status status = ANNEX_OK;
    json_object_foreach(object, name, value)
    {
        TRY_CLEANUP(setting_read(name, value, arena, settings, error));
    }
    status = settings_check(settings, error);
cleanup:
    json_decref(object);
    return status;
}
