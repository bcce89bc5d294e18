/*
 * partition.c - see partition.h. All parts are split together, level by level.
 */
#include "build/partition.h"

enum {
    PIVOTS = 32,     /* of one part, at most */
    PER_LEAF = 3,    /* pivots for each leaf there will be: parts are of very different sizes */
    MAX_LEVELS = 32, /* far more than any rows need that can be told apart */
    GRAIN = 256
};

struct partition_part {
    uint32_t begin, end;
    uint32_t first_pivot, n_pivots; /* none: a leaf */
};

annex_status partition_new(struct partition *partition, annex_error *error)
{
    const annex_env *env = partition->env;
    uint32_t n = partition->capacity, units = n / partition->leaf_rows + 1;
    size_t query_bytes = codec_query_bytes(partition->codec);
    partition->max_parts = 16 * units; /* see is_last_level */
    partition->max_pivots = PER_LEAF * units;
    TRY(memory_new_raw(env, n, 4, &partition->order, error));
    TRY(memory_new_raw(env, n, 4, &partition->next_order, error));
    TRY(memory_new_raw(env, n, 1, &partition->nearest, error));
    TRY(memory_new_raw(env, partition->max_parts, sizeof *partition->parts, &partition->parts,
                       error));
    TRY(memory_new_raw(env, partition->max_parts, sizeof *partition->parts, &partition->next_parts,
                       error));
    TRY(memory_new_raw(env, partition->max_pivots, partition->codec->row_bytes, &partition->pivots,
                       error));
    TRY(memory_new(env, partition->threads, sizeof *partition->queries, &partition->queries,
                   error));
    TRY(memory_new(env, partition->threads, query_bytes, &partition->query_memory, error));
    for (unsigned t = 0; t < partition->threads; t++) {
        codec_query_init(partition->codec, &partition->queries[t],
                         partition->query_memory + t * query_bytes);
    }
    return ANNEX_OK;
}

void partition_free(struct partition *partition)
{
    const annex_env *env = partition->env;
    uint32_t n = partition->capacity;
    memory_free(env, partition->order, n, 4);
    memory_free(env, partition->next_order, n, 4);
    memory_free(env, partition->nearest, n, 1);
    memory_free(env, partition->parts, partition->max_parts, sizeof *partition->parts);
    memory_free(env, partition->next_parts, partition->max_parts, sizeof *partition->parts);
    memory_free(env, partition->pivots, partition->max_pivots, partition->codec->row_bytes);
    memory_free(env, partition->queries, partition->threads, sizeof *partition->queries);
    memory_free(env, partition->query_memory, partition->threads,
                codec_query_bytes(partition->codec));
}

const uint32_t *partition_leaf(const struct partition *partition, size_t i, uint32_t *n)
{
    *n = partition->parts[i].end - partition->parts[i].begin;
    return partition->order + partition->parts[i].begin;
}

static const uint8_t *row_at(const struct partition *partition, size_t place)
{
    return partition->rows + (size_t)partition->order[place] * partition->codec->row_bytes;
}

/* ---- one level -------------------------------------------------------------------------------*/

/* Gives every part that is too large its pivots; returns how many there are. */
static uint32_t choose_pivots(struct partition *partition)
{
    size_t row_bytes = partition->codec->row_bytes;
    uint32_t n = 0;
    for (uint32_t i = 0; i < partition->n_parts; i++) {
        struct partition_part *part = &partition->parts[i];
        uint32_t rows = part->end - part->begin;
        if (rows <= partition->leaf_rows) {
            continue;
        }
        part->first_pivot = n;
        part->n_pivots = (uint32_t)MIN(PIVOTS, PER_LEAF * (uint64_t)rows / partition->leaf_rows);
        for (uint32_t j = 0; j < part->n_pivots; j++) {
            size_t place = part->begin + random_below(&partition->random, rows);
            assert(n < partition->max_pivots);
            memcpy(partition->pivots + n++ * row_bytes, row_at(partition, place), row_bytes);
        }
    }
    return n;
}

static uint32_t part_of(const struct partition *partition, size_t place)
{
    uint32_t low = 0, high = partition->n_parts;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (partition->parts[middle].begin <= place) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static annex_status assign_range(void *argument, unsigned worker, size_t first, size_t end,
                                 annex_error *error)
{
    struct partition *partition = argument;
    struct query *query = &partition->queries[worker];
    const struct partition_part *part = &partition->parts[part_of(partition, first)];
    float scores[PIVOTS];
    (void)error;
    for (size_t place = first; place < end; place++) {
        while (place >= part->end) {
            part++;
        }
        if (part->n_pivots == 0) {
            continue;
        }
        codec_query_set_row(query, row_at(partition, place));
        codec_score(query, partition->pivots + part->first_pivot * partition->codec->row_bytes,
                    NULL, part->n_pivots, scores);
        uint32_t best = 0;
        for (uint32_t j = 1; j < part->n_pivots; j++) {
            best = scores[j] < scores[best] ? j : best;
        }
        partition->nearest[place] = (uint8_t)best;
    }
    return ANNEX_OK;
}

/* Adds a part to next_parts; small ones of one parent are joined. */
static void add_part(struct partition *partition, uint32_t *n, uint32_t begin, uint32_t end,
                     bool may_join)
{
    struct partition_part *parts = partition->next_parts;
    if (begin == end) {
        return;
    }
    if (may_join && end - parts[*n - 1].begin <= partition->leaf_rows / 2) {
        parts[*n - 1].end = end;
        return;
    }
    assert(*n < partition->max_parts);
    parts[(*n)++] = (struct partition_part){.begin = begin, .end = end};
}

/* Cuts a part that cannot be split by distance into leaves. */
static void cut_part(struct partition *partition, const struct partition_part *part, uint32_t *n)
{
    for (uint32_t begin = part->begin; begin < part->end;) {
        uint32_t end = begin + MIN(partition->leaf_rows, part->end - begin);
        add_part(partition, n, begin, end, false);
        begin = end;
    }
}

/* Brings the rows of each pivot together. `last`: what is too large now is cut. */
static void split_part(struct partition *partition, const struct partition_part *part, bool last,
                       uint32_t *n)
{
    uint32_t starts[PIVOTS + 1] = {0}, rows = part->end - part->begin, most = 0;
    for (uint32_t place = part->begin; place < part->end; place++) {
        starts[partition->nearest[place] + 1]++;
    }
    for (uint32_t p = 0; p < part->n_pivots; p++) {
        most = MAX(most, starts[p + 1]);
        starts[p + 1] += starts[p];
    }
    for (uint32_t p = 0, joins = 0; p < part->n_pivots && !last && most <= rows - rows / 32; p++) {
        uint32_t before = *n;
        add_part(partition, n, part->begin + starts[p], part->begin + starts[p + 1], joins);
        joins = joins || *n > before;
    }
    if (last || most > rows - rows / 32) {
        cut_part(partition, part, n);
    }
    for (uint32_t place = part->begin; place < part->end; place++) {
        uint32_t to = part->begin + starts[partition->nearest[place]]++;
        partition->next_order[to] = partition->order[place];
    }
}

/*
 * Rows that are hardly different could be split for ever, a few at a time. A level adds at most
 * 4 parts for every leaf_rows rows, joined as they are, and one for each part that is split.
 */
static bool is_last_level(const struct partition *partition, uint32_t level)
{
    return level == MAX_LEVELS || partition->n_parts > partition->max_parts / 2;
}

static void split_parts(struct partition *partition, uint32_t level)
{
    bool last = is_last_level(partition, level);
    uint32_t n = 0;
    for (uint32_t i = 0; i < partition->n_parts; i++) {
        const struct partition_part *part = &partition->parts[i];
        if (part->n_pivots) {
            split_part(partition, part, last, &n);
            continue;
        }
        memcpy(partition->next_order + part->begin, partition->order + part->begin,
               (part->end - part->begin) * sizeof *partition->order);
        add_part(partition, &n, part->begin, part->end, false);
    }
    struct partition_part *parts = partition->parts;
    uint32_t *order = partition->order;
    partition->parts = partition->next_parts;
    partition->next_parts = parts;
    partition->n_parts = n;
    partition->order = partition->next_order;
    partition->next_order = order;
}

annex_status partition_make(struct partition *partition, const uint32_t *ids, uint32_t n,
                            struct progress *progress, annex_error *error)
{
    assert(n > 0 && n <= partition->capacity);
    memcpy(partition->order, ids, n * sizeof *ids);
    partition->n = n;
    partition->parts[0] = (struct partition_part){.end = n};
    partition->n_parts = 1;
    for (uint32_t level = 1; choose_pivots(partition) > 0; level++) {
        TRY(progress_for(progress, partition->threads, n, GRAIN, assign_range, partition, error));
        split_parts(partition, level);
    }
    return ANNEX_OK;
}
