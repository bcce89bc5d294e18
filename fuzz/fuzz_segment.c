/*
 * fuzz_segment.c - a damaged index file.
 *
 * An input that begins like an index file is one. Any other says how to damage a good one: its
 * first byte chooses which, and every 7 bytes behind it are one edit: where (u8 region, u16 offset)
 * and the four bytes to write there. In builds for fuzzing checksums agree with everything, so that
 * the edits reach the code behind them. Whatever opens may be searched and changed; answers may be
 * wrong, but nothing outside the image is read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    DIMENSION = 16,
    ROWS = 150,
    IMAGES = 11,
    EDIT_BYTES = 7,
    HEADER_BYTES = 168,
    K = 12,
    QUERIES = 5
};
enum { REGION_HEADER = 0, REGION_TABLE = 1, REGIONS = 16 };

struct image {
    uint8_t *bytes;
    size_t size;
};

/* Rows of small numbers that repeat, with keys that do not: [ROWS x DIMENSION] f32 or bits. */
struct source {
    annex_batch batch;
    float vectors[ROWS][DIMENSION];
    uint8_t bits[ROWS][DIMENSION / 8];
    int64_t keys[ROWS];
    char key_bytes[ROWS * 4];
    uint64_t key_ends[ROWS];
    int done;
};

static annex_status source_next(void *context, annex_batch *batch, annex_error *error)
{
    struct source *source = context;

    (void)error;
    *batch = source->batch;
    if (source->done) {
        batch->n = 0;
    }
    source->done = 1;
    return ANNEX_OK;
}

static annex_status source_rewind(void *context, annex_error *error)
{
    struct source *source = context;

    (void)error;
    source->done = 0;
    return ANNEX_OK;
}

static void source_fill(struct source *source, const annex_build_options *options)
{
    uint32_t state = 1;
    int wants_bits = options->metric == ANNEX_HAMMING;

    memset(source, 0, sizeof *source);
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < DIMENSION; j++) {
            state = state * 1664525u + 1013904223u;
            source->vectors[i][j] = (float)(state >> 24) - 100;
            source->bits[i][j / 8] |= (uint8_t)((state >> 31) << (j % 8));
        }
        source->keys[i] = 3 * i - 50;
        snprintf(source->key_bytes + 3 * i, 4, "k%02x", (unsigned)i);
        source->key_ends[i] = 3 * ((uint64_t)i + 1);
    }
    source->batch.n = ROWS;
    source->batch.vectors = wants_bits ? (const void *)source->bits : source->vectors;
    if (options->key_kind == ANNEX_KEY_INTEGER) {
        source->batch.keys = source->keys;
    } else {
        source->batch.key_bytes = source->key_bytes;
        source->batch.key_ends = source->key_ends;
    }
}

/* Builds one good index file and reads it back. */
static struct image image_make(const annex_build_options *options)
{
    static struct source source;
    annex_env env = annex_env_default();
    annex_rows rows = {&source, source_next, source_rewind};
    annex_index *index = NULL;
    annex_error error;
    char folder[] = "/tmp/annex-fuzz-XXXXXX";
    char path[sizeof folder + 16];
    struct image image = {NULL, 0};
    FILE *file;
    long size;

    source_fill(&source, options);
    FUZZ_REQUIRE(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/good.annex", folder);
    FUZZ_REQUIRE(annex_build(&env, options, &rows, path, &index, &error) == ANNEX_OK);
    annex_index_close(index);
    file = fopen(path, "rb");
    FUZZ_REQUIRE(file != NULL && fseek(file, 0, SEEK_END) == 0);
    size = ftell(file);
    FUZZ_REQUIRE(size > 0 && fseek(file, 0, SEEK_SET) == 0);
    image.size = (size_t)size;
    image.bytes = malloc(image.size);
    FUZZ_REQUIRE(image.bytes != NULL && fread(image.bytes, 1, image.size, file) == image.size);
    fclose(file);
    unlink(path);
    rmdir(folder);
    return image;
}

static const struct image *image_choose(unsigned which)
{
    static const struct {
        annex_metric metric;
        annex_family family;
        annex_raw raw;
        annex_key_kind key_kind;
        annex_codes codes;
    } shapes[IMAGES] = {
        {ANNEX_L2, ANNEX_GRAPH, ANNEX_RAW_KEEP, ANNEX_KEY_INTEGER, ANNEX_CODES_AUTO},
        {ANNEX_COSINE, ANNEX_GRAPH, ANNEX_RAW_NONE, ANNEX_KEY_BYTES, ANNEX_CODES_AUTO},
        {ANNEX_IP, ANNEX_FLAT, ANNEX_RAW_KEEP, ANNEX_KEY_INTEGER, ANNEX_CODES_AUTO},
        {ANNEX_HAMMING, ANNEX_FLAT, ANNEX_RAW_AUTO, ANNEX_KEY_BYTES, ANNEX_CODES_AUTO},
        {ANNEX_COSINE, ANNEX_GRAPH, ANNEX_RAW_NONE, ANNEX_KEY_INTEGER, ANNEX_CODES_Q4},
        {ANNEX_L1, ANNEX_GRAPH, ANNEX_RAW_NONE, ANNEX_KEY_INTEGER, ANNEX_CODES_F16},
        {ANNEX_IP, ANNEX_FLAT, ANNEX_RAW_NONE, ANNEX_KEY_INTEGER, ANNEX_CODES_F32},
        {ANNEX_L2, ANNEX_IVF, ANNEX_RAW_KEEP, ANNEX_KEY_INTEGER, ANNEX_CODES_AUTO},
        {ANNEX_IP, ANNEX_IVF, ANNEX_RAW_NONE, ANNEX_KEY_BYTES, ANNEX_CODES_AUTO},
        {ANNEX_COSINE, ANNEX_GRAPH, ANNEX_RAW_F16, ANNEX_KEY_INTEGER, ANNEX_CODES_AUTO},
        {ANNEX_L2, ANNEX_IVF, ANNEX_RAW_BF16, ANNEX_KEY_BYTES, ANNEX_CODES_AUTO},
    };
    static struct image images[IMAGES];
    struct image *image = &images[which % IMAGES];

    if (image->bytes == NULL) {
        annex_build_options options = ANNEX_BUILD_OPTIONS_INIT;

        options.dimension = DIMENSION;
        options.metric = shapes[which % IMAGES].metric;
        options.family = shapes[which % IMAGES].family;
        options.raw = shapes[which % IMAGES].raw;
        options.key_kind = shapes[which % IMAGES].key_kind;
        options.codes = shapes[which % IMAGES].codes;
        options.degree = 8;
        options.threads = 1;
        *image = image_make(&options);
    }
    return image;
}

static void image_edit(uint8_t *bytes, size_t size, const uint8_t *edit)
{
    unsigned region = edit[0] % REGIONS;
    size_t offset = edit[1] | (size_t)edit[2] << 8;
    uint64_t table;

    memcpy(&table, bytes + 48, sizeof table); /* header field table_offset */
    if (region == REGION_HEADER) {
        offset %= HEADER_BYTES;
    } else if (region == REGION_TABLE && table < size) {
        offset = table + offset % (size - table);
    } else {
        offset = offset * REGIONS + region;
    }
    if (offset % size + 4 <= size) {
        memcpy(bytes + offset % size, edit + 3, 4);
    }
}

static void index_search(const annex_index *index)
{
    static const float queries[QUERIES * ANNEX_MAX_DIMENSION] = {3, -1, 4,  1,        -5,
                                                                 9, 2,  -6, [20] = 5, [40] = -3};
    static uint64_t allowed[64] = {UINT64_C(0x5555555555555555)};
    annex_search_options options = ANNEX_SEARCH_OPTIONS_INIT;
    annex_hit hits[QUERIES * K];
    annex_hit *within = NULL;
    annex_index_info info;
    annex_error error;
    size_t found[QUERIES] = {0};

    annex_index_describe(index, &info);
    for (int round = 0; round < 4; round++) {
        options.threads = 1;
        options.effort = round == 1 ? ANNEX_EFFORT_EXACT : round == 2 ? 3 : 0;
        options.allowed = round == 3 && info.slots <= 64 * 64 ? allowed : NULL;
        size_t n = round == 1 ? QUERIES : 1; /* many at once are scored by tiles */
        if (annex_index_search(index, queries, n, K, &options, hits, found, &error) != ANNEX_OK) {
            continue;
        }
        for (size_t q = 0; q < n; q++) {
            FUZZ_REQUIRE(found[q] <= K);
            for (size_t i = 0; i < found[q]; i++) {
                FUZZ_REQUIRE(hits[q * K + i].row < info.slots);
            }
        }
    }
    if (annex_index_within(index, queries, 300, NULL, &within, found, &error) == ANNEX_OK) {
        FUZZ_REQUIRE(found[0] <= info.slots);
        annex_hits_free(index, within, found[0]);
    }
}

static void index_look_up(const annex_index *index, const annex_index_info *info)
{
    static float vector[ANNEX_MAX_DIMENSION];
    annex_error error;
    uint32_t found;

    for (uint32_t row = 0; row < info->slots && row < 2 * ROWS; row++) {
        (void)annex_index_vector(index, row, vector, &error);
        if (info->key_kind == ANNEX_KEY_INTEGER) {
            int64_t key = 0;

            if (annex_index_key(index, row, &key, &error) == ANNEX_OK) {
                (void)annex_index_find(index, key, &found, &error);
            }
        } else {
            const void *key = NULL;
            size_t bytes = 0;

            if (annex_index_key_bytes(index, row, &key, &bytes, &error) == ANNEX_OK) {
                (void)annex_index_find_bytes(index, key, bytes, &found, &error);
            }
        }
    }
    FUZZ_REQUIRE(annex_index_key(index, UINT32_MAX, &(int64_t){0}, &error) != ANNEX_OK);
}

static void index_change(annex_index *index, const annex_index_info *info)
{
    static const float vectors[2][ANNEX_MAX_DIMENSION] = {{1, 2, 3}, {-7, 7}};
    static const int64_t keys[2] = {100000, -50};
    static const uint64_t key_ends[2] = {3, 6};
    annex_batch batch = {.n = 2, .vectors = vectors};
    annex_error error;

    if (info->key_kind == ANNEX_KEY_INTEGER) {
        batch.keys = keys;
    } else {
        batch.key_bytes = "newk00";
        batch.key_ends = key_ends;
    }
    (void)annex_index_update(index, &batch, &error);
    batch.n = 1;
    (void)annex_index_delete(index, &batch, &error);
    index_search(index);
}

static void image_use(const uint8_t *bytes, size_t size)
{
    struct fuzz_input nothing = {bytes, 0};
    annex_env env = fuzz_env(&nothing);
    annex_index *index = NULL;
    annex_index_info info;
    annex_error error;

    if (annex_index_open_image(&env, bytes, size, 0, &index, &error) != ANNEX_OK) {
        FUZZ_REQUIRE(index == NULL && memchr(error.message, 0, sizeof error.message) != NULL);
        return;
    }
    annex_index_describe(index, &info);
    FUZZ_REQUIRE(info.slots <= ANNEX_MAX_ROWS && info.dimension <= ANNEX_MAX_DIMENSION);
    FUZZ_REQUIRE(info.n_recall_points <= ANNEX_MAX_RECALL_POINTS);
    (void)annex_index_check(index, &error);
    index_search(index);
    index_look_up(index, &info);
    (void)annex_index_save(index, "saved.annex", &error); /* nothing can be written */
    index_change(index, &info);
    (void)annex_index_save(index, "saved.annex", &error);
    annex_index_close(index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char magic[] = "\x89"
                                "ANNEX";
    void *copy = NULL;
    const struct image *good;

    if (size == 0) {
        return 0;
    }
    if (size >= sizeof magic - 1 && memcmp(data, magic, sizeof magic - 1) == 0) {
        FUZZ_REQUIRE(posix_memalign(&copy, 64, size) == 0);
        memcpy(copy, data, size);
        image_use(copy, size);
    } else {
        good = image_choose(data[0]);
        FUZZ_REQUIRE(posix_memalign(&copy, 64, good->size) == 0);
        memcpy(copy, good->bytes, good->size);
        for (size_t at = 1; at + EDIT_BYTES <= size; at += EDIT_BYTES) {
            image_edit(copy, good->size, data + at);
        }
        image_use(copy, good->size);
    }
    free(copy);
    return 0;
}
