/* cmd_vectors.c - annex vectors: describe a file of vectors, show some, write them as another. */
#include "commands.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "progress.h"

#define HASHED_ROWS (1u << 24) /* duplicates are looked for among so many rows */

struct summary {
    uint64_t rows, not_finite, zero, duplicates, hashed;
    double least_norm, largest_norm, norm_sum;
    uint64_t *seen; /* [mask + 1] hashes of rows, 0: empty */
    uint64_t mask;
};

/* A hash of a row's bytes; never 0. Multiply and rotate, word by word. */
static uint64_t hash_row(const float *row, size_t n)
{
    uint64_t hash = 0x9E3779B97F4A7C15u ^ n;
    for (size_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, row + i, sizeof(word));
        hash = (hash ^ word) * 0xD6E8FEB86659FD93u;
        hash ^= hash >> 32;
    }
    return hash | 1;
}

/* Counts a row that was seen before. The table has at least twice as many places as rows. */
static void look_for_duplicate(struct summary *summary, const float *row, size_t dimension)
{
    if (summary->hashed == HASHED_ROWS) {
        return;
    }
    summary->hashed++;
    uint64_t hash = hash_row(row, dimension);
    uint64_t place = hash >> 8 & summary->mask;
    while (summary->seen[place] != 0) {
        if (summary->seen[place] == hash) {
            summary->duplicates++;
            return;
        }
        place = (place + 1) & summary->mask;
    }
    summary->seen[place] = hash;
}

static void add_row(struct summary *summary, const float *row, size_t dimension)
{
    double squares = 0;
    for (size_t i = 0; i < dimension; i++) {
        squares += (double)row[i] * (double)row[i];
    }
    summary->rows++;
    look_for_duplicate(summary, row, dimension);
    if (!isfinite(squares)) {
        summary->not_finite++;
        return;
    }
    double norm = sqrt(squares);
    summary->zero += squares == 0;
    summary->norm_sum += norm;
    summary->least_norm = norm < summary->least_norm ? norm : summary->least_norm;
    summary->largest_norm = norm > summary->largest_norm ? norm : summary->largest_norm;
}

/* ---- rows, as many as --head asks for ---------------------------------------------------------*/

struct head {
    annex_rows rows;
    uint64_t limit, given;
};

static annex_status head_next(void *context, annex_batch *batch, annex_error *error)
{
    struct head *head = context;
    *batch = (annex_batch){0};
    if (head->given == head->limit) {
        return ANNEX_OK;
    }
    if (progress_report(NULL, "reading", head->given, head->limit) != 0) {
        return session_error(error, ANNEX_CANCELLED, "interrupted");
    }
    annex_status status = head->rows.next(head->rows.context, batch, error);
    if (batch->n > head->limit - head->given) {
        batch->n = (size_t)(head->limit - head->given);
    }
    head->given += batch->n;
    return status;
}

static annex_status head_rewind(void *context, annex_error *error)
{
    struct head *head = context;
    head->given = 0;
    return head->rows.rewind(head->rows.context, error);
}

/* ---- the three things it does -----------------------------------------------------------------*/

static annex_status describe(const struct session *session, const annex_rows *rows,
                             const annex_reader_info *info, annex_error *error)
{
    struct summary summary = {.least_norm = DBL_MAX};
    uint64_t places = 16;
    while (places < 2 * info->rows && places < 2 * (uint64_t)HASHED_ROWS) {
        places *= 2;
    }
    summary.mask = places - 1;
    summary.seen = session_memory(places, sizeof(uint64_t));
    annex_batch batch = {0};
    annex_status status;
    while ((status = rows->next(rows->context, &batch, error)) == ANNEX_OK && batch.n > 0) {
        const float *vectors = batch.vectors;
        for (size_t i = 0; i < batch.n; i++) {
            add_row(&summary, vectors + i * info->dimension, info->dimension);
        }
    }
    free(summary.seen);
    if (status != ANNEX_OK) {
        return status;
    }
    progress_clear();
    uint64_t finite = summary.rows - summary.not_finite;
    struct record record;
    record_begin(&record, session->mode);
    record_text(&record, "file", session->arguments.operands[0]);
    record_text(&record, "kind", info->kind);
    record_count(&record, "rows", info->rows);
    record_count(&record, "dimension", info->dimension);
    record_text(&record, "format",
                info->format == ANNEX_FORMAT_AUTO ? "integer" : annex_format_name(info->format));
    if (info->metric != 0) {
        record_text(&record, "metric", annex_metric_name(info->metric));
    }
    record_real(&record, "norm_min", finite > 0 ? summary.least_norm : NAN);
    record_real(&record, "norm_mean", finite > 0 ? summary.norm_sum / (double)finite : NAN);
    record_real(&record, "norm_max", finite > 0 ? summary.largest_norm : NAN);
    record_count(&record, "not_finite", summary.not_finite);
    record_count(&record, "zero", summary.zero);
    record_count(&record, "duplicates", summary.duplicates);
    record_end(&record);
    if (summary.not_finite > 0) {
        session_remark(session, "rows with NaN or infinite elements cannot be indexed");
    }
    if (summary.hashed < summary.rows) {
        session_remark(session, "duplicates were looked for in the first %u rows", HASHED_ROWS);
    }
    return ANNEX_OK;
}

static annex_status print_vectors(const struct session *session, const annex_rows *rows,
                                  uint32_t dimension, annex_error *error)
{
    size_t capacity = 32 * (size_t)dimension + 3;
    char *text = session_memory(capacity, 1);
    bool json = session->mode == OUT_JSON, first = true;
    annex_batch batch = {0};
    annex_status status;
    if (json) {
        fputs("[\n", stdout);
    }
    while ((status = rows->next(rows->context, &batch, error)) == ANNEX_OK && batch.n > 0) {
        const float *vectors = batch.vectors;
        for (size_t i = 0; i < batch.n; i++, first = false) {
            annex_vector_format(vectors + i * dimension, dimension, text, capacity);
            printf("%s%s%s", json && !first ? ",\n" : "", text, json ? "" : "\n");
        }
    }
    if (json) {
        fputs("\n]\n", stdout);
    }
    free(text);
    return status;
}

static annex_status convert(const struct session *session, const annex_rows *rows,
                            const annex_reader_info *info, annex_error *error)
{
    const char *output = session_option(session, OPTION_OUTPUT)->text;
    annex_format format = ANNEX_FORMAT_AUTO;
    annex_status status = session_may_write(session, output, error);
    if (status == ANNEX_OK && session_has(session, OPTION_FORMAT)) {
        status = annex_format_parse(session_option(session, OPTION_FORMAT)->text, &format, error);
    }
    if (status == ANNEX_OK) {
        status = annex_vectors_write(&session->env, output, rows, info->dimension, format, error);
    }
    return status;
}

static int run(struct session *session)
{
    annex_error error = {0};
    annex_reader *reader = NULL;
    annex_status status =
        annex_reader_open(&session->env, session->arguments.operands[0],
                          session_option(session, OPTION_DATASET)->text, &reader, &error);
    if (status != ANNEX_OK) {
        return session_fail(&error);
    }
    annex_reader_info info;
    annex_reader_describe(reader, &info);
    struct head head = {.rows = annex_reader_rows(reader)};
    uint64_t wanted = session_option(session, OPTION_HEAD)->count;
    head.limit = wanted > 0 && wanted < info.rows ? wanted : info.rows;
    annex_rows rows = {.context = &head, .next = head_next, .rewind = head_rewind};
    if (info.format == ANNEX_BITS) {
        status = session_error(&error, ANNEX_UNSUPPORTED,
                               "%s holds bits; annex vectors reads "
                               "numbers",
                               session->arguments.operands[0]);
    } else if (session_has(session, OPTION_OUTPUT)) {
        status = convert(session, &rows, &info, &error);
    } else if (wanted > 0) {
        status = print_vectors(session, &rows, info.dimension, &error);
    } else {
        status = describe(session, &rows, &info, &error);
    }
    annex_reader_close(reader);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

const struct command command_vectors = {
    .id = COMMAND_VECTORS,
    .name = "vectors",
    .operands = "VECTORS",
    .least_operands = 1,
    .most_operands = 1,
    .summary = "describe or convert a file of vectors",
    .description =
        "VECTORS is a file or folder as for annex build. Without more it is described: rows,\n"
        "dimension, type, norms, and what may surprise an index: rows that are not finite,\n"
        "zero, or equal to an earlier one. With -o the rows are written to another file,\n"
        "whose kind its ending names; with --head alone the first rows are printed.",
    .examples = "annex vectors data.hdf5 --dataset test\n"
                "annex vectors base.fvecs --head 3\n"
                "annex vectors base.fvecs -o base.npy --format f16",
    .run = run,
};
