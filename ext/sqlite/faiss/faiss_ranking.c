/*
 * faiss_ranking.c - the k nearest rows as IndexFlatL2 finds them: by squared distance, rows of
 * equal distance in the order of the table.
 *
 * The score of a row is summed in double precision and rounded to f32. Only rows that may be among
 * the k are scored: the others are told by annex_distances, whose f32 sums are off by no more than
 * faiss_ranking_margin. A row whose score is not a finite f32 is never found, as in FAISS.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite/faiss/faiss.h"
#include "sqlite/statement.h"

/* Small enough to stay in the processor's cache from copying to scoring. */
#define BLOCK_BYTES (256 << 10)
/* About what a copy of a value takes, besides its text. */
#define BLOCK_ID_BYTES 80

/* ---- Reading vectors --------------------------------------------------------------------------*/

static const char *type_name(sqlite3_value *value)
{
    static const char *const names[] = {"an integer", "a number", "text", "a blob", "NULL"};

    return names[sqlite3_value_type(value) - SQLITE_INTEGER];
}

bool faiss_read_blob(sqlite3_value *value, const char *what, const void **vector, size_t *dimension,
                     annex_error *error)
{
    size_t bytes;

    *vector = NULL;
    *dimension = 0;
    if (sqlite3_value_type(value) != SQLITE_BLOB) {
        connection_refuse(error, "%s must be a blob of f32, as faiss_encode makes it, not %s", what,
                          type_name(value));
        return false;
    }
    *vector = sqlite3_value_blob(value);
    bytes = (size_t)sqlite3_value_bytes(value);
    if (bytes % sizeof(float) != 0) {
        connection_refuse(error, "%s has %zu bytes; a blob of f32 has a multiple of 4", what,
                          bytes);
        return false;
    }
    *dimension = bytes / sizeof(float);
    return true;
}

bool faiss_read_row(sqlite3_value *id, sqlite3_value *value, const void **vector, size_t *dimension,
                    annex_error *error)
{
    char shown[FAISS_SHOWN_BYTES];
    char what[FAISS_SHOWN_BYTES + 32];

    /* Rows are many: nothing is written for those that are good. */
    if (sqlite3_value_type(value) == SQLITE_BLOB &&
        sqlite3_value_bytes(value) % sizeof(float) == 0) {
        what[0] = '\0';
    } else {
        sqlite3_snprintf(sizeof what, what, "the embedding of id %s", faiss_text_show(id, shown));
    }
    return faiss_read_blob(value, what, vector, dimension, error);
}

/* ---- Blocks -----------------------------------------------------------------------------------*/

struct faiss_block *faiss_block_new(size_t dimension)
{
    size_t row_bytes = dimension * sizeof(float);
    size_t capacity = row_bytes <= BLOCK_BYTES / FAISS_BLOCK_ROWS ? FAISS_BLOCK_ROWS
                      : row_bytes <= BLOCK_BYTES                  ? BLOCK_BYTES / row_bytes
                                                                  : 1;
    size_t head = sizeof(struct faiss_block) + capacity * sizeof(sqlite3_value *);
    struct faiss_block *block = sqlite3_malloc64(head + capacity * row_bytes);

    if (block != NULL) {
        *block = (struct faiss_block){.capacity = capacity,
                                      .dimension = dimension,
                                      .bytes = head + capacity * row_bytes,
                                      .vectors = (float *)(void *)((char *)block + head)};
    }
    return block;
}

void faiss_block_clear(struct faiss_block *block)
{
    for (size_t i = 0; i < block->n; i++) {
        sqlite3_value_free(block->ids[i]);
    }
    block->first += (int64_t)block->n;
    block->n = 0;
}

void faiss_block_free(struct faiss_block *block)
{
    if (block != NULL) {
        faiss_block_clear(block);
        sqlite3_free(block);
    }
}

bool faiss_block_add(struct faiss_block *block, sqlite3_value *id, const void *vector,
                     annex_error *error)
{
    sqlite3_value *copy = sqlite3_value_dup(id);
    int type = sqlite3_value_type(id);

    if (copy == NULL) {
        statement_nomem(error);
        return false;
    }
    block->bytes += BLOCK_ID_BYTES;
    if (type == SQLITE_TEXT || type == SQLITE_BLOB) {
        block->bytes += (size_t)sqlite3_value_bytes(id);
    }
    if (block->dimension > 0) {
        memcpy(block->vectors + block->n * block->dimension, vector,
               block->dimension * sizeof(float));
    }
    block->ids[block->n++] = copy;
    return true;
}

/* ---- The ranking ------------------------------------------------------------------------------*/

static bool ranking_read_k(sqlite3_value *value, uint64_t *k, annex_error *error)
{
    *k = 0;
    if (sqlite3_value_type(value) != SQLITE_INTEGER) {
        connection_refuse(error, "k must be an integer from 1 on, not %s", type_name(value));
        return false;
    }
    if (sqlite3_value_int64(value) < 1) {
        connection_refuse(error, "k must be an integer from 1 on, not %lld",
                          (long long)sqlite3_value_int64(value));
        return false;
    }
    *k = (uint64_t)sqlite3_value_int64(value);
    return true;
}

bool faiss_ranking_open(struct faiss_ranking *ranking, const char *what, sqlite3_value *query,
                        sqlite3_value *k, annex_error *error)
{
    const void *vector;
    size_t bytes;

    *ranking = (struct faiss_ranking){0};
    if (!faiss_read_blob(query, what, &vector, &ranking->dimension, error) ||
        !ranking_read_k(k, &ranking->k, error)) {
        return false;
    }
    bytes = ranking->dimension * sizeof(float);
    ranking->query = sqlite3_malloc64(bytes + 1);
    if (ranking->query == NULL) {
        statement_nomem(error);
        return false;
    }
    if (bytes > 0) {
        memcpy(ranking->query, vector, bytes);
    }
    ranking->is_measured = annex_distances(ANNEX_L2, ranking->dimension, ranking->query, NULL, 0,
                                           NULL, NULL) == ANNEX_OK;
    return true;
}

void faiss_ranking_close(struct faiss_ranking *ranking)
{
    for (size_t i = 0; i < ranking->n; i++) {
        sqlite3_value_free(ranking->offers[i].id);
    }
    sqlite3_free(ranking->offers);
    sqlite3_free(ranking->query);
    *ranking = (struct faiss_ranking){0};
}

/*
 * A sum of n terms in 32 lanes has n / 32 + 5 roundings on each way, and each term three; all of
 * them are above 0, so that nothing cancels.
 */
double faiss_ranking_margin(const struct faiss_ranking *ranking)
{
    return ((double)ranking->dimension / 32 + 40) * (double)FLT_EPSILON;
}

/* Lane by lane, which compilers vectorise for any processor. */
static float ranking_score(const float *a, const float *b, size_t n)
{
    enum { LANES = 8 };
    double lanes[LANES] = {0};
    double sum = 0;
    size_t whole = n - n % LANES;

    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            double difference = (double)a[i + j] - (double)b[i + j];

            lanes[j] += difference * difference;
        }
    }
    for (size_t i = whole; i < n; i++) {
        double difference = (double)a[i] - (double)b[i];

        lanes[i % LANES] += difference * difference;
    }
    for (size_t j = 0; j < LANES; j++) {
        sum += lanes[j];
    }
    return (float)sum;
}

static bool offer_is_worse(const struct faiss_offer *a, const struct faiss_offer *b)
{
    return a->score != b->score ? a->score > b->score : a->position > b->position;
}

/* Moves the offer that was changed at `i` down to its place. */
static void ranking_sink(struct faiss_ranking *ranking, size_t i)
{
    struct faiss_offer offer = ranking->offers[i];

    for (;;) {
        size_t child = 2 * i + 1;

        if (child + 1 < ranking->n &&
            offer_is_worse(&ranking->offers[child + 1], &ranking->offers[child])) {
            child++;
        }
        if (child >= ranking->n || !offer_is_worse(&ranking->offers[child], &offer)) {
            break;
        }
        ranking->offers[i] = ranking->offers[child];
        i = child;
    }
    ranking->offers[i] = offer;
}

/* Adds one to the heap, which is not full. */
static bool ranking_add(struct faiss_ranking *ranking, struct faiss_offer offer, annex_error *error)
{
    size_t i = ranking->n;

    if (ranking->n == ranking->capacity) {
        size_t capacity = ranking->capacity == 0 ? 16 : 2 * ranking->capacity;
        struct faiss_offer *offers =
            sqlite3_realloc64(ranking->offers, capacity * sizeof *ranking->offers);

        if (offers == NULL) {
            statement_nomem(error);
            return false;
        }
        ranking->offers = offers;
        ranking->capacity = capacity;
    }
    for (ranking->n++; i > 0; i = (i - 1) / 2) {
        if (!offer_is_worse(&offer, &ranking->offers[(i - 1) / 2])) {
            break;
        }
        ranking->offers[i] = ranking->offers[(i - 1) / 2];
    }
    ranking->offers[i] = offer;
    return true;
}

bool faiss_ranking_offer(struct faiss_ranking *ranking, int64_t position, sqlite3_value *id,
                         const float *vector, annex_error *error)
{
    struct faiss_offer offer = {.score = ranking_score(ranking->query, vector, ranking->dimension),
                                .position = position};
    bool is_full = ranking->n >= ranking->k;

    if (!isfinite(offer.score) || (is_full && !offer_is_worse(&ranking->offers[0], &offer))) {
        return true;
    }
    offer.id = sqlite3_value_dup(id);
    if (offer.id == NULL) {
        statement_nomem(error);
        return false;
    }
    if (is_full) {
        sqlite3_value_free(ranking->offers[0].id);
        ranking->offers[0] = offer;
        ranking_sink(ranking, 0);
        return true;
    }
    if (!ranking_add(ranking, offer, error)) {
        sqlite3_value_free(offer.id);
        return false;
    }
    return true;
}

/* Whether a row can be left out, given its distance by annex_distances. */
static bool ranking_is_too_far(const struct faiss_ranking *ranking, double distance)
{
    double least = distance * distance * (1 - faiss_ranking_margin(ranking)) - (double)FLT_MIN;

    return ranking->n >= ranking->k && least > (double)ranking->offers[0].score;
}

bool faiss_ranking_offer_block(struct faiss_ranking *ranking, const struct faiss_block *block,
                               annex_error *error)
{
    double distances[FAISS_BLOCK_ROWS] = {0}; /* none is too far */

    if (ranking->is_measured &&
        annex_distances(ANNEX_L2, block->dimension, ranking->query, block->vectors, block->n,
                        distances, error) != ANNEX_OK) {
        return false;
    }
    for (size_t i = 0; i < block->n; i++) {
        if (!ranking_is_too_far(ranking, distances[i]) &&
            !faiss_ranking_offer(ranking, block->first + (int64_t)i, block->ids[i],
                                 block->vectors + i * block->dimension, error)) {
            return false;
        }
    }
    return true;
}

/* ---- The result -------------------------------------------------------------------------------*/

static int offer_compare(const void *left, const void *right)
{
    const struct faiss_offer *a = left;
    const struct faiss_offer *b = right;

    return offer_is_worse(a, b) ? 1 : offer_is_worse(b, a) ? -1 : 0;
}

static bool ranking_write(const struct faiss_ranking *ranking, bool with_scores, sqlite3_str *text,
                          annex_error *error)
{
    sqlite3_str_appendchar(text, 1, '[');
    for (size_t i = 0; i < ranking->n; i++) {
        char number[FAISS_NUMBER_BYTES];

        sqlite3_str_appendall(text, i == 0 ? "" : ", ");
        sqlite3_str_appendall(text, with_scores ? "[" : "");
        if (!faiss_text_id(text, ranking->offers[i].id, error)) {
            return false;
        }
        if (with_scores) {
            sqlite3_str_append(text, ", ", 2);
            sqlite3_str_append(text, number,
                               (int)faiss_number_write((double)ranking->offers[i].score, number));
            sqlite3_str_appendchar(text, 1, ']');
        }
    }
    sqlite3_str_appendchar(text, 1, ']');
    return true;
}

void faiss_ranking_result(struct faiss_ranking *ranking, sqlite3_context *context, bool with_scores)
{
    sqlite3_str *text = sqlite3_str_new(sqlite3_context_db_handle(context));
    annex_error error;

    if (ranking->n > 0) {
        qsort(ranking->offers, ranking->n, sizeof *ranking->offers, offer_compare);
    }
    if (ranking_write(ranking, with_scores, text, &error)) {
        faiss_text_result(context, text);
    } else {
        sqlite3_free(sqlite3_str_finish(text));
        connection_fail_function(context, &error);
    }
    faiss_ranking_close(ranking);
}
