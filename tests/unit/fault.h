/*
 * fault.h - an environment for tests in which any allocation or file operation can be made to fail.
 *
 *   struct fault fault;
 *   fault_init(&fault, NULL);                     // on top of annex_env_default()
 *   fault_arm(&fault, FAULT_MEMORY, 3, false);    // the third allocation fails, once
 *   status = annex_something(&fault.env, ...);
 *   fault_free(&fault);                           // fails the test when something was not released
 *
 * The usual loop, which ends when an operation needed fewer calls than `n`:
 *
 *   for (uint64_t n = 1; fault_loop(&fault, FAULT_IO, n, forever); n++) {
 *       ... run the operation; when it failed, check that nothing changed ...
 *   }
 *
 * New blocks are filled with 0xa5, sizes given back are compared. Safe to use from several threads.
 */
#ifndef ANNEX_TEST_FAULT_H
#define ANNEX_TEST_FAULT_H

#include <pthread.h>
#include <stdbool.h>

#include "annex.h"

enum fault_target {
    FAULT_NONE,
    FAULT_MEMORY,
    FAULT_IO /* every call that has a result; a write that fails has written its first half */
};

struct fault {
    annex_env env; /* what to hand to the code under test */
    annex_env inner;

    enum fault_target target;
    uint64_t fail_at; /* counted from fault_arm, 1 is the next call */
    bool forever;     /* all later calls fail too */
    int fail_errno;   /* EIO unless changed after fault_arm */
    uint64_t calls;   /* of the target since fault_arm */
    bool triggered;   /* something failed since fault_arm */

    uint64_t allocations;
    uint64_t io_calls;
    uint64_t open_files;
    uint64_t mappings;
    uint64_t live_bytes;
    uint64_t peak_bytes;
    struct fault_block *blocks;
    pthread_mutex_t lock;
};

/* `inner` may be NULL. The env points to *fault, which must stay where it is. */
void fault_init(struct fault *fault, const annex_env *inner);
void fault_arm(struct fault *fault, enum fault_target target, uint64_t fail_at, bool forever);
void fault_disarm(struct fault *fault);
/*
 * Arms for round `n`, which starts at 1. From the second round on it first checks that everything
 * was released, and is false when the round before ran to its end without meeting its fault.
 */
bool fault_loop(struct fault *fault, enum fault_target target, uint64_t n, bool forever);
/* Fails the test when memory, files or mappings are still held. */
void fault_check_clean(struct fault *fault);
void fault_free(struct fault *fault);

#endif
