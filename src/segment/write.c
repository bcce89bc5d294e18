/*
 * write.c - makes an image, in a file or in memory, from sections that arrive piece by piece.
 *
 * Invariants
 *   1. Declaring a section fixes its place, so nothing is ever moved or written twice.
 *   2. Checksums are taken from the bytes handed in, while they pass: nothing is read back.
 *   3. The header is written last, and only when header and sections pass the reader's checks.
 *   4. Under its path the file appears complete and durable (base/replace.c), or not at all.
 * Does not: buffer. Each append is one write.
 */
#include <inttypes.h>

#include "segment/format.h"

#define WRITER_MAX_BYTES (UINT64_C(1) << 62)

struct writer_section {
    struct segment_disk_entry entry; /* kind 0: not declared */
    uint64_t bytes;
    uint64_t written;
    uint64_t *checksums; /* [n_chunks] */
    size_t n_chunks;
    XXH3_state_t chunk; /* of the chunk that is being written */
};

struct segment_writer {
    annex_env env;
    bool to_file;
    bool complete;            /* header and table are written */
    struct replace_file file; /* when to_file */
    uint8_t *image;           /* when not: allocated with the first byte */
    uint64_t image_bytes;
    uint64_t end; /* of the last section */
    size_t n_chunks;
    uint32_t n_sections;
    uint32_t order[SECTION_KIND_END]; /* kinds as they were declared */
    struct writer_section sections[SECTION_KIND_END];
};

static uint64_t writer_table_offset(const struct segment_writer *writer)
{
    return round_up(writer->end, SEGMENT_ALIGNMENT);
}

static size_t writer_table_bytes(const struct segment_writer *writer)
{
    return writer->n_sections * sizeof(struct segment_disk_entry) +
           writer->n_chunks * sizeof(uint64_t);
}

/* A defect in the code that uses the writer. */
static annex_status writer_misused(annex_error *error, const char *what, uint32_t kind)
{
    return error_set(error, ANNEX_INTERNAL,
                     "a section of kind %" PRIu32 " %s; please report this defect", kind, what);
}

annex_status segment_writer_open(const annex_env *env, const char *path,
                                 struct segment_writer **writer, annex_error *error)
{
    struct segment_writer *opened;
    annex_status status;

    *writer = NULL;
    TRY(memory_new(env, 1, sizeof *opened, &opened, error));
    opened->env = *env;
    opened->end = SEGMENT_HEADER_BYTES;
    if (path != NULL) {
        status = replace_begin(&opened->file, &opened->env, path, error);
        if (status != ANNEX_OK) {
            memory_free(env, opened, 1, sizeof *opened);
            return status;
        }
        opened->to_file = true;
    }
    *writer = opened;
    return ANNEX_OK;
}

void segment_writer_abort(struct segment_writer *writer)
{
    annex_env env;

    if (writer == NULL) {
        return;
    }
    env = writer->env;
    if (writer->to_file) {
        replace_abort(&writer->file);
    }
    memory_free(&env, writer->image, writer->image_bytes, 1);
    for (uint32_t i = 0; i < writer->n_sections; i++) {
        struct writer_section *section = &writer->sections[writer->order[i]];

        memory_free(&env, section->checksums, section->n_chunks, sizeof section->checksums[0]);
    }
    memory_free(&env, writer, 1, sizeof *writer);
}

annex_status segment_writer_declare(struct segment_writer *writer, enum segment_kind kind,
                                    uint32_t stride, uint64_t rows, annex_error *error)
{
    struct writer_section *section = &writer->sections[kind];
    uint64_t offset = writer_table_offset(writer);
    uint64_t bytes;

    assert(kind > 0 && kind < SECTION_KIND_END && stride > 0);
    if (section->entry.kind != 0 || writer->image != NULL) {
        return writer_misused(error, "is declared twice or too late", kind);
    }
    if (!checked_multiply(rows, stride, &bytes) || bytes > WRITER_MAX_BYTES - offset) {
        return error_set(error, ANNEX_FULL,
                         "%" PRIu64 " rows of %" PRIu32 " bytes are more than a file can hold",
                         rows, stride);
    }
    section->n_chunks = segment_chunks(bytes);
    TRY(memory_new(&writer->env, section->n_chunks, sizeof section->checksums[0],
                   &section->checksums, error));
    section->entry = (struct segment_disk_entry){kind, stride, rows, offset};
    section->bytes = bytes;
    writer->end = offset + bytes;
    writer->n_chunks += section->n_chunks;
    writer->order[writer->n_sections++] = kind;
    return ANNEX_OK;
}

/* ---- filling ---------------------------------------------------------------------------------*/

static annex_status writer_put(struct segment_writer *writer, const void *data, size_t bytes,
                               uint64_t offset, annex_error *error)
{
    if (bytes == 0) {
        return ANNEX_OK; /* the table of an image without sections */
    }
    if (writer->to_file) {
        return replace_write(&writer->file, data, bytes, offset, error);
    }
    if (writer->image == NULL) {
        writer->image_bytes = writer_table_offset(writer) + writer_table_bytes(writer);
        TRY(memory_new_raw(&writer->env, writer->image_bytes, 1, &writer->image, error));
    }
    memcpy(writer->image + offset, data, bytes);
    return ANNEX_OK;
}

static void writer_section_hash(struct writer_section *section, const uint8_t *data, size_t bytes)
{
    while (bytes > 0) {
        uint64_t chunk = section->written / SEGMENT_CHUNK_BYTES;
        size_t used = section->written % SEGMENT_CHUNK_BYTES;
        size_t piece = MIN(bytes, SEGMENT_CHUNK_BYTES - used);

        if (used == 0) {
            XXH3_64bits_reset_withSeed(&section->chunk,
                                       segment_chunk_seed(section->entry.kind, chunk));
        }
        XXH3_64bits_update(&section->chunk, data, piece);
        section->written += piece;
        if (used + piece == SEGMENT_CHUNK_BYTES || section->written == section->bytes) {
            section->checksums[chunk] = XXH3_64bits_digest(&section->chunk);
        }
        data += piece;
        bytes -= piece;
    }
}

annex_status segment_writer_append(struct segment_writer *writer, enum segment_kind kind,
                                   const void *data, size_t bytes, annex_error *error)
{
    struct writer_section *section = &writer->sections[kind];

    assert(kind > 0 && kind < SECTION_KIND_END);
    if (bytes > section->bytes - section->written) {
        return writer_misused(error, "is given more than was declared", kind);
    }
    TRY(writer_put(writer, data, bytes, section->entry.offset + section->written, error));
    writer_section_hash(section, data, bytes);
    return ANNEX_OK;
}

/* ---- finishing -------------------------------------------------------------------------------*/

/* Zeros from the end of each section to the next one, or to the table. */
static annex_status writer_put_padding(struct segment_writer *writer, annex_error *error)
{
    static const uint8_t zeros[SEGMENT_ALIGNMENT];

    for (uint32_t i = 0; i < writer->n_sections; i++) {
        const struct writer_section *section = &writer->sections[writer->order[i]];
        uint64_t end = section->entry.offset + section->bytes;
        size_t gap = round_up(end, SEGMENT_ALIGNMENT) - end;

        if (gap > 0) {
            TRY(writer_put(writer, zeros, gap, end, error));
        }
    }
    return ANNEX_OK;
}

static void writer_fill_table(const struct segment_writer *writer, uint8_t *table)
{
    for (uint32_t i = 0; i < writer->n_sections; i++) {
        const struct segment_disk_entry *entry = &writer->sections[writer->order[i]].entry;

        memcpy(table, entry, sizeof *entry);
        table += sizeof *entry;
    }
    for (uint32_t i = 0; i < writer->n_sections; i++) {
        const struct writer_section *section = &writer->sections[writer->order[i]];
        size_t bytes = section->n_chunks * sizeof section->checksums[0];

        if (bytes > 0) {
            memcpy(table, section->checksums, bytes);
        }
        table += bytes;
    }
}

static void writer_fill_header(const struct segment_writer *writer,
                               const struct segment_header *header, const uint8_t *table,
                               struct segment_disk_header *disk)
{
    XXH3_state_t state;

    *disk = (struct segment_disk_header){
        .endian_tag = SEGMENT_ENDIAN_TAG,
        .header_bytes = SEGMENT_HEADER_BYTES,
        .format_major = SEGMENT_FORMAT_MAJOR,
        .format_minor = SEGMENT_FORMAT_MINOR,
        .required_features = header->required_features,
        .optional_features = header->optional_features,
        .file_bytes = writer_table_offset(writer) + writer_table_bytes(writer),
        .table_offset = writer_table_offset(writer),
        .slots = header->slots,
        .skipped = header->skipped,
        .seed = header->seed,
        .n_sections = writer->n_sections,
        .dimension = header->dimension,
        .code_bytes = header->code_bytes,
        .metric = header->metric,
        .family = header->family,
        .key_kind = header->key_kind,
        .code = header->code,
        .degree = header->degree,
        .lossless = header->lossless,
        .build_effort = header->build_effort,
        .default_effort = header->default_effort,
        .alpha = header->alpha,
        .reach = {header->reach[0], header->reach[1]},
        .fitted = header->fitted,
        .inserted = header->inserted,
        .max_norm = header->max_norm,
        .fixed_scale = header->fixed_scale,
        .rotated = header->rotated,
        .raw_code = header->raw_code,
    };
    memcpy(disk->magic, SEGMENT_MAGIC, sizeof disk->magic);
    segment_content_begin(&state, disk);
    XXH3_128bits_update(&state, table, writer_table_bytes(writer));
    segment_content_end(&state, disk->content);
    disk->checksum = segment_header_checksum(disk);
}

/* The reader's rules, before a reader meets the image. */
static annex_status writer_check(const struct segment_writer *writer,
                                 const struct segment_header *header, annex_error *error)
{
    struct segment_section sections[SECTION_KIND_END] = {{0}};
    annex_error reason;

    for (uint32_t i = 0; i < writer->n_sections; i++) {
        const struct writer_section *section = &writer->sections[writer->order[i]];

        if (section->written != section->bytes) {
            return writer_misused(error, "is given less than was declared", writer->order[i]);
        }
        sections[writer->order[i]] = (struct segment_section){
            .data = section, .rows = section->entry.rows, .stride = section->entry.stride};
    }
    if (segment_check("the new image", header, sections, &reason) != ANNEX_OK) {
        return error_set(error, ANNEX_INTERNAL, "%s; please report this defect", reason.message);
    }
    return ANNEX_OK;
}

/* Writes all that is not in sections. */
static annex_status writer_complete(struct segment_writer *writer,
                                    const struct segment_header *header, annex_error *error)
{
    size_t table_bytes = writer_table_bytes(writer);
    struct segment_disk_header disk;
    uint8_t *table = NULL;
    annex_status status;

    if (writer->complete) {
        return ANNEX_OK;
    }
    TRY(writer_check(writer, header, error));
    TRY(writer_put_padding(writer, error));
    TRY(memory_new_raw(&writer->env, table_bytes, 1, &table, error));
    writer_fill_table(writer, table);
    writer_fill_header(writer, header, table, &disk);
    TRY_CLEANUP(writer_put(writer, table, table_bytes, writer_table_offset(writer), error));
    TRY_CLEANUP(writer_put(writer, &disk, sizeof disk, 0, error));
    writer->complete = true;

cleanup:
    memory_free(&writer->env, table, table_bytes, 1);
    return status;
}

annex_status segment_writer_open_segment(struct segment_writer *writer,
                                         const struct segment_header *header,
                                         struct segment **segment, annex_error *error)
{
    assert(writer->to_file);
    *segment = NULL;
    TRY(writer_complete(writer, header, error));
    return segment_open_as(&writer->env, writer->file.temporary, writer->file.path, segment, error);
}

annex_status segment_writer_finish(struct segment_writer *writer,
                                   const struct segment_header *header, annex_error *error)
{
    annex_status status;

    assert(writer->to_file);
    TRY_CLEANUP(writer_complete(writer, header, error));
    TRY_CLEANUP(replace_commit(&writer->file, error));

cleanup:
    segment_writer_abort(writer);
    return status;
}

annex_status segment_writer_finish_image(struct segment_writer *writer,
                                         const struct segment_header *header, void **image,
                                         uint64_t *bytes, annex_error *error)
{
    annex_status status;

    assert(!writer->to_file);
    *image = NULL;
    *bytes = 0;
    TRY_CLEANUP(writer_complete(writer, header, error));
    *image = writer->image;
    *bytes = writer->image_bytes;
    writer->image = NULL;

cleanup:
    segment_writer_abort(writer);
    return status;
}
