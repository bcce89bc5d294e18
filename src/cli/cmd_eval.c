/* cmd_eval.c - annex eval: how well and how fast an index file answers, along effort. */
#include "commands.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"
#include "progress.h"

/* The processor's name as the kernel tells it. */
static void read_cpu_name(char *name, size_t bytes)
{
    snprintf(name, bytes, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            colon += 1 + strspn(colon + 1, " \t");
            snprintf(name, bytes, "%.*s", (int)strcspn(colon, "\n"), colon);
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

static double build_seconds(const struct session *session)
{
    return session_has(session, OPTION_BUILD_SECONDS)
               ? session_option(session, OPTION_BUILD_SECONDS)->real
               : NAN;
}

static void put_real(struct emitter *json, const char *name, double value)
{
    emit_key(json, name);
    emit_real(json, value);
}

static void put_count(struct emitter *json, const char *name, uint64_t value)
{
    emit_key(json, name);
    emit_count(json, value);
}

static void print_json(const struct evaluation *evaluation, const char *cpu)
{
    struct emitter json = EMITTER_INIT(stdout);
    emit_begin(&json, '{');
    put_count(&json, "k", evaluation->k);
    put_count(&json, "threads", evaluation->threads);
    put_count(&json, "rows", evaluation->info.rows);
    put_count(&json, "dimension", evaluation->info.dimension);
    emit_key(&json, "metric");
    emit_text(&json, annex_metric_name(evaluation->info.metric));
    put_real(&json, "build_seconds", build_seconds(evaluation->session));
    put_count(&json, "index_bytes", evaluation->info.bytes);
    put_real(&json, "exact_qps", evaluation->exact_qps);
    put_real(&json, "open_cold_ms", evaluation->open_cold_ms);
    put_real(&json, "open_warm_ms", evaluation->open_warm_ms);
    emit_key(&json, "cpu");
    emit_text(&json, cpu);
    emit_key(&json, "isa");
    emit_text(&json, annex_isa());
    emit_key(&json, "points");
    emit_begin(&json, '[');
    for (size_t i = 0; i < evaluation->n_points; i++) {
        const struct point *point = &evaluation->points[i];
        emit_begin(&json, '{');
        put_count(&json, "effort", point->effort);
        put_real(&json, "recall", point->recall);
        put_real(&json, "qps", point->qps);
        put_real(&json, "batch_qps", point->batch_qps);
        put_real(&json, "p50_us", point->p50_us);
        put_real(&json, "p99_us", point->p99_us);
        put_real(&json, "hops", point->hops);
        put_real(&json, "distances", point->distances);
        put_real(&json, "exact_distances", point->exact);
        put_real(&json, "bytes", point->bytes);
        emit_end(&json, '}');
    }
    emit_end(&json, ']');
    emit_end(&json, '}');
    putchar('\n');
}

static void print_for_people(const struct evaluation *evaluation, const char *cpu)
{
    static const char *const columns[] = {"effort", "recall", "queries/s", "batch/s", "p50 us",
                                          "p99 us", "hops",   "distances", "exact",   "KB read"};
    char size[32];
    out_format_size(evaluation->info.bytes, size, sizeof(size));
    printf("%" PRIu64 " rows of %" PRIu32 " elements, %s, %s; %zu queries, k = %zu, %" PRIu32
           " thread%s\n",
           evaluation->info.rows, evaluation->info.dimension,
           annex_metric_name(evaluation->info.metric), size, evaluation->queries.n, evaluation->k,
           evaluation->threads, evaluation->threads > 1 ? "s" : "");
    printf("%s, %s; exact search %.0f queries/s; opens in %.2f ms cold, %.2f ms warm\n\n", cpu,
           annex_isa(), evaluation->exact_qps, evaluation->open_cold_ms, evaluation->open_warm_ms);
    struct list list;
    list_begin(&list, OUT_TABLE, columns, ARRAY_LENGTH(columns), false);
    for (size_t i = 0; i < evaluation->n_points; i++) {
        const struct point *point = &evaluation->points[i];
        list_count(&list, point->effort);
        list_real(&list, round(1e4 * point->recall) / 1e4);
        list_real(&list, round(point->qps));
        list_real(&list, round(point->batch_qps));
        list_real(&list, round(10 * point->p50_us) / 10);
        list_real(&list, round(10 * point->p99_us) / 10);
        list_real(&list, round(point->hops));
        list_real(&list, round(point->distances));
        list_real(&list, round(point->exact));
        list_real(&list, round(point->bytes / 100) / 10);
    }
    list_end(&list);
}

static annex_status prepare(struct evaluation *evaluation, annex_error *error)
{
    const struct session *session = evaluation->session;
    annex_index_describe(evaluation->index, &evaluation->info);
    if (evaluation->info.rows == 0) {
        return session_error(error, ANNEX_INVALID, "%s has no rows, so there is nothing to measure",
                             session->arguments.operands[0]);
    }
    if (evaluation->info.metric == ANNEX_HAMMING || evaluation->info.metric == ANNEX_JACCARD) {
        return session_error(error, ANNEX_UNSUPPORTED, "%s holds bits; annex eval reads numbers",
                             session->arguments.operands[0]);
    }
    annex_status status =
        queries_read(session, session_option(session, OPTION_QUERIES)->text,
                     session_option(session, OPTION_DATASET)->text, &evaluation->queries, error);
    if (status == ANNEX_OK && evaluation->queries.n == 0) {
        status = session_error(error, ANNEX_INVALID, "%s has no queries",
                               session_option(session, OPTION_QUERIES)->text);
    }
    if (status == ANNEX_OK) {
        status = queries_fit(&evaluation->queries, evaluation->info.dimension, error);
    }
    if (status != ANNEX_OK) {
        return status;
    }
    uint64_t k = session_has(session, OPTION_K) ? session_option(session, OPTION_K)->count : 10;
    evaluation->k = (size_t)(k < evaluation->info.rows ? k : evaluation->info.rows);
    evaluation->threads = session_has(session, OPTION_THREADS)
                              ? (uint32_t)session_option(session, OPTION_THREADS)->count
                              : 1;
    if (evaluation->threads == 0) {
        evaluation->threads = session->env.threads.count(session->env.threads.context);
    }
    size_t n = evaluation->queries.n;
    evaluation->truth = session_memory(n, evaluation->k * sizeof(uint32_t));
    evaluation->hits = session_memory(n, evaluation->k * sizeof(annex_hit));
    evaluation->found = session_memory(n, sizeof(size_t));
    return truth_get(evaluation, error);
}

static int run(struct session *session)
{
    if (!session_has(session, OPTION_QUERIES)) {
        return session_usage("annex eval needs --queries, a file of vectors to search for");
    }
    annex_error error = {0};
    annex_index *index = NULL;
    struct evaluation evaluation = {.session = session};
    annex_status status = measure_open(&evaluation, &error);
    if (status == ANNEX_OK) {
        status = target_open_index(session, ANNEX_INDEX_LOAD, &index, &error);
    }
    if (status == ANNEX_OK) {
        evaluation.index = index;
        status = prepare(&evaluation, &error);
    }
    if (status == ANNEX_OK && session_has(session, OPTION_EFFORTS)) {
        status = measure_listed(&evaluation, session_option(session, OPTION_EFFORTS)->text, &error);
    } else if (status == ANNEX_OK) {
        status = measure_sweep(&evaluation, &error);
    }
    if (status == ANNEX_OK) {
        status = measure_speed(&evaluation, &error);
    }
    progress_clear();
    if (status == ANNEX_OK && session_has(session, OPTION_PLOT)) {
        status = plot_write(&evaluation, session->arguments.operands[0],
                            session_option(session, OPTION_PLOT)->text, &error);
    }
    if (status == ANNEX_OK) {
        char cpu[160];
        read_cpu_name(cpu, sizeof(cpu));
        (session->mode == OUT_JSON ? print_json : print_for_people)(&evaluation, cpu);
    }
    free(evaluation.truth);
    free(evaluation.limits);
    free(evaluation.hits);
    free(evaluation.found);
    queries_free(&evaluation.queries);
    annex_index_close(index);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

const struct command command_eval = {
    .id = COMMAND_EVAL,
    .name = "eval",
    .operands = "INDEX",
    .least_operands = 1,
    .most_operands = 1,
    .summary = "measure recall and speed of an index file",
    .description =
        "Searches for every query at growing efforts, and reports for each effort recall,\n"
        "queries per second, latencies, and what a query did: hops (rows whose neighbours\n"
        "it looked at), distances, how many of them exact, and what it read. Recall is\n"
        "the share of the true k nearest that was found; rows as near as the k-th count too.\n"
        "What is true comes from --truth, from \"neighbors\" in the HDF5 file of the queries,\n"
        "or from exact search. Speed is the best of three passes, of one call for each query\n"
        "and of one call for all, on one thread unless --threads says otherwise.",
    .examples = "annex eval my.annex --queries data.hdf5\n"
                "annex eval my.annex --queries data.hdf5 -k 10 --threads 1 --json\n"
                "annex eval my.annex --queries q.npy --truth t.ivecs --plot my.svg",
    .run = run,
};
