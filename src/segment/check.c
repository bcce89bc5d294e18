/*
 * check.c - what must hold between the numbers of an image, whoever made it.
 *
 * Used on both sides of the disk: the reader refuses an image that breaks a rule, and the writer
 * does not write one. One rule per kind of section: whether it must be there, how many rows, which
 * stride.
 * Does not: look into sections, know where they lie (open.c).
 */
#include <float.h>
#include <inttypes.h>
#include <stdio.h>

#include "segment/format.h"

#define CHECK_MIN_DEGREE 8
#define CHECK_MAX_DEGREE 128
#define CHECK_MAX_EFFORT 65535
#define CHECK_MAX_PADDING 64 /* of a code, in bytes */
#define CHECK_TERM_BYTES 8   /* scale and bias behind each code */
#define CHECK_MAX_KEY_BYTES 65535
#define CHECK_BLOCK_ROWS 32

annex_status segment_damaged(annex_error *error, const char *name, const char *format, ...)
{
    char what[ANNEX_ERROR_BYTES / 2];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return error_set(error, ANNEX_DAMAGED, "%s is damaged: %s; build it again", name, what);
}

enum presence { FORBIDDEN, OPTIONAL, REQUIRED };

struct section_rule {
    enum presence presence;
    uint64_t min_rows;
    uint64_t max_rows;
    uint64_t min_stride;
    uint64_t max_stride;
    uint32_t stride_multiple;
};

/* The usual rule: an array with a fixed number of rows of fixed size. */
static struct section_rule rule_exact(enum presence presence, uint64_t rows, uint64_t stride)
{
    return (struct section_rule){presence, rows, rows, stride, stride, 1};
}

static struct section_rule rule_raw(const struct segment_header *header)
{
    bool bits = header->metric == ANNEX_HAMMING || header->metric == ANNEX_JACCARD;
    uint64_t element = header->raw_code ? 2 : 4;
    uint64_t bytes = bits ? (header->dimension + 7u) / 8 : element * header->dimension;

    return rule_exact(header->raw_code ? REQUIRED : OPTIONAL, header->slots, bytes);
}

/* A block has a nibble of 32 rows for each 4 dimensions, and two factors of each. */
static struct section_rule rule_blocks(const struct segment_header *header)
{
    uint64_t groups = (header->dimension + 3u) / 4;
    uint64_t blocks = (header->slots + CHECK_BLOCK_ROWS - 1) / CHECK_BLOCK_ROWS;

    return rule_exact(REQUIRED, blocks, groups * CHECK_BLOCK_ROWS / 2 + 8 * CHECK_BLOCK_ROWS);
}

static struct section_rule rule_of(const struct segment_header *header, enum segment_kind kind)
{
    uint64_t slots = header->slots;
    bool numbers = header->code != SEGMENT_CODE_BITS;
    bool graph = header->family == ANNEX_GRAPH, ivf = header->family == ANNEX_IVF;
    bool byte_keys = header->key_kind == ANNEX_KEY_BYTES;

    switch (kind) {
    case SECTION_CODES:
        return rule_exact(ivf ? FORBIDDEN : REQUIRED, slots, header->code_bytes + CHECK_TERM_BYTES);
    case SECTION_SAME:
        return rule_exact(graph ? OPTIONAL : FORBIDDEN, slots, 4);
    case SECTION_ERRORS:
        return rule_exact(numbers && !ivf ? REQUIRED : FORBIDDEN, slots, 4);
    case SECTION_CENTER:
        return rule_exact(numbers ? REQUIRED : FORBIDDEN, header->dimension, 4);
    case SECTION_RAW:
        return rule_raw(header);
    case SECTION_GRAPH:
        return rule_exact(graph ? REQUIRED : FORBIDDEN, slots, 4 * (uint64_t)header->degree);
    case SECTION_ENTRY:
        return (struct section_rule){graph ? REQUIRED : FORBIDDEN, MIN(slots, 1), slots, 4, 4, 1};
    case SECTION_KEYS:
        return rule_exact(REQUIRED, slots, 8);
    case SECTION_KEY_BYTES:
        return (struct section_rule){
            byte_keys ? OPTIONAL : FORBIDDEN, 0, slots * CHECK_MAX_KEY_BYTES, 1, 1, 1};
    case SECTION_KEY_HASH:
        return (struct section_rule){OPTIONAL, slots + 1, UINT64_C(1) << 33, 4, 4, 1};
    case SECTION_RECALL:
        return (struct section_rule){OPTIONAL, 0, ANNEX_MAX_RECALL_POINTS, 8, 8, 1};
    case SECTION_RAW_ROW:
        return rule_exact(OPTIONAL, slots, 4);
    case SECTION_CENTROIDS: {
        uint64_t stride = header->code_bytes + CHECK_TERM_BYTES;
        return (struct section_rule){
            ivf ? REQUIRED : FORBIDDEN, 1, MAX(slots, 1), stride, stride, 1};
    }
    case SECTION_LISTS:
        return (struct section_rule){ivf ? REQUIRED : FORBIDDEN, 2, MAX(slots, 1) + 1, 16, 16, 1};
    case SECTION_BLOCKS:
        return ivf ? rule_blocks(header) : rule_exact(FORBIDDEN, 0, 1);
    case SECTION_KIND_END:
        break;
    }
    assert(!"every kind has a rule");
    return (struct section_rule){FORBIDDEN, 0, 0, 0, 0, 1};
}

static const char *const section_names[SECTION_KIND_END] = {
    [SECTION_CODES] = "codes",
    [SECTION_SAME] = "same",
    [SECTION_ERRORS] = "errors",
    [SECTION_CENTER] = "center",
    [SECTION_RAW] = "raw",
    [SECTION_GRAPH] = "graph",
    [SECTION_ENTRY] = "entry",
    [SECTION_KEYS] = "keys",
    [SECTION_KEY_BYTES] = "key bytes",
    [SECTION_KEY_HASH] = "key hash",
    [SECTION_RECALL] = "recall",
    [SECTION_RAW_ROW] = "raw row",
    [SECTION_CENTROIDS] = "centroids",
    [SECTION_LISTS] = "lists",
    [SECTION_BLOCKS] = "blocks",
};

static annex_status check_section(const char *name, const char *what,
                                  const struct section_rule *rule,
                                  const struct segment_section *section, annex_error *error)
{
    if (section->data == NULL) {
        /* A section without rows may be left out. */
        if (rule->presence == REQUIRED && rule->min_rows > 0) {
            return segment_damaged(error, name, "section \"%s\" is missing", what);
        }
        return ANNEX_OK;
    }
    if (rule->presence == FORBIDDEN) {
        return segment_damaged(error, name, "an index of its kind has no section \"%s\"", what);
    }
    if (section->rows < rule->min_rows || section->rows > rule->max_rows) {
        return segment_damaged(
            error, name, "section \"%s\" has %" PRIu64 " rows, expected %" PRIu64 " to %" PRIu64,
            what, section->rows, rule->min_rows, rule->max_rows);
    }
    if (section->stride < rule->min_stride || section->stride > rule->max_stride ||
        section->stride % rule->stride_multiple != 0) {
        return segment_damaged(error, name,
                               "section \"%s\" has %" PRIu32 " bytes a row, expected %" PRIu64
                               " to %" PRIu64 " and a multiple of %" PRIu32,
                               what, section->stride, rule->min_stride, rule->max_stride,
                               rule->stride_multiple);
    }
    return ANNEX_OK;
}

/* An unsigned field of the header that must lie in a range. */
static annex_status check_range(const char *name, const char *what, uint64_t found, uint64_t least,
                                uint64_t most, annex_error *error)
{
    if (found < least || found > most) {
        return segment_damaged(error, name, "%s is %" PRIu64 ", expected %" PRIu64 " to %" PRIu64,
                               what, found, least, most);
    }
    return ANNEX_OK;
}

/* A float of the header that must be a number, not negative and finite. */
static annex_status check_float(const char *name, const char *what, float found, annex_error *error)
{
    if (!(found >= 0 && found <= FLT_MAX)) {
        return segment_damaged(error, name, "%s is %g, expected a number from 0", what,
                               (double)found);
    }
    return ANNEX_OK;
}

static uint32_t code_least_bytes(const struct segment_header *header)
{
    switch (header->code) {
    case SEGMENT_CODE_BITS:
        return (header->dimension + 7) / 8;
    case SEGMENT_CODE_Q4:
        return (header->dimension + 1) / 2;
    case SEGMENT_CODE_F16:
    case SEGMENT_CODE_BF16:
        return 2 * header->dimension;
    case SEGMENT_CODE_F32:
        return 4 * header->dimension;
    default:
        return header->dimension;
    }
}

static annex_status check_code(const char *name, const struct segment_header *header,
                               annex_error *error)
{
    bool bits = header->metric == ANNEX_HAMMING || header->metric == ANNEX_JACCARD;
    bool l1 = header->metric == ANNEX_L1;
    uint32_t least = code_least_bytes(header);

    TRY(check_range(name, "the code", header->code, bits ? SEGMENT_CODE_BITS : SEGMENT_CODE_Q8,
                    bits ? SEGMENT_CODE_BITS : SEGMENT_CODE_F32, error));
    if ((header->code == SEGMENT_CODE_BITS && !bits) || (header->code == SEGMENT_CODE_Q4 && l1)) {
        return segment_damaged(error, name, "the code is %" PRIu32 ", not for its metric",
                               header->code);
    }
    TRY(check_range(name, "\"rotated\"", header->rotated, header->code == SEGMENT_CODE_Q4,
                    !l1 && (header->code == SEGMENT_CODE_Q4 || header->code == SEGMENT_CODE_Q8),
                    error));
    if ((header->code > SEGMENT_CODE_BITS || header->rotated) &&
        !(header->required_features & SEGMENT_FEATURE_CODES)) {
        return segment_damaged(error, name, "its codes need a feature that it does not name");
    }
    if (header->code > SEGMENT_CODE_Q4 && !(header->fixed_scale > 0)) {
        return segment_damaged(error, name, "the scale is 0, expected more for codes of floats");
    }
    TRY(check_range(name, "the size of a code", header->code_bytes, least,
                    least + CHECK_MAX_PADDING, error));
    if (header->code_bytes % 8 != 0) {
        return segment_damaged(error, name,
                               "the size of a code is %" PRIu32 ", expected a multiple of 8",
                               header->code_bytes);
    }
    return ANNEX_OK;
}

/* Without the feature the field belongs to a later minor version, and says nothing. */
static annex_status check_raw(const char *name, const struct segment_header *header,
                              annex_error *error)
{
    bool bits = header->metric == ANNEX_HAMMING || header->metric == ANNEX_JACCARD;
    bool named = (header->required_features & SEGMENT_FEATURE_RAW) != 0;

    if (named && bits) {
        return segment_damaged(error, name, "bits are stored as floats");
    }
    return check_range(name, "the code of stored vectors", header->raw_code,
                       named ? SEGMENT_CODE_F16 : 0, named ? SEGMENT_CODE_BF16 : 0, error);
}

static annex_status check_family(const char *name, const struct segment_header *header,
                                 annex_error *error)
{
    TRY(check_range(name, "the family", header->family, ANNEX_FLAT, ANNEX_IVF, error));
    if (header->family == ANNEX_IVF &&
        (header->metric > ANNEX_COSINE || !(header->required_features & SEGMENT_FEATURE_IVF))) {
        return segment_damaged(error, name, "lists cannot be of its metric and features");
    }
    if (header->family != ANNEX_GRAPH) {
        return check_range(name, "the degree", header->degree, 0, 0, error);
    }
    TRY(check_range(name, "the degree", header->degree, CHECK_MIN_DEGREE, CHECK_MAX_DEGREE, error));
    TRY(check_range(name, "the effort of the build", header->build_effort, 1, CHECK_MAX_EFFORT,
                    error));
    if (header->degree % 8 != 0) {
        return segment_damaged(error, name, "the degree is %" PRIu32 ", expected a multiple of 8",
                               header->degree);
    }
    return ANNEX_OK;
}

annex_status segment_check(const char *name, const struct segment_header *header,
                           const struct segment_section *sections, annex_error *error)
{
    const struct segment_section *hash = &sections[SECTION_KEY_HASH];
    const struct segment_section *lists = &sections[SECTION_LISTS];

    TRY(check_range(name, "the number of rows", header->slots, 0, ANNEX_MAX_ROWS, error));
    TRY(check_range(name, "the metric", header->metric, ANNEX_L2, ANNEX_JACCARD, error));
    TRY(check_range(name, "the dimension", header->dimension, 1, ANNEX_MAX_DIMENSION, error));
    TRY(check_range(name, "the kind of key", header->key_kind, ANNEX_KEY_INTEGER, ANNEX_KEY_BYTES,
                    error));
    TRY(check_range(name, "\"lossless\"", header->lossless, 0, 1, error));
    TRY(check_float(name, "alpha", header->alpha, error));
    TRY(check_float(name, "the shorter reach", header->reach[0], error));
    TRY(check_float(name, "the longer reach", header->reach[1], error));
    TRY(check_float(name, "the largest norm", header->max_norm, error));
    TRY(check_float(name, "the scale", header->fixed_scale, error));
    if (header->metric == ANNEX_L1 && !(header->fixed_scale > 0)) {
        return segment_damaged(error, name, "the scale is 0, expected more under l1");
    }
    TRY(check_code(name, header, error));
    TRY(check_raw(name, header, error));
    TRY(check_family(name, header, error));
    for (enum segment_kind kind = SECTION_CODES; kind < SECTION_KIND_END; kind++) {
        struct section_rule rule = rule_of(header, kind);

        TRY(check_section(name, section_names[kind], &rule, &sections[kind], error));
    }
    if (hash->data != NULL && (hash->rows & (hash->rows - 1)) != 0) {
        return segment_damaged(error, name,
                               "section \"key hash\" has %" PRIu64 " rows, expected a power of two",
                               hash->rows);
    }
    if (lists->data != NULL && lists->rows != sections[SECTION_CENTROIDS].rows + 1) {
        return segment_damaged(
            error, name, "section \"lists\" has %" PRIu64 " rows, expected one more than centroids",
            lists->rows);
    }
    return ANNEX_OK;
}
