/*
 * db.c - an annex_db: a host, an environment that also obeys the host's interrupts, and what is
 * kept of the indexes that were used.
 */
#include "catalog/catalog.h"

static int db_progress(void *context, const char *phase, uint64_t done, uint64_t total)
{
    annex_db *db = context;
    if (db->host != NULL && db->host->type->interrupted(db->host)) {
        return 1;
    }
    return db->user_log.progress != NULL
               ? db->user_log.progress(db->user_log.context, phase, done, total)
               : 0;
}

static void db_message(void *context, annex_level level, const char *text)
{
    annex_db *db = context;
    if (db->user_log.message != NULL) {
        db->user_log.message(db->user_log.context, level, text);
    }
}

static annex_status db_new(const annex_env *env, annex_db **db, annex_error *error)
{
    annex_env given = env != NULL ? *env : annex_env_default();
    annex_db *made = NULL;
    *db = NULL;
    TRY(memory_new(&given, 1, sizeof *made, &made, error));
    made->env = given;
    made->user_log = given.log;
    made->env.log = (annex_log){.context = made, .message = db_message, .progress = db_progress};
    *db = made;
    return ANNEX_OK;
}

annex_status annex_db_open(const annex_env *env, const char *target, unsigned flags, annex_db **db,
                           annex_error *error)
{
    TRY(db_new(env, db, error));
    annex_status status = host_open(&(*db)->env, target, flags, &(*db)->host, error);
    if (status != ANNEX_OK) {
        annex_db_close(*db);
        *db = NULL;
    }
    return status;
}

annex_status annex_db_adopt_sqlite(const annex_env *env, void *connection, annex_db **db,
                                   annex_error *error)
{
    TRY(db_new(env, db, error));
    annex_status status = sqlite_adopt(&(*db)->env, connection, &(*db)->host, error);
    if (status != ANNEX_OK) {
        annex_db_close(*db);
        *db = NULL;
    }
    return status;
}

void annex_db_close(annex_db *db)
{
    if (db == NULL) {
        return;
    }
    catalog_close_all(db);
    engine_list_free(&db->env, &db->engines);
    if (db->host != NULL) {
        db->host->type->close(db->host);
    }
    annex_env env = db->env;
    memory_free(&env, db, 1, sizeof *db);
}

annex_status annex_db_engine_add(annex_db *db, const annex_engine *engine, annex_error *error)
{
    return engine_list_add(&db->env, &db->engines, engine, error);
}

annex_status annex_db_engine_load(annex_db *db, const char *path, const char **name,
                                  annex_error *error)
{
    const char *loaded = NULL;
    annex_status status = engine_list_load(&db->env, &db->engines, path, &loaded, error);
    if (name != NULL) {
        *name = loaded;
    }
    return status;
}

void annex_db_free(annex_db *db, void *pointer, size_t bytes)
{
    memory_free(&db->env, pointer, bytes, 1);
}
