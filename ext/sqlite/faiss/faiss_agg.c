/*
 * faiss_agg.c - faiss_agg(id, embedding, compare_embedding, k) and faiss_agg_with_scores: the k
 * nearest of the aggregated rows.
 *
 * Rows are gathered into one block, scored when it is full and forgotten but for the k best, so
 * that memory does not grow with the rows. compare_embedding and k are those of the first row.
 */
#include "sqlite/faiss/faiss.h"
#include "sqlite/statement.h"

struct aggregate {
    struct faiss_ranking ranking;
    struct faiss_block *block;
    bool has_failed;
};

static bool aggregate_begin(struct aggregate *aggregate, sqlite3_value **arguments,
                            annex_error *error)
{
    if (!faiss_ranking_open(&aggregate->ranking, "the embedding to compare with", arguments[2],
                            arguments[3], error)) {
        return false;
    }
    aggregate->block = faiss_block_new(aggregate->ranking.dimension);
    if (aggregate->block == NULL) {
        statement_nomem(error);
        return false;
    }
    return true;
}

static bool aggregate_score(struct aggregate *aggregate, annex_error *error)
{
    bool scored = faiss_ranking_offer_block(&aggregate->ranking, aggregate->block, error);

    faiss_block_clear(aggregate->block);
    return scored;
}

static bool aggregate_add(struct aggregate *aggregate, sqlite3_value **arguments,
                          annex_error *error)
{
    const void *vector;
    size_t dimension;
    char shown[FAISS_SHOWN_BYTES];

    if (aggregate->block == NULL && !aggregate_begin(aggregate, arguments, error)) {
        return false;
    }
    if (!faiss_read_row(arguments[0], arguments[1], &vector, &dimension, error)) {
        return false;
    }
    if (dimension != aggregate->ranking.dimension) {
        connection_refuse(error,
                          "the embedding of id %s has %zu dimensions, and the one to compare with "
                          "has %zu",
                          faiss_text_show(arguments[0], shown), dimension,
                          aggregate->ranking.dimension);
        return false;
    }
    return faiss_block_add(aggregate->block, arguments[0], vector, error) &&
           (aggregate->block->n < aggregate->block->capacity || aggregate_score(aggregate, error));
}

void faiss_agg_step(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    struct aggregate *aggregate = sqlite3_aggregate_context(context, sizeof *aggregate);
    annex_error error;

    (void)n;
    if (aggregate == NULL) {
        sqlite3_result_error_nomem(context);
    } else if (!aggregate->has_failed && !aggregate_add(aggregate, arguments, &error)) {
        aggregate->has_failed = true;
        connection_fail_function(context, &error);
    }
}

/* Called also after an error, to clean up. Without any row the result is NULL. */
static void aggregate_end(sqlite3_context *context, bool with_scores)
{
    struct aggregate *aggregate = sqlite3_aggregate_context(context, 0);
    annex_error error;

    if (aggregate == NULL) {
        return;
    }
    if (aggregate->has_failed) {
        faiss_ranking_close(&aggregate->ranking);
    } else if (aggregate_score(aggregate, &error)) {
        faiss_ranking_result(&aggregate->ranking, context, with_scores);
    } else {
        faiss_ranking_close(&aggregate->ranking);
        connection_fail_function(context, &error);
    }
    faiss_block_free(aggregate->block);
}

void faiss_agg_end(sqlite3_context *context)
{
    aggregate_end(context, false);
}

void faiss_agg_end_with_scores(sqlite3_context *context)
{
    aggregate_end(context, true);
}
