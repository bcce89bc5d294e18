/*
 * env.c - the default environment: malloc, POSIX files, pthreads, silence.
 *
 * Invariants
 *   1. No state: threads live for one call of run(), files are plain descriptors.
 *   2. A call that a signal interrupted is repeated; short reads and writes are continued.
 *   3. Descriptors are closed on exec and are never 0, 1 or 2, where a program prints to.
 * Does not: lock files, follow the current directory, look at environment variables.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

_Static_assert(sizeof(void *) == 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "Annex needs 64-bit pointers and a little-endian machine");

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define IO_MAX_BYTES ((size_t)1 << 30) /* Linux moves at most 2 GiB - 4 KiB in one call */
#define RUN_MAX_THREADS 512
#define CGROUP_QUOTA_FILE "/sys/fs/cgroup/cpu.max"

const char *annex_version(void)
{
    return ANNEX_VERSION_TEXT;
}

/* ---- memory ----------------------------------------------------------------------------------*/

static void *env_allocate(void *context, size_t bytes, size_t alignment)
{
    void *block = NULL;

    (void)context;
    if (posix_memalign(&block, alignment, bytes) != 0) {
        return NULL;
    }
    if (alignment >= HUGE_PAGE_BYTES) {
        /* Only advice: searches jump through large arrays, and huge pages save them TLB misses. */
        madvise(block, bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES, MADV_HUGEPAGE);
    }
    return block;
}

static void env_release(void *context, void *pointer, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(pointer);
}

/* ---- files -----------------------------------------------------------------------------------*/

static int env_descriptor(void *file)
{
    return (int)(intptr_t)file;
}

/* Only regular files have the offsets and sizes that the table promises. */
static int env_check_kind(int descriptor)
{
    struct stat info;

    if (fstat(descriptor, &info) != 0) {
        return errno;
    }
    if (S_ISDIR(info.st_mode)) {
        return EISDIR;
    }
    return S_ISREG(info.st_mode) ? 0 : ESPIPE;
}

static int env_open(void *context, const char *path, annex_open_mode mode, void **file)
{
    /* O_NONBLOCK: opening a named pipe must not wait for somebody to write to it. */
    int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
                (mode == ANNEX_OPEN_CREATE ? O_RDWR | O_CREAT | O_EXCL : O_RDONLY);
    int descriptor;
    int failure;

    (void)context;
    *file = NULL;
    do {
        descriptor = open(path, flags, S_IRUSR | S_IWUSR);
    } while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) {
        return errno;
    }
    if (descriptor <= STDERR_FILENO) {
        int above = fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

        failure = above < 0 ? errno : 0;
        close(descriptor);
        if (failure != 0) {
            return failure;
        }
        descriptor = above;
    }
    failure = env_check_kind(descriptor);
    if (failure != 0) {
        close(descriptor);
        return failure;
    }
    *file = (void *)(intptr_t)descriptor;
    return 0;
}

static int env_close(void *context, void *file)
{
    (void)context;
    /* Linux has released the descriptor even when it answers EINTR. */
    return close(env_descriptor(file)) == 0 || errno == EINTR ? 0 : errno;
}

static int env_size(void *context, void *file, uint64_t *bytes)
{
    struct stat info;

    (void)context;
    *bytes = 0;
    if (fstat(env_descriptor(file), &info) != 0) {
        return errno;
    }
    *bytes = (uint64_t)info.st_size;
    return 0;
}

static int env_read(void *context, void *file, void *buffer, size_t bytes, uint64_t offset)
{
    char *at = buffer;

    (void)context;
    while (bytes > 0) {
        ssize_t n = pread(env_descriptor(file), at, MIN(bytes, IO_MAX_BYTES), (off_t)offset);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? EIO : errno;
        }
        at += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int env_write(void *context, void *file, const void *buffer, size_t bytes, uint64_t offset)
{
    const char *at = buffer;

    (void)context;
    while (bytes > 0) {
        ssize_t n = pwrite(env_descriptor(file), at, MIN(bytes, IO_MAX_BYTES), (off_t)offset);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? ENOSPC : errno;
        }
        at += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int env_sync(void *context, void *file)
{
    int failure;

    (void)context;
    do {
        failure = fsync(env_descriptor(file)) == 0 ? 0 : errno;
    } while (failure == EINTR);
    return failure;
}

static int env_rename(void *context, const char *from, const char *to)
{
    (void)context;
    return rename(from, to) == 0 ? 0 : errno;
}

static int env_remove(void *context, const char *path)
{
    (void)context;
    return unlink(path) == 0 ? 0 : errno;
}

static int env_sync_directory(void *context, const char *path)
{
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failure;

    if (descriptor < 0) {
        return errno;
    }
    failure = env_sync(context, (void *)(intptr_t)descriptor);
    close(descriptor);
    /* Some file systems cannot sync a directory and say EINVAL; they order renames themselves. */
    return failure == EINVAL ? 0 : failure;
}

static int env_map(void *context, void *file, uint64_t bytes, const void **address)
{
    void *mapped = mmap(NULL, bytes, PROT_READ, MAP_SHARED, env_descriptor(file), 0);

    (void)context;
    *address = NULL;
    if (mapped == MAP_FAILED) {
        return errno;
    }
    *address = mapped;
    return 0;
}

static void env_unmap(void *context, const void *address, uint64_t bytes)
{
    (void)context;
    munmap((void *)(uintptr_t)address, bytes);
}

/* ---- threads ---------------------------------------------------------------------------------*/

/* The processors' worth of time that the container may use; UINT_MAX when there is no limit. */
static unsigned env_cgroup_count(void)
{
    unsigned long long quota;
    unsigned long long period;
    unsigned count = UINT32_MAX;
    FILE *file = fopen(CGROUP_QUOTA_FILE, "re");

    if (file == NULL) {
        return count;
    }
    if (fscanf(file, "%llu %llu", &quota, &period) == 2 && quota > 0 && period > 0) {
        count = (unsigned)MIN((quota + period - 1) / period, UINT32_MAX);
    }
    fclose(file);
    return count;
}

static unsigned env_count(void *context)
{
    cpu_set_t set;
    long count;

    (void)context;
    /* Fails on machines with more processors than the set has room for. */
    count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                        : sysconf(_SC_NPROCESSORS_ONLN);
    return MIN((unsigned)MAX(count, 1), env_cgroup_count());
}

struct env_job {
    void (*work)(void *argument, unsigned i);
    void *argument;
    unsigned n;
    atomic_uint next;
};

/* Takes numbers until none is left, so that fewer threads than wanted do the work as well. */
static void *env_work(void *argument)
{
    struct env_job *job = argument;

    for (;;) {
        unsigned i = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);

        if (i >= job->n) {
            return NULL;
        }
        job->work(job->argument, i);
    }
}

static void env_run(void *context, unsigned n, void (*work)(void *argument, unsigned i),
                    void *argument)
{
    struct env_job job = {.work = work, .argument = argument, .n = n};
    pthread_t threads[RUN_MAX_THREADS];
    unsigned started = 0;
    sigset_t all;
    sigset_t before;

    (void)context;
    /* Signals belong to the host: its handlers must not run on our threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started + 1 < MIN(n, RUN_MAX_THREADS) &&
           pthread_create(&threads[started], NULL, env_work, &job) == 0) {
        started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    env_work(&job);
    for (unsigned i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* ---- the table -------------------------------------------------------------------------------*/

annex_env annex_env_default(void)
{
    return (annex_env){
        .memory = {.allocate = env_allocate, .release = env_release},
        .io = {.open = env_open,
               .close = env_close,
               .size = env_size,
               .read = env_read,
               .write = env_write,
               .sync = env_sync,
               .rename = env_rename,
               .remove = env_remove,
               .sync_directory = env_sync_directory,
               .map = env_map,
               .unmap = env_unmap},
        .threads = {.count = env_count, .run = env_run},
    };
}
