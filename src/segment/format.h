/*
 * format.h - the bytes of an image, for the files of this room only. docs/FORMAT.md explains them.
 *
 *   0              4096                                   table_offset              file_bytes
 *   [ header       | section | 0 | section | 0 | …        | entries | checksums     ]
 *
 * Invariants
 *   1. Every field is little-endian and lies at the offset asserted here.
 *   2. Entries are in the order of their offsets; each section starts on SEGMENT_ALIGNMENT behind
 *      the one before it, bytes in between are zero.
 *   3. The checksum of the header covers the header; content covers header and table; the checksums
 *      in the table cover the sections. So the header's checksum stands for the whole image.
 */
#ifndef ANNEX_SEGMENT_FORMAT_H
#define ANNEX_SEGMENT_FORMAT_H

#include <stddef.h>
#include <xxhash.h>

#include "segment/segment.h"

#define SEGMENT_ENDIAN_TAG 0x01020304u
#define SEGMENT_HEADER_BYTES 4096
#define SEGMENT_MAX_SECTIONS 64

/* Feature bits this version understands. */
#define SEGMENT_KNOWN_FEATURES (SEGMENT_FEATURE_IVF | SEGMENT_FEATURE_CODES | SEGMENT_FEATURE_RAW)

struct segment_disk_header {
    /* These five, and the checksum, stay where they are in every version. */
    char magic[8];
    uint32_t endian_tag;
    uint32_t header_bytes;
    uint32_t format_major;

    uint32_t format_minor;
    uint64_t required_features;
    uint64_t optional_features;
    uint64_t file_bytes;
    uint64_t table_offset;
    uint64_t content[2];
    uint64_t slots;
    uint64_t skipped;
    uint64_t seed;
    uint32_t n_sections;
    uint32_t dimension;
    uint32_t code_bytes;
    uint32_t metric;
    uint32_t family;
    uint32_t key_kind;
    uint32_t code;
    uint32_t degree;
    uint32_t lossless;
    uint32_t build_effort;
    uint32_t default_effort;
    float alpha;
    float max_norm;
    float fixed_scale;
    uint32_t rotated;
    float reach[2];         /* since 1.1; zero before */
    uint32_t raw_code;      /* 0 without the feature */
    uint64_t fitted;        /* since 1.1; 0: slots */
    uint64_t inserted;      /* since 1.1 */
    uint8_t reserved[3904]; /* zero; a later minor version may use it */
    uint64_t checksum;      /* XXH3-64 of the bytes before it */
};

_Static_assert(sizeof(struct segment_disk_header) == SEGMENT_HEADER_BYTES, "header size");
_Static_assert(offsetof(struct segment_disk_header, endian_tag) == 8, "header layout");
_Static_assert(offsetof(struct segment_disk_header, format_major) == 16, "header layout");
_Static_assert(offsetof(struct segment_disk_header, required_features) == 24, "header layout");
_Static_assert(offsetof(struct segment_disk_header, file_bytes) == 40, "header layout");
_Static_assert(offsetof(struct segment_disk_header, content) == 56, "header layout");
_Static_assert(offsetof(struct segment_disk_header, slots) == 72, "header layout");
_Static_assert(offsetof(struct segment_disk_header, n_sections) == 96, "header layout");
_Static_assert(offsetof(struct segment_disk_header, metric) == 108, "header layout");
_Static_assert(offsetof(struct segment_disk_header, lossless) == 128, "header layout");
_Static_assert(offsetof(struct segment_disk_header, max_norm) == 144, "header layout");
_Static_assert(offsetof(struct segment_disk_header, reserved) == 184, "header layout");
_Static_assert(offsetof(struct segment_disk_header, checksum) == 4088, "header layout");

/* One for each section; behind the last one follow the u64 checksums of all chunks, in order. */
struct segment_disk_entry {
    uint32_t kind;
    uint32_t stride;
    uint64_t rows;
    uint64_t offset;
};

_Static_assert(sizeof(struct segment_disk_entry) == 24, "entry size");
_Static_assert(offsetof(struct segment_disk_entry, rows) == 8, "entry layout");
_Static_assert(offsetof(struct segment_disk_entry, offset) == 16, "entry layout");

/* Header and entries of an image; checked, when segment_read_layout filled it. */
struct segment_layout {
    struct segment_disk_header header;
    struct segment_disk_entry entries[SEGMENT_MAX_SECTIONS];
};

static inline uint64_t segment_entry_bytes(const struct segment_disk_entry *entry)
{
    return entry->rows * entry->stride; /* does not overflow in a checked entry */
}

static inline uint64_t segment_chunks(uint64_t section_bytes)
{
    return section_bytes / SEGMENT_CHUNK_BYTES + (section_bytes % SEGMENT_CHUNK_BYTES != 0);
}

/* Bound to its place, so that chunks that changed places are noticed. Kinds are below 65536. */
static inline uint64_t segment_chunk_seed(uint32_t kind, uint64_t chunk)
{
    return (uint64_t)kind << 48 | chunk;
}

static inline uint64_t segment_header_checksum(const struct segment_disk_header *header)
{
    return hash_bytes(header, offsetof(struct segment_disk_header, checksum), 0);
}

/*
 * The content hash: XXH3-128 of the header without content and checksum, then of the table.
 * content[0] is the low half.
 */
static inline void segment_content_begin(XXH3_state_t *state,
                                         const struct segment_disk_header *header)
{
    const uint8_t *bytes = (const uint8_t *)header;
    size_t before = offsetof(struct segment_disk_header, content);
    size_t behind = offsetof(struct segment_disk_header, slots);
    size_t end = offsetof(struct segment_disk_header, checksum);

    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, bytes, before);
    XXH3_128bits_update(state, bytes + behind, end - behind);
}

static inline void segment_content_end(const XXH3_state_t *state, uint64_t content[2])
{
    XXH128_hash_t hash = XXH3_128bits_digest(state);

    content[0] = hash.low64;
    content[1] = hash.high64;
}

/* ---- check.c ---------------------------------------------------------------------------------*/

/* ANNEX_DAMAGED: "<name> is damaged: <what>; build it again". */
annex_status segment_damaged(annex_error *error, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Whether header and sections agree with each other and with the limits of the format. */
annex_status segment_check(const char *name, const struct segment_header *header,
                           const struct segment_section *sections, annex_error *error);

/* ---- open.c ----------------------------------------------------------------------------------*/

/* Copies bytes of the image, from the file when there is one. The caller checked the range. */
annex_status segment_read(const struct segment *segment, uint64_t offset, void *to, size_t bytes,
                          annex_error *error);
/* Reads header and entries; checks them, the bounds of all sections, and the content hash. */
annex_status segment_read_layout(const struct segment *segment, struct segment_layout *layout,
                                 annex_error *error);
/* Whether two checksums agree; always, in builds for fuzzing, which test what lies behind. */
bool segment_checksum_agrees(uint64_t found, uint64_t expected);

#endif
