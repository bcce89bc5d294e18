/*
 * cmd_search.c - annex search: nearest rows in a database or an index file.
 *
 * All answers are there before the first is printed, so that a failure prints no half result.
 */
#include "commands.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "progress.h"
#include "queries.h"

#define DEFAULT_K 10

static size_t wanted_k(const struct session *session)
{
    return session_has(session, OPTION_K) ? (size_t)session_option(session, OPTION_K)->count
                                          : DEFAULT_K;
}

/* One group of answers a query only where there can be several. */
static bool is_grouped(const struct session *session)
{
    return session_has(session, OPTION_QUERY_FILE);
}

static annex_status get_queries(const struct session *session, struct queries *queries,
                                annex_error *error)
{
    if (session_has(session, OPTION_QUERY_FILE)) {
        return queries_read(session, session_option(session, OPTION_QUERY_FILE)->text,
                            session_option(session, OPTION_DATASET)->text, queries, error);
    }
    return queries_parse(session_option(session, OPTION_QUERY)->text, queries, error);
}

/* A key as typed: what looks like an integer is one. */
static bool parse_integer(const char *text, int64_t *integer)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    bool plain = text[0] == '-' || (text[0] >= '0' && text[0] <= '9');
    *integer = number;
    return plain && errno == 0 && end != text && *end == '\0';
}

/* ---- a database -------------------------------------------------------------------------------*/

struct key {
    annex_value values[ANNEX_MAX_KEY_COLUMNS];
    size_t n;
    json_t *json; /* keeps what the values borrow */
};

static annex_value text_value(const char *text, size_t bytes)
{
    return (annex_value){.type = ANNEX_TEXT, .data = text, .bytes = bytes};
}

/* "7" and "abc" are keys of one column, '[3, "abc"]' one of two. */
static annex_status parse_key(const char *text, struct key *key, annex_error *error)
{
    *key = (struct key){.n = 1};
    if (text[0] != '[') {
        key->values[0] = text_value(text, strlen(text));
        if (parse_integer(text, &key->values[0].integer)) {
            key->values[0].type = ANNEX_INTEGER;
        }
        return ANNEX_OK;
    }
    key->json = json_loads(text, 0, NULL);
    key->n = json_array_size(key->json);
    bool valid = key->n >= 1 && key->n <= ANNEX_MAX_KEY_COLUMNS;
    for (size_t i = 0; valid && i < key->n; i++) {
        const json_t *element = json_array_get(key->json, i);
        if (json_is_integer(element)) {
            key->values[i] =
                (annex_value){.type = ANNEX_INTEGER, .integer = json_integer_value(element)};
        } else if (json_is_string(element)) {
            key->values[i] = text_value(json_string_value(element), json_string_length(element));
        } else {
            valid = false;
        }
    }
    if (!valid) {
        return session_error(error, ANNEX_INVALID,
                             "the key %s is not a JSON array of 1 to %d numbers and texts", text,
                             ANNEX_MAX_KEY_COLUMNS);
    }
    return ANNEX_OK;
}

/* Refuses a key with more or fewer values than the index has key columns. */
static annex_status key_fits(const struct key *key, const annex_db_index *index, annex_error *error)
{
    if (index->n_sources > 0) {
        return session_error(error, ANNEX_INVALID,
                             "index %s is over several sources, and a key names a row of one: "
                             "search %s.<source>; annex list shows them",
                             index->name, index->name);
    }
    if (key->n == index->n_key_columns) {
        return ANNEX_OK;
    }
    return session_error(error, ANNEX_INVALID,
                         "a key of %s has %zu values (%s), not %zu; give them as a JSON array",
                         index->name, index->n_key_columns, index->keys, key->n);
}

/* The options of a request as JSON, to be freed; NULL when there are none. */
static annex_status request_options(const struct session *session, char **text, annex_error *error)
{
    static const struct {
        enum option_id id;
        const char *name;
    } numbers[] = {{OPTION_CANDIDATES, "candidates"},
                   {OPTION_MAX_SCAN, "max_scan"},
                   {OPTION_TIMEOUT_MS, "timeout_ms"},
                   {OPTION_THREADS, "threads"}};
    json_t *object = json_object();
    int failed = 0;
    *text = NULL;
    if (session_has(session, OPTION_EFFORT)) {
        uint64_t effort = session_option(session, OPTION_EFFORT)->count;
        json_object_set_new(object, "effort",
                            effort == ANNEX_EFFORT_EXACT ? json_string("exact")
                                                         : json_integer((json_int_t)effort));
    }
    if (session_has(session, OPTION_RECALL)) {
        json_object_set_new(object, "recall",
                            json_real(session_option(session, OPTION_RECALL)->real));
    }
    if (session_has(session, OPTION_MMR)) {
        json_object_set_new(object, "mmr", json_real(session_option(session, OPTION_MMR)->real));
    }
    if (session_has(session, OPTION_GROUP)) {
        failed = json_object_set_new(object, "group",
                                     json_string(session_option(session, OPTION_GROUP)->text));
    }
    if (failed == 0 && session_has(session, OPTION_MODEL)) {
        failed = json_object_set_new(object, "model",
                                     json_string(session_option(session, OPTION_MODEL)->text));
    }
    for (size_t i = 0; i < ARRAY_LENGTH(numbers); i++) {
        if (session_has(session, numbers[i].id)) {
            json_int_t number = (json_int_t)session_option(session, numbers[i].id)->count;
            json_object_set_new(object, numbers[i].name, json_integer(number));
        }
    }
    if (failed == 0 && json_object_size(object) > 0) {
        *text = json_dumps(object, JSON_COMPACT);
    }
    json_decref(object);
    return failed == 0
               ? ANNEX_OK
               : session_error(error, ANNEX_INVALID, "the name in --group or --model is not UTF-8");
}

static void print_results(const struct session *session, annex_result **results, size_t n,
                          bool sources)
{
    static const char *const names[] = {"key",  "key2", "key3", "key4",
                                        "key5", "key6", "key7", "key8"};
    const char *columns[ARRAY_LENGTH(names) + 3];
    bool grouped = is_grouped(session);
    size_t keys = n > 0 ? annex_result_key_columns(results[0]) : 1;
    size_t n_columns = 0;
    if (grouped) {
        columns[n_columns++] = "query";
    }
    if (sources) {
        columns[n_columns++] = "source";
    }
    for (size_t i = 0; i < keys; i++) {
        columns[n_columns++] = names[i];
    }
    columns[n_columns++] = "distance";
    struct list list;
    list_begin(&list, session->mode, columns, n_columns, grouped);
    for (size_t q = 0; q < n; q++) {
        if (grouped) {
            list_group(&list);
        }
        for (size_t i = 0; i < annex_result_count(results[q]); i++) {
            if (sources) {
                list_text(&list, annex_result_source_name(results[q], i));
            }
            for (size_t c = 0; c < keys; c++) {
                annex_value value = annex_result_key(results[q], i, c);
                list_value(&list, &value);
            }
            list_real(&list, annex_result_distance(results[q], i));
        }
    }
    list_end(&list);
}

/* Answers each query, or the key of --like, into results[0 .. *n). */
static annex_status search_each(const struct session *session, annex_db *db, const char *index,
                                annex_db_request *request, const struct queries *queries,
                                annex_result **results, size_t *n, annex_error *error)
{
    size_t n_queries = request->like != NULL ? 1 : queries->n;
    for (size_t q = 0; q < n_queries; q++) {
        if (request->like == NULL && queries->text != NULL) {
            request->query = text_value(queries->text, strlen(queries->text));
        } else if (request->like == NULL) {
            request->query = (annex_value){.type = ANNEX_BLOB,
                                           .data = queries->vectors + q * queries->dimension,
                                           .bytes = queries->dimension * sizeof(float)};
        }
        annex_status status = annex_db_search(db, index, request, &results[q], error);
        if (status == ANNEX_OK && progress_interrupted()) {
            *n = q + 1;
            status = session_error(error, ANNEX_CANCELLED, "interrupted");
        }
        if (status != ANNEX_OK) {
            return status;
        }
        *n = q + 1;
        if (session_has(session, OPTION_VERBOSE) && (q == 0 || n_queries <= 10)) {
            session_remark(session, "%s", annex_result_plan(results[q]));
        } else if (!annex_result_complete(results[q])) {
            session_remark(session, "not all was searched: %s", annex_result_plan(results[q]));
        }
    }
    return ANNEX_OK;
}

static int search_database(struct session *session)
{
    annex_error error = {0};
    annex_db *db = NULL;
    struct target_indexes indexes = {0};
    struct queries queries = {0};
    struct key key = {0};
    annex_result **results = NULL;
    size_t n = 0;
    char *options = NULL;
    annex_db_request request = ANNEX_DB_REQUEST_INIT;
    request.k = wanted_k(session);
    request.has_distance = session_has(session, OPTION_WITHIN);
    request.distance = session_option(session, OPTION_WITHIN)->real;
    request.where = session_option(session, OPTION_WHERE)->text;
    annex_status status = request_options(session, &options, &error);
    request.options = options;
    if (status != ANNEX_OK) {
        return session_fail(&error);
    }
    if (session_has(session, OPTION_LIKE)) {
        request.like = key.values;
        status = parse_key(session_option(session, OPTION_LIKE)->text, &key, &error);
    } else {
        status = get_queries(session, &queries, &error);
    }
    if (status == ANNEX_OK) {
        status = target_open_database(session, ANNEX_DB_READ_ONLY, &db, &error);
    }
    if (status == ANNEX_OK) {
        status = target_index_get(session, db, &indexes, &error);
    }
    if (status == ANNEX_OK && request.like != NULL) {
        status = key_fits(&key, indexes.first, &error);
    }
    if (status == ANNEX_OK) {
        results = session_memory(queries.n + 1, sizeof(annex_result *));
        status =
            search_each(session, db, indexes.first->name, &request, &queries, results, &n, &error);
    }
    if (status == ANNEX_OK) {
        print_results(session, results, n, indexes.first->n_sources > 0);
    }
    for (size_t q = 0; q < n; q++) {
        annex_result_free(results[q]);
    }
    free(results);
    free(options);
    json_decref(key.json);
    queries_free(&queries);
    target_indexes_free(db, &indexes);
    annex_db_close(db);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

/* ---- an index file ----------------------------------------------------------------------------*/

/* Answers of all queries: those of query q are hits[starts[q] .. starts[q] + found[q]). */
struct answers {
    annex_hit *hits;
    size_t *found;
    size_t k;
    annex_hit *within; /* of annex_index_within */
    size_t n_within;
    bool has_self; /* --like: `self` is left out of the answer */
    uint32_t self;
};

static void put_hit(struct list *list, const annex_index *index, const annex_index_info *info,
                    const annex_hit *hit)
{
    const void *key = NULL;
    size_t bytes = 0;
    if (info->key_kind == ANNEX_KEY_INTEGER) {
        list_integer(list, hit->key);
    } else if (annex_index_key_bytes(index, hit->row, &key, &bytes, NULL) == ANNEX_OK) {
        list_bytes(list, key, bytes);
    } else {
        list_null(list);
    }
    list_real(list, hit->distance);
}

static void print_answers(const struct session *session, const annex_index *index,
                          const annex_index_info *info, const struct answers *answers,
                          size_t n_queries)
{
    static const char *const columns[] = {"query", "key", "distance"};
    bool grouped = is_grouped(session);
    size_t k = wanted_k(session);
    struct list list;
    list_begin(&list, session->mode, grouped ? columns : columns + 1, grouped ? 3 : 2, grouped);
    for (size_t q = 0; q < n_queries; q++) {
        const annex_hit *hits = answers->within;
        size_t n = answers->n_within, printed = 0;
        if (hits == NULL && answers->hits != NULL) {
            hits = answers->hits + q * answers->k;
            n = answers->found[q];
        }
        if (grouped) {
            list_group(&list);
        }
        for (size_t i = 0; i < n; i++) {
            bool leave_out = answers->has_self && hits[i].row == answers->self;
            if (!leave_out && (answers->hits == NULL || printed < k)) {
                put_hit(&list, index, info, &hits[i]);
                printed++;
            }
        }
    }
    list_end(&list);
}

/* The query of --like: the vector of the row that has the key. */
static annex_status get_like(const struct session *session, const annex_index *index,
                             const annex_index_info *info, struct queries *queries,
                             struct answers *answers, annex_error *error)
{
    const char *text = session_option(session, OPTION_LIKE)->text;
    int64_t key;
    annex_status status;
    if (info->key_kind == ANNEX_KEY_BYTES) {
        status = annex_index_find_bytes(index, text, strlen(text), &answers->self, error);
    } else if (parse_integer(text, &key)) {
        status = annex_index_find(index, key, &answers->self, error);
    } else {
        status = session_error(error, ANNEX_INVALID,
                               "the keys of the index are integers, \"%s\" is none", text);
    }
    if (status != ANNEX_OK) {
        return status;
    }
    answers->has_self = true;
    queries->n = 1;
    queries->dimension = info->dimension;
    queries->vectors = session_memory(info->dimension, sizeof(float));
    return annex_index_vector(index, answers->self, queries->vectors, error);
}

static annex_status search_index(const struct session *session, const annex_index *index,
                                 const annex_index_info *info, const struct queries *queries,
                                 struct answers *answers, annex_error *error)
{
    annex_search_stats stats = {0};
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    options.effort = (uint32_t)session_option(session, OPTION_EFFORT)->count;
    options.recall = session_option(session, OPTION_RECALL)->real;
    options.threads = (uint32_t)session_option(session, OPTION_THREADS)->count;
    options.stats = &stats;
    annex_status status;
    if (session_has(session, OPTION_WITHIN)) {
        double distance = session_option(session, OPTION_WITHIN)->real;
        status = annex_index_within(index, queries->vectors, distance, &options, &answers->within,
                                    &answers->n_within, error);
    } else {
        /* The row of --like finds itself, mostly: one more, to leave it out. */
        size_t k = wanted_k(session) + answers->has_self;
        answers->k = k > info->rows ? (size_t)info->rows : k;
        answers->hits = session_memory(queries->n, answers->k * sizeof(annex_hit));
        answers->found = session_memory(queries->n, sizeof(size_t));
        status = annex_index_search(index, queries->vectors, queries->n, answers->k, &options,
                                    answers->hits, answers->found, error);
    }
    if (status == ANNEX_OK && session_has(session, OPTION_VERBOSE)) {
        session_remark(session,
                       "%" PRIu64 " hops, %" PRIu64 " distances, %" PRIu64 " of them exact",
                       stats.hops, stats.distances + stats.reranked, stats.reranked);
    }
    return status;
}

static int search_file(struct session *session)
{
    annex_error error = {0};
    annex_index *index = NULL;
    annex_index_info info;
    struct queries queries = {0};
    struct answers answers = {0};
    annex_status status = target_open_index(session, 0, &index, &error);
    if (status == ANNEX_OK) {
        annex_index_describe(index, &info);
        bool bits = info.metric == ANNEX_HAMMING || info.metric == ANNEX_JACCARD;
        if (session_has(session, OPTION_LIKE)) {
            status = get_like(session, index, &info, &queries, &answers, &error);
        } else {
            status = get_queries(session, &queries, &error);
            if (status == ANNEX_OK) {
                status = queries_fit(&queries, info.dimension, &error);
            }
            if (status == ANNEX_OK && bits) {
                status = queries_pack(&queries, &error);
            }
        }
    }
    if (status == ANNEX_OK) {
        status = search_index(session, index, &info, &queries, &answers, &error);
    }
    if (status == ANNEX_OK) {
        print_answers(session, index, &info, &answers, queries.n);
    }
    if (answers.within != NULL) {
        annex_hits_free(index, answers.within, answers.n_within);
    }
    free(answers.hits);
    free(answers.found);
    queries_free(&queries);
    annex_index_close(index);
    return status == ANNEX_OK ? EXIT_OK : session_fail(&error);
}

static int run(struct session *session)
{
    static const struct {
        enum option_id id;
        const char *name;
    } only_databases[] = {
        {OPTION_WHERE, "where"},       {OPTION_MMR, "mmr"},
        {OPTION_GROUP, "group"},       {OPTION_CANDIDATES, "candidates"},
        {OPTION_MAX_SCAN, "max-scan"}, {OPTION_TIMEOUT_MS, "timeout-ms"},
        {OPTION_MODEL, "model"},
    };
    int sources = session_has(session, OPTION_QUERY) + session_has(session, OPTION_QUERY_FILE) +
                  session_has(session, OPTION_LIKE);
    if (sources != 1) {
        return session_usage("annex search needs one of --query, --query-file and --like");
    }
    if (session_has(session, OPTION_EFFORT) && session_has(session, OPTION_RECALL)) {
        return session_usage("--effort and --recall both say how much to search; give one");
    }
    bool within = session_has(session, OPTION_WITHIN);
    if (within && session_has(session, OPTION_K)) {
        return session_usage("--within finds all rows that are near enough; leave out -k");
    }
    if (!target_is_index_file(session->arguments.operands[0])) {
        return search_database(session);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(only_databases); i++) {
        if (session_has(session, only_databases[i].id)) {
            return session_usage("--%s needs a database; this is an index file",
                                 only_databases[i].name);
        }
    }
    if (session->arguments.n_operands > 1) {
        return session_usage("%s is an index file, so \"%s\" is one too many",
                             session->arguments.operands[0], session->arguments.operands[1]);
    }
    if (within && session_has(session, OPTION_QUERY_FILE)) {
        return session_usage("--within takes one query in an index file: --query or --like");
    }
    return search_file(session);
}

const struct command command_search = {
    .id = COMMAND_SEARCH,
    .name = "search",
    .operands = "TARGET [INDEX]",
    .least_operands = 1,
    .most_operands = 2,
    .summary = "find the rows nearest to a vector",
    .description =
        "TARGET is a database, whose only index need not be named, or an index file.\n"
        "Answers come nearest first, as keys and distances; smaller is nearer under every\n"
        "metric. In a database they hold for the rows as they are now, and with --where as\n"
        "many rows are found as there are, up to -k.",
    .examples = "annex search docs.db docs_idx --query '[0.1, 0.2, 0.3]' -k 5\n"
                "annex search docs.db docs_idx --like 42 --where \"lang = 'de'\"\n"
                "annex search docs.db docs_idx --like 42 --within 0.3 --effort exact\n"
                "annex search my.annex --query-file queries.npy --jsonl > answers.jsonl\n"
                "echo '[0.1, 0.2, 0.3]' | annex search my.annex --query - --json",
    .run = run,
};
