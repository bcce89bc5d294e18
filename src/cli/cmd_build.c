/* cmd_build.c - annex build: an index file from files of vectors. */
#include "commands.h"

#include <math.h>
#include <sys/resource.h>

#include "progress.h"

/* What --metric says, else the file, else l2. */
static annex_status choose_metric(const struct session *session, const annex_reader_info *info,
                                  annex_metric *metric, annex_error *error)
{
    *metric = ANNEX_L2;
    if (session_has(session, OPTION_METRIC)) {
        return annex_metric_parse(session_option(session, OPTION_METRIC)->text, metric, error);
    }
    if (info->metric == ANNEX_HAMMING || info->metric == ANNEX_JACCARD) {
        return session_error(error, ANNEX_UNSUPPORTED,
                             "%s says that its distance is %s, which annex build does not take; "
                             "choose another with --metric",
                             session->arguments.operands[0], annex_metric_name(info->metric));
    }
    if (info->metric != 0) {
        *metric = info->metric;
    }
    return ANNEX_OK;
}

static annex_status set_options(const struct session *session, const annex_reader_info *info,
                                annex_build_options *options, annex_error *error)
{
    if (info->format == ANNEX_BITS) {
        return session_error(error, ANNEX_UNSUPPORTED, "%s holds bits; annex build takes numbers",
                             session->arguments.operands[0]);
    }
    options->dimension = info->dimension;
    if (session_has(session, OPTION_INDEX)) {
        const char *word = session_option(session, OPTION_INDEX)->text;
        annex_status status = annex_family_parse(word, &options->family, error);
        if (status != ANNEX_OK) {
            return status;
        }
    }
    if (session_has(session, OPTION_RAW)) {
        const char *word = session_option(session, OPTION_RAW)->text;
        annex_status status = annex_raw_parse(word, &options->raw, error);
        if (status != ANNEX_OK) {
            return status;
        }
    }
    options->degree = (uint32_t)session_option(session, OPTION_DEGREE)->count;
    options->effort = (uint32_t)session_option(session, OPTION_BUILD_EFFORT)->count;
    options->threads = (uint32_t)session_option(session, OPTION_THREADS)->count;
    options->max_memory_bytes = session_option(session, OPTION_MAX_MEMORY)->count;
    options->seed = session_option(session, OPTION_SEED)->count;
    if (session_has(session, OPTION_CODES)) {
        annex_status status =
            annex_codes_parse(session_option(session, OPTION_CODES)->text, &options->codes, error);
        if (status != ANNEX_OK) {
            return status;
        }
    }
    return choose_metric(session, info, &options->metric, error);
}

/* The most memory that the process has held at once. */
static uint64_t peak_memory_bytes(void)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss * 1024;
}

static void print_report(const struct session *session, const char *path, const annex_index *index,
                         double seconds)
{
    annex_index_info info;
    annex_index_describe(index, &info);
    double recall = NAN;
    for (uint32_t i = 0; i < info.n_recall_points; i++) {
        if (info.recall_points[i].effort == info.default_effort) {
            recall = (double)info.recall_points[i].recall;
        }
    }
    struct record record;
    record_begin(&record, session->mode);
    record_text(&record, "file", path);
    record_count(&record, "rows", info.rows);
    record_count(&record, "skipped", info.skipped);
    record_count(&record, "dimension", info.dimension);
    record_text(&record, "metric", annex_metric_name(info.metric));
    record_text(&record, "family", annex_family_name(info.family));
    record_text(&record, "codes", annex_codes_name(info.codes));
    record_count(&record, "degree", info.degree);
    record_count(&record, "default_effort", info.default_effort);
    record_real(&record, "recall", recall);
    record_size(&record, "index_bytes", info.bytes);
    record_size(&record, "raw_bytes", info.raw_bytes);
    record_real(&record, "build_seconds", seconds);
    record_size(&record, "peak_memory_bytes", peak_memory_bytes());
    record_end(&record);
    if (info.skipped > 0) {
        session_remark(session, "left out %llu zero vectors, which have no cosine distance",
                       (unsigned long long)info.skipped);
    }
}

static int run(struct session *session)
{
    if (!session_has(session, OPTION_OUTPUT)) {
        return session_usage("annex build needs -o, the index file to write, such as my.annex");
    }
    annex_error error = {0};
    annex_reader *reader = NULL;
    annex_index *index = NULL;
    annex_reader_info info;
    annex_build_options options = ANNEX_BUILD_OPTIONS_INIT;
    const char *output = session_option(session, OPTION_OUTPUT)->text;
    double start = progress_clock();
    annex_status status = session_may_write(session, output, &error);
    if (status == ANNEX_OK) {
        status = annex_reader_open(&session->env, session->arguments.operands[0],
                                   session_option(session, OPTION_DATASET)->text, &reader, &error);
    }
    if (status == ANNEX_OK) {
        annex_reader_describe(reader, &info);
        status = set_options(session, &info, &options, &error);
    }
    if (status == ANNEX_OK) {
        annex_rows rows = annex_reader_rows(reader);
        status = annex_build(&session->env, &options, &rows, output, &index, &error);
    }
    if (status == ANNEX_OK) {
        print_report(session, output, index, progress_clock() - start);
    }
    annex_index_close(index);
    annex_reader_close(reader);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

const struct command command_build = {
    .id = COMMAND_BUILD,
    .name = "build",
    .operands = "VECTORS",
    .least_operands = 1,
    .most_operands = 1,
    .summary = "build an index file from files of vectors",
    .description =
        "VECTORS is a file (.npy, .fvecs, .bvecs, .fbin, .u8bin, .i8bin, .hdf5) or a folder of\n"
        "them, read in the order of their names. Rows are numbered from 0; these numbers are\n"
        "the keys that searches give. Metric, dimension and kind of index need not be said:\n"
        "HDF5 files in the layout of ann-benchmarks name their distance.\n"
        "The file appears when it is complete: an interrupted build leaves the old one.\n"
        "The same rows, options and seed give the same bytes on any number of threads.",
    .examples =
        "annex build vectors/ -o my.annex\n"
        "annex build data.hdf5 -o my.annex --metric cosine --threads 2 --json\n"
        "annex build rows.npy -o my.annex --force --index graph --degree 32 --max-memory 4G",
    .run = run,
};
