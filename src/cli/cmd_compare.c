/*
 * cmd_compare.c - annex compare: the indexes of one table or collection, measured side by side.
 *
 * The questions are rows drawn from the first of them, each with itself left out. What is true is
 * what a search finds that looks at every row; a row as near as the last of those counts, whatever
 * its key. Times are those of one search after the other, the best of the passes of each question.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "commands.h"
#include "progress.h"

enum { PASSES = 3, DEFAULT_QUESTIONS = 100, DEFAULT_K = 10 };

static const double slack = 1e-6; /* of distances that count as one */

/* One index, measured. */
struct figures {
    const annex_db_index *index;
    size_t n; /* questions it could be asked */
    double recall;
    double p50_us, p99_us, exact_us;
};

struct comparison {
    struct session *session;
    annex_db *db;
    annex_result *questions;
    size_t k;
    double *times, *exact_times; /* [questions] */
};

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare_times(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double quantile(double *times, size_t n, double share)
{
    qsort(times, n, sizeof(*times), compare_times);
    return n > 0 ? times[(size_t)(share * (double)(n - 1) + 0.5)] : (double)NAN;
}

/* Asks a question as often as there are passes; *result is the last answer. */
static annex_status ask(struct comparison *self, const char *index, const annex_value *key,
                        bool exact, annex_result **result, double *best_us, annex_error *error)
{
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    request.k = self->k;
    request.like = key;
    request.exact = exact;
    *best_us = (double)INFINITY;
    *result = NULL;
    for (int pass = 0; pass < (exact ? 1 : PASSES); pass++) {
        annex_result_free(*result);
        *result = NULL;
        double began = now_us();
        annex_status status = annex_db_search(self->db, index, &request, result, error);
        if (status != ANNEX_OK) {
            return status;
        }
        double took = now_us() - began;
        *best_us = took < *best_us ? took : *best_us;
    }
    return progress_interrupted() ? session_error(error, ANNEX_CANCELLED, "interrupted") : ANNEX_OK;
}

/* The share of the true rows that an answer has; 1 when there are none. */
static double share_found(const annex_result *answer, const annex_result *truth)
{
    size_t n = annex_result_count(truth), found = 0;
    if (n == 0) {
        return 1;
    }
    double last = annex_result_distance(truth, n - 1);
    double reach = last + slack * (fabs(last) + slack);
    for (size_t i = 0; i < annex_result_count(answer) && i < n; i++) {
        found += annex_result_distance(answer, i) <= reach;
    }
    return (double)found / (double)n;
}

static annex_status measure_question(struct comparison *self, struct figures *figures,
                                     const annex_value *key, annex_error *error)
{
    annex_result *truth = NULL, *answer = NULL;
    double exact_us = 0, best_us = 0;
    char name[600];
    snprintf(name, sizeof(name), "%s.%s", figures->index->schema, figures->index->name);
    annex_status status = ask(self, name, key, true, &truth, &exact_us, error);
    if (status == ANNEX_OK) {
        status = ask(self, name, key, false, &answer, &best_us, error);
    }
    if (status == ANNEX_OK) {
        figures->recall += share_found(answer, truth);
        self->times[figures->n] = best_us;
        self->exact_times[figures->n++] = exact_us;
    }
    annex_result_free(truth);
    annex_result_free(answer);
    return status;
}

/* Rows that another index does not have are no questions to it. */
static annex_status measure(struct comparison *self, struct figures *figures, annex_error *error)
{
    annex_value key[ANNEX_MAX_KEY_COLUMNS];
    size_t columns = annex_result_key_columns(self->questions);
    size_t n = columns == figures->index->n_key_columns ? annex_result_count(self->questions) : 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < columns; c++) {
            key[c] = annex_result_key(self->questions, i, c);
        }
        annex_status status = measure_question(self, figures, key, error);
        if (status != ANNEX_OK && status != ANNEX_NOT_FOUND) {
            return status;
        }
    }
    figures->recall = figures->n > 0 ? figures->recall / (double)figures->n : (double)NAN;
    figures->p50_us = quantile(self->times, figures->n, 0.5);
    figures->p99_us = quantile(self->times, figures->n, 0.99);
    figures->exact_us = quantile(self->exact_times, figures->n, 0.5);
    return ANNEX_OK;
}

/* ---- output -----------------------------------------------------------------------------------*/

static const char *const table_columns[] = {"index", "default", "model",    "metric", "family",
                                            "rows",  "recall",  "p50_us",   "p99_us", "exact_us",
                                            "size",  "build_s", "questions"};
static const char *const data_columns[] = {
    "index",  "is_default", "model",    "metric", "family",        "rows",     "recall",
    "p50_us", "p99_us",     "exact_us", "bytes",  "build_seconds", "questions"};

static void put(struct list *list, const struct figures *figures)
{
    const annex_db_index *index = figures->index;
    list_text(list, index->name);
    list_bool(list, index->is_default != 0);
    list_text(list, index->model);
    list_text(list, index->metric);
    list_text(list, index->family);
    list_count(list, index->rows);
    list_real(list, round(figures->recall * 1e4) / 1e4);
    list_real(list, round(figures->p50_us * 10) / 10);
    list_real(list, round(figures->p99_us * 10) / 10);
    list_real(list, round(figures->exact_us * 10) / 10);
    list_size(list, index->bytes);
    list_real(list, index->build_seconds);
    list_count(list, figures->n);
}

static void print_figures(const struct session *session, const struct figures *figures, size_t n)
{
    struct list list;
    bool people = session->mode == OUT_TABLE;
    list_begin(&list, session->mode, people ? table_columns : data_columns,
               ARRAY_LENGTH(data_columns), false);
    for (size_t i = 0; i < n; i++) {
        put(&list, &figures[i]);
    }
    list_end(&list);
    for (size_t i = 0; people && i < n; i++) {
        if (strcmp(figures[i].index->state, "fresh") != 0) {
            session_remark(session, "%s is %s: its figures are not those of a synced index",
                           figures[i].index->name, figures[i].index->state);
        }
    }
}

/* ---- what is compared -------------------------------------------------------------------------*/

/* Whether an index is over the table or collection that is asked for, and nothing else. */
static bool is_of(const struct session *session, const annex_db_index *index)
{
    bool collection = session_has(session, OPTION_COLLECTION);
    const char *name = session_option(session, collection ? OPTION_COLLECTION : OPTION_TABLE)->text;
    bool is_collection = strcmp(index->source, index->table) != 0;
    return index->n_sources == 0 && is_collection == collection && strcmp(index->source, name) == 0;
}

static annex_status compare(struct comparison *self, struct figures *figures, size_t n,
                            annex_error *error)
{
    const struct session *session = self->session;
    size_t wanted = session_has(session, OPTION_SAMPLE)
                        ? (size_t)session_option(session, OPTION_SAMPLE)->count
                        : DEFAULT_QUESTIONS;
    char name[600];
    snprintf(name, sizeof(name), "%s.%s", figures[0].index->schema, figures[0].index->name);
    annex_status status = annex_db_sample(self->db, name, wanted, 1, &self->questions, error);
    self->times = session_memory(wanted + 1, sizeof(double));
    self->exact_times = session_memory(wanted + 1, sizeof(double));
    for (size_t i = 0; status == ANNEX_OK && i < n; i++) {
        status = measure(self, &figures[i], error);
    }
    return status;
}

static int run(struct session *session)
{
    struct comparison self = {.session = session, .k = DEFAULT_K};
    struct target_indexes indexes = {0};
    struct figures *figures = NULL;
    annex_error error = {0};
    size_t n = 0;
    if (session_has(session, OPTION_TABLE) == session_has(session, OPTION_COLLECTION)) {
        return session_usage("annex compare needs --table or --collection, whose indexes it "
                             "measures");
    }
    if (session_has(session, OPTION_K)) {
        self.k = (size_t)session_option(session, OPTION_K)->count;
    }
    annex_status status = target_open_database(session, ANNEX_DB_READ_ONLY, &self.db, &error);
    if (status == ANNEX_OK) {
        status = target_indexes_get(session, self.db, &indexes, &error);
    }
    figures = session_memory(indexes.n + 1, sizeof(*figures));
    for (size_t i = 0; i < indexes.n; i++) {
        if (is_of(session, &indexes.first[i])) {
            figures[n++].index = &indexes.first[i];
        }
    }
    if (status == ANNEX_OK && n == 0) {
        status = session_error(&error, ANNEX_NOT_FOUND,
                               "%s has no index over it; annex list shows those there are",
                               session->arguments.operands[0]);
    }
    if (status == ANNEX_OK) {
        status = compare(&self, figures, n, &error);
    }
    if (status == ANNEX_OK) {
        print_figures(session, figures, n);
    }
    annex_result_free(self.questions);
    free(self.times);
    free(self.exact_times);
    free(figures);
    target_indexes_free(self.db, &indexes);
    annex_db_close(self.db);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

const struct command command_compare = {
    .id = COMMAND_COMPARE,
    .name = "compare",
    .operands = "DATABASE",
    .least_operands = 1,
    .most_operands = 1,
    .summary = "measure all indexes of a table or collection",
    .description =
        "Asks every index over the table or collection the same questions, rows drawn from\n"
        "it, and compares the answers with those of an exact search: recall, the time of a\n"
        "search (p50_us and p99_us in millionths of a second; exact_us when every row is\n"
        "looked at), the size of the index and the seconds of its build.",
    .examples = "annex compare docs.db --table docs\n"
                "annex compare embeddings.db --collection posts -k 20 --queries 500 --json",
    .run = run,
};
