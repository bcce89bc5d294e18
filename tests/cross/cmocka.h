/*
 * cmocka.h - the few things of cmocka that test_kernel.c uses, for a cross compiler that has no
 * cmocka of its own. Reports TAP; the first failed assertion of a test ends that test.
 */
#ifndef ANNEX_CROSS_CMOCKA_H
#define ANNEX_CROSS_CMOCKA_H

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*function)(void **state);
};

static jmp_buf cross_failed;

#define cmocka_unit_test(function) \
    {                              \
#        function, function        \
    }

#define fail_msg(...)             \
    do {                          \
        printf("# " __VA_ARGS__); \
        printf("\n");             \
        longjmp(cross_failed, 1); \
    } while (0)

#define assert_true(condition)                                              \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fail_msg("%s:%d: %s is false", __FILE__, __LINE__, #condition); \
        }                                                                   \
    } while (0)

#define assert_int_equal(a, b) assert_true((a) == (b))
#define assert_ptr_equal(a, b) assert_true((a) == (b))
#define assert_string_not_equal(a, b) assert_true(strcmp(a, b) != 0)

static int cross_run(const struct CMUnitTest *tests, size_t n)
{
    volatile int failed = 0;
    printf("1..%zu\n", n);
    for (volatile size_t i = 0; i < n; i++) {
        void *state = NULL;
        const char *result = "not ok";
        if (setjmp(cross_failed) == 0) {
            tests[i].function(&state);
            result = "ok";
        } else {
            failed++;
            result = "not ok";
        }
        printf("%s %zu - %s\n", result, (size_t)i + 1, tests[i].name);
    }
    return failed;
}

#define cmocka_run_group_tests(tests, setup, teardown) \
    cross_run(tests, sizeof(tests) / sizeof *(tests))

#endif
