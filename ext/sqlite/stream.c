/*
 * stream.c - the rows of one search, nearest first, as many as are read.
 *
 * With a k, and within a distance, a stream is one search. Without a k it goes on as long as rows
 * are read, in three phases:
 *
 *   near   A small search, as any with a k: LIMIT + OFFSET rows when these are known. When all of
 *          them are read, the next one asks for four times as many, and gives what is behind the
 *          last row that was given.
 *   rest   After some thousand rows, or at once when the first search was exact: everything behind
 *          the last row, in growing parts, each found by looking at every row.
 *   late   What the searches of the first phase had missed, rows nearer than their last one. There
 *          are few, and none when they were exact.
 *
 * Invariants
 *   1. Every row comes exactly once, as long as the table stays as it is: a condition that SQLite
 *      applies to the rows loses none.
 *   2. Rows come in the order of (distance, key), but for the last phase, which is in order itself.
 *      It is reached only by those who read all other rows first.
 *   3. A part begins behind a place, not at a number: what is written while rows are read may be
 *      found or not, and nothing else moves.
 *   4. A search that is cut (max_scan, timeout_ms) is the last one.
 *   5. All searches see one snapshot, but for what their own connection writes: SQLite keeps a read
 *      transaction, of attached databases too, until the last statement of the connection ends, and
 *      the one that reads these rows has not ended.
 */
#include <math.h>
#include <string.h>

#include "sqlite/stream.h"

enum {
    STREAM_LEAST_ROWS = 16, /* of the first search, when nothing is known */
    STREAM_GROWTH = 4,
    STREAM_MOST_ROWS = 1 << 16 /* of a part: sorting them takes less than an interrupt may */
};

enum { PHASE_NEAR = 0, PHASE_REST, PHASE_LATE, PHASE_OVER };

/* ---- places in the order ----------------------------------------------------------------------*/

/* Compares a row with row `j` of another result, by (distance, key, source). */
static int stream_compare(const annex_result *a, size_t i, const annex_result *b, size_t j)
{
    double x = annex_result_distance(a, i);
    double y = annex_result_distance(b, j);
    int order = (x > y) - (x < y);

    for (size_t c = 0; order == 0 && c < annex_result_key_columns(a); c++) {
        annex_value left = annex_result_key(a, i, c);
        annex_value right = annex_result_key(b, j, c);

        order = keylist_compare(&left, &right);
    }
    if (order == 0) {
        size_t left = annex_result_source(a, i);
        size_t right = annex_result_source(b, j);

        order = (left > right) - (left < right);
    }
    return order;
}

/* The first row of `in` that is not before row `i` of `result`; count(in) when there is none. */
static size_t stream_find(const annex_result *in, const annex_result *result, size_t i)
{
    size_t first = 0;
    size_t end = annex_result_count(in);

    while (first < end) {
        size_t middle = first + (end - first) / 2;

        if (stream_compare(in, middle, result, i) < 0) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

/* Whether the first phase has given row `i` of `result`: the round that reached so far has it. */
static bool stream_was_given(const struct stream *stream, const annex_result *result, size_t i)
{
    for (size_t r = 0; r < stream->n_rounds; r++) {
        const annex_result *round = stream->rounds[r];
        size_t found = stream_find(round, result, i);

        if (found < annex_result_count(round)) {
            return stream_compare(round, found, result, i) == 0;
        }
    }
    return true; /* behind all of them: the second phase has */
}

/* ---- one search -------------------------------------------------------------------------------*/

/* `after` (may be NULL): the result whose last row the answer begins behind. */
static annex_status stream_search(struct stream *stream, annex_db_request *request,
                                  const annex_result *after, annex_result **result,
                                  annex_error *error)
{
    annex_value key[ANNEX_MAX_KEY_COLUMNS];
    annex_db *annex = NULL;
    annex_status status = connection_begin(stream->connection, &annex, error);

    *result = NULL;
    if (status != ANNEX_OK) {
        return status;
    }
    if (after != NULL) {
        size_t last = annex_result_count(after) - 1;

        for (size_t c = 0; c < annex_result_key_columns(after); c++) {
            key[c] = annex_result_key(after, last, c);
        }
        request->has_after = 1;
        request->after_distance = annex_result_distance(after, last);
        request->after_key = key;
        request->after_source = annex_result_source(after, last);
    }
    status = annex_db_search(annex, stream->index, request, result, error);
    connection_end(stream->connection);
    return status;
}

static annex_db_request stream_request(struct stream *stream)
{
    annex_db_request request = stream->request;

    request.k = stream->wanted;
    request.goes_on = 1;
    request.spent = &stream->spent;
    return request;
}

/* ---- the phases -------------------------------------------------------------------------------*/

/* Takes over what a later phase has found. */
static void stream_read(struct stream *stream, annex_result *result)
{
    bool is_round = stream->n_rounds > 0 && stream->result == stream->rounds[stream->n_rounds - 1];

    if (!is_round) {
        annex_result_free(stream->result);
    }
    stream->result = result;
    stream->row = 0;
}

static annex_status stream_rest(struct stream *stream, annex_error *error)
{
    annex_db_request request = stream_request(stream);
    annex_result *result = NULL;
    annex_status status;

    request.exact = 1;
    if (stream->result == NULL) {
        request.has_after = 1;
        request.after_distance = stream->least;
    }
    status = stream_search(stream, &request, stream->result, &result, error);
    if (status == ANNEX_OK) {
        stream_read(stream, result);
    }
    return status;
}

/* The first row of `result` behind the last one of `before`. */
static size_t stream_behind(const annex_result *result, const annex_result *before)
{
    size_t last, row;

    if (before == NULL) {
        return 0;
    }
    last = annex_result_count(before) - 1;
    row = stream_find(result, before, last);
    return row < annex_result_count(result) && stream_compare(result, row, before, last) == 0
               ? row + 1
               : row;
}

static annex_status stream_near(struct stream *stream, annex_error *error)
{
    annex_db_request request = stream_request(stream);
    annex_result *result = NULL;
    annex_status status = stream_search(stream, &request, NULL, &result, error);

    if (status == ANNEX_OK) {
        stream->row = stream_behind(result, stream->result);
        if (stream->result != NULL && stream->row == annex_result_count(result)) {
            annex_result_free(result); /* a wider search that found less: not worth another one */
            stream->phase = PHASE_REST;
            return stream_rest(stream, error);
        }
        stream->missed = stream->missed || !annex_result_exact(result);
        stream->rounds[stream->n_rounds++] = result;
        stream->result = result;
    }
    return status;
}

static annex_status stream_late(struct stream *stream, annex_error *error)
{
    const annex_result *last = stream->rounds[stream->n_rounds - 1];
    double farthest = annex_result_distance(last, annex_result_count(last) - 1);
    annex_db_request request = stream_request(stream);
    annex_result *result = NULL;
    annex_status status;

    request.exact = 1;
    request.has_distance = 1;
    request.distance = farthest < stream->most ? farthest : stream->most;
    status = stream_search(stream, &request, NULL, &result, error);
    if (status == ANNEX_OK) {
        stream_read(stream, result);
    }
    return status;
}

/* What follows when all rows of a search were read, or the next one is farther than is needed. */
static int stream_following(const struct stream *stream, bool beyond)
{
    const annex_result *result = stream->result;
    bool short_of = annex_result_count(result) < stream->wanted; /* so there are no more rows */
    bool first = stream->phase == PHASE_NEAR && stream->n_rounds == 1;
    bool late = stream->missed && !(first && short_of && !beyond);

    if (!stream->endless || !annex_result_complete(result) || stream->phase == PHASE_LATE) {
        return PHASE_OVER;
    }
    if (beyond || short_of) {
        return late ? PHASE_LATE : PHASE_OVER;
    }
    return stream->phase == PHASE_REST || annex_result_exact(result) ||
                   stream->wanted >= STREAM_MOST_NEAR || stream->n_rounds == STREAM_MOST_ROUNDS
               ? PHASE_REST
               : PHASE_NEAR;
}

static annex_status stream_go_on(struct stream *stream, bool beyond, annex_error *error)
{
    stream->phase = stream_following(stream, beyond);
    if (stream->wanted < STREAM_MOST_ROWS / STREAM_GROWTH) {
        stream->wanted *= STREAM_GROWTH;
    } else if (stream->wanted < STREAM_MOST_ROWS) {
        stream->wanted = STREAM_MOST_ROWS;
    }
    switch (stream->phase) {
    case PHASE_NEAR:
        return stream_near(stream, error);
    case PHASE_REST:
        return stream_rest(stream, error);
    case PHASE_LATE:
        return stream_late(stream, error);
    default:
        return ANNEX_OK;
    }
}

/* Goes on until there is a row to be given, or none is left. */
static annex_status stream_settle(struct stream *stream, annex_error *error)
{
    annex_status status = ANNEX_OK;

    while (status == ANNEX_OK && stream->phase != PHASE_OVER) {
        bool over = stream->row >= annex_result_count(stream->result);
        bool beyond = !over && stream->endless &&
                      annex_result_distance(stream->result, stream->row) > stream->most;

        if (over || beyond) {
            status = stream_go_on(stream, beyond, error);
        } else if (stream->phase == PHASE_LATE &&
                   stream_was_given(stream, stream->result, stream->row)) {
            stream->row++;
        } else {
            break;
        }
    }
    if (status != ANNEX_OK) {
        stream->phase = PHASE_OVER;
    }
    return status;
}

/* ---- for the cursor ---------------------------------------------------------------------------*/

annex_status stream_open(struct stream *stream, annex_error *error)
{
    annex_status status;

    stream->wanted = stream->hint > 0 ? stream->hint : STREAM_LEAST_ROWS;
    if (!stream->endless) {
        status = stream_search(stream, &stream->request, NULL, &stream->result, error);
    } else if (stream->least > -INFINITY) {
        stream->phase = PHASE_REST;
        status = stream_rest(stream, error);
    } else {
        status = stream_near(stream, error);
    }
    if (status != ANNEX_OK) {
        stream->phase = PHASE_OVER;
        return status;
    }
    return stream_settle(stream, error);
}

annex_status stream_next(struct stream *stream, annex_error *error)
{
    stream->row++;
    return stream_settle(stream, error);
}

bool stream_is_over(const struct stream *stream)
{
    return stream->result == NULL || stream->phase == PHASE_OVER;
}

void stream_close(struct stream *stream)
{
    struct connection *connection = stream->connection;

    if (stream->n_rounds == 0 || stream->result != stream->rounds[stream->n_rounds - 1]) {
        annex_result_free(stream->result);
    }
    for (size_t i = 0; i < stream->n_rounds; i++) {
        annex_result_free(stream->rounds[i]);
    }
    *stream = (struct stream){.connection = NULL};
    if (connection != NULL) {
        connection_leave(connection);
    }
}
