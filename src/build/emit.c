/*
 * emit.c - writing an image and opening it: the common end of annex_build and annex_index_save.
 */
#include "build/build.h"

/* ---- key hash --------------------------------------------------------------------------------*/

/* ANNEX_INVALID naming a key that is there twice. */
static annex_status emit_key_hash(const annex_env *env, const struct image *image, uint32_t **hash,
                                  uint64_t *size, annex_error *error)
{
    uint32_t n = (uint32_t)image->header.slots;
    /* A view with just enough for key_of. */
    annex_index view = {.header = image->header,
                        .slots = n,
                        .keys = image->keys,
                        .key_bytes = image->key_bytes,
                        .n_key_bytes = image->n_key_bytes};
    *size = 16;
    while (*size < (uint64_t)n + n / 2 + 1) {
        *size *= 2;
    }
    TRY(memory_new(env, *size, sizeof **hash, hash, error));
    for (uint32_t slot = 0; slot < n; slot++) {
        struct key_view key = key_of(&view, slot);
        uint64_t i = key_hash(key) & (*size - 1);
        for (; (*hash)[i]; i = (i + 1) & (*size - 1)) {
            if (key_compare(key_of(&view, (*hash)[i] - 1), key) == 0) {
                char text[64];
                memory_free(env, *hash, *size, sizeof **hash);
                *hash = NULL;
                return error_set(error, ANNEX_INVALID,
                                 "two rows have the key %s; keys must be distinct",
                                 key_text(key, text));
            }
        }
        (*hash)[i] = slot + 1;
    }
    return ANNEX_OK;
}

/* ---- sections --------------------------------------------------------------------------------*/

struct part {
    enum segment_kind kind;
    const void *data;
    size_t stride;
    uint64_t rows;
};

static annex_status put_parts(struct segment_writer *writer, const struct image *image,
                              const struct part *parts, size_t n, annex_error *error)
{
    for (size_t i = 0; i < n; i++) {
        if (parts[i].data) {
            TRY(segment_writer_declare(writer, parts[i].kind, (uint32_t)parts[i].stride,
                                       parts[i].rows, error));
        }
    }
    if (image->raw_row_bytes) {
        TRY(segment_writer_declare(writer, SECTION_RAW, (uint32_t)image->raw_row_bytes,
                                   image->header.slots, error));
    }
    for (size_t i = 0; i < n; i++) {
        if (parts[i].data) {
            TRY(segment_writer_append(writer, parts[i].kind, parts[i].data,
                                      parts[i].rows * parts[i].stride, error));
        }
    }
    return image->raw_row_bytes ? image->write_raw(image->raw_context, writer, error) : ANNEX_OK;
}

static annex_status put_image(struct segment_writer *writer, const struct image *image,
                              annex_error *error)
{
    uint64_t n = image->header.slots, hash_size;
    uint32_t *hash;
    const struct ivf *ivf = &image->ivf;
    TRY(emit_key_hash(&image->env, image, &hash, &hash_size, error));
    const struct part parts[] = {
        {SECTION_CENTER, image->center, 4, image->header.dimension},
        {SECTION_ENTRY, image->entries, 4, image->n_entries},
        {SECTION_RECALL, image->n_recall ? image->recall : NULL, 8, image->n_recall},
        {SECTION_CODES, image->codes, image->row_bytes, n},
        {SECTION_GRAPH, image->neighbours, image->header.degree * 4, n},
        {SECTION_SAME, image->same, 4, n},
        {SECTION_ERRORS, image->errors, 4, n},
        {SECTION_KEYS, image->keys, 8, n},
        {SECTION_KEY_BYTES, image->key_bytes, 1, image->n_key_bytes},
        {SECTION_KEY_HASH, hash, 4, hash_size},
        {SECTION_CENTROIDS, ivf->centroids, image->row_bytes, ivf->n_lists},
        {SECTION_LISTS, ivf->lists, sizeof *ivf->lists, ivf->n_lists + UINT64_C(1)},
        {SECTION_BLOCKS, ivf->blocks, ivf->rabitq.block_bytes, rabitq_blocks(n)},
        {SECTION_RAW_ROW, image->raw_row_bytes ? image->raw_row : NULL, 4, n},
    };
    annex_status status = put_parts(writer, image, parts, ARRAY_LENGTH(parts), error);
    memory_free(&image->env, hash, hash_size, sizeof *hash);
    return status;
}

annex_status emit_image(const struct image *image, const char *path, struct segment_writer **writer,
                        annex_error *error)
{
    TRY(segment_writer_open(&image->env, path, writer, error));
    annex_status status = put_image(*writer, image, error);
    if (status) {
        segment_writer_abort(*writer);
        *writer = NULL;
    }
    return status;
}

/* ---- opening ---------------------------------------------------------------------------------*/

static annex_status open_in_memory(const annex_env *env, struct segment_writer *writer,
                                   const struct segment_header *header, annex_index **index,
                                   annex_error *error)
{
    void *bytes;
    uint64_t n_bytes;
    struct segment *segment;
    TRY(segment_writer_finish_image(writer, header, &bytes, &n_bytes, error));
    annex_status status = segment_open_image(env, bytes, n_bytes, &segment, error);
    if (status) {
        memory_free(env, bytes, n_bytes, 1);
        return status;
    }
    return index_new(env, segment, bytes, n_bytes, index, error);
}

annex_status emit_open(const annex_env *env, struct segment_writer *writer,
                       const struct segment_header *header, const char *path, annex_index **index,
                       annex_error *error)
{
    struct segment *segment;
    if (!path) {
        return open_in_memory(env, writer, header, index, error);
    }
    annex_status status = segment_writer_open_segment(writer, header, &segment, error);
    if (!status) {
        status = index_new(env, segment, NULL, 0, index, error);
    }
    if (status) {
        segment_writer_abort(writer);
        return status;
    }
    status = segment_writer_finish(writer, header, error);
    if (status) {
        annex_index_close(*index);
        *index = NULL;
    }
    return status;
}
