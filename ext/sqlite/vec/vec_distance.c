/*
 * vec_distance.c - the distance of two vectors as sqlite-vec gives it.
 *
 * The kernels of Annex compute it, as they do in a search, so that vec_distance_…() of a row equals
 * the distance that a search found. sqlite-vec has no limits here, the kernels do: dimensions
 * beyond ANNEX_MAX_DIMENSION and lengths whose square no f32 holds are computed in double instead.
 */
#include <math.h>

#include "sqlite/vec/vec.h"

static double vec_element(const struct vec_value *vector, size_t i)
{
    return vector->type == VEC_F32 ? (double)((const float *)vector->elements)[i]
                                   : (double)((const int8_t *)vector->elements)[i];
}

static double vec_hamming_wide(const struct vec_value *a, const struct vec_value *b)
{
    const unsigned char *x = a->elements;
    const unsigned char *y = b->elements;
    double differing = 0;

    for (size_t i = 0; i < a->bytes; i++) {
        differing += __builtin_popcount((unsigned)(x[i] ^ y[i]));
    }
    return differing;
}

/* Not for bits. */
static double vec_distance_wide(annex_metric metric, const struct vec_value *a,
                                const struct vec_value *b)
{
    double sum = 0;
    double square_a = 0;
    double square_b = 0;

    for (size_t i = 0; i < a->dimensions; i++) {
        double x = vec_element(a, i);
        double y = vec_element(b, i);

        if (metric == ANNEX_COSINE) {
            sum += x * y;
            square_a += x * x;
            square_b += y * y;
        } else {
            sum += metric == ANNEX_L1 ? fabs(x - y) : (x - y) * (x - y);
        }
    }
    if (metric == ANNEX_COSINE) {
        return 1 - sum / (sqrt(square_a) * sqrt(square_b));
    }
    return metric == ANNEX_L1 ? sum : sqrt(sum);
}

/* Computes the distance with the kernels. False when they cannot. */
static bool vec_distance_kernel(annex_metric metric, const struct vec_value *a,
                                const struct vec_value *b, double *distance)
{
    size_t n = a->dimensions;
    const void *elements_a = a->elements;
    const void *elements_b = b->elements;
    float *widened = NULL;
    bool done;

    if (n > ANNEX_MAX_DIMENSION) {
        return false;
    }
    if (a->type == VEC_INT8) {
        widened = sqlite3_malloc64(2 * n * sizeof *widened);
        if (widened == NULL ||
            annex_vector_widen(ANNEX_I8, elements_a, n, widened, NULL) != ANNEX_OK ||
            annex_vector_widen(ANNEX_I8, elements_b, n, widened + n, NULL) != ANNEX_OK) {
            sqlite3_free(widened);
            return false;
        }
        elements_a = widened;
        elements_b = widened + n;
    }
    done = annex_distance(metric, n, elements_a, elements_b, distance, NULL) == ANNEX_OK;
    sqlite3_free(widened);
    return done;
}

double vec_distance(annex_metric metric, const struct vec_value *a, const struct vec_value *b)
{
    double distance;

    if (vec_distance_kernel(metric, a, b, &distance)) {
        return metric == ANNEX_L1 ? distance : (double)(float)distance;
    }
    return metric == ANNEX_HAMMING ? vec_hamming_wide(a, b) : vec_distance_wide(metric, a, b);
}
