/* cmd_info.c - annex info: everything known about one index, or about the processor. */
#include "commands.h"

#include <inttypes.h>

static void print_cpu(const struct session *session)
{
    if (session->mode == OUT_TABLE) {
        printf("%-18s%s\n%-18s", "in use", annex_isa(), "available");
        for (size_t i = 0; annex_isa_available(i) != NULL; i++) {
            printf("%s%s", i > 0 ? " " : "", annex_isa_available(i));
        }
        putchar('\n');
        return;
    }
    struct emitter json = EMITTER_INIT(stdout);
    emit_begin(&json, '{');
    emit_key(&json, "isa");
    emit_text(&json, annex_isa());
    emit_key(&json, "available");
    emit_begin(&json, '[');
    for (size_t i = 0; annex_isa_available(i) != NULL; i++) {
        emit_text(&json, annex_isa_available(i));
    }
    emit_end(&json, ']');
    emit_end(&json, '}');
    putchar('\n');
}

/* The members and their order are those of annex list. */
void info_print_index(const struct session *session, const annex_db_index *index)
{
    struct record record;
    record_begin(&record, session->mode);
    record_text(&record, "name", index->name);
    record_text(&record, "schema", index->schema);
    record_text(&record, "table", index->table);
    record_text(&record, "column", index->column);
    record_text(&record, "keys", index->keys);
    if (record.is_json || index->where[0] != '\0') {
        record_text(&record, "where", index->where);
    }
    record_text(&record, "metric", index->metric);
    record_text(&record, "family", index->family);
    record_text(&record, "format", index->format);
    record_text(&record, "storage", index->storage);
    record_text(&record, "state", index->state);
    if (record.is_json || index->reason[0] != '\0') {
        record_text(&record, "reason", index->reason);
    }
    if (record.is_json) {
        emit_key(&record.json, "options");
        if (index->options[0] == '{') {
            emit_raw(&record.json, index->options);
        } else {
            emit_null(&record.json);
        }
    }
    record_count(&record, "dimension", index->dimension);
    record_count(&record, "rows", index->rows);
    record_count(&record, "delta_rows", index->delta_rows);
    record_count(&record, "dead_rows", index->dead_rows);
    record_count(&record, "segments", index->segments);
    record_size(&record, "bytes", index->bytes);
    record_real(&record, "recall", index->recall);
    record_text(&record, "source", index->source);
    if (record.is_json || index->model[0] != '\0') {
        record_text(&record, "model", index->model);
    }
    record_bool(&record, "is_default", index->is_default != 0);
    record_count(&record, "sources", index->n_sources > 0 ? index->n_sources : 1);
    record_real(&record, "build_seconds", index->build_seconds);
    record_end(&record);
}

static void print_recall(struct record *record, const annex_index_info *info)
{
    if (record->is_json) {
        emit_key(&record->json, "recall_points");
        emit_begin(&record->json, '[');
    }
    for (uint32_t i = 0; i < info->n_recall_points && i < ANNEX_MAX_RECALL_POINTS; i++) {
        const annex_recall_point *point = &info->recall_points[i];
        if (record->is_json) {
            emit_begin(&record->json, '{');
            emit_key(&record->json, "effort");
            emit_count(&record->json, point->effort);
            emit_key(&record->json, "recall");
            emit_real(&record->json, (double)point->recall);
            emit_end(&record->json, '}');
        } else {
            printf("%-18seffort %-6" PRIu32 " recall %.4f\n", i == 0 ? "measured" : "",
                   point->effort, (double)point->recall);
        }
    }
    if (record->is_json) {
        emit_end(&record->json, ']');
    }
}

static int info_of_file(struct session *session)
{
    annex_error error = {0};
    annex_index *index = NULL;
    if (target_open_index(session, 0, &index, &error) != ANNEX_OK) {
        return session_fail(&error);
    }
    annex_index_info info;
    annex_index_describe(index, &info);
    char content[40];
    snprintf(content, sizeof(content), "%016" PRIx64 "%016" PRIx64, info.content[0],
             info.content[1]);
    struct record record;
    record_begin(&record, session->mode);
    record_text(&record, "file", session->arguments.operands[0]);
    record_text(&record, "metric", annex_metric_name(info.metric));
    record_count(&record, "dimension", info.dimension);
    record_text(&record, "family", annex_family_name(info.family));
    record_text(&record, "codes", annex_codes_name(info.codes));
    record_bool(&record, "rotated", info.rotated);
    record_text(&record, "keys", info.key_kind == ANNEX_KEY_BYTES ? "bytes" : "integer");
    record_count(&record, "rows", info.rows);
    record_count(&record, "skipped", info.skipped);
    record_size(&record, "bytes", info.bytes);
    record_text(&record, "raw", annex_raw_name(info.raw));
    record_size(&record, "raw_bytes", info.raw_bytes);
    record_bool(&record, "has_raw", info.has_raw);
    record_bool(&record, "lossless", info.lossless);
    record_count(&record, "degree", info.degree);
    record_count(&record, "default_effort", info.default_effort);
    record_text(&record, "content", content);
    print_recall(&record, &info);
    record_end(&record);
    annex_index_close(index);
    return EXIT_OK;
}

static int info_of_database(struct session *session)
{
    annex_error error = {0};
    annex_db *db = NULL;
    struct target_indexes indexes = {0};
    annex_status status = target_open_database(session, ANNEX_DB_READ_ONLY, &db, &error);
    if (status == ANNEX_OK) {
        status = target_index_get(session, db, &indexes, &error);
    }
    if (status == ANNEX_OK) {
        info_print_index(session, indexes.first);
    }
    target_indexes_free(db, &indexes);
    annex_db_close(db);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

static int run(struct session *session)
{
    if (session_has(session, OPTION_CPU)) {
        print_cpu(session);
        return EXIT_OK;
    }
    if (session->arguments.n_operands == 0) {
        return session_usage("annex info needs a database or an index file, or --cpu");
    }
    return target_is_index_file(session->arguments.operands[0]) ? info_of_file(session)
                                                                : info_of_database(session);
}

const struct command command_info = {
    .id = COMMAND_INFO,
    .name = "info",
    .operands = "TARGET [INDEX]",
    .least_operands = 0,
    .most_operands = 2,
    .summary = "describe one index, or the processor",
    .description =
        "TARGET is a database, whose only index need not be named, or an index file.\n"
        "\"measured\" lists the recall that searches reached at several efforts, with rows\n"
        "held back from the index; --recall looks its effort up there.\n"
        "--cpu shows which instruction sets Annex can use here and which it does use;\n"
        "the variable ANNEX_CPU chooses another.",
    .examples = "annex info docs.db docs_idx\n"
                "annex info my.annex --json\n"
                "annex info --cpu",
    .run = run,
};
