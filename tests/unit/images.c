/*
 * images.c - see images.h.
 */
#include "images.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const struct plan graph_plan[] = {
    {SECTION_CODES, 40, SLOTS},     {SECTION_SAME, 4, SLOTS}, {SECTION_ERRORS, 4, SLOTS},
    {SECTION_CENTER, 4, DIMENSION}, {SECTION_RAW, 96, SLOTS}, {SECTION_GRAPH, 64, SLOTS},
    {SECTION_ENTRY, 4, 3},          {SECTION_KEYS, 8, SLOTS}, {SECTION_KEY_BYTES, 1, 777},
    {SECTION_KEY_HASH, 4, 512},     {SECTION_RECALL, 8, 5},   {SECTION_RAW_ROW, 4, SLOTS},
};

static const struct segment_header graph_header = {
    .slots = SLOTS,
    .skipped = 2,
    .dimension = DIMENSION,
    .code_bytes = 32,
    .metric = ANNEX_COSINE,
    .family = ANNEX_GRAPH,
    .key_kind = ANNEX_KEY_BYTES,
    .code = SEGMENT_CODE_Q8,
    .degree = 16,
    .build_effort = 100,
    .default_effort = 64,
    .alpha = 1.2f,
    .max_norm = 3.5f,
    .fixed_scale = 0.25f,
    .seed = 42,
};

const struct recipe graph_recipe = {&graph_header, graph_plan, ARRAY_LENGTH(graph_plan), 1, 0};

/* Sections of several chunks; the pieces do not divide the chunks. */
static const struct plan big_plan[] = {{SECTION_RAW, 1000, 3000},
                                       {SECTION_CODES, 264, 3000},
                                       {SECTION_ERRORS, 4, 3000},
                                       {SECTION_CENTER, 4, 250},
                                       {SECTION_KEYS, 8, 3000}};
static const struct segment_header big_header = {.slots = 3000,
                                                 .dimension = 250,
                                                 .code_bytes = 256,
                                                 .metric = ANNEX_L1,
                                                 .fixed_scale = 0.5f,
                                                 .family = ANNEX_FLAT,
                                                 .code = SEGMENT_CODE_Q8};
const struct recipe big_recipe = {&big_header, big_plan, ARRAY_LENGTH(big_plan), 5, 777777};

/* Random bytes that depend on kind and seed, freed by free(). */
static uint8_t *content_make(const struct plan *plan, uint64_t seed)
{
    size_t bytes = plan->rows * plan->stride;
    uint8_t *content = malloc(bytes + 8);
    uint64_t random = seed * 100 + plan->kind;

    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word = random_next(&random);

        memcpy(content + i, &word, 8);
    }
    return content;
}

static annex_status recipe_fill(const struct recipe *recipe, struct segment_writer *writer,
                                annex_error *error)
{
    uint8_t *content[SECTION_KIND_END] = {NULL};
    annex_status status = ANNEX_OK;
    bool more = true;

    for (size_t i = 0; i < recipe->n; i++) {
        content[i] = content_make(&recipe->plan[i], recipe->seed);
    }
    for (size_t i = 0; i < recipe->n; i++) {
        TRY_CLEANUP(segment_writer_declare(writer, recipe->plan[i].kind, recipe->plan[i].stride,
                                           recipe->plan[i].rows, error));
    }
    /* One piece of each section in turn, the last section first. */
    for (size_t at = 0; more; at += recipe->piece) {
        more = false;
        for (size_t i = recipe->n; i-- > 0;) {
            size_t bytes = recipe->plan[i].rows * recipe->plan[i].stride;
            size_t piece = recipe->piece == 0 ? bytes : recipe->piece;

            if (at < bytes) {
                TRY_CLEANUP(segment_writer_append(writer, recipe->plan[i].kind, content[i] + at,
                                                  MIN(piece, bytes - at), error));
                more = more || (recipe->piece > 0 && at + piece < bytes);
            }
        }
    }

cleanup:
    for (size_t i = 0; i < recipe->n; i++) {
        free(content[i]);
    }
    return status;
}

annex_status recipe_write(const struct recipe *recipe, const annex_env *env, const char *path,
                          annex_error *error)
{
    struct segment_writer *writer;
    annex_status status;

    TRY(segment_writer_open(env, path, &writer, error));
    status = recipe_fill(recipe, writer, error);
    if (status != ANNEX_OK) {
        segment_writer_abort(writer);
        return status;
    }
    return segment_writer_finish(writer, recipe->header, error);
}

annex_status recipe_image(const struct recipe *recipe, const annex_env *env, void **image,
                          uint64_t *bytes, annex_error *error)
{
    struct segment_writer *writer;
    annex_status status;

    TRY(segment_writer_open(env, NULL, &writer, error));
    status = recipe_fill(recipe, writer, error);
    if (status != ANNEX_OK) {
        segment_writer_abort(writer);
        return status;
    }
    return segment_writer_finish_image(writer, recipe->header, image, bytes, error);
}

/* An image that must not fail, in memory of exactly its size; freed by free(). */
uint8_t *image_make(const struct recipe *recipe, uint64_t *bytes)
{
    annex_env env = annex_env_default();
    annex_error error = {ANNEX_OK, ""};
    void *image;

    if (recipe_image(recipe, &env, &image, bytes, &error) != ANNEX_OK) {
        fail_msg("%s", error.message);
    }
    return image; /* the default environment releases with free() */
}

/* Opens and verifies; closes again. */
annex_status image_check(const void *image, uint64_t bytes, annex_error *error)
{
    annex_env env = annex_env_default();
    struct segment *segment;
    annex_status status;

    TRY(segment_open_image(&env, image, bytes, &segment, error));
    status = segment_verify(segment, error);
    segment_close(segment);
    return status;
}

/* Makes all checksums right again: content hash and header; `sections` too when asked. */
void image_seal(uint8_t *image, bool sections)
{
    struct segment_disk_header *header = (struct segment_disk_header *)image;
    uint8_t *table = image + header->table_offset;
    const struct segment_disk_entry *entries = (const struct segment_disk_entry *)table;
    uint64_t *sum = (uint64_t *)(table + header->n_sections * sizeof *entries);
    XXH3_state_t state;

    for (uint32_t i = 0; sections && i < header->n_sections; i++) {
        uint64_t bytes = segment_entry_bytes(&entries[i]);

        for (uint64_t chunk = 0; chunk < segment_chunks(bytes); chunk++) {
            uint64_t at = chunk * SEGMENT_CHUNK_BYTES;

            *sum++ =
                hash_bytes(image + entries[i].offset + at, MIN(SEGMENT_CHUNK_BYTES, bytes - at),
                           segment_chunk_seed(entries[i].kind, chunk));
        }
    }
    segment_content_begin(&state, header);
    if (header->table_offset <= header->file_bytes) {
        XXH3_128bits_update(&state, table, header->file_bytes - header->table_offset);
    }
    segment_content_end(&state, header->content);
    header->checksum = segment_header_checksum(header);
}

void assert_holds(const struct segment *segment, const struct recipe *recipe)
{
    struct segment_header expected = *recipe->header;

    expected.format_major = SEGMENT_FORMAT_MAJOR;
    expected.format_minor = SEGMENT_FORMAT_MINOR;
    memcpy(expected.content, segment->header.content, sizeof expected.content);
    assert_memory_equal(&segment->header, &expected, sizeof expected);
    assert_true(segment->header.content[0] != 0 && segment->header.content[1] != 0);
    for (enum segment_kind kind = SECTION_CODES; kind < SECTION_KIND_END; kind++) {
        const struct segment_section *section = &segment->sections[kind];
        const struct plan *plan = NULL;
        uint8_t *content;

        for (size_t i = 0; i < recipe->n; i++) {
            plan = recipe->plan[i].kind == kind ? &recipe->plan[i] : plan;
        }
        if (plan == NULL) {
            assert_null(section->data);
            continue;
        }
        assert_int_equal(section->rows, plan->rows);
        assert_int_equal(section->stride, plan->stride);
        assert_int_equal((uintptr_t)section->data % 64, 0);
        content = content_make(plan, recipe->seed);
        assert_memory_equal(section->data, content, plan->rows * plan->stride);
        free(content);
    }
}

char test_folder[] = "/tmp/annex-test-XXXXXX";
char test_path[64];

int folder_make(void **state)
{
    (void)state;
    if (mkdtemp(test_folder) == NULL) {
        return 1;
    }
    snprintf(test_path, sizeof test_path, "%s/t.annex", test_folder);
    return 0;
}

int folder_remove(void **state)
{
    (void)state;
    unlink(test_path);
    return rmdir(test_folder);
}
