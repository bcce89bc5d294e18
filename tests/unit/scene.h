/*
 * scene.h - a SQLite database for tests of the catalog: one connection that has never heard of
 * Annex, one annex_db, and an oracle that reads the table with SQLite alone, compares every row
 * with the query and sorts by (distance, key).
 *
 * Tests fail by themselves where an expectation is not met. Random vectors follow scene_seed.
 */
#ifndef ANNEX_TEST_SCENE_H
#define ANNEX_TEST_SCENE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "catalog/catalog.h"

enum { DIMENSION = 8, MAX_ROWS = 4096 };

struct scene {
    char folder[64];
    char path[96];
    sqlite3 *plain; /* a program without Annex */
    annex_db *db;
    annex_error error;
    char warning[ANNEX_ERROR_BYTES];
    annex_env env;
};

extern uint64_t scene_seed;

#define SCENE(test) cmocka_unit_test_setup_teardown(test, scene_setup, scene_teardown)

int scene_setup(void **state);
int scene_teardown(void **state);
/* Closes the annex_db and opens it anew. */
void scene_reopen(struct scene *scene);
/* Runs a shell command in the folder of the database, which is also the folder of the cache. */
void scene_shell(struct scene *scene, const char *command);

/* ---- the program without Annex */
void scene_run(struct scene *scene, const char *sql);
void scene_vector(float *vector);
/* Runs `sql`, whose ?1 is a random vector; scene_fill does it `rows` times in one transaction. */
void scene_run_with_vector(struct scene *scene, const char *sql);
void scene_fill(struct scene *scene, const char *sql, int rows);
/* docs(id INTEGER PRIMARY KEY, lang TEXT, vec BLOB) with rows in lang 'en'. */
void scene_docs(struct scene *scene, int rows);
int64_t scene_number(struct scene *scene, const char *sql);

/* ---- the annex_db */
void scene_ok(struct scene *scene, annex_status status);
/* The call was refused with this status, and its sentence has this part. */
void scene_refused(struct scene *scene, annex_status status, annex_status expected,
                   const char *part);
/* Creates "idx" over docs.vec. */
void scene_create(struct scene *scene, const char *options);
/* A request at effort exact for a query of DIMENSION elements. */
annex_db_request scene_request(const float *query, size_t k);
/* The plan of some search; the state of the only index. */
const char *scene_plan(struct scene *scene, char plan[200]);
const char *scene_state(struct scene *scene);

/* ---- the oracle */

/*
 * The answer to a request is that of the oracle under l2. `keys` is "id" or "a, b"; `rest` the
 * table, perhaps with a condition: "docs WHERE id > 3". The oracle reads through `connection`.
 */
void scene_compare(annex_db *db, sqlite3 *connection, const char *keys, const char *rest,
                   const annex_db_request *request, const float *query);
/* The same for a random query through the two connections of the scene. */
void scene_compare_exact(struct scene *scene, const char *keys, const char *rest, size_t k);

#endif
