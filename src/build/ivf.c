/*
 * ivf.c - building lists: centroids for all rows, every row in the list of one of them, lists of
 * moderate length, and the bits of each row.
 *
 * Centroids are trained on two levels, since all against all would take hours: some sqrt(lists) of
 * them first, then those of each part apart. A row looks for its centroid in the parts that are
 * nearest to it. Then lists that are too long are cut in two and those that are too short go up in
 * others, and every centroid becomes the mean of all its rows.
 *
 * Invariant: nothing depends on the number of threads: every choice is made for one row, one list
 * or one block by itself.
 * Does not: search. It works on codes of the index's codec, of which an image of lists has those of
 * centroids only.
 */
#include <math.h>

#include "build/build.h"
#include "build/kmeans.h"

enum {
    LIST_ROWS = 256,       /* on average */
    LIST_MOST = 512,       /* longer ones are cut in two */
    LIST_LEAST = 32,       /* shorter ones are given up */
    SAMPLE_ROWS = 64,      /* of a list, for training */
    TOP_SAMPLE_ROWS = 256, /* of a part of the first level */
    ONE_LEVEL = 64,        /* lists that are trained at once */
    NEAR_PARTS = 8         /* parts in which a row looks for its list */
};

struct lists_builder {
    struct builder *builder;
    struct kmeans kmeans;
    struct progress progress;
    uint8_t *parts; /* [n_parts] coded centroids of the first level */
    uint32_t n_parts;
    uint32_t *part_bounds; /* [n_parts + 1] lists of each */
    uint8_t *centroids;    /* [capacity] */
    uint32_t n, capacity;
    uint32_t *list_of; /* [rows] */
    uint32_t *slots;   /* [rows] 0, 1, 2 ... */
};

static size_t code_bytes(const struct lists_builder *lists)
{
    return lists->builder->codec.row_bytes;
}

static uint8_t *centroid(const struct lists_builder *lists, uint32_t list)
{
    return lists->centroids + list * code_bytes(lists);
}

/* ---- training --------------------------------------------------------------------------------*/

/* One row from each part of [0, n): ascending. */
static void choose_sample(const uint32_t *from, uint32_t n, uint32_t wanted, uint64_t seed,
                          uint32_t *sample)
{
    for (uint32_t i = 0; i < wanted; i++) {
        uint64_t first = (uint64_t)i * n / wanted, end = (i + UINT64_C(1)) * n / wanted;
        sample[i] = from[first + random_below(&seed, end - first)];
    }
}

static annex_status train_parts(struct lists_builder *lists, const uint32_t *sample, uint32_t n,
                                annex_error *error)
{
    const annex_env *env = &lists->builder->env;
    uint32_t wanted = MIN(n, lists->n_parts * TOP_SAMPLE_ROWS), *some;
    uint64_t seed = lists->builder->options.seed ^ 0x70b5;
    TRY(memory_new_raw(env, wanted, sizeof *some, &some, error));
    choose_sample(sample, n, wanted, seed, some);
    annex_status status =
        kmeans_train(&lists->kmeans, some, wanted, lists->n_parts, seed, lists->parts, error);
    memory_free(env, some, wanted, sizeof *some);
    return status;
}

/* The lists of each part, in proportion to its rows of the sample. */
static annex_status train_lists(struct lists_builder *lists, const struct clusters *sample,
                                annex_error *error)
{
    uint64_t seed = lists->builder->options.seed ^ 0x115e5;
    for (uint32_t part = 0; part < lists->n_parts; part++) {
        const uint32_t *ids = sample->ids + sample->bounds[part];
        uint32_t rows = sample->bounds[part + 1] - sample->bounds[part];
        uint32_t left = lists->capacity - lists->n;
        uint32_t wanted = MIN((rows + SAMPLE_ROWS / 2) / SAMPLE_ROWS, left);
        lists->part_bounds[part] = lists->n;
        if (rows > 0 && left > 0) {
            wanted = MAX(wanted, 1);
            TRY(kmeans_train(&lists->kmeans, ids, rows, wanted, seed + part,
                             centroid(lists, lists->n), error));
            lists->n += wanted;
        }
        TRY(progress_update(&lists->progress, sample->bounds[part + 1], error));
    }
    lists->part_bounds[lists->n_parts] = lists->n;
    return ANNEX_OK;
}

static annex_status train(struct lists_builder *lists, uint32_t wanted, annex_error *error)
{
    const annex_env *env = &lists->builder->env;
    uint32_t n = lists->builder->n, n_sample = (uint32_t)MIN((uint64_t)wanted * SAMPLE_ROWS, n);
    uint32_t *sample = NULL, *part_of = NULL;
    struct clusters clusters = {0};
    annex_status status;
    TRY_CLEANUP(progress_begin(&lists->progress, env, "clustering", n_sample, error));
    TRY_CLEANUP(memory_new_raw(env, n_sample, sizeof *sample, &sample, error));
    TRY_CLEANUP(memory_new(env, n_sample, sizeof *part_of, &part_of, error));
    choose_sample(lists->slots, n, n_sample, lists->builder->options.seed, sample);
    if (lists->n_parts > 1) {
        TRY_CLEANUP(train_parts(lists, sample, n_sample, error));
        TRY_CLEANUP(kmeans_assign(&lists->kmeans, sample, n_sample, lists->parts, lists->n_parts,
                                  part_of, error));
    }
    TRY_CLEANUP(clusters_new(env, sample, part_of, n_sample, lists->n_parts, &clusters, error));
    TRY_CLEANUP(train_lists(lists, &clusters, error));
cleanup:
    clusters_free(env, &clusters);
    memory_free(env, sample, n_sample, sizeof *sample);
    memory_free(env, part_of, n_sample, sizeof *part_of);
    return status;
}

/* ---- assignment ------------------------------------------------------------------------------*/

/* The nearest of the lists of one part, when it is nearer than *distance. */
static void look_in_part(struct lists_builder *lists, unsigned worker, uint32_t part,
                         uint32_t *best, float *distance)
{
    uint32_t first = lists->part_bounds[part], n = lists->part_bounds[part + 1] - first;
    float found;
    uint32_t list =
        first + kmeans_nearest(&lists->kmeans, worker, centroid(lists, first), n, &found);
    if (found < *distance) {
        *distance = found;
        *best = list;
    }
}

/* Numbers of the parts nearest to the query of a worker. */
static uint32_t near_parts(struct lists_builder *lists, unsigned worker, uint32_t near[NEAR_PARTS])
{
    enum { MOST = 2048 };
    float distances[MOST], nearest[NEAR_PARTS];
    uint32_t n = 0;
    assert(lists->n_parts <= MOST);
    codec_score(&lists->kmeans.queries[worker], lists->parts, NULL, lists->n_parts, distances);
    for (uint32_t part = 0; part < lists->n_parts; part++) {
        float distance = distances[part];
        if (n == NEAR_PARTS && !(distance < nearest[n - 1])) {
            continue;
        }
        uint32_t i = n < NEAR_PARTS ? n++ : n - 1;
        for (; i > 0 && distance < nearest[i - 1]; i--) {
            nearest[i] = nearest[i - 1];
            near[i] = near[i - 1];
        }
        nearest[i] = distance;
        near[i] = part;
    }
    return n;
}

static annex_status assign_range(void *argument, unsigned worker, size_t first, size_t end,
                                 annex_error *error)
{
    struct lists_builder *lists = argument;
    (void)error;
    for (size_t slot = first; slot < end; slot++) {
        uint32_t near[NEAR_PARTS] = {0}, n = 1, best = 0;
        float distance = INFINITY;
        codec_query_set_row(&lists->kmeans.queries[worker],
                            lists->builder->codes + slot * code_bytes(lists));
        if (lists->n_parts > 1) {
            n = near_parts(lists, worker, near);
        }
        for (uint32_t i = 0; i < n; i++) {
            look_in_part(lists, worker, near[i], &best, &distance);
        }
        lists->list_of[slot] = best;
    }
    return ANNEX_OK;
}

/* ---- length ----------------------------------------------------------------------------------*/

static annex_status new_list(struct lists_builder *lists, annex_error *error)
{
    const annex_env *env = &lists->builder->env;
    if (lists->n == lists->capacity) {
        uint32_t capacity = lists->capacity + lists->capacity / 2 + 8;
        uint8_t *centroids;
        TRY(memory_new(env, capacity, code_bytes(lists), &centroids, error));
        memcpy(centroids, lists->centroids, lists->n * code_bytes(lists));
        memory_free(env, lists->centroids, lists->capacity, code_bytes(lists));
        lists->centroids = centroids;
        lists->capacity = capacity;
    }
    lists->n++;
    return ANNEX_OK;
}

/* Cuts the list of ids[0..n) in two, one of them new; not when its rows cannot be told apart. */
static annex_status cut_list(struct lists_builder *lists, const uint32_t *ids, uint32_t n,
                             annex_error *error)
{
    const annex_env *env = &lists->builder->env;
    uint32_t list = lists->list_of[ids[0]], wanted = MIN(n, 2 * TOP_SAMPLE_ROWS), moved = 0;
    size_t bytes = code_bytes(lists);
    uint32_t *side = NULL, *sample = NULL;
    uint8_t *two = NULL;
    annex_status status;
    TRY_CLEANUP(memory_new(env, n, sizeof *side, &side, error));
    TRY_CLEANUP(memory_new(env, wanted, sizeof *sample, &sample, error));
    TRY_CLEANUP(memory_new(env, 2, bytes, &two, error));
    choose_sample(ids, n, wanted, list, sample);
    TRY_CLEANUP(kmeans_train(&lists->kmeans, sample, wanted, 2, list, two, error));
    TRY_CLEANUP(kmeans_assign(&lists->kmeans, ids, n, two, 2, side, error));
    for (uint32_t i = 0; i < n; i++) {
        moved += side[i];
    }
    if (moved == 0 || moved == n) {
        goto cleanup;
    }
    TRY_CLEANUP(new_list(lists, error));
    memcpy(centroid(lists, list), two, bytes);
    memcpy(centroid(lists, lists->n - 1), two + bytes, bytes);
    for (uint32_t i = 0; i < n; i++) {
        lists->list_of[ids[i]] = side[i] ? lists->n - 1 : list;
    }
cleanup:
    memory_free(env, side, n, sizeof *side);
    memory_free(env, sample, wanted, sizeof *sample);
    memory_free(env, two, 2, bytes);
    return status;
}

/* A few rounds: most of what is too long is so by little. */
static annex_status cut_long_lists(struct lists_builder *lists, annex_error *error)
{
    enum { ROUNDS = 8 };
    const annex_env *env = &lists->builder->env;
    annex_status status = ANNEX_OK;
    bool cut = true;
    for (int round = 0; round < ROUNDS && cut && !status; round++) {
        struct clusters clusters;
        uint32_t n = lists->n;
        TRY(clusters_new(env, lists->slots, lists->list_of, lists->builder->n, n, &clusters,
                         error));
        for (uint32_t list = 0; list < n && !status; list++) {
            uint32_t first = clusters.bounds[list], rows = clusters.bounds[list + 1] - first;
            if (rows > LIST_MOST) {
                status = cut_list(lists, clusters.ids + first, rows, error);
            }
        }
        cut = lists->n > n;
        clusters_free(env, &clusters);
    }
    return status;
}

/* Keeps the lists that are long enough, in their order; their rows get the new numbers. */
static uint32_t keep_lists(struct lists_builder *lists, const struct clusters *clusters,
                           uint32_t *number)
{
    uint32_t kept = 0;
    for (uint32_t list = 0; list < lists->n; list++) {
        uint32_t rows = clusters->bounds[list + 1] - clusters->bounds[list];
        number[list] = UINT32_MAX;
        if (rows >= LIST_LEAST || (list == lists->n - 1 && kept == 0)) {
            memmove(centroid(lists, kept), centroid(lists, list), code_bytes(lists));
            number[list] = kept++;
        }
    }
    return kept;
}

static annex_status join_short_lists(struct lists_builder *lists, annex_error *error)
{
    const annex_env *env = &lists->builder->env;
    uint32_t n = lists->n, *number = NULL;
    struct clusters clusters = {0};
    annex_status status;
    TRY_CLEANUP(memory_new(env, n, sizeof *number, &number, error));
    TRY_CLEANUP(
        clusters_new(env, lists->slots, lists->list_of, lists->builder->n, n, &clusters, error));
    lists->n = keep_lists(lists, &clusters, number);
    for (uint32_t list = 0; list < n; list++) {
        for (uint32_t i = clusters.bounds[list]; i < clusters.bounds[list + 1]; i++) {
            uint32_t slot = clusters.ids[i];
            lists->list_of[slot] = number[list];
            if (number[list] == UINT32_MAX) {
                TRY_CLEANUP(kmeans_assign(&lists->kmeans, &slot, 1, lists->centroids, lists->n,
                                          &lists->list_of[slot], error));
            }
        }
    }
cleanup:
    clusters_free(env, &clusters);
    memory_free(env, number, n, sizeof *number);
    return status;
}

/* ---- rows in the order of their lists --------------------------------------------------------*/

static annex_status order_rows(struct lists_builder *lists, annex_error *error)
{
    struct builder *builder = lists->builder;
    const annex_env *env = &builder->env;
    struct clusters clusters;
    uint64_t *places;
    TRY(clusters_new(env, lists->slots, lists->list_of, builder->n, lists->n, &clusters, error));
    annex_status status =
        memory_new_raw(env, lists->n + 1, sizeof *builder->lists, &builder->lists, error);
    builder->n_lists = status ? 0 : lists->n;
    if (!status) {
        status = kmeans_update(&lists->kmeans, &clusters, lists->centroids, error);
    }
    if (!status) {
        status = memory_new_raw(env, builder->n, sizeof *places, &places, error);
    }
    if (!status) {
        for (uint32_t list = 0; list <= lists->n; list++) {
            builder->lists[list] = (struct ivf_list){.first = clusters.bounds[list]};
        }
        for (uint32_t i = 0; i < builder->n; i++) {
            places[i] = clusters.ids[i];
        }
        status = build_move_rows(builder, places, error);
        memory_free(env, places, builder->n, sizeof *places);
    }
    clusters_free(env, &clusters);
    return status;
}

/* ---- bits ------------------------------------------------------------------------------------*/

struct bits_job {
    struct builder *builder;
    struct ivf ivf;
    struct ivf_coder *coders;          /* one a worker */
    struct rabitq_residual *residuals; /* [rows] */
};

static annex_status code_range(void *argument, unsigned worker, size_t first, size_t end,
                               annex_error *error)
{
    struct bits_job *job = argument;
    struct builder *builder = job->builder;
    size_t row_bytes = builder->codec.row_bytes;
    (void)error;
    for (size_t slot = first * RABITQ_ROWS; slot < MIN(end * RABITQ_ROWS, builder->n); slot++) {
        job->residuals[slot] =
            ivf_encode(&job->ivf, &builder->codec, &job->coders[worker],
                       builder->codes + slot * row_bytes, ivf_list_of(&job->ivf, (uint32_t)slot),
                       ivf_block(&job->ivf, builder->blocks, (uint32_t)slot), slot % RABITQ_ROWS);
    }
    return ANNEX_OK;
}

/* What holds for every row of a list. */
static void bound_lists(struct builder *builder, const struct rabitq_residual *residuals)
{
    for (uint32_t l = 0; l < builder->n_lists; l++) {
        struct ivf_list *list = &builder->lists[l];
        for (uint32_t slot = list->first; slot < builder->lists[l + 1].first; slot++) {
            ivf_widen(list, residuals[slot], builder->errors[slot]);
        }
    }
}

static annex_status code_bits(struct lists_builder *lists, annex_error *error)
{
    struct builder *builder = lists->builder;
    const annex_env *env = &builder->env;
    unsigned threads = lists->kmeans.threads;
    size_t coder_bytes = ivf_coder_bytes(&builder->codec), n_blocks = rabitq_blocks(builder->n);
    struct bits_job job = {.builder = builder, .ivf = build_lists(builder)};
    char *memory = NULL;
    annex_status status;
    builder->n_blocks = n_blocks;
    TRY_CLEANUP(memory_new(env, n_blocks, job.ivf.rabitq.block_bytes, &builder->blocks, error));
    TRY_CLEANUP(memory_new(env, threads, sizeof *job.coders, &job.coders, error));
    TRY_CLEANUP(memory_new(env, threads, coder_bytes, &memory, error));
    TRY_CLEANUP(memory_new(env, builder->n, sizeof *job.residuals, &job.residuals, error));
    for (unsigned t = 0; t < threads; t++) {
        ivf_coder_init(&builder->codec, &job.coders[t], memory + t * coder_bytes);
    }
    TRY_CLEANUP(progress_begin(&lists->progress, env, "coding", n_blocks, error));
    TRY_CLEANUP(progress_for(&lists->progress, threads, n_blocks, 16, code_range, &job, error));
    bound_lists(builder, job.residuals);
    status = progress_update(&lists->progress, n_blocks, error);
cleanup:
    memory_free(env, job.coders, threads, sizeof *job.coders);
    memory_free(env, memory, threads, coder_bytes);
    memory_free(env, job.residuals, builder->n, sizeof *job.residuals);
    return status;
}

/* ---- the whole -------------------------------------------------------------------------------*/

struct ivf build_lists(const struct builder *builder)
{
    return (struct ivf){.rabitq = rabitq_make(builder->options.seed, builder->options.dimension),
                        .centroids = builder->centroids,
                        .lists = builder->lists,
                        .blocks = builder->blocks,
                        .n_lists = builder->n_lists};
}

/* One list without rows, around the center: where rows can be added. */
static annex_status empty_lists(struct builder *builder, annex_error *error)
{
    float lost;
    TRY(memory_new(&builder->env, 2, sizeof *builder->lists, &builder->lists, error));
    builder->n_lists = builder->n_centroids = 1;
    TRY(memory_new(&builder->env, 1, builder->codec.row_bytes, &builder->centroids, error));
    float *work;
    TRY(memory_new(&builder->env, builder->options.dimension, sizeof *work, &work, error));
    codec_encode(&builder->codec, builder->center, builder->centroids, work, &lost);
    memory_free(&builder->env, work, builder->options.dimension, sizeof *work);
    return ANNEX_OK;
}

annex_status build_ivf(struct builder *builder, annex_error *error)
{
    const annex_env *env = &builder->env;
    struct lists_builder lists = {.builder = builder};
    size_t row_bytes = builder->codec.row_bytes;
    unsigned threads = parallel_threads(env, builder->options.threads);
    uint32_t wanted = MAX(builder->n / LIST_ROWS, 1), n = builder->n;
    if (n == 0) {
        return empty_lists(builder, error);
    }
    uint32_t n_parts = wanted <= ONE_LEVEL ? 1 : MIN((uint32_t)sqrt(wanted), 2048);
    annex_status status;
    lists.capacity = wanted + n_parts;
    lists.n_parts = n_parts;
    TRY_CLEANUP(kmeans_new(env, &builder->codec, builder->codes, threads, &lists.progress,
                           &lists.kmeans, error));
    TRY_CLEANUP(memory_new(env, n_parts, row_bytes, &lists.parts, error));
    TRY_CLEANUP(memory_new(env, n_parts + 1, 4, &lists.part_bounds, error));
    TRY_CLEANUP(memory_new(env, lists.capacity, row_bytes, &lists.centroids, error));
    TRY_CLEANUP(memory_new_raw(env, n, 4, &lists.list_of, error));
    TRY_CLEANUP(memory_new_raw(env, n, 4, &lists.slots, error));
    for (uint32_t slot = 0; slot < n; slot++) {
        lists.slots[slot] = slot;
    }
    TRY_CLEANUP(train(&lists, wanted, error));
    TRY_CLEANUP(progress_begin(&lists.progress, env, "assigning", n, error));
    TRY_CLEANUP(progress_for(&lists.progress, threads, n, 256, assign_range, &lists, error));
    TRY_CLEANUP(cut_long_lists(&lists, error));
    TRY_CLEANUP(join_short_lists(&lists, error));
    TRY_CLEANUP(order_rows(&lists, error));
    builder->centroids = lists.centroids;
    builder->n_centroids = lists.capacity;
    lists.centroids = NULL;
    TRY_CLEANUP(code_bits(&lists, error));
    status = build_calibrate_lists(builder, error);
cleanup:
    kmeans_free(&lists.kmeans);
    memory_free(env, lists.parts, n_parts, row_bytes);
    memory_free(env, lists.part_bounds, n_parts + 1, 4);
    memory_free(env, lists.centroids, lists.centroids ? lists.capacity : 0, row_bytes);
    memory_free(env, lists.list_of, n, 4);
    memory_free(env, lists.slots, n, 4);
    return status;
}
