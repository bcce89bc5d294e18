/*
 * registry.c - the engines that are known to one database: the native one, and those that the user
 * has named by the path of their shared object; and what went wrong in one of them, as an error.
 *
 * A table is looked at once, when it is added: later code relies on its members being there.
 * Nothing is loaded because of what a database says, and no folder is searched.
 */
#include "engine/engine.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

static const annex_engine *engine_at(const struct engine_list *list, size_t i)
{
    return ((const struct engine_known *)(const void *)list->known.data)[i].engine;
}

static size_t engine_count(const struct engine_list *list)
{
    return list->known.bytes / sizeof(struct engine_known);
}

const annex_engine *engine_find(const struct engine_list *list, const char *name)
{
    const annex_engine *native = annex_engine_native();
    if (name[0] == '\0' || strcmp(name, native->name) == 0) {
        return native;
    }
    for (size_t i = 0; i < engine_count(list); i++) {
        if (strcmp(engine_at(list, i)->name, name) == 0) {
            return engine_at(list, i);
        }
    }
    return NULL;
}

bool engine_name_is_valid(const char *name)
{
    annex_family family = ANNEX_FAMILY_AUTO;
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_");
    return n > 0 && n < ANNEX_ENGINE_NAME_BYTES && name[n] == '\0' &&
           strcmp(name, annex_engine_native()->name) != 0 &&
           annex_family_parse(name, &family, NULL) != ANNEX_OK;
}

annex_status engine_failed(const annex_engine *engine, annex_status status, const annex_error *why,
                           annex_error *error)
{
    bool known = status > ANNEX_OK && status <= ANNEX_INTERNAL;
    annex_status checked = known ? status : ANNEX_INTERNAL;
    const char *message = why->message[0] != '\0' ? why->message : annex_status_name(checked);
    return error_set(error, checked, "the engine %s failed: %.*s", engine->name,
                     ANNEX_ERROR_BYTES - 1, message);
}

static bool engine_is_known(const struct engine_list *list, const annex_engine *engine)
{
    for (size_t i = 0; i < engine_count(list); i++) {
        if (engine_at(list, i) == engine) {
            return true;
        }
    }
    return false;
}

/* The members that every version has. */
static annex_status engine_validate(const annex_engine *engine, annex_error *error)
{
    if (engine->abi != ANNEX_ENGINE_ABI) {
        bool newer = engine->abi > ANNEX_ENGINE_ABI;
        return error_set(error, newer ? ANNEX_TOO_NEW : ANNEX_UNSUPPORTED,
                         "the engine has version %u of the interface, and this Annex takes %d; %s",
                         engine->abi, ANNEX_ENGINE_ABI,
                         newer ? "install a newer Annex" : "build the engine anew");
    }
    if (engine->struct_bytes < sizeof *engine) {
        return error_set(error, ANNEX_INVALID,
                         "the table of the engine has %zu bytes, at least %zu are needed; build it "
                         "with annex-engine.h",
                         engine->struct_bytes, sizeof *engine);
    }
    if (engine->name == NULL || !engine_name_is_valid(engine->name)) {
        return error_set(error, ANNEX_INVALID,
                         "\"%.40s\" cannot be the name of an engine: give 1 to %d of a-z, 0-9, - "
                         "and _ that do not name a part of Annex",
                         engine->name != NULL ? engine->name : "", ANNEX_ENGINE_NAME_BYTES - 1);
    }
    if (engine->flags != 0 || engine->build == NULL || engine->open == NULL ||
        engine->close == NULL || engine->describe == NULL || engine->save == NULL ||
        engine->search == NULL) {
        return error_set(error, ANNEX_INVALID,
                         "the engine %s lacks one of build, open, close, describe, save, search, "
                         "or has flags",
                         engine->name);
    }
    return ANNEX_OK;
}

static annex_status engine_keep(const annex_env *env, struct engine_list *list,
                                const annex_engine *engine, void *library, annex_error *error)
{
    struct engine_known known = {engine, library};
    TRY(engine_validate(engine, error));
    if (engine_find(list, engine->name) != NULL) {
        return error_set(error, ANNEX_EXISTS, "there is an engine %s already", engine->name);
    }
    return buffer_append(env, &list->known, &known, sizeof known, error);
}

annex_status engine_list_add(const annex_env *env, struct engine_list *list,
                             const annex_engine *engine, annex_error *error)
{
    return engine_keep(env, list, engine, NULL, error);
}

/* The table of a shared object that was opened; loading one twice is loading it once. */
static annex_status engine_take(const annex_env *env, struct engine_list *list, const char *path,
                                void *library, const char **name, bool *kept, annex_error *error)
{
    annex_error why = {ANNEX_OK, ""};
    annex_engine_entry_function entry = NULL;
    void *symbol = dlsym(library, "annex_engine_entry");
    memcpy(&entry, &symbol, sizeof entry);
    const annex_engine *engine = symbol != NULL ? entry(ANNEX_ENGINE_ABI) : NULL;
    if (engine == NULL) {
        return error_set(error, symbol == NULL ? ANNEX_INVALID : ANNEX_UNSUPPORTED, "%s %s", path,
                         symbol == NULL ? "is no engine: it does not export annex_engine_entry"
                                        : "is an engine for another version of Annex; build it "
                                          "anew");
    }
    annex_status status = ANNEX_OK;
    if (!engine_is_known(list, engine)) {
        status = engine_keep(env, list, engine, library, &why);
        *kept = status == ANNEX_OK;
    }
    if (status != ANNEX_OK) {
        return error_set(error, status, "%s cannot be used: %s", path, why.message);
    }
    *name = engine->name;
    return ANNEX_OK;
}

annex_status engine_list_load(const annex_env *env, struct engine_list *list, const char *path,
                              const char **name, annex_error *error)
{
    char here[4096];
    bool kept = false;
    *name = NULL;
    /* dlopen looks for a plain name in the folders of the system and of LD_LIBRARY_PATH. */
    int n = snprintf(here, sizeof here, "%s%s", strchr(path, '/') == NULL ? "./" : "", path);
    if (path[0] == '\0' || n < 0 || (size_t)n >= sizeof here) {
        return error_set(error, ANNEX_INVALID, "the path of an engine is empty or too long");
    }
    if (access(here, F_OK) != 0) {
        return error_set(error, ANNEX_NOT_FOUND, "there is no engine %s", path);
    }
    void *library = dlopen(here, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *why = dlerror();
        return error_set(error, ANNEX_INVALID, "%s cannot be loaded: %s", path,
                         why != NULL ? why : "it is no shared object");
    }
    annex_status status = engine_take(env, list, path, library, name, &kept, error);
    if (!kept) {
        dlclose(library);
    }
    return status;
}

void engine_list_free(const annex_env *env, struct engine_list *list)
{
    const struct engine_known *known = (const struct engine_known *)(const void *)list->known.data;
    for (size_t i = engine_count(list); i-- > 0;) {
        if (known[i].library != NULL) {
            dlclose(known[i].library);
        }
    }
    buffer_free(env, &list->known);
}
