/*
 * vec_pairs.c - the functions of sqlite-vec that take two vectors: sums and distances.
 *
 * A vector that is the same JSON text for all rows of a statement is read once (auxiliary data).
 */
#include "sqlite/vec/vec.h"

/* ---- Arguments --------------------------------------------------------------------------------*/

/* Two vectors; those that came from the auxiliary data are borrowed from there. */
struct pair {
    struct vec_value vectors[2];
    bool kept[2];
};

static void pair_keep_free(void *argument)
{
    vec_value_free(argument);
    sqlite3_free(argument);
}

/* Gives a vector that was read from text to SQLite, which keeps it while the argument is the same.
 */
static void pair_keep(sqlite3_context *context, int i, struct vec_value *vector)
{
    struct vec_value *kept = sqlite3_malloc64(sizeof *kept);

    if (kept == NULL) {
        vec_value_free(vector);
        return;
    }
    *kept = *vector;
    sqlite3_set_auxdata(context, i, kept, pair_keep_free);
}

static void pair_end(sqlite3_context *context, sqlite3_value **arguments, struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        if (pair->kept[i]) {
            continue;
        }
        if (pair->vectors[i].owned != NULL && sqlite3_value_type(arguments[i]) == SQLITE_TEXT) {
            pair_keep(context, i, &pair->vectors[i]);
        } else {
            vec_value_free(&pair->vectors[i]);
        }
    }
}

static bool pair_matches(const struct pair *pair, annex_error *error)
{
    const struct vec_value *a = &pair->vectors[0];
    const struct vec_value *b = &pair->vectors[1];

    if (a->type != b->type) {
        connection_refuse(error,
                          "Vector type mistmatch. First vector has type %s, "
                          "while the second has type %s.",
                          vec_type_name(a->type), vec_type_name(b->type));
        return false;
    }
    if (a->dimensions != b->dimensions) {
        connection_refuse(error,
                          "Vector dimension mistmatch. First vector has %zu dimensions, "
                          "while the second has %zu dimensions.",
                          a->dimensions, b->dimensions);
        return false;
    }
    return true;
}

/* Two vectors of one type and dimension, to be given to pair_end. False: nothing to end. */
static bool pair_begin(sqlite3_context *context, sqlite3_value **arguments, struct pair *pair)
{
    static const char *const ordinals[] = {"1st", "2nd"};
    bool valid = true;
    annex_error error;

    *pair = (struct pair){0};
    for (int i = 0; i < 2 && valid; i++) {
        const struct vec_value *kept = sqlite3_get_auxdata(context, i);
        annex_error cause;

        pair->kept[i] = kept != NULL;
        if (kept != NULL) {
            pair->vectors[i] = *kept;
        } else if (!vec_value_read(arguments[i], &pair->vectors[i], &cause)) {
            connection_refuse(&error, "Error reading %s vector: %.400s", ordinals[i],
                              cause.message);
            valid = false;
        }
    }
    valid = valid && pair_matches(pair, &error);
    if (!valid) {
        sqlite3_result_error(context, error.message, -1);
        pair_end(context, arguments, pair);
    }
    return valid;
}

/* ---- vec_add(a, b), vec_sub(a, b) -------------------------------------------------------------*/

/* a + sign * b. Integers wrap around. */
static void *pairs_combine(const struct pair *pair, int sign)
{
    const struct vec_value *a = &pair->vectors[0];
    const struct vec_value *b = &pair->vectors[1];
    void *sum = sqlite3_malloc64(a->bytes);

    for (size_t i = 0; sum != NULL && i < a->dimensions; i++) {
        if (a->type == VEC_F32) {
            const float *x = a->elements;
            const float *y = b->elements;

            ((float *)sum)[i] = x[i] + (float)sign * y[i];
        } else {
            const unsigned char *x = a->elements;
            const unsigned char *y = b->elements;

            ((unsigned char *)sum)[i] = (unsigned char)(x[i] + sign * y[i]);
        }
    }
    return sum;
}

static void pairs_arithmetic(sqlite3_context *context, sqlite3_value **arguments, int sign,
                             const char *refusal)
{
    struct pair pair;
    enum vec_type type;

    if (!pair_begin(context, arguments, &pair)) {
        return;
    }
    type = pair.vectors[0].type;
    if (type == VEC_BIT) {
        sqlite3_result_error(context, refusal, -1);
    } else {
        vec_result(context, type, pairs_combine(&pair, sign), pair.vectors[0].bytes);
    }
    pair_end(context, arguments, &pair);
}

static void pairs_add(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    pairs_arithmetic(context, arguments, 1, "Cannot add two bitvectors together.");
}

static void pairs_sub(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    pairs_arithmetic(context, arguments, -1, "Cannot subtract two bitvectors together.");
}

/* ---- vec_distance_l2(a, b) and the others -----------------------------------------------------*/

/* `name` is that of the distance in messages. */
static void pairs_distance(sqlite3_context *context, sqlite3_value **arguments, annex_metric metric,
                           const char *name)
{
    struct pair pair;
    enum vec_type type;

    if (!pair_begin(context, arguments, &pair)) {
        return;
    }
    type = pair.vectors[0].type;
    if ((type == VEC_BIT) != (metric == ANNEX_HAMMING)) {
        char *refusal = sqlite3_mprintf("Cannot calculate %s distance between two %s.", name,
                                        type == VEC_BIT   ? "bitvectors"
                                        : type == VEC_F32 ? "float32 vectors"
                                                          : "int8 vectors");

        sqlite3_result_error(context, refusal != NULL ? refusal : "out of memory", -1);
        sqlite3_free(refusal);
    } else {
        double distance = vec_distance(metric, &pair.vectors[0], &pair.vectors[1]);

        if (metric == ANNEX_L1 && type == VEC_INT8) {
            sqlite3_result_int64(context, (sqlite3_int64)distance);
        } else {
            sqlite3_result_double(context, distance); /* NaN becomes NULL */
        }
    }
    pair_end(context, arguments, &pair);
}

static void pairs_l2(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    pairs_distance(context, arguments, ANNEX_L2, "L2");
}

static void pairs_l1(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    pairs_distance(context, arguments, ANNEX_L1, "L1");
}

static void pairs_cosine(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    pairs_distance(context, arguments, ANNEX_COSINE, "cosine");
}

static void pairs_hamming(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    pairs_distance(context, arguments, ANNEX_HAMMING, "hamming");
}

const struct function vec_pair_functions[] = {
    {"vec_add", 2, 2, VEC_TAKES | VEC_GIVES, pairs_add},
    {"vec_distance_cosine", 2, 2, VEC_TAKES, pairs_cosine},
    {"vec_distance_hamming", 2, 2, VEC_TAKES, pairs_hamming},
    {"vec_distance_l1", 2, 2, VEC_TAKES, pairs_l1},
    {"vec_distance_l2", 2, 2, VEC_TAKES, pairs_l2},
    {"vec_sub", 2, 2, VEC_TAKES | VEC_GIVES, pairs_sub},
    {NULL, 0, 0, 0, NULL},
};
