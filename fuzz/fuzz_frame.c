/*
 * fuzz_frame.c - a damaged segment of a plug-in engine.
 *
 * An input that begins like one is one; any other is edits of a good one: where (u16) and a byte to
 * write there. In builds for fuzzing checksums agree with everything. Whatever is read may be asked
 * for every row; nothing outside the image is read.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 20, EDIT_BYTES = 3, MOST_BYTES = 1 << 16 };

/* ---- a good one -------------------------------------------------------------------------------*/

struct source {
    float vectors[ROWS];
    char key_bytes[ROWS];
    uint64_t key_ends[ROWS];
    int64_t keys[ROWS];
    bool integer, done;
};

static annex_status source_next(void *context, annex_batch *batch, annex_error *error)
{
    struct source *source = context;
    (void)error;
    *batch = (annex_batch){.n = source->done ? 0 : ROWS, .vectors = source->vectors};
    if (source->integer) {
        batch->keys = source->keys;
    } else {
        batch->key_bytes = source->key_bytes;
        batch->key_ends = source->key_ends;
    }
    source->done = true;
    return ANNEX_OK;
}

static annex_status source_rewind(void *context, annex_error *error)
{
    struct source *source = context;
    (void)error;
    source->done = false;
    return ANNEX_OK;
}

/* An engine that keeps nothing. */
static annex_status none_build(const annex_env *env, const annex_build_options *options,
                               const char *json, const annex_rows *rows, const char *path,
                               annex_engine_index **index, annex_error *error)
{
    (void)env, (void)options, (void)json, (void)rows, (void)path, (void)error;
    *index = NULL;
    return ANNEX_OK;
}

static void none_close(annex_engine_index *index)
{
    (void)index;
}

static void none_describe(const annex_engine_index *index, annex_engine_info *info)
{
    (void)index;
    info->rows = ROWS;
}

static annex_status none_save(const annex_engine_index *index, annex_engine_write put,
                              void *context, annex_error *error)
{
    (void)index;
    return put(context, "nothing", 7, error);
}

static const annex_engine none = {.abi = ANNEX_ENGINE_ABI,
                                  .name = "none",
                                  .build = none_build,
                                  .close = none_close,
                                  .describe = none_describe,
                                  .save = none_save};

static void make(const annex_env *env, bool integer, struct buffer *image)
{
    static struct source source;
    annex_rows rows = {&source, source_next, source_rewind};
    annex_build_options options = ANNEX_BUILD_OPTIONS_INIT;
    annex_error error;
    source.integer = integer;
    for (size_t i = 0; i < ROWS; i++) {
        source.keys[i] = (int64_t)(i * 7 % ROWS);
        source.key_bytes[i] = (char)('a' + i * 7 % ROWS);
        source.key_ends[i] = i + 1;
    }
    options.dimension = 1;
    options.key_kind = integer ? ANNEX_KEY_INTEGER : ANNEX_KEY_BYTES;
    FUZZ_REQUIRE(frame_build(env, &none, &options, "{}", &rows, image, &error) == ANNEX_OK);
}

/* ---- the input --------------------------------------------------------------------------------*/

static void ask(const struct frame *frame)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < frame->rows; i++) {
        uint32_t row = 0;
        size_t bytes = 0;
        bool integer = frame->key_kind == ANNEX_KEY_INTEGER;
        const void *key = integer ? NULL : frame_key_bytes(frame, i, &bytes);
        int64_t number = integer ? frame->keys[i] : 0;
        if (frame_find(frame, number, key, bytes, &row) == ANNEX_OK) {
            FUZZ_REQUIRE(row < frame->rows && frame_compare_rows(frame, row, i) == 0);
        }
        sum += frame->prints[i] & 1;
    }
    for (uint64_t i = 0; i < frame->engine_bytes; i++) {
        sum += (unsigned char)frame->engine_image[i];
    }
    FUZZ_REQUIRE(sum <= UINT64_C(255) * frame->engine_bytes + frame->rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input nothing = {data, 0};
    annex_env env = fuzz_env(&nothing);
    struct buffer image = {0};
    struct frame frame;
    annex_error error;
    if (size == 0 || size > MOST_BYTES) {
        return 0;
    }
    if (data[0] == 0x89) {
        FUZZ_REQUIRE(buffer_append(&env, &image, data, size, &error) == ANNEX_OK);
    } else {
        make(&env, data[0] % 2 == 0, &image);
        for (size_t i = 1; i + EDIT_BYTES <= size; i += EDIT_BYTES) {
            size_t at = (size_t)(data[i] | data[i + 1] << 8) % image.bytes;
            image.data[at] = (char)data[i + 2];
        }
    }
    /* A copy of its very size, so that the sanitizer sees what is read behind the end. */
    char *exact = malloc(image.bytes);
    FUZZ_REQUIRE(exact != NULL);
    memcpy(exact, image.data, image.bytes);
    if (frame_read(none.name, exact, image.bytes, &frame, &error) == ANNEX_OK) {
        ask(&frame);
    }
    free(exact);
    buffer_free(&env, &image);
    return 0;
}
