/*
 * result.c - the answer of a search: keys as values, distances, and a line on how it was found.
 */
#include "catalog/search.h"

annex_status result_new(const annex_env *env, annex_result **result, annex_error *error)
{
    annex_result *made = NULL;
    *result = NULL;
    TRY(memory_new(env, 1, sizeof *made, &made, error));
    made->env = *env;
    made->arena.env = &made->env;
    made->plan = "";
    made->complete = made->exact = true;
    *result = made;
    return ANNEX_OK;
}

annex_status result_fill(annex_result *result, struct rowkey_shape shape, struct ranking *ranking,
                         annex_error *error)
{
    struct offer *items = NULL;
    struct arena *arena = &result->arena;
    result->key_columns = shape.n_columns;
    TRY(ranking_sort(ranking, &items, error));
    TRY(arena_new(arena, ranking->n, sizeof *result->distances, &result->distances, error));
    TRY(arena_new(arena, ranking->n * shape.n_columns, sizeof *result->keys, &result->keys, error));
    for (size_t i = 0; i < ranking->n; i++) {
        result->distances[i] = items[i].distance;
        TRY(search_poll_at(&result->env, i, error));
        TRY(rowkey_decode(shape, &items[i].key, arena, &result->keys[i * shape.n_columns], error));
    }
    result->n = ranking->n;
    return ANNEX_OK;
}

size_t annex_result_count(const annex_result *result)
{
    return result->n;
}

size_t annex_result_key_columns(const annex_result *result)
{
    return result->key_columns;
}

double annex_result_distance(const annex_result *result, size_t i)
{
    assert(i < result->n);
    return result->distances[i];
}

annex_value annex_result_key(const annex_result *result, size_t i, size_t column)
{
    assert(i < result->n && column < result->key_columns);
    return result->keys[i * result->key_columns + column];
}

size_t annex_result_source(const annex_result *result, size_t i)
{
    assert(i < result->n);
    return result->sources != NULL ? result->sources[i] : 0;
}

const char *annex_result_source_name(const annex_result *result, size_t i)
{
    return result->names[annex_result_source(result, i)];
}

const char *annex_result_plan(const annex_result *result)
{
    return result->plan;
}

int annex_result_complete(const annex_result *result)
{
    return result->complete;
}

int annex_result_exact(const annex_result *result)
{
    return result->exact;
}

void annex_result_free(annex_result *result)
{
    if (result == NULL) {
        return;
    }
    annex_env env = result->env;
    arena_free(&result->arena);
    memory_free(&env, result, 1, sizeof *result);
}
