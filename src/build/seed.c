/*
 * seed.c - see seed.h.
 */
#include "build/seed.h"

#include <math.h>

#include "build/partition.h"

enum {
    LEAF_BYTES = 512 << 10, /* of codes: half of a second-level cache */
    MIN_LEAF = 256,
    MAX_LEAF = 1024,
    TILE = 16,   /* rows that are compared with the leaf at a time */
    BLOCK = 128, /* rows picked at a time: the first ones spare the later ones work */
    FIRST = 32,  /* while there is no limit to pick by */
    MAX_KEEP = GRAPH_MAX_DEGREE,
    STEPS = 16 /* reports of a round */
};

/* Of one thread. */
struct leaf {
    const uint32_t *ids;
    uint32_t n;
    uint8_t *codes;         /* [leaf_rows x row_bytes] */
    int8_t *queries;        /* [TILE x code_bytes] */
    int32_t *dots;          /* [TILE x leaf_rows] */
    float *scores;          /* [leaf_rows] */
    float *scales, *biases; /* [leaf_rows] */
    float largest_bias;
    struct query query;
    void *query_memory;
};

struct seeder {
    const struct seed_options *options;
    const uint64_t *known;
    walk_item *lists;
    struct partition partition;
    size_t first_leaf;
    bool products; /* scores are made of products */
    struct leaf *leaves;
};

/* ---- lists -----------------------------------------------------------------------------------*/

/* The list of one row while it is filled. */
struct near {
    walk_item items[MAX_KEEP + BLOCK];
    uint32_t n, keep;
};

static float near_limit(const struct near *near)
{
    return near->n == near->keep ? walk_score(near->items[near->n - 1]) : INFINITY;
}

static bool near_has(const struct near *near, walk_item item)
{
    bool found = false;
    for (uint32_t i = 0; i < near->n; i++) {
        found |= near->items[i] == item;
    }
    return found;
}

/* Merges the rows at places[0..n) of the leaf but for the row itself, at `self`. */
static void near_merge(const struct seeder *seeder, struct near *near, const struct leaf *leaf,
                       uint32_t self, const uint32_t *places, const float *scores, uint32_t n)
{
    walk_item fresh[BLOCK];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        walk_item item = walk_item_of(scores[i], leaf->ids[places[i]]);
        if (places[i] != self && !near_has(near, item)) {
            fresh[kept++] = item;
        }
    }
    if (kept) {
        seeder->options->codec->kernels->u64_merge(near->items, near->n, fresh, kept);
        near->n = MIN(near->n + kept, near->keep);
    }
}

/* ---- one row and its leaf --------------------------------------------------------------------*/

/* What codec_score makes of a product. */
static float score_of(const struct query *query, const struct leaf *leaf, uint32_t place,
                      int32_t dot)
{
    return (query->a + query->b * leaf->biases[place]) +
           (query->c * leaf->scales[place]) * (float)(dot - query->offset);
}

/*
 * Picks with room for what floats round away, then scores what was picked as searches do. Terms of
 * inner products have a factor that depends on the query, so all of those are scored.
 */
static void offer_products(const struct seeder *seeder, struct near *near, const struct leaf *leaf,
                           uint32_t self, const int32_t *dots)
{
    const struct query *query = &leaf->query;
    const struct kernels *kernels = seeder->options->codec->kernels;
    uint32_t picked[BLOCK];
    float scores[BLOCK], slack = 1e-5f * (fabsf(query->a) + leaf->largest_bias);
    for (uint32_t first = 0, count; first < leaf->n; first += count) {
        float limit = near_limit(near);
        count = MIN(leaf->n - first, limit < INFINITY ? BLOCK : FIRST);
        uint32_t n = count;
        if (query->b == 1 && limit < INFINITY) {
            n = kernels->q8_pick(dots + first, leaf->scales + first, leaf->biases + first, count,
                                 query->offset, query->c, (limit - query->a) + slack, picked);
        } else {
            for (uint32_t i = 0; i < count; i++) {
                picked[i] = i;
            }
        }
        uint32_t kept = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t place = first + picked[i];
            float score = score_of(query, leaf, place, dots[place]);
            picked[kept] = place;
            scores[kept] = score;
            kept += score <= limit;
        }
        near_merge(seeder, near, leaf, self, picked, scores, kept);
    }
}

static void offer_scores(const struct seeder *seeder, struct near *near, const struct leaf *leaf,
                         uint32_t self)
{
    uint32_t picked[BLOCK];
    float scores[BLOCK];
    codec_score(&leaf->query, leaf->codes, NULL, leaf->n, leaf->scores);
    for (uint32_t first = 0; first < leaf->n; first += BLOCK) {
        uint32_t kept = 0;
        float limit = near_limit(near);
        for (uint32_t place = first; place < MIN(first + BLOCK, leaf->n); place++) {
            picked[kept] = place;
            scores[kept] = leaf->scores[place];
            kept += leaf->scores[place] <= limit;
        }
        near_merge(seeder, near, leaf, self, picked, scores, kept);
    }
}

static void offer_leaf(const struct seeder *seeder, struct leaf *leaf, uint32_t self,
                       const int32_t *dots)
{
    struct near near = {.keep = seeder->options->keep};
    walk_item *list = seeder->lists + (size_t)leaf->ids[self] * near.keep;
    while (near.n < near.keep && list[near.n] != SEED_NONE) {
        near.items[near.n] = list[near.n];
        near.n++;
    }
    codec_query_set_row(&leaf->query,
                        leaf->codes + (size_t)self * seeder->options->codec->row_bytes);
    if (seeder->products) {
        offer_products(seeder, &near, leaf, self, dots);
    } else {
        offer_scores(seeder, &near, leaf, self);
    }
    memcpy(list, near.items, near.n * sizeof *list);
}

/* ---- leaves ----------------------------------------------------------------------------------*/

static void load_leaf(const struct seeder *seeder, struct leaf *leaf, size_t i)
{
    const struct codec *codec = seeder->options->codec;
    leaf->ids = partition_leaf(&seeder->partition, i, &leaf->n);
    leaf->largest_bias = 0;
    for (uint32_t j = 0; j < leaf->n; j++) {
        uint8_t *row = leaf->codes + (size_t)j * codec->row_bytes;
        memcpy(row, seeder->options->rows + (size_t)leaf->ids[j] * codec->row_bytes,
               codec->row_bytes);
        memcpy(&leaf->scales[j], row + codec->code_bytes, sizeof *leaf->scales);
        memcpy(&leaf->biases[j], row + codec->code_bytes + sizeof *leaf->scales,
               sizeof *leaf->biases);
        leaf->largest_bias = MAX(leaf->largest_bias, fabsf(leaf->biases[j]));
    }
}

/* Compares some rows of the leaf with all of it. */
static void compare_tile(const struct seeder *seeder, struct leaf *leaf, const uint32_t *selves,
                         uint32_t n)
{
    const struct codec *codec = seeder->options->codec;
    for (uint32_t i = 0; i < n && seeder->products; i++) {
        const uint8_t *from = leaf->codes + (size_t)selves[i] * codec->row_bytes;
        int8_t *to = leaf->queries + (size_t)i * codec->code_bytes;
        for (uint32_t j = 0; j < codec->code_bytes; j++) {
            to[j] = (int8_t)(from[j] ^ 0x80); /* u8 around 128 -> s8 around 0 */
        }
    }
    if (seeder->products) {
        codec->kernels->q8_tile(leaf->queries, codec->code_bytes, n, leaf->codes, codec->row_bytes,
                                codec->code_bytes, NULL, leaf->n, leaf->dots);
    }
    for (uint32_t i = 0; i < n; i++) {
        offer_leaf(seeder, leaf, selves[i], leaf->dots + (size_t)i * leaf->n);
    }
}

static annex_status leaf_range(void *argument, unsigned worker, size_t first, size_t end,
                               annex_error *error)
{
    struct seeder *seeder = argument;
    struct leaf *leaf = &seeder->leaves[worker];
    (void)error;
    for (size_t i = seeder->first_leaf + first; i < seeder->first_leaf + end; i++) {
        uint32_t selves[TILE], n = 0;
        load_leaf(seeder, leaf, i);
        for (uint32_t j = 0; j < leaf->n; j++) {
            if (!bitmap_get(seeder->known, leaf->ids[j])) {
                selves[n++] = j;
            }
            if (n == TILE || (n > 0 && j == leaf->n - 1)) {
                compare_tile(seeder, leaf, selves, n);
                n = 0;
            }
        }
    }
    return ANNEX_OK;
}

/* ---- the whole -------------------------------------------------------------------------------*/

static annex_status leaf_new(const annex_env *env, const struct codec *codec, size_t rows,
                             struct leaf *leaf, annex_error *error)
{
    TRY(memory_new_raw(env, rows, codec->row_bytes, &leaf->codes, error));
    TRY(memory_new_raw(env, TILE, codec->code_bytes, &leaf->queries, error));
    TRY(memory_new_raw(env, rows, TILE * sizeof *leaf->dots, &leaf->dots, error));
    TRY(memory_new_raw(env, rows, sizeof *leaf->scores, &leaf->scores, error));
    TRY(memory_new_raw(env, rows, sizeof *leaf->scales, &leaf->scales, error));
    TRY(memory_new_raw(env, rows, sizeof *leaf->biases, &leaf->biases, error));
    TRY(memory_new(env, 1, codec_query_bytes(codec), &leaf->query_memory, error));
    codec_query_init(codec, &leaf->query, leaf->query_memory);
    return ANNEX_OK;
}

static void leaf_free(const annex_env *env, const struct codec *codec, size_t rows,
                      struct leaf *leaf)
{
    memory_free(env, leaf->codes, rows, codec->row_bytes);
    memory_free(env, leaf->queries, TILE, codec->code_bytes);
    memory_free(env, leaf->dots, rows, TILE * sizeof *leaf->dots);
    memory_free(env, leaf->scores, rows, sizeof *leaf->scores);
    memory_free(env, leaf->scales, rows, sizeof *leaf->scales);
    memory_free(env, leaf->biases, rows, sizeof *leaf->biases);
    memory_free(env, leaf->query_memory, 1, codec_query_bytes(codec));
}

/* Compares the leaves of one partition, with a report now and then. */
static annex_status seed_round(struct seeder *seeder, struct progress *progress, uint64_t units,
                               annex_error *error)
{
    size_t n = seeder->partition.n_parts, step = n / STEPS + 1;
    uint64_t done = progress->done;
    for (size_t first = 0; first < n; first += step) {
        seeder->first_leaf = first;
        TRY(progress_for(progress, seeder->options->threads, MIN(step, n - first), 1, leaf_range,
                         seeder, error));
        TRY(progress_update(progress, done + units * MIN(first + step, n) / n, error));
    }
    return ANNEX_OK;
}

annex_status seed_rows(const annex_env *env, const struct seed_options *options,
                       const uint32_t *ids, uint32_t n, const uint64_t *known, walk_item *lists,
                       struct progress *progress, uint64_t units, annex_error *error)
{
    const struct codec *codec = options->codec;
    uint32_t leaf_rows = MIN(MAX(LEAF_BYTES / codec->row_bytes, MIN_LEAF), MAX_LEAF);
    struct seeder seeder = {
        .options = options,
        .known = known,
        .lists = lists,
        .partition = {.env = env,
                      .codec = codec,
                      .rows = options->rows,
                      .threads = options->threads,
                      .leaf_rows = leaf_rows,
                      .random = options->random,
                      .capacity = n},
        .products = codec->codes == ANNEX_CODES_Q8 && codec->metric != ANNEX_L1,
    };
    uint64_t done = progress->done;
    annex_status status;
    assert(options->keep <= MAX_KEEP);
    TRY_CLEANUP(partition_new(&seeder.partition, error));
    TRY_CLEANUP(memory_new(env, options->threads, sizeof *seeder.leaves, &seeder.leaves, error));
    for (unsigned t = 0; t < options->threads; t++) {
        TRY_CLEANUP(leaf_new(env, codec, leaf_rows, &seeder.leaves[t], error));
    }
    for (uint32_t round = 0; round < options->rounds; round++) {
        TRY_CLEANUP(partition_make(&seeder.partition, ids, n, progress, error));
        uint64_t next = done + units * (round + 1) / options->rounds;
        TRY_CLEANUP(seed_round(&seeder, progress, next - progress->done, error));
    }
cleanup:
    for (unsigned t = 0; seeder.leaves && t < options->threads; t++) {
        leaf_free(env, codec, leaf_rows, &seeder.leaves[t]);
    }
    memory_free(env, seeder.leaves, options->threads, sizeof *seeder.leaves);
    partition_free(&seeder.partition);
    return status;
}
