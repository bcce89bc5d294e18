/* cmd_list.c - annex list: the indexes of a database. */
#include "commands.h"

static const char *const table_columns[] = {"name",  "table", "column", "metric",   "family",
                                            "state", "rows",  "delta",  "segments", "size"};
static const char *const data_columns[] = {
    "name",   "schema",     "table",     "column",       "keys",   "where",   "metric",
    "family", "format",     "storage",   "state",        "reason", "options", "dimension",
    "rows",   "delta_rows", "dead_rows", "segments",     "bytes",  "recall",  "source",
    "model",  "is_default", "sources",   "build_seconds"};

static void put_for_people(struct list *list, const annex_db_index *index)
{
    list_text(list, index->name);
    list_text(list, index->table);
    list_text(list, index->column);
    list_text(list, index->metric);
    list_text(list, index->family);
    list_text(list, index->state);
    list_count(list, index->rows);
    list_count(list, index->delta_rows);
    list_count(list, index->segments);
    list_size(list, index->bytes);
}

static void put_for_programs(struct list *list, const annex_db_index *index)
{
    list_text(list, index->name);
    list_text(list, index->schema);
    list_text(list, index->table);
    list_text(list, index->column);
    list_text(list, index->keys);
    list_text(list, index->where);
    list_text(list, index->metric);
    list_text(list, index->family);
    list_text(list, index->format);
    list_text(list, index->storage);
    list_text(list, index->state);
    list_text(list, index->reason);
    if (index->options[0] == '{') {
        list_json(list, index->options);
    } else {
        list_null(list);
    }
    list_count(list, index->dimension);
    list_count(list, index->rows);
    list_count(list, index->delta_rows);
    list_count(list, index->dead_rows);
    list_count(list, index->segments);
    list_count(list, index->bytes);
    list_real(list, index->recall);
    list_text(list, index->source);
    list_text(list, index->model);
    list_bool(list, index->is_default != 0);
    list_count(list, index->n_sources > 0 ? index->n_sources : 1);
    list_real(list, index->build_seconds);
}

static int run(struct session *session)
{
    annex_error error = {0};
    annex_db *db = NULL;
    struct target_indexes indexes = {0};
    annex_status status = target_open_database(session, ANNEX_DB_READ_ONLY, &db, &error);
    if (status == ANNEX_OK) {
        status = target_indexes_get(session, db, &indexes, &error);
    }
    if (status == ANNEX_OK && indexes.n == 0 && session->mode == OUT_TABLE) {
        session_remark(session, "%s has no index; annex create makes one",
                       session->arguments.operands[0]);
    } else if (status == ANNEX_OK) {
        bool people = session->mode == OUT_TABLE;
        struct list list;
        list_begin(&list, session->mode, people ? table_columns : data_columns,
                   people ? ARRAY_LENGTH(table_columns) : ARRAY_LENGTH(data_columns), false);
        for (size_t i = 0; i < indexes.n; i++) {
            (people ? put_for_people : put_for_programs)(&list, &indexes.first[i]);
        }
        list_end(&list);
        for (size_t i = 0; people && i < indexes.n; i++) {
            if (indexes.first[i].reason[0] != '\0') {
                session_remark(session, "%s is stale: %s", indexes.first[i].name,
                               indexes.first[i].reason);
            }
        }
    }
    target_indexes_free(db, &indexes);
    annex_db_close(db);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

const struct command command_list = {
    .id = COMMAND_LIST,
    .name = "list",
    .operands = "DATABASE",
    .least_operands = 1,
    .most_operands = 1,
    .summary = "show the indexes of a database",
    .description =
        "One line for each index. State \"fresh\" means that every row is in a segment,\n"
        "\"delta\" that some rows changed since the last sync and are searched one by one,\n"
        "\"stale\" that the change log is not complete and searches scan the table: a line\n"
        "below says why, and what to run. Answers are right in every state.",
    .examples = "annex list docs.db\n"
                "annex list docs.db --json | jq '.[].name'",
    .run = run,
};
