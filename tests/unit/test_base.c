/*
 * test_base.c - the ground: messages, memory, buffers, hashes, parallel loops, progress.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "fault.h"

/* ---- errors ----------------------------------------------------------------------------------*/

static void status_name__every_status__has_its_own_name(void **state)
{
    (void)state;
    for (int i = ANNEX_OK; i <= ANNEX_INTERNAL; i++) {
        assert_true(strlen(annex_status_name((annex_status)i)) > 0);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(annex_status_name((annex_status)i),
                                    annex_status_name((annex_status)j));
        }
    }
    assert_string_equal(annex_status_name(ANNEX_DAMAGED), "damaged");
    assert_string_equal(annex_status_name((annex_status)(ANNEX_INTERNAL + 1)), "unknown status");
    assert_string_equal(annex_status_name((annex_status)-1), "unknown status");
}

static void error_set__long_text__is_cut_between_characters(void **state)
{
    /* 1 to 4 bytes a character, at every alignment to the end of the message. */
    static const char *const characters[] = {"a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x8c\xb2"};
    annex_error error;

    (void)state;
    for (size_t c = 0; c < ARRAY_LENGTH(characters); c++) {
        for (size_t shift = 0; shift < 5; shift++) {
            char text[2 * ANNEX_ERROR_BYTES] = "";
            size_t unit = strlen(characters[c]);
            size_t length;

            memset(text, 'x', shift);
            for (size_t at = shift; at + unit < sizeof text; at += unit) {
                memcpy(text + at, characters[c], unit + 1);
            }
            assert_int_equal(error_set(&error, ANNEX_IO, "%s", text), ANNEX_IO);
            length = strlen(error.message);
            assert_int_equal((length - shift) % unit, 0);
            assert_true(length < ANNEX_ERROR_BYTES && length + unit >= ANNEX_ERROR_BYTES);
        }
    }
}

static void error_set__own_message_as_argument__is_kept(void **state)
{
    annex_error error;

    (void)state;
    error_set(&error, ANNEX_IO, "the reason");
    error_set(&error, ANNEX_INTERNAL, "context: %s", error.message);
    assert_string_equal(error.message, "context: the reason");
    assert_int_equal(error.status, ANNEX_INTERNAL);
    assert_int_equal(error_set(NULL, ANNEX_IO, "nobody listens"), ANNEX_IO);
}

static void error_io__kinds_of_failure__have_their_status(void **state)
{
    static const struct {
        int failure;
        annex_status status;
    } cases[] = {
        {ENOENT, ANNEX_NOT_FOUND}, {ENOTDIR, ANNEX_NOT_FOUND}, {EEXIST, ANNEX_EXISTS},
        {ENOMEM, ANNEX_NOMEM},     {ENOSPC, ANNEX_FULL},       {EFBIG, ANNEX_FULL},
        {EROFS, ANNEX_READ_ONLY},  {EAGAIN, ANNEX_BUSY},       {EIO, ANNEX_IO},
        {EACCES, ANNEX_IO},
    };
    annex_error error;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        assert_int_equal(error_io(&error, cases[i].failure, "read", "a.annex"), cases[i].status);
        assert_int_equal(error.status, cases[i].status);
    }
    error_io(&error, ENOENT, "open", "a.annex");
    assert_string_equal(error.message, "cannot open a.annex: No such file or directory");
    assert_int_equal(error_nomem(&error, 77), ANNEX_NOMEM);
    assert_string_equal(error.message,
                        "out of memory: 77 bytes could not be allocated; free memory "
                        "or raise the limit of the process");
}

/* ---- memory ----------------------------------------------------------------------------------*/

static void memory_new__sizes__are_aligned_and_zeroed(void **state)
{
    static const size_t sizes[] = {
        1, 63, 64, 4096, ((size_t)2 << 20) - 1, (size_t)2 << 20, ((size_t)5 << 20) + 3};
    struct fault fault;

    (void)state;
    fault_init(&fault, NULL);
    for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
        uint8_t *block;

        assert_int_equal(memory_new(&fault.env, sizes[i], 1, &block, NULL), ANNEX_OK);
        assert_int_equal((uintptr_t)block % 64, 0);
        assert_int_equal(block[0] | block[sizes[i] / 2] | block[sizes[i] - 1], 0);
        memory_free(&fault.env, block, sizes[i], 1);
        assert_int_equal(memory_new_raw(&fault.env, sizes[i], 1, &block, NULL), ANNEX_OK);
        assert_int_equal((uintptr_t)block % (sizes[i] >= (2 << 20) ? 2 << 20 : 64), 0);
        memory_free(&fault.env, block, sizes[i], 1);
    }
    fault_free(&fault);
}

static void memory_new__nothing_or_too_much__is_null(void **state)
{
    struct fault fault;
    annex_error error;
    void *block = &fault;

    (void)state;
    fault_init(&fault, NULL);
    assert_int_equal(memory_new(&fault.env, 0, 8, &block, &error), ANNEX_OK);
    assert_null(block);
    memory_free(&fault.env, NULL, 0, 8);
    block = &fault;
    assert_int_equal(memory_new(&fault.env, SIZE_MAX / 4, 8, &block, &error), ANNEX_NOMEM);
    assert_null(block);
    fault_arm(&fault, FAULT_MEMORY, 1, false);
    block = &fault;
    assert_int_equal(memory_new(&fault.env, 10, 8, &block, &error), ANNEX_NOMEM);
    assert_null(block);
    fault_free(&fault);
}

static void checked_arithmetic__overflow__is_false(void **state)
{
    uint64_t result;

    (void)state;
    assert_true(checked_add(UINT64_MAX - 1, 1, &result) && result == UINT64_MAX);
    assert_false(checked_add(UINT64_MAX, 1, &result));
    assert_true(checked_multiply(UINT64_MAX / 3, 3, &result) && result == UINT64_MAX);
    assert_false(checked_multiply(UINT64_MAX / 3 + 1, 3, &result));
    assert_int_equal(round_up(0, 4096), 0);
    assert_int_equal(round_up(1, 4096), 4096);
    assert_int_equal(round_up(4096, 4096), 4096);
}

static void buffer__appended__holds_terminated_text(void **state)
{
    struct fault fault;
    struct buffer buffer = {0};
    char expected[6000] = "";

    (void)state;
    fault_init(&fault, NULL);
    for (int i = 0; i < 500; i++) {
        char number[16];
        size_t length = (size_t)snprintf(number, sizeof number, "%d, ", i);
        memcpy(expected + strlen(expected), number, length + 1);
        assert_int_equal(buffer_append(&fault.env, &buffer, number, length, NULL), ANNEX_OK);
        assert_int_equal(buffer_append(&fault.env, &buffer, NULL, 0, NULL), ANNEX_OK);
        assert_string_equal(buffer.data, expected);
        assert_int_equal(buffer.bytes, strlen(expected));
        assert_true(buffer.capacity > buffer.bytes);
    }
    assert_int_equal(buffer_reserve(&fault.env, &buffer, SIZE_MAX - 5, NULL), ANNEX_NOMEM);
    assert_int_equal(buffer_reserve(&fault.env, &buffer, SIZE_MAX / 2, NULL), ANNEX_NOMEM);
    fault_arm(&fault, FAULT_MEMORY, 1, false);
    assert_int_equal(buffer_append(&fault.env, &buffer, (char[9000]){""}, 9000, NULL), ANNEX_NOMEM);
    assert_string_equal(buffer.data, expected);
    buffer_free(&fault.env, &buffer);
    assert_null(buffer.data);
    fault_free(&fault);
}

static void bitmap_count__any_length__equals_a_loop(void **state)
{
    uint64_t map[5];
    uint64_t random = 1;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(map); i++) {
        map[i] = random_next(&random);
    }
    bitmap_set(map, 130);
    bitmap_clear(map, 131);
    assert_true(bitmap_get(map, 130) && !bitmap_get(map, 131));
    for (size_t bits = 0; bits <= 320; bits++) {
        size_t count = 0;

        for (size_t i = 0; i < bits; i++) {
            count += bitmap_get(map, i);
        }
        assert_int_equal(bitmap_count(map, bits), count);
    }
}

static void hash_and_random__known_inputs__give_the_published_numbers(void **state)
{
    uint64_t random = 0;

    (void)state;
    assert_true(hash_bytes("", 0, 0) == UINT64_C(0x2d06800538d394c2));
    assert_true(hash_bytes("annex", 5, 0) != hash_bytes("annex", 5, 1));
    assert_true(random_next(&random) == UINT64_C(0xe220a8397b1dcdaf));
    for (int i = 0; i < 1000; i++) {
        assert_true(random_below(&random, 7) < 7);
    }
}

/* ---- parallel loops --------------------------------------------------------------------------*/

struct loop {
    size_t n;
    size_t grain;
    unsigned threads;
    size_t fail_from; /* items from here on fail */
    atomic_uint *visits;
};

static annex_status loop_visit(void *argument, unsigned worker, size_t first, size_t end,
                               annex_error *error)
{
    struct loop *loop = argument;

    if (worker >= loop->threads || first >= end || end > loop->n || first % loop->grain != 0 ||
        end - first > loop->grain) {
        return error_set(error, ANNEX_INTERNAL, "wrong range");
    }
    for (size_t i = first; i < end; i++) {
        if (i >= loop->fail_from) {
            return error_set(error, ANNEX_INVALID, "item %zu", i);
        }
        atomic_fetch_add(&loop->visits[i], 1);
    }
    return ANNEX_OK;
}

static void parallel_for__any_shape__visits_each_item_once(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 7, 64, 1000};
    static const size_t grains[] = {1, 3, 64, 5000};
    annex_env env = annex_env_default();

    (void)state;
    for (size_t s = 0; s < ARRAY_LENGTH(sizes); s++) {
        for (size_t g = 0; g < ARRAY_LENGTH(grains); g++) {
            for (unsigned threads = 0; threads <= 9; threads += 3) {
                struct loop loop = {sizes[s], grains[g], MAX(threads, 1), SIZE_MAX, NULL};
                annex_error error = {ANNEX_OK, "untouched"};

                loop.visits = calloc(sizes[s] + 1, sizeof *loop.visits);
                assert_int_equal(
                    parallel_for(&env, threads, sizes[s], grains[g], loop_visit, &loop, &error),
                    ANNEX_OK);
                for (size_t i = 0; i < sizes[s]; i++) {
                    assert_int_equal(loop.visits[i], 1);
                }
                assert_string_equal(error.message, "untouched");
                free(loop.visits);
            }
        }
    }
}

static void parallel_for__several_failures__reports_the_first_item(void **state)
{
    annex_env env = annex_env_default();
    annex_error error;

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct loop loop = {1000, 2, 4, 401, NULL};

        loop.visits = calloc(loop.n, sizeof *loop.visits);
        assert_int_equal(parallel_for(&env, 4, loop.n, loop.grain, loop_visit, &loop, &error),
                         ANNEX_INVALID);
        assert_string_equal(error.message, "item 401");
        assert_int_equal(error.status, ANNEX_INVALID);
        assert_int_equal(parallel_for(&env, 4, loop.n, loop.grain, loop_visit, &loop, NULL),
                         ANNEX_INVALID);
        free(loop.visits);
    }
}

static void parallel_threads__request__is_bounded(void **state)
{
    annex_env env = annex_env_default();

    (void)state;
    assert_true(parallel_threads(&env, 0) >= 1);
    assert_true(parallel_threads(&env, 0) <= (unsigned)sysconf(_SC_NPROCESSORS_ONLN));
    assert_int_equal(parallel_threads(&env, 3), 3);
    assert_true(parallel_threads(&env, UINT32_MAX) <= 1024);
}

struct meeting {
    atomic_uint calls;
    atomic_uint numbers[600];
};

static void meeting_attend(void *argument, unsigned i)
{
    struct meeting *meeting = argument;

    atomic_fetch_add(&meeting->calls, 1);
    atomic_fetch_add(&meeting->numbers[i], 1);
}

static void threads_run__more_than_there_may_be__calls_each_number_once(void **state)
{
    annex_env env = annex_env_default();
    struct meeting *meeting = calloc(1, sizeof *meeting);

    (void)state;
    env.threads.run(env.threads.context, 0, meeting_attend, meeting);
    assert_int_equal(meeting->calls, 0);
    env.threads.run(env.threads.context, 600, meeting_attend, meeting);
    assert_int_equal(meeting->calls, 600);
    for (unsigned i = 0; i < 600; i++) {
        assert_int_equal(meeting->numbers[i], 1);
    }
    free(meeting);
}

/* ---- progress --------------------------------------------------------------------------------*/

struct listener {
    unsigned calls;
    uint64_t done;
    uint64_t total;
    unsigned cancel_at;
    char text[ANNEX_ERROR_BYTES];
};

static int listener_progress(void *context, const char *phase, uint64_t done, uint64_t total)
{
    struct listener *listener = context;

    assert_string_equal(phase, "counting");
    listener->done = done;
    listener->total = total;
    return ++listener->calls == listener->cancel_at;
}

static void listener_message(void *context, annex_level level, const char *text)
{
    struct listener *listener = context;

    snprintf(listener->text, sizeof listener->text, "%d %s", (int)level, text);
}

static void progress__many_updates__reports_begin_and_end(void **state)
{
    annex_env env = annex_env_default();
    struct listener listener = {0};
    struct progress progress;

    (void)state;
    env.log.context = &listener;
    env.log.progress = listener_progress;
    assert_int_equal(progress_begin(&progress, &env, "counting", 100000, NULL), ANNEX_OK);
    assert_int_equal(listener.calls, 1);
    for (uint64_t i = 1; i <= 100000; i++) {
        assert_int_equal(progress_update(&progress, i, NULL), ANNEX_OK);
    }
    assert_true(listener.calls >= 2 && listener.calls < 200);
    assert_int_equal(listener.done, 100000);
    assert_int_equal(listener.total, 100000);
}

static void progress__caller_asks_to_stop__is_cancelled(void **state)
{
    annex_env env = annex_env_default();
    struct listener listener = {.cancel_at = 2};
    struct progress progress;
    annex_error error;

    (void)state;
    env.log.context = &listener;
    env.log.progress = listener_progress;
    assert_int_equal(progress_begin(&progress, &env, "counting", 5, &error), ANNEX_OK);
    assert_int_equal(progress_update(&progress, 5, &error), ANNEX_CANCELLED);
    assert_string_equal(error.message, "cancelled while counting");
    listener = (struct listener){.cancel_at = 1};
    assert_int_equal(progress_begin(&progress, &env, "counting", 5, &error), ANNEX_CANCELLED);
}

static annex_status listener_work(void *argument, unsigned worker, size_t first, size_t end,
                                  annex_error *error)
{
    (void)worker;
    (void)error;
    atomic_fetch_add((atomic_size_t *)argument, end - first);
    for (struct timespec pause = {.tv_nsec = 1000000}; nanosleep(&pause, &pause) != 0;) {
    }
    return ANNEX_OK;
}

static void progress__asked_to_stop_within_a_loop__ends_the_loop(void **state)
{
    annex_env env = annex_env_default();
    struct listener listener = {.cancel_at = 3};
    struct progress progress;
    annex_error error;
    atomic_size_t done = 0;

    (void)state;
    env.log.context = &listener;
    env.log.progress = listener_progress;
    assert_int_equal(progress_begin(&progress, &env, "counting", 100000, &error), ANNEX_OK);
    assert_int_equal(progress_for(&progress, 2, 100000, 1, listener_work, &done, &error),
                     ANNEX_CANCELLED);
    assert_string_equal(error.message, "cancelled while counting");
    assert_int_equal(listener.calls, 3);
    assert_true(done < 10000);
    listener = (struct listener){0};
    assert_int_equal(progress_for(&progress, 2, 10, 3, listener_work, &done, &error), ANNEX_OK);
}

static void log_message__with_and_without_listener__is_passed_on(void **state)
{
    annex_env env = annex_env_default();
    struct listener listener = {0};
    struct progress progress;

    (void)state;
    log_message(&env, ANNEX_LOG_INFO, "nobody hears %d", 1);
    assert_int_equal(progress_begin(&progress, &env, "counting", 5, NULL), ANNEX_OK);
    env.log.context = &listener;
    env.log.message = listener_message;
    log_message(&env, ANNEX_LOG_WARNING, "%d rows", 12);
    assert_string_equal(listener.text, "1 12 rows");
}

static void version__text__equals_the_numbers(void **state)
{
    char text[32];

    (void)state;
    snprintf(text, sizeof text, "%d.%d.%d", ANNEX_VERSION_MAJOR, ANNEX_VERSION_MINOR,
             ANNEX_VERSION_PATCH);
    assert_string_equal(annex_version(), text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_name__every_status__has_its_own_name),
        cmocka_unit_test(error_set__long_text__is_cut_between_characters),
        cmocka_unit_test(error_set__own_message_as_argument__is_kept),
        cmocka_unit_test(error_io__kinds_of_failure__have_their_status),
        cmocka_unit_test(memory_new__sizes__are_aligned_and_zeroed),
        cmocka_unit_test(memory_new__nothing_or_too_much__is_null),
        cmocka_unit_test(checked_arithmetic__overflow__is_false),
        cmocka_unit_test(buffer__appended__holds_terminated_text),
        cmocka_unit_test(bitmap_count__any_length__equals_a_loop),
        cmocka_unit_test(hash_and_random__known_inputs__give_the_published_numbers),
        cmocka_unit_test(parallel_for__any_shape__visits_each_item_once),
        cmocka_unit_test(parallel_for__several_failures__reports_the_first_item),
        cmocka_unit_test(parallel_threads__request__is_bounded),
        cmocka_unit_test(threads_run__more_than_there_may_be__calls_each_number_once),
        cmocka_unit_test(progress__many_updates__reports_begin_and_end),
        cmocka_unit_test(progress__caller_asks_to_stop__is_cancelled),
        cmocka_unit_test(progress__asked_to_stop_within_a_loop__ends_the_loop),
        cmocka_unit_test(log_message__with_and_without_listener__is_passed_on),
        cmocka_unit_test(version__text__equals_the_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
