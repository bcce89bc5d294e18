/*
 * frame.c - what Annex puts around the image of a plug-in: keys, a fingerprint of each vector, and
 * a checksum of all of it. One stretch of bytes, which is stored as a segment of the native engine
 * is: docs/FORMAT.md, "Segments of other engines".
 *
 * Invariants
 *   1. frame_read accepts only bytes of which every count, offset and row number was looked at, so
 *      that nothing that reads a frame looks again.
 *   2. The engine sees vectors only, in the order of the rows; keys are none of its business.
 */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>

enum { FRAME_VERSION = 1, FRAME_ALIGNMENT = 64 };

static const char frame_magic[8] = "\x89"
                                   "ANXENG\n";

struct frame_header {
    char magic[8];
    uint32_t version;
    uint32_t metric;
    uint32_t dimension;
    uint32_t key_kind;
    uint64_t rows;
    uint64_t n_key_bytes;
    uint64_t engine_bytes;
    char engine[ANNEX_ENGINE_NAME_BYTES];
    uint64_t content[2]; /* hashes of the header with zeros here, and of what follows it */
    uint8_t zeros[32];
};
_Static_assert(sizeof(struct frame_header) == 128, "docs/FORMAT.md says so");

/* Offsets of the sections, one behind the other. */
struct frame_layout {
    uint64_t keys, prints, order, key_bytes, engine, end;
};

/* False when the sizes cannot be true of `bytes` bytes. */
static bool frame_lay_out(const struct frame_header *header, uint64_t bytes,
                          struct frame_layout *layout)
{
    uint64_t rows = header->rows;
    if (rows > ANNEX_MAX_ROWS || header->n_key_bytes > bytes || header->engine_bytes > bytes) {
        return false;
    }
    layout->keys = sizeof *header;
    layout->prints = layout->keys + 8 * rows;
    layout->order = layout->prints + 8 * rows;
    layout->key_bytes = layout->order + 4 * rows;
    layout->engine = round_up(layout->key_bytes + header->n_key_bytes, FRAME_ALIGNMENT);
    layout->end = layout->engine + header->engine_bytes;
    return layout->end == bytes;
}

static void frame_hash(const struct frame_header *header, const void *image, uint64_t bytes,
                       uint64_t content[2])
{
    struct frame_header bare = *header;
    memset(bare.content, 0, sizeof bare.content);
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t seed = hash_bytes(&bare, sizeof bare, i + 1);
        content[i] = hash_bytes((const char *)image + sizeof bare, bytes - sizeof bare, seed);
    }
}

/* ---- keys -------------------------------------------------------------------------------------*/

const void *frame_key_bytes(const struct frame *frame, uint32_t row, size_t *bytes)
{
    uint64_t begin = row > 0 ? frame->key_ends[row - 1] : 0;
    *bytes = (size_t)(frame->key_ends[row] - begin);
    return frame->key_bytes + begin;
}

int frame_compare_key(const struct frame *frame, uint32_t row, int64_t integer, const void *bytes,
                      size_t n_bytes)
{
    if (frame->key_kind == ANNEX_KEY_INTEGER) {
        return frame->keys[row] < integer ? -1 : frame->keys[row] > integer;
    }
    size_t own_bytes = 0;
    const void *own = frame_key_bytes(frame, row, &own_bytes);
    size_t common = MIN(own_bytes, n_bytes);
    int order = common > 0 ? memcmp(own, bytes, common) : 0;
    return order != 0 ? order : own_bytes < n_bytes ? -1 : own_bytes > n_bytes;
}

int frame_compare_rows(const struct frame *frame, uint32_t a, uint32_t b)
{
    size_t bytes = 0;
    if (frame->key_kind == ANNEX_KEY_INTEGER) {
        return frame_compare_key(frame, a, frame->keys[b], NULL, 0);
    }
    const void *key = frame_key_bytes(frame, b, &bytes);
    return frame_compare_key(frame, a, 0, key, bytes);
}

annex_status frame_find(const struct frame *frame, int64_t integer, const void *bytes,
                        size_t n_bytes, uint32_t *row)
{
    uint32_t first = 0, end = frame->rows;
    while (first < end) {
        uint32_t middle = first + (end - first) / 2;
        int order = frame_compare_key(frame, frame->order[middle], integer, bytes, n_bytes);
        if (order == 0) {
            *row = frame->order[middle];
            return ANNEX_OK;
        }
        if (order < 0) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return ANNEX_NOT_FOUND;
}

uint64_t frame_print(const struct frame *frame, const void *vector)
{
    return hash_bytes(vector, annex_vector_bytes(frame->metric, frame->dimension), 0);
}

/* ---- reading ----------------------------------------------------------------------------------*/

static bool frame_is_sound(const struct frame *frame, uint64_t n_key_bytes)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < frame->rows; i++) {
        if (frame->order[i] >= frame->rows) {
            return false;
        }
        if (frame->key_ends != NULL) {
            if (frame->key_ends[i] < end || frame->key_ends[i] > n_key_bytes) {
                return false;
            }
            end = frame->key_ends[i];
        }
    }
    return true;
}

annex_status frame_read(const char *engine_name, const void *image, uint64_t bytes,
                        struct frame *frame, annex_error *error)
{
    struct frame_header header;
    struct frame_layout layout;
    uint64_t content[2];
    const char *base = image;
    *frame = (struct frame){.rows = 0};
    if (bytes < sizeof header) {
        return error_set(error, ANNEX_DAMAGED, "a segment of the engine %s is cut off",
                         engine_name);
    }
    memcpy(&header, image, sizeof header);
    if (memcmp(header.magic, frame_magic, sizeof frame_magic) != 0 ||
        strncmp(header.engine, engine_name, sizeof header.engine) != 0) {
        return error_set(error, ANNEX_DAMAGED, "a segment is not of the engine %s", engine_name);
    }
    if (header.version != FRAME_VERSION) {
        return error_set(error, ANNEX_TOO_NEW,
                         "a segment of the engine %s has version %u; install a newer Annex",
                         engine_name, header.version);
    }
    frame_hash(&header, image, bytes, content);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    memcpy(content, header.content, sizeof content);
#endif
    if (memcmp(content, header.content, sizeof content) != 0 ||
        !frame_lay_out(&header, bytes, &layout) || header.key_kind > ANNEX_KEY_BYTES ||
        annex_metric_name((annex_metric)header.metric) == NULL || header.dimension == 0 ||
        header.dimension > ANNEX_MAX_DIMENSION) {
        return error_set(error, ANNEX_DAMAGED,
                         "the checksum of a segment of the engine %s is wrong", engine_name);
    }
    bool integer = header.key_kind == ANNEX_KEY_INTEGER;
    const void *keys = base + layout.keys, *prints = base + layout.prints;
    const void *order = base + layout.order;
    *frame = (struct frame){
        .metric = (annex_metric)header.metric,
        .dimension = header.dimension,
        .key_kind = (annex_key_kind)header.key_kind,
        .rows = (uint32_t)header.rows,
        .content = {content[0], content[1]},
        .keys = integer ? keys : NULL,
        .key_ends = integer ? NULL : keys,
        .key_bytes = base + layout.key_bytes,
        .order = order,
        .prints = prints,
        .engine_image = base + layout.engine,
        .engine_bytes = header.engine_bytes,
    };
    return frame_is_sound(frame, header.n_key_bytes)
               ? ANNEX_OK
               : error_set(error, ANNEX_DAMAGED, "a segment of the engine %s contradicts itself",
                           engine_name);
}

/* ---- building ---------------------------------------------------------------------------------*/

/* What is kept of the rows on their way to the engine. */
struct framing {
    const annex_env *env;
    const annex_rows *rows;
    struct frame frame; /* of what was gathered */
    struct buffer keys; /* or ends */
    struct buffer key_bytes;
    struct buffer prints;
    struct buffer order;
    struct buffer *image;
};

static annex_status framing_add(struct framing *self, const annex_batch *batch, annex_error *error)
{
    size_t vector_bytes = annex_vector_bytes(self->frame.metric, self->frame.dimension);
    uint64_t before = self->key_bytes.bytes;
    for (size_t i = 0; i < batch->n; i++) {
        uint64_t print = frame_print(&self->frame, (const char *)batch->vectors + i * vector_bytes);
        uint64_t key = self->frame.rows + i;
        if (self->frame.key_kind == ANNEX_KEY_BYTES) {
            key = before + batch->key_ends[i];
        } else if (batch->keys != NULL) {
            key = (uint64_t)batch->keys[i];
        }
        TRY(buffer_append(self->env, &self->prints, &print, sizeof print, error));
        TRY(buffer_append(self->env, &self->keys, &key, sizeof key, error));
    }
    if (self->frame.key_kind == ANNEX_KEY_BYTES) {
        TRY(buffer_append(self->env, &self->key_bytes, batch->key_bytes,
                          (size_t)batch->key_ends[batch->n - 1], error));
    }
    if (batch->n > ANNEX_MAX_ROWS - self->frame.rows) {
        return error_set(error, ANNEX_FULL, "there are more than %u rows", ANNEX_MAX_ROWS);
    }
    self->frame.rows += (uint32_t)batch->n;
    return ANNEX_OK;
}

static annex_status framing_gather(struct framing *self, annex_error *error)
{
    struct progress progress;
    annex_batch batch = {.n = 0};
    TRY(self->rows->rewind(self->rows->context, error)); /* somebody may have tried before */
    TRY(progress_begin(&progress, self->env, "reading", 0, error));
    do {
        TRY(self->rows->next(self->rows->context, &batch, error));
        if (batch.n > 0) {
            TRY(framing_add(self, &batch, error));
        }
        TRY(progress_update(&progress, self->frame.rows, error));
    } while (batch.n > 0);
    self->frame.keys = (const int64_t *)(const void *)self->keys.data;
    self->frame.key_ends = (const uint64_t *)(const void *)self->keys.data;
    self->frame.key_bytes = self->key_bytes.data;
    return self->rows->rewind(self->rows->context, error);
}

static int framing_compare(const void *a, const void *b, void *context)
{
    const struct framing *self = context;
    return frame_compare_rows(&self->frame, *(const uint32_t *)a, *(const uint32_t *)b);
}

static annex_status framing_sort(struct framing *self, annex_error *error)
{
    uint32_t n = self->frame.rows;
    for (uint32_t row = 0; row < n; row++) {
        TRY(buffer_append(self->env, &self->order, &row, sizeof row, error));
    }
    if (n == 0) {
        return ANNEX_OK;
    }
    uint32_t *order = (uint32_t *)(void *)self->order.data;
    qsort_r(order, n, sizeof *order, framing_compare, self);
    for (uint32_t i = 1; i < n; i++) {
        if (frame_compare_rows(&self->frame, order[i - 1], order[i]) == 0) {
            return error_set(error, ANNEX_INVALID, "rows %u and %u have the same key",
                             MIN(order[i - 1], order[i]), MAX(order[i - 1], order[i]));
        }
    }
    return ANNEX_OK;
}

/* annex_rows.next for the engine: the vectors alone. */
static annex_status framing_next(void *context, annex_batch *batch, annex_error *error)
{
    struct framing *self = context;
    annex_batch whole = {.n = 0};
    annex_status status = self->rows->next(self->rows->context, &whole, error);
    *batch = (annex_batch){.n = whole.n, .vectors = whole.vectors};
    return status;
}

static annex_status framing_rewind(void *context, annex_error *error)
{
    struct framing *self = context;
    return self->rows->rewind(self->rows->context, error);
}

/* annex_engine_write */
static annex_status framing_write(void *context, const void *data, size_t bytes, annex_error *error)
{
    struct framing *self = context;
    return bytes > 0 ? buffer_append(self->env, self->image, data, bytes, error) : ANNEX_OK;
}

static annex_status framing_save(struct framing *self, const annex_engine *engine,
                                 const annex_engine_index *index, annex_error *error)
{
    const struct buffer *sections[] = {&self->keys, &self->prints, &self->order, &self->key_bytes};
    struct frame_header header = {
        .version = FRAME_VERSION,
        .metric = self->frame.metric,
        .dimension = self->frame.dimension,
        .key_kind = self->frame.key_kind,
        .rows = self->frame.rows,
        .n_key_bytes = self->key_bytes.bytes,
    };
    static const char zeros[FRAME_ALIGNMENT];
    annex_error why = {ANNEX_OK, ""};
    memcpy(header.magic, frame_magic, sizeof header.magic);
    snprintf(header.engine, sizeof header.engine, "%s", engine->name);
    TRY(framing_write(self, &header, sizeof header, error));
    for (size_t i = 0; i < ARRAY_LENGTH(sections); i++) {
        TRY(framing_write(self, sections[i]->data, sections[i]->bytes, error));
    }
    uint64_t aligned = round_up(self->image->bytes, FRAME_ALIGNMENT);
    TRY(framing_write(self, zeros, (size_t)(aligned - self->image->bytes), error));
    annex_status status = engine->save(index, framing_write, self, &why);
    if (status != ANNEX_OK) {
        return engine_failed(engine, status, &why, error);
    }
    header.engine_bytes = self->image->bytes - aligned;
    frame_hash(&header, self->image->data, self->image->bytes, header.content);
    memcpy(self->image->data, &header, sizeof header);
    return ANNEX_OK;
}

static annex_status framing_build(struct framing *self, const annex_engine *engine,
                                  const annex_build_options *options, const char *json,
                                  annex_error *error)
{
    annex_rows vectors = {self, framing_next, framing_rewind};
    annex_engine_info info = {.struct_bytes = sizeof info};
    annex_engine_index *index = NULL;
    annex_error why = {ANNEX_OK, ""};
    annex_status status = engine->build(self->env, options, json, &vectors, NULL, &index, &why);
    if (status != ANNEX_OK) {
        return engine_failed(engine, status, &why, error);
    }
    engine->describe(index, &info);
    status = info.rows == self->frame.rows
                 ? framing_save(self, engine, index, error)
                 : error_set(error, ANNEX_INTERNAL,
                             "the engine %s took %llu of %u rows; it cannot be used", engine->name,
                             (unsigned long long)info.rows, self->frame.rows);
    engine->close(index);
    return status;
}

annex_status frame_build(const annex_env *env, const annex_engine *engine,
                         const annex_build_options *options, const char *json,
                         const annex_rows *rows, struct buffer *image, annex_error *error)
{
    struct framing self = {.env = env,
                           .rows = rows,
                           .frame = {.metric = options->metric,
                                     .dimension = options->dimension,
                                     .key_kind = options->key_kind},
                           .image = image};
    annex_status status = framing_gather(&self, error);
    TRY_CLEANUP(status);
    TRY_CLEANUP(framing_sort(&self, error));
    TRY_CLEANUP(framing_build(&self, engine, options, json, error));
cleanup:
    buffer_free(env, &self.keys);
    buffer_free(env, &self.key_bytes);
    buffer_free(env, &self.prints);
    buffer_free(env, &self.order);
    return status;
}
