/*
 * open.c - the reader: from a path or an image in memory to sections that may be used in place.
 *
 * Header, entries and content hash are read by copying (pread for files), so that they cannot
 * change between check and use, and a disk that fails is an error and not a signal. Only then is
 * the file mapped. Reads a few KiB for each GiB of the image, and allocates the segment itself
 * only.
 *
 * Does not: read sections. Their content is checked by segment_verify, or not trusted.
 */
#include <inttypes.h>

#include "segment/format.h"

#define IMAGE_NAME "the image"
#define PIECE_BYTES 2048

bool segment_checksum_agrees(uint64_t found, uint64_t expected)
{
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    (void)found;
    (void)expected;
    return true;
#else
    return found == expected;
#endif
}

annex_status segment_read(const struct segment *segment, uint64_t offset, void *to, size_t bytes,
                          annex_error *error)
{
    const annex_io *io = &segment->env.io;
    int failure;

    assert(bytes <= segment->image_bytes && offset <= segment->image_bytes - bytes);
    if (segment->file == NULL) {
        memcpy(to, segment->image + offset, bytes);
        return ANNEX_OK;
    }
    failure = io->read(io->context, segment->file, to, bytes, offset);
    return failure == 0 ? ANNEX_OK : error_io(error, failure, "read", segment->name);
}

/* ---- header ----------------------------------------------------------------------------------*/

/* Says what a file that does not start as ours most likely is. */
static annex_status header_check_magic(const struct segment_disk_header *header, const char *name,
                                       annex_error *error)
{
    if (memcmp(header->magic, SEGMENT_MAGIC, sizeof header->magic) == 0) {
        return ANNEX_OK;
    }
    if (memcmp(header->magic + 1, &SEGMENT_MAGIC[1], 5) == 0) {
        return segment_damaged(error, name, "its first bytes look as after a transfer as text");
    }
    return error_set(error, ANNEX_DAMAGED, "%s is not an Annex index: its first bytes are others",
                     name);
}

static annex_status header_check_version(const struct segment_disk_header *header, const char *name,
                                         annex_error *error)
{
    uint64_t unknown = header->required_features & ~SEGMENT_KNOWN_FEATURES;

    if (header->format_major > SEGMENT_FORMAT_MAJOR) {
        return error_set(error, ANNEX_TOO_NEW,
                         "%s has format %" PRIu32 ", this Annex reads format %d; use a newer Annex",
                         name, header->format_major, SEGMENT_FORMAT_MAJOR);
    }
    if (header->format_major < SEGMENT_FORMAT_MAJOR) {
        return segment_damaged(error, name, "its format is %" PRIu32 ", which never existed",
                               header->format_major);
    }
    if (unknown != 0) {
        return error_set(error, ANNEX_TOO_NEW,
                         "%s needs features 0x%" PRIx64
                         " that this Annex does not have; use a newer Annex",
                         name, unknown);
    }
    return ANNEX_OK;
}

static annex_status header_check(const struct segment_disk_header *header, const char *name,
                                 uint64_t image_bytes, annex_error *error)
{
    uint64_t checksum = segment_header_checksum(header);

    TRY(header_check_magic(header, name, error));
    if (!segment_checksum_agrees(checksum, header->checksum)) {
        return segment_damaged(error, name,
                               "the checksum of its header is %016" PRIx64 ", expected %016" PRIx64,
                               checksum, header->checksum);
    }
    if (header->endian_tag != SEGMENT_ENDIAN_TAG) {
        return segment_damaged(error, name, "its byte order is %08" PRIx32 ", expected %08x",
                               header->endian_tag, SEGMENT_ENDIAN_TAG);
    }
    TRY(header_check_version(header, name, error));
    if (header->header_bytes != SEGMENT_HEADER_BYTES) {
        return segment_damaged(error, name, "its header has %" PRIu32 " bytes, expected %d",
                               header->header_bytes, SEGMENT_HEADER_BYTES);
    }
    if (header->file_bytes != image_bytes) {
        return segment_damaged(error, name, "it has %" PRIu64 " bytes, expected %" PRIu64,
                               image_bytes, header->file_bytes);
    }
    if (header->n_sections > SEGMENT_MAX_SECTIONS) {
        return segment_damaged(error, name, "it has %" PRIu32 " sections, expected at most %d",
                               header->n_sections, SEGMENT_MAX_SECTIONS);
    }
    return ANNEX_OK;
}

static void header_decode(const struct segment_disk_header *disk, struct segment_header *header)
{
    *header = (struct segment_header){
        .format_major = disk->format_major,
        .format_minor = disk->format_minor,
        .required_features = disk->required_features,
        .optional_features = disk->optional_features,
        .slots = disk->slots,
        .skipped = disk->skipped,
        .dimension = disk->dimension,
        .code_bytes = disk->code_bytes,
        .metric = disk->metric,
        .family = disk->family,
        .key_kind = disk->key_kind,
        .code = disk->code,
        .degree = disk->degree,
        .lossless = disk->lossless,
        .build_effort = disk->build_effort,
        .default_effort = disk->default_effort,
        .alpha = disk->alpha,
        .reach = {disk->reach[0], disk->reach[1]},
        .fitted = disk->fitted,
        .inserted = disk->inserted,
        .max_norm = disk->max_norm,
        .fixed_scale = disk->fixed_scale,
        .rotated = disk->rotated,
        .raw_code = disk->raw_code,
        .seed = disk->seed,
        .content = {disk->content[0], disk->content[1]},
    };
}

/* ---- table -----------------------------------------------------------------------------------*/

/* Each section behind the one before, inside the image; then the table has exactly the rest. */
static annex_status table_check(const struct segment_layout *layout, const char *name,
                                annex_error *error)
{
    const struct segment_disk_header *header = &layout->header;
    uint64_t end = SEGMENT_HEADER_BYTES;
    uint64_t table_bytes = header->n_sections * sizeof(struct segment_disk_entry);

    for (uint32_t i = 0; i < header->n_sections; i++) {
        const struct segment_disk_entry *entry = &layout->entries[i];
        uint64_t bytes;

        if (entry->kind == 0 || entry->kind > UINT16_MAX || entry->stride == 0) {
            return segment_damaged(
                error, name, "section %" PRIu32 " has kind %" PRIu32 " and %" PRIu32 " bytes a row",
                i, entry->kind, entry->stride);
        }
        if (entry->offset % SEGMENT_ALIGNMENT != 0 || entry->offset < end ||
            entry->offset > header->table_offset ||
            !checked_multiply(entry->rows, entry->stride, &bytes) ||
            bytes > header->table_offset - entry->offset) {
            return segment_damaged(error, name,
                                   "section %" PRIu32 " (kind %" PRIu32 ") has %" PRIu64
                                   " rows of %" PRIu32 " bytes at %" PRIu64
                                   ", which is not between %" PRIu64 " and %" PRIu64,
                                   i, entry->kind, entry->rows, entry->stride, entry->offset, end,
                                   header->table_offset);
        }
        end = entry->offset + bytes;
        table_bytes += segment_chunks(bytes) * sizeof(uint64_t);
    }
    if (table_bytes != header->file_bytes - header->table_offset) {
        return segment_damaged(error, name, "its table has %" PRIu64 " bytes, expected %" PRIu64,
                               header->file_bytes - header->table_offset, table_bytes);
    }
    return ANNEX_OK;
}

/* Over the header without the fields that are computed last, and the table to the image's end. */
static annex_status table_check_content(const struct segment *segment,
                                        const struct segment_layout *layout, annex_error *error)
{
    const struct segment_disk_header *header = &layout->header;
    uint8_t piece[PIECE_BYTES];
    uint64_t found[2];
    XXH3_state_t state;

    segment_content_begin(&state, header);
    for (uint64_t at = header->table_offset; at < header->file_bytes;) {
        size_t bytes = MIN(sizeof piece, header->file_bytes - at);

        TRY(segment_read(segment, at, piece, bytes, error));
        XXH3_128bits_update(&state, piece, bytes);
        at += bytes;
    }
    segment_content_end(&state, found);
    if (!segment_checksum_agrees(found[0], header->content[0]) ||
        !segment_checksum_agrees(found[1], header->content[1])) {
        return segment_damaged(error, segment->name,
                               "the checksum of header and table is %016" PRIx64 "%016" PRIx64
                               ", expected %016" PRIx64 "%016" PRIx64,
                               found[1], found[0], header->content[1], header->content[0]);
    }
    return ANNEX_OK;
}

annex_status segment_read_layout(const struct segment *segment, struct segment_layout *layout,
                                 annex_error *error)
{
    const struct segment_disk_header *header = &layout->header;
    uint64_t entries_bytes;

    if (segment->image_bytes < SEGMENT_HEADER_BYTES) {
        return segment_damaged(error, segment->name,
                               "it has %" PRIu64 " bytes, expected at least %d",
                               segment->image_bytes, SEGMENT_HEADER_BYTES);
    }
    TRY(segment_read(segment, 0, &layout->header, sizeof layout->header, error));
    TRY(header_check(header, segment->name, segment->image_bytes, error));
    entries_bytes = header->n_sections * sizeof layout->entries[0];
    if (header->table_offset % SEGMENT_ALIGNMENT != 0 ||
        header->table_offset < SEGMENT_HEADER_BYTES || header->table_offset > header->file_bytes ||
        entries_bytes > header->file_bytes - header->table_offset) {
        return segment_damaged(error, segment->name,
                               "its table is at %" PRIu64 " of %" PRIu64 " bytes",
                               header->table_offset, header->file_bytes);
    }
    TRY(segment_read(segment, header->table_offset, layout->entries, entries_bytes, error));
    TRY(table_check(layout, segment->name, error));
    return table_check_content(segment, layout, error);
}

/* ---- open ------------------------------------------------------------------------------------*/

/*
 * Fills header and sections; segment->image is known. Kinds of a later minor version are skipped.
 */
static annex_status segment_use(struct segment *segment, const struct segment_layout *layout,
                                annex_error *error)
{
    header_decode(&layout->header, &segment->header);
    for (uint32_t i = 0; i < layout->header.n_sections; i++) {
        const struct segment_disk_entry *entry = &layout->entries[i];
        struct segment_section *section;

        if (entry->kind >= SECTION_KIND_END) {
            continue;
        }
        section = &segment->sections[entry->kind];
        if (section->data != NULL) {
            return segment_damaged(error, segment->name, "it has two sections of kind %" PRIu32,
                                   entry->kind);
        }
        section->data = segment->image + entry->offset;
        section->rows = entry->rows;
        section->stride = entry->stride;
    }
    return segment_check(segment->name, &segment->header, segment->sections, error);
}

static annex_status segment_new(const annex_env *env, const char *name, struct segment **segment,
                                annex_error *error)
{
    size_t name_bytes = strlen(name) + 1;
    annex_status status;

    TRY(memory_new(env, 1, sizeof **segment, segment, error));
    (*segment)->env = *env;
    status = memory_new_raw(env, name_bytes, 1, &(*segment)->name, error);
    if (status != ANNEX_OK) {
        memory_free(env, *segment, 1, sizeof **segment);
        *segment = NULL;
        return status;
    }
    memcpy((*segment)->name, name, name_bytes);
    return ANNEX_OK;
}

annex_status segment_open_image(const annex_env *env, const void *image, uint64_t bytes,
                                struct segment **segment, annex_error *error)
{
    struct segment *opened;
    struct segment_layout layout;
    annex_status status;

    *segment = NULL;
    if ((uintptr_t)image % 64 != 0) {
        return error_set(error, ANNEX_INVALID, "the image is at %p; align it to 64 bytes", image);
    }
    TRY(segment_new(env, IMAGE_NAME, &opened, error));
    opened->image = image;
    opened->image_bytes = bytes;
    TRY_CLEANUP(segment_read_layout(opened, &layout, error));
    TRY_CLEANUP(segment_use(opened, &layout, error));
    *segment = opened;
    return ANNEX_OK;

cleanup:
    segment_close(opened);
    return status;
}

static annex_status segment_map(struct segment *segment, annex_error *error)
{
    const annex_io *io = &segment->env.io;
    const void *image;
    int failure = io->map(io->context, segment->file, segment->image_bytes, &image);

    if (failure != 0) {
        return error_io(error, failure, "map", segment->name);
    }
    segment->image = image;
    segment->mapped = true;
    return ANNEX_OK;
}

annex_status segment_open(const annex_env *env, const char *path, struct segment **segment,
                          annex_error *error)
{
    return segment_open_as(env, path, path, segment, error);
}

annex_status segment_open_as(const annex_env *env, const char *path, const char *name,
                             struct segment **segment, annex_error *error)
{
    const annex_io *io = &env->io;
    struct segment *opened;
    struct segment_layout layout;
    annex_status status;
    int failure;

    *segment = NULL;
    TRY(segment_new(env, name, &opened, error));
    failure = io->open(io->context, path, ANNEX_OPEN_READ, &opened->file);
    if (failure != 0) {
        opened->file = NULL;
        status = error_io(error, failure, "open", name);
        goto cleanup;
    }
    failure = io->size(io->context, opened->file, &opened->image_bytes);
    if (failure != 0) {
        status = error_io(error, failure, "ask for the size of", name);
        goto cleanup;
    }
    TRY_CLEANUP(segment_read_layout(opened, &layout, error));
    TRY_CLEANUP(segment_map(opened, error));
    TRY_CLEANUP(segment_use(opened, &layout, error));
    *segment = opened;
    return ANNEX_OK;

cleanup:
    segment_close(opened);
    return status;
}

void segment_close(struct segment *segment)
{
    annex_env env;

    if (segment == NULL) {
        return;
    }
    env = segment->env;
    if (segment->mapped) {
        env.io.unmap(env.io.context, segment->image, segment->image_bytes);
    }
    if (segment->file != NULL) {
        env.io.close(env.io.context, segment->file);
    }
    memory_free(&env, segment->name, strlen(segment->name) + 1, 1);
    memory_free(&env, segment, 1, sizeof *segment);
}
