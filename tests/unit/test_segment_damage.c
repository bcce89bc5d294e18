/*
 * test_segment_damage.c - index files that were damaged, and writing, opening and verifying that
 * failed.
 *
 * Exhaustive where it can be: each byte, each length, each pair of blocks, each block of another
 * generation; each allocation and each call of the files, failing once or from then on; the power
 * going before each change, with many seeds for what the disk had written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk.h"
#include "fault.h"
#include "images.h"

/* ---- damage ----------------------------------------------------------------------------------*/

/* Damage is met by one thread: the thread sanitizer only makes it slow. */
#if defined(__SANITIZE_THREAD__)
#    define STEP 7
#elif defined(__has_feature)
#    if __has_feature(thread_sanitizer)
#        define STEP 7
#    endif
#endif
#ifndef STEP
#    define STEP 1
#endif

static void damage__every_byte__is_noticed(void **state)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff, 0x5a};
    uint64_t bytes;
    uint8_t *image = image_make(&graph_recipe, &bytes);

    (void)state;
    for (uint64_t i = 0; i < bytes; i += STEP) {
        for (size_t m = 0; m < ARRAY_LENGTH(masks); m++) {
            annex_error error;

            image[i] ^= masks[m];
            if (image_check(image, bytes, &error) != ANNEX_DAMAGED) {
                fail_msg("byte %d changed by %02x was not noticed", (int)i, masks[m]);
            }
            image[i] ^= masks[m];
        }
    }
    assert_int_equal(image_check(image, bytes, NULL), ANNEX_OK);
    free(image);
}

static void damage__every_length__is_noticed(void **state)
{
    annex_env env = annex_env_default();
    uint64_t bytes;
    uint8_t *image = image_make(&graph_recipe, &bytes);

    (void)state;
    for (uint64_t length = 0; length <= bytes + BLOCK; length += length < bytes ? STEP : 64) {
        struct segment *segment;
        uint8_t *cut = NULL;

        if (length == bytes) {
            continue;
        }
        /* Exactly as long as it claims: sanitizers see a read behind it. */
        assert_int_equal(posix_memalign((void **)&cut, 64, MAX(length, 1)), 0);
        memcpy(cut, image, MIN(length, bytes));
        memset(cut + MIN(length, bytes), 0, length - MIN(length, bytes));
        if (segment_open_image(&env, cut, length, &segment, NULL) != ANNEX_DAMAGED) {
            fail_msg("length %d instead of %d was not noticed", (int)length, (int)bytes);
        }
        assert_null(segment);
        free(cut);
    }
    free(image);
}

static void damage__blocks_swapped__are_noticed(void **state)
{
    uint64_t bytes;
    uint8_t *image = image_make(&graph_recipe, &bytes);
    uint8_t *damaged = image_make(&graph_recipe, &bytes);
    unsigned pairs = 0;

    (void)state;
    for (uint64_t i = 0; i + BLOCK <= bytes; i += BLOCK) {
        for (uint64_t j = 0; j + BLOCK <= i; j += BLOCK) {
            memcpy(damaged + i, image + j, BLOCK);
            memcpy(damaged + j, image + i, BLOCK);
            assert_int_equal(image_check(damaged, bytes, NULL), ANNEX_DAMAGED);
            memcpy(damaged + i, image + i, BLOCK);
            memcpy(damaged + j, image + j, BLOCK);
            pairs++;
        }
    }
    assert_true(pairs > 100);
    free(damaged);
    free(image);
}

static void damage__block_of_another_generation__is_noticed(void **state)
{
    struct recipe recipe = graph_recipe;
    uint64_t bytes;
    uint8_t *image = image_make(&recipe, &bytes);
    uint8_t *older;

    (void)state;
    recipe.seed = 2;
    older = image_make(&recipe, &bytes);
    for (uint64_t i = 0; i < bytes; i += BLOCK) {
        uint8_t kept[BLOCK];
        size_t length = MIN(BLOCK, bytes - i);

        memcpy(kept, image + i, length);
        memcpy(image + i, older + i, length);
        assert_int_equal(image_check(image, bytes, NULL), ANNEX_DAMAGED);
        memcpy(image + i, kept, length);
    }
    free(older);
    free(image);
}

static void verify__sections_of_several_chunks__notices_swapped_chunks(void **state)
{
    uint64_t bytes;
    uint8_t *image = image_make(&big_recipe, &bytes);
    uint8_t *chunk = malloc(SEGMENT_CHUNK_BYTES);
    annex_error error;

    (void)state;
    assert_int_equal(image_check(image, bytes, &error), ANNEX_OK);
    memcpy(chunk, image + BLOCK, SEGMENT_CHUNK_BYTES);
    memcpy(image + BLOCK, image + BLOCK + SEGMENT_CHUNK_BYTES, SEGMENT_CHUNK_BYTES);
    memcpy(image + BLOCK + SEGMENT_CHUNK_BYTES, chunk, SEGMENT_CHUNK_BYTES);
    assert_int_equal(image_check(image, bytes, &error), ANNEX_DAMAGED);
    assert_non_null(strstr(error.message, "chunk 0 of the section of kind 5"));
    free(chunk);
    free(image);
}

static void verify__file_changed_under_the_reader__is_noticed(void **state)
{
    annex_env env = annex_env_default();
    struct recipe recipe = graph_recipe;
    struct segment *segment;
    annex_error error;
    uint64_t bytes;
    uint8_t *image = image_make(&graph_recipe, &bytes);
    uint8_t *other;

    (void)state;
    recipe.seed = 2;
    other = image_make(&recipe, &bytes);
    assert_int_equal(segment_open_image(&env, image, bytes, &segment, &error), ANNEX_OK);
    memcpy(image, other, bytes);
    assert_int_equal(segment_verify(segment, &error), ANNEX_DAMAGED);
    assert_non_null(strstr(error.message, "changed since it was opened"));
    segment_close(segment);
    free(other);
    free(image);
}

/* ---- failures --------------------------------------------------------------------------------*/

static void write__any_call_fails__leaves_the_older_file(void **state)
{
    static struct disk disk;
    struct recipe older = graph_recipe;
    uint64_t rounds = 0;

    (void)state;
    older.seed = 2;
    for (int variant = 0; variant < 4; variant++) {
        bool forever = variant >= 2;
        enum fault_target target = variant % 2 == 0 ? FAULT_MEMORY : FAULT_IO;
        struct fault fault;

        disk_init(&disk);
        assert_int_equal(recipe_write(&older, &disk.env, "/a", NULL), ANNEX_OK);
        fault_init(&fault, &disk.env);
        for (uint64_t n = 1; fault_loop(&fault, target, n, forever); n++) {
            annex_error error = {ANNEX_OK, ""};
            annex_status status = recipe_write(&graph_recipe, &fault.env, "/a", &error);
            struct segment *segment;

            rounds++;
            assert_true(status == ANNEX_OK || (error.status == status && error.message[0] != 0));
            fault.target = FAULT_NONE;
            assert_int_equal(segment_open(&fault.env, "/a", &segment, &error), ANNEX_OK);
            if (status == ANNEX_OK) {
                assert_holds(segment, &graph_recipe);
            } else if (strstr(error.message, "sync the folder") == NULL &&
                       segment->sections[SECTION_CODES].data != NULL) {
                assert_int_equal(segment_verify(segment, &error), ANNEX_OK);
            }
            segment_close(segment);
            if (forever) { /* a temporary could not be removed either */
                disk_free(&disk);
                disk_init(&disk);
                fault.inner = disk.env;
            }
            assert_int_equal(recipe_write(&older, &disk.env, "/a", NULL), ANNEX_OK);
            assert_int_equal(disk_count(&disk), 1);
        }
        fault_free(&fault);
        disk_free(&disk);
    }
    assert_true(rounds > 60);
}

static void write_and_open_image__memory_runs_out__is_an_error(void **state)
{
    struct fault fault;

    (void)state;
    for (int forever = 0; forever < 2; forever++) {
        fault_init(&fault, NULL);
        for (uint64_t n = 1; fault_loop(&fault, FAULT_MEMORY, n, forever); n++) {
            annex_error error;
            void *image = &fault;
            uint64_t bytes;
            annex_status status = recipe_image(&graph_recipe, &fault.env, &image, &bytes, &error);

            struct segment *segment = NULL;

            if (status == ANNEX_OK) {
                status = segment_open_image(&fault.env, image, bytes, &segment, &error);
                segment_close(segment);
                memory_free(&fault.env, image, bytes, 1);
            }
            assert_int_equal(status, fault.triggered ? ANNEX_NOMEM : ANNEX_OK);
        }
        fault_free(&fault);
    }
}

static void open_and_verify__any_call_fails__is_an_error_and_leaks_nothing(void **state)
{
    annex_env env = annex_env_default();
    struct fault fault;

    (void)state;
    assert_int_equal(recipe_write(&big_recipe, &env, test_path, NULL), ANNEX_OK);
    for (int variant = 0; variant < 4; variant++) {
        enum fault_target target = variant % 2 == 0 ? FAULT_MEMORY : FAULT_IO;

        fault_init(&fault, NULL);
        for (uint64_t n = 1; fault_loop(&fault, target, n, variant >= 2); n++) {
            annex_error error = {ANNEX_OK, ""};
            struct segment *segment = NULL;
            annex_status status = segment_open(&fault.env, test_path, &segment, &error);

            assert_true((status == ANNEX_OK) == (segment != NULL));
            if (status == ANNEX_OK) {
                status = segment_verify(segment, &error);
                if (status != ANNEX_OK) {
                    fault.target = FAULT_NONE;
                    assert_int_equal(segment_verify(segment, NULL), ANNEX_OK);
                }
                segment_close(segment);
            }
            if (status != ANNEX_OK) {
                assert_int_equal(status, target == FAULT_MEMORY ? ANNEX_NOMEM : ANNEX_IO);
                assert_int_equal(error.status, status);
                assert_true(fault.triggered);
            }
        }
        fault_free(&fault);
    }
    unlink(test_path);
}

static void write__power_fails_before_any_change__old_or_new_is_whole(void **state)
{
    static struct disk start;
    static struct disk disk;
    static struct disk after;
    struct recipe older = graph_recipe;
    struct recipe newer = graph_recipe;
    bool finished = false;
    unsigned found[2] = {0, 0};
    uint64_t bytes;
    uint8_t *image = image_make(&newer, &bytes);

    (void)state;
    older.seed = 2;
    newer.piece = 5000;
    disk_init(&start);
    assert_int_equal(recipe_write(&older, &start.env, "/a", NULL), ANNEX_OK);
    for (uint64_t at = 1; !finished; at++) {
        disk_copy(&disk, &start);
        disk.power_fails_at = disk.changes + at;
        finished = recipe_write(&newer, &disk.env, "/a", NULL) == ANNEX_OK;
        for (uint64_t seed = 0; seed < 20; seed++) {
            struct segment *segment;
            bool is_new;

            disk_copy(&after, &disk);
            disk_crash(&after, seed);
            assert_int_equal(segment_open(&after.env, "/a", &segment, NULL), ANNEX_OK);
            assert_int_equal(segment_verify(segment, NULL), ANNEX_OK);
            is_new = memcmp(segment->image, image, SEGMENT_HEADER_BYTES) == 0;
            assert_true(is_new || !finished);
            assert_holds(segment, is_new ? &newer : &older);
            found[is_new]++;
            segment_close(segment);
            disk_free(&after);
        }
        disk_free(&disk);
    }
    disk_free(&start);
    free(image);
    assert_true(found[0] > 100 && found[1] >= 20);
}

/* Slow enough for each report to be due. */
static int verify_stop(void *context, const char *phase, uint64_t done, uint64_t total)
{
    (void)total;
    assert_string_equal(phase, "verifying");
    usleep(210000);
    return done >= *(uint64_t *)context;
}

static void verify__caller_asks_to_stop__is_cancelled(void **state)
{
    uint64_t bytes;
    uint8_t *image = image_make(&graph_recipe, &bytes);
    uint64_t stops[] = {0, 1, SEGMENT_HEADER_BYTES + 1, bytes};
    struct fault fault;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(stops); i++) {
        struct segment *segment;
        annex_error error;

        fault_init(&fault, NULL);
        fault.env.log.context = &stops[i];
        fault.env.log.progress = verify_stop;
        assert_int_equal(segment_open_image(&fault.env, image, bytes, &segment, &error), ANNEX_OK);
        assert_int_equal(segment_verify(segment, &error), ANNEX_CANCELLED);
        segment_close(segment);
        fault_free(&fault);
    }
    free(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage__every_byte__is_noticed),
        cmocka_unit_test(damage__every_length__is_noticed),
        cmocka_unit_test(damage__blocks_swapped__are_noticed),
        cmocka_unit_test(damage__block_of_another_generation__is_noticed),
        cmocka_unit_test(verify__sections_of_several_chunks__notices_swapped_chunks),
        cmocka_unit_test(verify__file_changed_under_the_reader__is_noticed),
        cmocka_unit_test(write__any_call_fails__leaves_the_older_file),
        cmocka_unit_test(write_and_open_image__memory_runs_out__is_an_error),
        cmocka_unit_test(open_and_verify__any_call_fails__is_an_error_and_leaks_nothing),
        cmocka_unit_test(write__power_fails_before_any_change__old_or_new_is_whole),
        cmocka_unit_test(verify__caller_asks_to_stop__is_cancelled),
    };

    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
