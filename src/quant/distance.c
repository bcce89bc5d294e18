/*
 * distance.c - annex_distance: one exact distance, by the same arithmetic as every search, so that
 * a distance computed here equals the one found there to the last bit.
 */
#include <math.h>

#include "quant/codec.h"

annex_status annex_distance(annex_metric metric, size_t dimension, const void *a, const void *b,
                            double *distance, annex_error *error)
{
    *distance = 0;
    if (!annex_metric_name(metric)) {
        return error_set(error, ANNEX_INVALID, "%d is no metric", (int)metric);
    }
    if (dimension < 1 || dimension > ANNEX_MAX_DIMENSION) {
        return error_set(error, ANNEX_INVALID, "the dimension is %zu, expected 1 to %d", dimension,
                         ANNEX_MAX_DIMENSION);
    }
    bool zero;
    if (!codec_is_bits(metric) && !codec_accepts(metric, a, dimension, &zero)) {
        return codec_refuse(a, dimension, "the first vector", error);
    }
    if (!codec_is_bits(metric) && !codec_accepts(metric, b, dimension, &zero)) {
        return codec_refuse(b, dimension, "the second vector", error);
    }
    /* Room for the query and for b as a unit vector. Few vectors are too long for the stack. */
    enum { STACK_BYTES = 32 << 10 };
    _Alignas(64) char stack[STACK_BYTES];
    annex_env env = annex_env_default();
    struct codec codec;
    codec_restore(&codec, metric, (uint32_t)dimension, true, 1, 0, NULL);
    size_t query_bytes = codec_query_bytes(&codec);
    size_t bytes = query_bytes + annex_vector_bytes(metric, dimension);
    void *heap = NULL;
    if (bytes > sizeof stack) {
        TRY(memory_new(&env, 1, bytes, &heap, error));
    }
    struct query query;
    codec_query_init(&codec, &query, heap ? heap : stack);
    float *unit = (float *)((char *)(heap ? heap : stack) + query_bytes);
    bool defined = codec_query_set_exact(&query, a);
    if (metric == ANNEX_COSINE) {
        defined = defined && codec_normalize(b, unit, dimension);
        b = unit;
    }
    *distance = defined ? codec_distance(&codec, codec_exact(&query, b)) : (double)NAN;
    memory_free(&env, heap, 1, bytes);
    return ANNEX_OK;
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
