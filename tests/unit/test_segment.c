/*
 * test_segment.c - the file format: what is written comes back, and an image whose numbers
 * contradict each other is refused, even when all its checksums are right, as somebody with bad
 * intentions would make them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "fault.h"
#include "images.h"

/* ---- what is written comes back --------------------------------------------------------------*/

static void write_then_open__file_and_image__hold_the_same(void **state)
{
    struct fault fault;
    struct segment *segment;
    uint64_t bytes;
    uint8_t *image = image_make(&graph_recipe, &bytes);
    annex_error error;

    (void)state;
    fault_init(&fault, NULL);
    assert_int_equal(segment_open_image(&fault.env, image, bytes, &segment, &error), ANNEX_OK);
    assert_holds(segment, &graph_recipe);
    assert_int_equal(segment_verify(segment, &error), ANNEX_OK);
    segment_close(segment);

    assert_int_equal(recipe_write(&graph_recipe, &fault.env, test_path, &error), ANNEX_OK);
    assert_int_equal(segment_open(&fault.env, test_path, &segment, &error), ANNEX_OK);
    assert_holds(segment, &graph_recipe);
    assert_int_equal(segment_verify(segment, &error), ANNEX_OK);
    assert_int_equal(segment->image_bytes, bytes);
    assert_memory_equal(segment->image, image, bytes);
    segment_close(segment);
    unlink(test_path);
    segment_close(NULL);
    segment_writer_abort(NULL);
    fault_free(&fault);
    free(image);
}

static void write__pieces_of_any_size__give_the_same_bytes(void **state)
{
    static const size_t pieces[] = {1, 7, 1000, 4096};
    uint64_t bytes;
    uint8_t *image = image_make(&graph_recipe, &bytes);

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(pieces); i++) {
        struct recipe recipe = graph_recipe;
        uint64_t other_bytes;
        uint8_t *other;

        recipe.piece = pieces[i];
        other = image_make(&recipe, &other_bytes);
        assert_int_equal(other_bytes, bytes);
        assert_memory_equal(other, image, bytes);
        free(other);
    }
    free(image);
}

static void write__other_content_or_header__gives_another_content_hash(void **state)
{
    uint64_t bytes;
    uint8_t *images[3];
    struct segment_header header = *graph_recipe.header;
    struct recipe recipe = graph_recipe;

    (void)state;
    images[0] = image_make(&recipe, &bytes);
    recipe.seed = 2;
    images[1] = image_make(&recipe, &bytes);
    recipe.seed = 1;
    header.seed++;
    recipe.header = &header;
    images[2] = image_make(&recipe, &bytes);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < i; j++) {
            assert_memory_not_equal(((struct segment_disk_header *)images[i])->content,
                                    ((struct segment_disk_header *)images[j])->content, 16);
        }
    }
    for (int i = 0; i < 3; i++) {
        free(images[i]);
    }
}

static void write_then_open__no_rows__is_a_valid_image(void **state)
{
    static const struct plan plan[] = {{SECTION_CENTER, 4, DIMENSION}, {SECTION_KEYS, 8, 0}};
    struct segment_header header = *graph_recipe.header;
    struct recipe recipe = {&header, plan, 1, 1, 0};
    struct segment *segment;
    annex_env env = annex_env_default();
    annex_error error;
    uint64_t bytes;
    uint8_t *image;

    (void)state;
    header.slots = 0;
    for (; recipe.n <= ARRAY_LENGTH(plan); recipe.n++) {
        image = image_make(&recipe, &bytes);
        assert_int_equal(segment_open_image(&env, image, bytes, &segment, &error), ANNEX_OK);
        assert_int_equal(segment->sections[SECTION_KEYS].data != NULL, recipe.n == 2);
        assert_int_equal(segment_verify(segment, &error), ANNEX_OK);
        segment_close(segment);
        free(image);
    }
}

static void write_then_open__bits__hold_whole_bytes(void **state)
{
    static const struct segment_header header = {.slots = 5,
                                                 .dimension = 17,
                                                 .code_bytes = 8,
                                                 .metric = ANNEX_HAMMING,
                                                 .family = ANNEX_FLAT,
                                                 .code = SEGMENT_CODE_BITS};
    static const struct plan plan[] = {
        {SECTION_CODES, 16, 5}, {SECTION_RAW, 3, 5}, {SECTION_KEYS, 8, 5}};
    struct recipe recipe = {&header, plan, ARRAY_LENGTH(plan), 1, 0};
    struct segment *segment;
    annex_env env = annex_env_default();
    uint64_t bytes;
    uint8_t *image = image_make(&recipe, &bytes);

    (void)state;
    assert_int_equal(segment_open_image(&env, image, bytes, &segment, NULL), ANNEX_OK);
    assert_holds(segment, &recipe);
    segment_close(segment);
    free(image);
}

/* ---- contradictions under right checksums ----------------------------------------------------*/

struct contradiction {
    const char *says; /* part of the message */
    size_t field;     /* offset in the header, or in entry `section` */
    uint32_t width;
    uint64_t value;
    int section;         /* -1: the header */
    annex_status status; /* 0: ANNEX_DAMAGED */
};

#define H(name) offsetof(struct segment_disk_header, name)
#define HEADER_CASE(name, value, says)                                                    \
    {                                                                                     \
        says, H(name), sizeof((struct segment_disk_header *)0)->name, value, -1, ANNEX_OK \
    }
#define E(name) offsetof(struct segment_disk_entry, name)
#define ENTRY_CASE(section, name, value, says)                                                \
    {                                                                                         \
        says, E(name), sizeof((struct segment_disk_entry *)0)->name, value, section, ANNEX_OK \
    }

static const struct contradiction contradictions[] = {
    HEADER_CASE(endian_tag, 0x04030201, "byte order"),
    HEADER_CASE(format_major, 0, "never existed"),
    HEADER_CASE(header_bytes, 8192, "header has 8192 bytes"),
    HEADER_CASE(file_bytes, 4096, "expected 4096"),
    HEADER_CASE(file_bytes, UINT64_MAX, "bytes, expected"),
    HEADER_CASE(n_sections, 65, "65 sections"),
    HEADER_CASE(n_sections, UINT32_MAX, "sections"),
    HEADER_CASE(n_sections, 11, "its table has"),
    HEADER_CASE(n_sections, 13, "section 12"),
    HEADER_CASE(n_sections, 64, "table is at"),
    HEADER_CASE(table_offset, 0, "table is at 0"),
    HEADER_CASE(table_offset, 4097, "table is at 4097"),
    HEADER_CASE(table_offset, 4096, "section 0"),
    HEADER_CASE(table_offset, UINT64_MAX - 4095, "table is at"),
    HEADER_CASE(slots, SLOTS + 1, "rows"),
    HEADER_CASE(slots, UINT64_MAX, "number of rows"),
    HEADER_CASE(slots, UINT64_C(0x7fffffff), "number of rows"),
    HEADER_CASE(dimension, 0, "dimension is 0"),
    HEADER_CASE(dimension, 65536, "dimension is 65536"),
    HEADER_CASE(dimension, DIMENSION + 1, "\"center\""),
    HEADER_CASE(code_bytes, 16, "size of a code is 16"),
    HEADER_CASE(code_bytes, 36, "multiple of 8"),
    HEADER_CASE(code_bytes, 40, "\"codes\" has 40 bytes a row"),
    HEADER_CASE(code_bytes, UINT32_MAX, "size of a code"),
    HEADER_CASE(metric, 0, "metric is 0"),
    HEADER_CASE(metric, 7, "metric is 7"),
    HEADER_CASE(metric, ANNEX_HAMMING, "the code is 1"),
    HEADER_CASE(family, ANNEX_FAMILY_AUTO, "family is 0"),
    HEADER_CASE(family, 4, "family is 4"),
    HEADER_CASE(family, ANNEX_IVF, "lists cannot be of its metric"),
    HEADER_CASE(family, ANNEX_FLAT, "degree is 16"),
    HEADER_CASE(key_kind, 2, "kind of key is 2"),
    HEADER_CASE(key_kind, ANNEX_KEY_INTEGER, "no section \"key bytes\""),
    HEADER_CASE(code, 2, "code is 2"),
    HEADER_CASE(code, 0, "code is 0"),
    HEADER_CASE(degree, 0, "degree is 0"),
    HEADER_CASE(degree, 12, "multiple of 8"),
    HEADER_CASE(degree, 24, "\"graph\" has 64 bytes a row"),
    HEADER_CASE(degree, 136, "degree is 136"),
    HEADER_CASE(degree, 0x40000010, "degree is"),
    HEADER_CASE(build_effort, 0, "effort of the build is 0"),
    HEADER_CASE(build_effort, 65536, "effort of the build is 65536"),
    HEADER_CASE(lossless, 2, "lossless"),
    HEADER_CASE(raw_code, SEGMENT_CODE_F16, "code of stored vectors is 4, expected 0 to 0"),
    HEADER_CASE(required_features, SEGMENT_FEATURE_RAW, "code of stored vectors is 0, expected 4"),
    HEADER_CASE(alpha, 0x7fc00000, "alpha is nan"),
    HEADER_CASE(alpha, 0xbf800000, "alpha is -1"),
    HEADER_CASE(max_norm, 0x7f800000, "norm is inf"),
    HEADER_CASE(fixed_scale, 0xff800000, "scale is -inf"),
    {"has format 2", H(format_major), 4, 2, -1, ANNEX_TOO_NEW},
    {"needs features 0x10", H(required_features), 8, 16, -1, ANNEX_TOO_NEW},
    ENTRY_CASE(0, kind, 0, "section 0 has kind 0"),
    ENTRY_CASE(0, kind, 65536, "kind 65536"),
    ENTRY_CASE(0, kind, SECTION_KIND_END, "\"codes\" is missing"), /* an unknown kind is skipped */
    ENTRY_CASE(0, kind, SECTION_SAME, "two sections of kind 2"),
    ENTRY_CASE(0, stride, 0, "0 bytes a row"),
    ENTRY_CASE(0, stride, UINT32_MAX, "section 0"),
    ENTRY_CASE(0, stride, 39, "\"codes\" has 39 bytes"),
    ENTRY_CASE(0, stride, 28, "\"codes\" has 28 bytes"),
    ENTRY_CASE(0, rows, SLOTS - 1, "\"codes\" has 199 rows"),
    ENTRY_CASE(0, rows, UINT64_MAX, "section 0"),
    ENTRY_CASE(0, rows, UINT64_MAX / 40 + 2, "section 0"), /* the product is small again */
    ENTRY_CASE(0, offset, 0, "section 0"),
    ENTRY_CASE(0, offset, 4160, "section 0"),
    ENTRY_CASE(1, offset, 4096, "section 1"),
    ENTRY_CASE(0, offset, UINT64_MAX - 4095, "section 0"),
    ENTRY_CASE(1, stride, 8, "\"same\" has 8 bytes"),
    ENTRY_CASE(1, rows, 1, "\"same\" has 1 rows"),
    ENTRY_CASE(2, stride, 8, "\"errors\""),
    ENTRY_CASE(3, rows, 23, "\"center\""),
    ENTRY_CASE(4, stride, 92, "\"raw\""),
    ENTRY_CASE(4, stride, 98, "\"raw\""),
    ENTRY_CASE(5, stride, 32, "\"graph\""),
    ENTRY_CASE(5, rows, 0, "its table has"),
    ENTRY_CASE(6, rows, 201, "\"entry\""),
    ENTRY_CASE(6, stride, 8, "\"entry\""),
    ENTRY_CASE(7, rows, 100, "\"keys\""),
    ENTRY_CASE(8, stride, 2, "\"key bytes\""),
    ENTRY_CASE(9, rows, 128, "\"key hash\" has 128 rows"),
    ENTRY_CASE(9, rows, 513, "power of two"),
    ENTRY_CASE(10, rows, 17, "\"recall\""),
    ENTRY_CASE(10, stride, 4, "\"recall\""),
    ENTRY_CASE(11, rows, SLOTS + 1, "\"raw row\""),
};

static void contradiction_apply(const struct contradiction *contradiction, uint8_t *image)
{
    struct segment_disk_header *header = (struct segment_disk_header *)image;
    uint8_t *at = image;
    XXH3_state_t state;

    if (contradiction->section >= 0) {
        at = image + header->table_offset + 24 * (size_t)contradiction->section;
    }
    memcpy(at + contradiction->field, &contradiction->value, contradiction->width);
    if (contradiction->section >= 0) {
        image_seal(image, false);
        return;
    }
    /* The table may be nowhere now: the hash is computed as the reader would. */
    segment_content_begin(&state, header);
    header->checksum = segment_header_checksum(header);
}

static void contradiction__right_checksums__is_refused_with_its_name(void **state)
{
    uint64_t bytes;
    uint8_t *image = image_make(&graph_recipe, &bytes);
    uint8_t *edited = image_make(&graph_recipe, &bytes);

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(contradictions); i++) {
        const struct contradiction *contradiction = &contradictions[i];
        const struct segment_disk_header *header = (const struct segment_disk_header *)edited;
        annex_error error = {ANNEX_OK, "nothing"};
        annex_status expected =
            contradiction->status == ANNEX_OK ? ANNEX_DAMAGED : contradiction->status;
        annex_status status;

        memcpy(edited, image, bytes);
        contradiction_apply(contradiction, edited);
        if (header->table_offset == ((const struct segment_disk_header *)image)->table_offset &&
            header->file_bytes == bytes) {
            image_seal(edited, false);
        }
        status = image_check(edited, bytes, &error);
        if (status != expected || error.status != expected ||
            strstr(error.message, contradiction->says) == NULL ||
            strncmp(error.message, "the image ", 10) != 0) {
            fail_msg("case %d (%s): status %d, %s", (int)i, contradiction->says, (int)status,
                     error.message);
        }
    }
    free(edited);
    free(image);
}

static void contradiction__content_hash__is_compared_in_both_halves(void **state)
{
    (void)state;
    for (int half = 0; half < 2; half++) {
        uint64_t bytes;
        uint8_t *image = image_make(&graph_recipe, &bytes);
        struct segment_disk_header *header = (struct segment_disk_header *)image;
        annex_error error;

        header->content[half]++;
        header->checksum = segment_header_checksum(header);
        assert_int_equal(image_check(image, bytes, &error), ANNEX_DAMAGED);
        assert_non_null(strstr(error.message, "checksum of header and table"));
        free(image);
    }
}

static void contradiction__in_a_file__is_refused_with_its_path(void **state)
{
    struct fault fault;
    struct segment *segment;
    annex_error error;
    uint64_t bytes;
    uint8_t *image = image_make(&graph_recipe, &bytes);
    FILE *file = fopen(test_path, "wb");

    (void)state;
    ((struct segment_disk_header *)image)->metric = 9;
    image_seal(image, false);
    assert_int_equal(fwrite(image, 1, bytes, file), bytes);
    fclose(file);
    fault_init(&fault, NULL);
    assert_int_equal(segment_open(&fault.env, test_path, &segment, &error), ANNEX_DAMAGED);
    assert_memory_equal(error.message, test_path, strlen(test_path));
    assert_string_equal(error.message + strlen(test_path),
                        " is damaged: the metric is 9, expected 1 to 6; build it again");
    assert_null(segment);
    fault_free(&fault);
    unlink(test_path);
    free(image);
}

/* The rules for the shapes that graph_recipe is not. */
static const struct segment_header floats = {.slots = 1,
                                             .dimension = 8,
                                             .code_bytes = 8,
                                             .metric = ANNEX_L2,
                                             .family = ANNEX_FLAT,
                                             .code = SEGMENT_CODE_Q8};
static const struct segment_header unscaled = {.slots = 1,
                                               .dimension = 8,
                                               .code_bytes = 8,
                                               .metric = ANNEX_L1,
                                               .family = ANNEX_FLAT,
                                               .code = SEGMENT_CODE_Q8};
static const struct segment_header bits = {.slots = 1,
                                           .dimension = 17,
                                           .code_bytes = 8,
                                           .metric = ANNEX_JACCARD,
                                           .family = ANNEX_FLAT,
                                           .code = SEGMENT_CODE_BITS};
static const struct segment_header many_bits = {.slots = 1,
                                                .dimension = 65,
                                                .code_bytes = 8,
                                                .metric = ANNEX_HAMMING,
                                                .family = ANNEX_FLAT,
                                                .code = SEGMENT_CODE_BITS};
static const struct segment_header bits_graph = {.slots = 1,
                                                 .dimension = 17,
                                                 .code_bytes = 8,
                                                 .metric = ANNEX_HAMMING,
                                                 .family = ANNEX_GRAPH,
                                                 .degree = 8,
                                                 .build_effort = 1,
                                                 .code = SEGMENT_CODE_BITS};
static const struct {
    const char *says;
    const struct segment_header *header;
    struct plan plan[5];
    size_t n;
} impossible[] = {
    {"\"codes\" is missing", &floats, {{SECTION_KEYS, 8, 1}}, 1},
    {"scale is 0", &unscaled, {{SECTION_CODES, 16, 1}}, 1},
    {"\"errors\" is missing", &floats, {{SECTION_CODES, 16, 1}}, 1},
    {"\"keys\" is missing",
     &floats,
     {{SECTION_CODES, 16, 1}, {SECTION_ERRORS, 4, 1}, {SECTION_CENTER, 4, 8}},
     3},
    {"no section \"errors\"", &bits, {{SECTION_CODES, 16, 1}, {SECTION_ERRORS, 4, 1}}, 2},
    {"\"raw\" has 2 bytes a row", &bits, {{SECTION_CODES, 16, 1}, {SECTION_RAW, 2, 1}}, 2},
    {"no section \"same\"", &bits, {{SECTION_CODES, 16, 1}, {SECTION_SAME, 4, 1}}, 2},
    {"no section \"graph\"", &bits, {{SECTION_CODES, 16, 1}, {SECTION_GRAPH, 32, 1}}, 2},
    {"size of a code is 8", &many_bits, {{SECTION_CODES, 16, 1}}, 1},
    {"\"key hash\" has 1 rows, expected 2",
     &floats,
     {{SECTION_CODES, 16, 1},
      {SECTION_ERRORS, 4, 1},
      {SECTION_CENTER, 4, 8},
      {SECTION_KEYS, 8, 1},
      {SECTION_KEY_HASH, 4, 1}},
     5},
    {"\"entry\" is missing",
     &bits_graph,
     {{SECTION_CODES, 16, 1}, {SECTION_GRAPH, 32, 1}, {SECTION_KEYS, 8, 1}},
     3},
};

static void contradiction__between_header_and_sections__is_not_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(impossible); i++) {
        struct recipe recipe = {impossible[i].header, impossible[i].plan, impossible[i].n, 1, 0};
        struct fault fault;
        annex_error error = {ANNEX_OK, ""};
        void *image;
        uint64_t bytes;

        fault_init(&fault, NULL);
        assert_int_equal(recipe_image(&recipe, &fault.env, &image, &bytes, &error), ANNEX_INTERNAL);
        assert_null(image);
        assert_int_equal(bytes, 0);
        if (strstr(error.message, impossible[i].says) == NULL) {
            fail_msg("case %d: %s", (int)i, error.message);
        }
        assert_int_equal(recipe_write(&recipe, &fault.env, test_path, &error), ANNEX_INTERNAL);
        assert_int_equal(access(test_path, F_OK) == 0, 0);
        fault_free(&fault);
    }
}

/* A later minor version may add optional features, fields in the reserved bytes and sections. */
static void open__additions_of_a_later_minor_version__are_ignored(void **state)
{
    uint64_t bytes;
    uint8_t *image = image_make(&graph_recipe, &bytes);
    struct segment_disk_header *header = (struct segment_disk_header *)image;
    struct segment_disk_entry *entries;
    struct segment *segment;
    annex_env env = annex_env_default();
    annex_error error = {ANNEX_OK, ""};

    (void)state;
    header->format_minor = 9;
    header->optional_features = 5;
    header->reserved[100] = 7;
    entries = (struct segment_disk_entry *)(image + header->table_offset);
    assert_int_equal(entries[10].kind, SECTION_RECALL);
    entries[10].kind = 77;
    image_seal(image, true);
    assert_int_equal(segment_open_image(&env, image, bytes, &segment, &error), ANNEX_OK);
    assert_int_equal(segment->header.format_minor, 9);
    assert_int_equal(segment->header.optional_features, 5);
    assert_null(segment->sections[SECTION_RECALL].data);
    assert_int_equal(segment_verify(segment, &error), ANNEX_OK);
    image[entries[10].offset] ^= 1;
    assert_int_equal(segment_verify(segment, &error), ANNEX_DAMAGED);
    segment_close(segment);
    free(image);
}

static void open__other_files__says_what_they_are(void **state)
{
    static const char text[] = "SQLite format 3";
    struct fault fault;
    struct segment *segment;
    annex_error error;
    uint64_t bytes;
    uint8_t *image = image_make(&graph_recipe, &bytes);
    FILE *file;

    (void)state;
    fault_init(&fault, NULL);
    assert_int_equal(segment_open(&fault.env, test_path, &segment, &error), ANNEX_NOT_FOUND);
    assert_int_equal(segment_open(&fault.env, test_folder, &segment, &error), ANNEX_IO);
    file = fopen(test_path, "wb");
    fclose(file);
    assert_int_equal(segment_open(&fault.env, test_path, &segment, &error), ANNEX_DAMAGED);
    assert_non_null(strstr(error.message, "t.annex is damaged: it has 0 bytes"));
    assert_null(segment);
    unlink(test_path);

    assert_int_equal(segment_open_image(&fault.env, image + 8, bytes - 8, &segment, &error),
                     ANNEX_INVALID);
    memcpy(image, SEGMENT_MAGIC, 6);
    image[6] = '\n';
    assert_int_equal(segment_open_image(&fault.env, image, bytes, &segment, &error), ANNEX_DAMAGED);
    assert_non_null(strstr(error.message, "transfer as text"));
    memcpy(image, text, sizeof text);
    assert_int_equal(segment_open_image(&fault.env, image, bytes, &segment, &error), ANNEX_DAMAGED);
    assert_non_null(strstr(error.message, "is not an Annex index"));
    fault_free(&fault);
    free(image);
}

/* ---- misuse of the writer --------------------------------------------------------------------*/

static void writer__section_too_long_or_too_short__is_an_internal_error(void **state)
{
    struct fault fault;
    struct segment_writer *writer;
    annex_error error;
    uint64_t bytes;
    void *image;

    (void)state;
    fault_init(&fault, NULL);
    assert_int_equal(segment_writer_open(&fault.env, NULL, &writer, &error), ANNEX_OK);
    assert_int_equal(segment_writer_append(writer, SECTION_KEYS, "12345678", 8, &error),
                     ANNEX_INTERNAL); /* not declared */
    assert_int_equal(segment_writer_declare(writer, SECTION_KEYS, 8, 2, &error), ANNEX_OK);
    assert_int_equal(segment_writer_declare(writer, SECTION_KEYS, 8, 2, &error), ANNEX_INTERNAL);
    assert_int_equal(segment_writer_declare(writer, SECTION_RAW, 800, UINT64_MAX / 8, &error),
                     ANNEX_FULL);
    assert_int_equal(segment_writer_declare(writer, SECTION_RAW, 8, UINT64_C(1) << 59, &error),
                     ANNEX_FULL);
    assert_int_equal(segment_writer_append(writer, SECTION_KEYS, NULL, 0, &error), ANNEX_OK);
    assert_int_equal(segment_writer_append(writer, SECTION_KEYS, "12345678", 8, &error), ANNEX_OK);
    assert_int_equal(segment_writer_append(writer, SECTION_KEYS, "123456789", 9, &error),
                     ANNEX_INTERNAL);
    assert_int_equal(segment_writer_declare(writer, SECTION_RAW, 8, 2, &error), ANNEX_INTERNAL);
    assert_int_equal(
        segment_writer_finish_image(writer, graph_recipe.header, &image, &bytes, &error),
        ANNEX_INTERNAL);
    assert_non_null(strstr(error.message, "kind 8 is given less than was declared"));
    assert_null(image);
    fault_free(&fault);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_then_open__file_and_image__hold_the_same),
        cmocka_unit_test(write__pieces_of_any_size__give_the_same_bytes),
        cmocka_unit_test(write__other_content_or_header__gives_another_content_hash),
        cmocka_unit_test(write_then_open__bits__hold_whole_bytes),
        cmocka_unit_test(write_then_open__no_rows__is_a_valid_image),
        cmocka_unit_test(contradiction__right_checksums__is_refused_with_its_name),
        cmocka_unit_test(contradiction__content_hash__is_compared_in_both_halves),
        cmocka_unit_test(contradiction__in_a_file__is_refused_with_its_path),
        cmocka_unit_test(contradiction__between_header_and_sections__is_not_written),
        cmocka_unit_test(open__additions_of_a_later_minor_version__are_ignored),
        cmocka_unit_test(open__other_files__says_what_they_are),
        cmocka_unit_test(writer__section_too_long_or_too_short__is_an_internal_error),
    };

    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
