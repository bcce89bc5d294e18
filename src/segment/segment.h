/*
 * segment.h - the file format: one immutable image of an index, used in place from a mapping.
 * docs/FORMAT.md describes every byte; this room writes, opens and verifies it.
 *
 *   [ header 4 KiB | sections, each aligned to 4 KiB | section table + checksums ]
 *
 * Invariants
 *   1. An image that opens has consistent sizes: every section lies inside the image, is aligned,
 *      and has exactly the bytes that header counts and stride demand. Users may index it freely.
 *   2. The header holds each count once. What can be derived is derived.
 *   3. The same content gives the same bytes: padding is zero, no time stamps, no random ids.
 *   4. Contents of sections are NOT trusted by readers (ids may be out of range) unless
 *      segment_verify passed; that is the checksum's job, and searching code clamps ids.
 * Does not: interpret codes or graphs (index/), decide where images live (catalog/).
 */
#ifndef ANNEX_SEGMENT_H
#define ANNEX_SEGMENT_H

#include "base/base.h"

#define SEGMENT_MAGIC \
    "\x89"            \
    "ANNEX\r\n"                /* 8 bytes: a high byte and line ends catch text transfers */
#define SEGMENT_FORMAT_MAJOR 1 /* a reader refuses other majors */
#define SEGMENT_FORMAT_MINOR 1 /* additions an older reader may ignore */
#define SEGMENT_ALIGNMENT 4096
#define SEGMENT_CHUNK_BYTES (1u << 20) /* one checksum for each chunk of a section */

/* Those of annex_codes, as numbers that stay. */
enum segment_code {
    SEGMENT_CODE_Q8 = ANNEX_CODES_Q8,     /* u8 per dimension */
    SEGMENT_CODE_BITS = ANNEX_CODES_BITS, /* packed bits */
    SEGMENT_CODE_Q4 = ANNEX_CODES_Q4,     /* half a byte per dimension */
    SEGMENT_CODE_F16 = ANNEX_CODES_F16,
    SEGMENT_CODE_BF16 = ANNEX_CODES_BF16,
    SEGMENT_CODE_F32 = ANNEX_CODES_F32
};

/* Required features. */
#define SEGMENT_FEATURE_IVF UINT64_C(1)   /* rows in lists, coded by one bit a dimension */
#define SEGMENT_FEATURE_CODES UINT64_C(2) /* codes other than q8 and bits, or rotated ones */
#define SEGMENT_FEATURE_RAW UINT64_C(4)   /* vectors are stored as floats of 16 bits */

/* Kinds are stable numbers. `stride` bytes a row, `rows` rows. */
enum segment_kind {
    SECTION_CODES = 1,  /* [slots x (code_bytes + 8)]: padded code, f32 scale, f32 bias */
    SECTION_SAME = 2,   /* [slots x 4] u32 next slot with the same code, in a ring; graphs only */
    SECTION_ERRORS = 3, /* [slots x 4] f32: norm of what the code loses */
    SECTION_CENTER = 4, /* [dimension x 4] f32 subtracted before coding */
    SECTION_RAW = 5,    /* [slots x raw stride] vectors: see raw_code; or packed bits */
    SECTION_GRAPH = 6,  /* [slots x degree x 4] u32 neighbours, 0xffffffff fills the end */
    SECTION_ENTRY = 7,  /* [n x 4] u32 rows where searches start */
    SECTION_KEYS = 8,   /* [slots x 8] i64 key, or end offset of the byte key */
    SECTION_KEY_BYTES = 9,  /* [bytes x 1] byte keys one after the other, in slot order */
    SECTION_KEY_HASH = 10,  /* [2^m x 4] u32 slot + 1 by hash of key, linear probing, 0: empty */
    SECTION_RECALL = 11,    /* [n x 8] {u32 effort, f32 recall} */
    SECTION_RAW_ROW = 12,   /* [slots x 4] u32 row of RAW; absent: the slot's own number */
    SECTION_CENTROIDS = 13, /* [lists x (code_bytes + 8)] as CODES; ivf only, with the two below */
    SECTION_LISTS = 14,     /* [lists + 1 x 16] u32 first slot, f32 radius, spread, lost */
    SECTION_BLOCKS = 15,    /* [slots / 32 rounded up x block bytes]: see quant/rabitq.h */
    SECTION_KIND_END = 16
};

/* What an image says about itself, decoded from the header. */
struct segment_header {
    uint32_t format_major, format_minor;
    uint64_t required_features; /* bits unknown to a reader: refuse */
    uint64_t optional_features; /* bits unknown to a reader: ignore */
    uint64_t slots;             /* rows, all live in a fresh image */
    uint64_t skipped;
    uint32_t dimension;
    uint32_t code_bytes; /* of a row's code, padded to the kernels' multiple */
    uint32_t metric;     /* annex_metric */
    uint32_t family;     /* annex_family */
    uint32_t key_kind;   /* annex_key_kind */
    uint32_t code;       /* enum segment_code */
    uint32_t degree;     /* 0 for flat */
    uint32_t lossless;
    uint32_t build_effort;
    uint32_t default_effort;
    float alpha;
    float max_norm;    /* inner product: largest norm, for the augmented build metric */
    float fixed_scale; /* > 0: all rows have this scale */
    uint32_t rotated;  /* vectors are rotated before they are coded, by `seed` */
    uint32_t raw_code; /* stored vectors are f16 or bf16 (enum segment_code); 0: f32 or bits */
    float reach[2];    /* when walks stop: see index_reach; 0: by their window only */
    uint64_t fitted;   /* rows that codes were fitted to and recall was measured with; 0: slots */
    uint64_t inserted; /* rows inserted since they were */
    uint64_t seed;
    uint64_t content[2]; /* hash over the other header fields and every section's checksums */
};

struct segment_section {
    const void *data; /* NULL: the section is absent */
    uint64_t rows;
    uint32_t stride;
};

struct segment {
    annex_env env;
    struct segment_header header;
    struct segment_section sections[SECTION_KIND_END];
    const uint8_t *image;
    uint64_t image_bytes;
    char *name; /* the path, or what to call an image in memory in messages */
    void *file; /* of env.io, NULL for images in memory; verifying reads it, so that a disk that
                   fails is ANNEX_IO and not a signal */
    bool mapped;
};

/* Opens an image: header, table and bounds are validated, contents are not read. Cost O(1). */
annex_status segment_open(const annex_env *env, const char *path, struct segment **segment,
                          annex_error *error);
/* The same of a file that has another name in messages. */
annex_status segment_open_as(const annex_env *env, const char *path, const char *name,
                             struct segment **segment, annex_error *error);
/* Borrows `image` (64-byte aligned) until the segment is closed. */
annex_status segment_open_image(const annex_env *env, const void *image, uint64_t bytes,
                                struct segment **segment, annex_error *error);
void segment_close(struct segment *segment);
/* Reads everything and compares every checksum and the content hash. Progress "verifying". */
annex_status segment_verify(const struct segment *segment, annex_error *error);

/* ---- writing ---------------------------------------------------------------------------------*/

/*
 * Sections are declared with their exact size first, then filled in any interleaving, each one from
 * its start to its end. The writer owns nothing of the caller's memory.
 */
struct segment_writer;

/* With path NULL the image grows in memory (segment_writer_finish_image). */
annex_status segment_writer_open(const annex_env *env, const char *path,
                                 struct segment_writer **writer, annex_error *error);
annex_status segment_writer_declare(struct segment_writer *writer, enum segment_kind kind,
                                    uint32_t stride, uint64_t rows, annex_error *error);
/*
 * Appends to a section; more than was declared is ANNEX_INTERNAL here, less at finish. Each call is
 * one write to the file: append large pieces.
 */
annex_status segment_writer_append(struct segment_writer *writer, enum segment_kind kind,
                                   const void *data, size_t bytes, annex_error *error);
/*
 * Opens the file that segment_writer_finish will put under the path, given the same header, before
 * that: what cannot be opened need not appear. The segment outlives the writer.
 */
annex_status segment_writer_open_segment(struct segment_writer *writer,
                                         const struct segment_header *header,
                                         struct segment **segment, annex_error *error);
/*
 * Completes the image with `header` (its content[] is computed here) and makes it durable under its
 * path. Closes the writer in every case.
 */
annex_status segment_writer_finish(struct segment_writer *writer,
                                   const struct segment_header *header, annex_error *error);
/* For path NULL: *image is freed by memory_free(env, image, bytes, 1). */
annex_status segment_writer_finish_image(struct segment_writer *writer,
                                         const struct segment_header *header, void **image,
                                         uint64_t *bytes, annex_error *error);
/* Gives up: the temporary file is removed. NULL is allowed. */
void segment_writer_abort(struct segment_writer *writer);

#endif
