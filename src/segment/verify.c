/*
 * verify.c - reads a whole image once and compares everything that can be compared.
 *
 * Covers every byte: header and table by the content hash, sections by the checksums of their
 * chunks, and what lies between them by being zero. Reads the file, not the mapping (see
 * segment.h), and so needs a buffer of one chunk for images in files.
 * Does not: judge what sections mean; the checksums say that they are what the writer wrote.
 */
#include <inttypes.h>

#include "segment/format.h"

struct verifier {
    const struct segment *segment;
    struct segment_layout layout;
    struct progress progress;
    uint8_t *buffer;          /* [SEGMENT_CHUNK_BYTES], NULL for images in memory */
    uint64_t checksum_offset; /* of the next chunk's checksum in the image */
};

/* Shows some bytes of the image, at most one chunk, until the next call. */
static annex_status verifier_view(struct verifier *verifier, uint64_t offset, size_t bytes,
                                  const uint8_t **view, annex_error *error)
{
    TRY(progress_update(&verifier->progress, offset, error));
    if (verifier->buffer == NULL) {
        *view = verifier->segment->image + offset;
        return ANNEX_OK;
    }
    *view = verifier->buffer;
    return segment_read(verifier->segment, offset, verifier->buffer, bytes, error);
}

static annex_status verifier_check_zero(struct verifier *verifier, uint64_t offset, uint64_t end,
                                        annex_error *error)
{
    while (offset < end) {
        size_t bytes = MIN(SEGMENT_CHUNK_BYTES, end - offset);
        const uint8_t *view;

        TRY(verifier_view(verifier, offset, bytes, &view, error));
        for (size_t i = 0; i < bytes; i++) {
            if (view[i] != 0) {
                return segment_damaged(error, verifier->segment->name,
                                       "byte %" PRIu64 " between sections is %u, expected 0",
                                       offset + i, view[i]);
            }
        }
        offset += bytes;
    }
    return ANNEX_OK;
}

static annex_status verifier_check_section(struct verifier *verifier,
                                           const struct segment_disk_entry *entry,
                                           annex_error *error)
{
    uint64_t section_bytes = segment_entry_bytes(entry);

    for (uint64_t chunk = 0; chunk < segment_chunks(section_bytes); chunk++) {
        uint64_t start = chunk * SEGMENT_CHUNK_BYTES;
        size_t bytes = MIN(SEGMENT_CHUNK_BYTES, section_bytes - start);
        const uint8_t *view;
        uint64_t expected;
        uint64_t found;

        TRY(segment_read(verifier->segment, verifier->checksum_offset, &expected, sizeof expected,
                         error));
        TRY(verifier_view(verifier, entry->offset + start, bytes, &view, error));
        found = hash_bytes(view, bytes, segment_chunk_seed(entry->kind, chunk));
        if (!segment_checksum_agrees(found, expected)) {
            return segment_damaged(error, verifier->segment->name,
                                   "chunk %" PRIu64 " of the section of kind %" PRIu32
                                   " has the checksum %016" PRIx64 ", expected %016" PRIx64,
                                   chunk, entry->kind, found, expected);
        }
        verifier->checksum_offset += sizeof expected;
    }
    return ANNEX_OK;
}

static annex_status verifier_run(struct verifier *verifier, annex_error *error)
{
    const struct segment_disk_header *header = &verifier->layout.header;
    uint64_t end = SEGMENT_HEADER_BYTES;

    verifier->checksum_offset =
        header->table_offset + header->n_sections * sizeof verifier->layout.entries[0];
    for (uint32_t i = 0; i < header->n_sections; i++) {
        const struct segment_disk_entry *entry = &verifier->layout.entries[i];

        TRY(verifier_check_zero(verifier, end, entry->offset, error));
        TRY(verifier_check_section(verifier, entry, error));
        end = entry->offset + segment_entry_bytes(entry);
    }
    TRY(verifier_check_zero(verifier, end, header->table_offset, error));
    return progress_update(&verifier->progress, header->file_bytes, error);
}

annex_status segment_verify(const struct segment *segment, annex_error *error)
{
    const annex_env *env = &segment->env;
    struct verifier *verifier;
    const uint64_t *content;
    annex_status status;

    TRY(memory_new(env, 1, sizeof *verifier, &verifier, error));
    verifier->segment = segment;
    content = verifier->layout.header.content;
    TRY_CLEANUP(progress_begin(&verifier->progress, env, "verifying", segment->image_bytes, error));
    TRY_CLEANUP(segment_read_layout(segment, &verifier->layout, error));
    if (memcmp(content, segment->header.content, sizeof segment->header.content) != 0) {
        status = segment_damaged(error, segment->name, "it changed since it was opened");
        goto cleanup;
    }
    if (segment->file != NULL) {
        TRY_CLEANUP(memory_new_raw(env, SEGMENT_CHUNK_BYTES, 1, &verifier->buffer, error));
    }
    TRY_CLEANUP(verifier_run(verifier, error));

cleanup:
    memory_free(env, verifier->buffer, SEGMENT_CHUNK_BYTES, 1);
    memory_free(env, verifier, 1, sizeof *verifier);
    return status;
}
