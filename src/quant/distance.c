/*
 * distance.c - exact distances outside of an index, by the same arithmetic as every search, so that
 * a distance computed here equals the one found there to the last bit.
 */
#include <math.h>

#include "quant/codec.h"

/* A codec that loses nothing: only its distances are asked for. */
static void measure_codec(struct codec *codec, annex_metric metric, size_t dimension)
{
    bool bits = codec_is_bits(metric);
    struct codec_form form = {.metric = metric,
                              .dimension = (uint32_t)dimension,
                              .codes = bits ? ANNEX_CODES_BITS : ANNEX_CODES_F32,
                              .lossless = true,
                              .fixed_scale = 1};
    codec_restore(codec, &form);
}

size_t measure_bytes(annex_metric metric, size_t dimension)
{
    struct codec codec;
    measure_codec(&codec, metric, dimension);
    return codec_query_bytes(&codec) + annex_vector_bytes(metric, dimension);
}

void measure_set(struct measure *measure, annex_metric metric, size_t dimension, void *memory,
                 const void *query)
{
    measure_codec(&measure->codec, metric, dimension);
    codec_query_init(&measure->codec, &measure->query, memory);
    measure->unit = (float *)((char *)memory + codec_query_bytes(&measure->codec));
    measure->defined = codec_query_set_exact(&measure->query, query);
}

double measure_distance_to_unit(const struct measure *measure, const void *vector)
{
    return measure->defined ? codec_distance(&measure->codec, codec_exact(&measure->query, vector))
                            : (double)NAN;
}

double measure_distance(const struct measure *measure, const void *vector)
{
    if (measure->codec.metric != ANNEX_COSINE) {
        return measure_distance_to_unit(measure, vector);
    }
    return codec_normalize(vector, measure->unit, measure->codec.dimension)
               ? measure_distance_to_unit(measure, measure->unit)
               : (double)NAN;
}

static annex_status distance_check(annex_metric metric, size_t dimension, annex_error *error)
{
    if (!annex_metric_name(metric)) {
        return error_set(error, ANNEX_INVALID, "%d is no metric", (int)metric);
    }
    if (dimension < 1 || dimension > ANNEX_MAX_DIMENSION) {
        return error_set(error, ANNEX_INVALID, "the dimension is %zu, expected 1 to %d", dimension,
                         ANNEX_MAX_DIMENSION);
    }
    return ANNEX_OK;
}

static bool distance_accepts(annex_metric metric, size_t dimension, const void *vector)
{
    bool zero;
    return codec_is_bits(metric) || codec_accepts(metric, vector, dimension, &zero);
}

/*
 * Up to which distance a row is certainly accepted, so that it need not be read once more: it is no
 * longer than the query and the distance together. Under cosine no length is too long, and what is
 * not finite has the distance NaN.
 */
static double distance_of_accepted(annex_metric metric, size_t dimension, const void *query)
{
    if (metric != ANNEX_L2 && metric != ANNEX_L1) {
        return metric == ANNEX_COSINE ? INFINITY : -INFINITY;
    }
    return (CODEC_MAX_NORM - sqrt(codec_squared_norm(query, dimension))) / 2;
}

/* `checked`: the rows are known to be accepted. */
static annex_status distance_fill(annex_metric metric, size_t dimension, const void *query,
                                  const void *rows, size_t n, bool checked, double *distances,
                                  annex_error *error)
{
    enum { STACK_BYTES = 32 << 10 }; /* few vectors are too long for it */
    _Alignas(64) char stack[STACK_BYTES];
    annex_env env = annex_env_default();
    size_t bytes = measure_bytes(metric, dimension);
    size_t row_bytes = annex_vector_bytes(metric, dimension);
    void *heap = NULL;
    if (bytes > sizeof stack) {
        TRY(memory_new(&env, 1, bytes, &heap, error));
    }
    struct measure measure;
    measure_set(&measure, metric, dimension, heap ? heap : stack, query);
    double accepted = checked ? INFINITY : distance_of_accepted(metric, dimension, query);
    for (size_t i = 0; i < n; i++) {
        const char *row = (const char *)rows + i * row_bytes;
        distances[i] = measure_distance(&measure, row);
        if (!(distances[i] <= accepted) && !distance_accepts(metric, dimension, row)) {
            distances[i] = NAN;
        }
    }
    memory_free(&env, heap, 1, bytes);
    return ANNEX_OK;
}

static annex_status distance_check_pair(annex_metric metric, size_t dimension, const void *a,
                                        const void *b, annex_error *error)
{
    if (!distance_accepts(metric, dimension, a)) {
        return codec_refuse(a, dimension, "the first vector", error);
    }
    if (!distance_accepts(metric, dimension, b)) {
        return codec_refuse(b, dimension, "the second vector", error);
    }
    return ANNEX_OK;
}

annex_status annex_distance(annex_metric metric, size_t dimension, const void *a, const void *b,
                            double *distance, annex_error *error)
{
    *distance = 0;
    TRY(distance_check(metric, dimension, error));
    if (metric != ANNEX_COSINE) {
        TRY(distance_check_pair(metric, dimension, a, b, error));
    }
    double found;
    TRY(distance_fill(metric, dimension, a, b, 1, true, &found, error));
    if (metric == ANNEX_COSINE && isnan(found)) {
        TRY(distance_check_pair(metric, dimension, a, b, error));
    }
    *distance = found;
    return ANNEX_OK;
}

annex_status annex_distances(annex_metric metric, size_t dimension, const void *query,
                             const void *rows, size_t n, double *distances, annex_error *error)
{
    for (size_t i = 0; i < n; i++) {
        distances[i] = 0;
    }
    TRY(distance_check(metric, dimension, error));
    if (!distance_accepts(metric, dimension, query)) {
        return codec_refuse(query, dimension, "the query", error);
    }
    return distance_fill(metric, dimension, query, rows, n, false, distances, error);
}

const char *annex_isa(void)
{
    return kernel_table()->name;
}

const char *annex_isa_available(size_t i)
{
    const struct kernels *kernels = kernel_available(i);
    return kernels ? kernels->name : NULL;
}
