/*
 * test_base_files.c - files that are replaced whole or not at all, and the files of the default
 * environment.
 *
 * Replacement is tested by failing every call of it, and by cutting the power before every change
 * with many seeds for what the disk had written by then: the file is always the old one or the new.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "disk.h"
#include "fault.h"

/* ---- replacement -----------------------------------------------------------------------------*/

/* Writes 5000 bytes of `fill` to `path`, in pieces that do not arrive in order. */
static annex_status replace_with(const annex_env *env, const char *path, char fill,
                                 annex_error *error)
{
    struct replace_file replace;
    char data[1000];
    annex_status status;

    memset(data, fill, sizeof data);
    TRY(replace_begin(&replace, env, path, error));
    for (int i = 4; i >= 0; i--) {
        TRY_CLEANUP(replace_write(&replace, data, sizeof data, (uint64_t)i * 1000, error));
    }
    TRY_CLEANUP(replace_commit(&replace, error));

cleanup:
    replace_abort(&replace); /* harmless after the commit, as base.h says */
    return status;
}

/* What a file made by replace_with holds; '?' for anything that is not whole, 0 for no file. */
static char replaced_content(const annex_env *env, const char *path)
{
    char data[5000];
    uint64_t bytes;
    void *file;
    char found;

    if (env->io.open(env->io.context, path, ANNEX_OPEN_READ, &file) != 0) {
        return 0;
    }
    assert_int_equal(env->io.size(env->io.context, file, &bytes), 0);
    if (bytes != sizeof data) {
        found = '?';
    } else {
        assert_int_equal(env->io.read(env->io.context, file, data, sizeof data, 0), 0);
        found = data[0];
        for (size_t i = 0; i < sizeof data; i++) {
            found = data[i] == found ? found : '?';
        }
    }
    env->io.close(env->io.context, file);
    return found;
}

static void replace__paths_of_every_shape__are_written(void **state)
{
    static const char *const paths[] = {"plain", "/root", "/some/folder/name", "folder/name"};
    static struct disk disk;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
        disk_init(&disk);
        assert_int_equal(replace_with(&disk.env, paths[i], 'a', NULL), ANNEX_OK);
        assert_int_equal(replace_with(&disk.env, paths[i], 'b', NULL), ANNEX_OK);
        assert_int_equal(replaced_content(&disk.env, paths[i]), 'b');
        assert_int_equal(disk_count(&disk), 1);
        disk_free(&disk);
    }
}

static void replace__any_call_fails__old_or_new_stays_and_nothing_leaks(void **state)
{
    static struct disk disk;
    struct fault fault;

    (void)state;
    for (int target = FAULT_MEMORY; target <= FAULT_IO; target++) {
        disk_init(&disk);
        assert_int_equal(replace_with(&disk.env, "/f/a", 'o', NULL), ANNEX_OK);
        fault_init(&fault, &disk.env);
        for (uint64_t n = 1; fault_loop(&fault, (enum fault_target)target, n, false); n++) {
            annex_error error = {ANNEX_OK, ""};
            annex_status status = replace_with(&fault.env, "/f/a", 'n', &error);

            fault.target = FAULT_NONE;
            assert_int_equal(disk_count(&disk), 1);
            assert_true(status == ANNEX_OK || strlen(error.message) > 0);
            if (status == ANNEX_OK) {
                assert_int_equal(replaced_content(&disk.env, "/f/a"), 'n');
            } else if (strstr(error.message, "sync the folder") == NULL) {
                assert_int_equal(replaced_content(&disk.env, "/f/a"), 'o');
            }
            assert_int_equal(replace_with(&disk.env, "/f/a", 'o', NULL), ANNEX_OK);
        }
        fault_free(&fault);
        disk_free(&disk);
    }
}

static void replace__power_fails_before_any_change__old_or_new_is_whole(void **state)
{
    static struct disk start;
    static struct disk disk;
    static struct disk after;
    bool finished = false;
    unsigned old_found = 0;
    unsigned new_found = 0;

    (void)state;
    disk_init(&start);
    assert_int_equal(replace_with(&start.env, "/f/a", 'o', NULL), ANNEX_OK);
    for (uint64_t at = 1; !finished; at++) {
        disk_copy(&disk, &start);
        disk.power_fails_at = disk.changes + at;
        finished = replace_with(&disk.env, "/f/a", 'n', NULL) == ANNEX_OK;
        for (uint64_t seed = 0; seed < 200; seed++) {
            char found;

            disk_copy(&after, &disk);
            disk_crash(&after, seed);
            found = replaced_content(&after.env, "/f/a");
            assert_true(found == 'n' || (found == 'o' && !finished));
            old_found += found == 'o';
            new_found += found == 'n';
            disk_free(&after);
        }
        disk_free(&disk);
    }
    disk_free(&start);
    assert_true(old_found > 0 && new_found > 0);
}

static int replace_taken(void *context, const char *path, annex_open_mode mode, void **file)
{
    (void)context;
    (void)path;
    (void)mode;
    *file = NULL;
    return EEXIST;
}

static void replace__every_name_taken__gives_up(void **state)
{
    annex_env env = annex_env_default();
    struct replace_file replace;
    annex_error error;

    (void)state;
    env.io.open = replace_taken;
    assert_int_equal(replace_begin(&replace, &env, "a", &error), ANNEX_EXISTS);
    replace_abort(&replace);
}

/* ---- the default environment -----------------------------------------------------------------*/

static char test_folder[] = "/tmp/annex-test-XXXXXX";

static int folder_make(void **state)
{
    (void)state;
    return mkdtemp(test_folder) == NULL;
}

static int folder_remove(void **state)
{
    (void)state;
    return rmdir(test_folder);
}

static const char *in_folder(const char *name)
{
    static char path[2][64];
    static int turn;

    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", test_folder, name);
    return path[turn];
}

static void files__written_mapped_renamed__hold_their_bytes(void **state)
{
    annex_env env = annex_env_default();
    const annex_io *io = &env.io;
    const void *mapped;
    char buffer[8];
    uint64_t bytes;
    void *file;
    struct stat info;

    (void)state;
    assert_int_equal(io->open(NULL, in_folder("a"), ANNEX_OPEN_CREATE, &file), 0);
    assert_true((intptr_t)file > 2);
    assert_true(fcntl((int)(intptr_t)file, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(io->write(NULL, file, "wor", 3, 5), 0);
    assert_int_equal(io->write(NULL, file, "hello", 5, 0), 0);
    assert_int_equal(io->write(NULL, file, "", 0, 3), 0);
    assert_int_equal(io->sync(NULL, file), 0);
    assert_int_equal(io->size(NULL, file, &bytes), 0);
    assert_int_equal(bytes, 8);
    assert_int_equal(io->read(NULL, file, buffer, 8, 0), 0);
    assert_memory_equal(buffer, "hellowor", 8);
    assert_int_equal(io->read(NULL, file, buffer, 4, 5), EIO);
    assert_int_equal(io->map(NULL, file, 8, &mapped), 0);
    assert_int_equal(io->close(NULL, file), 0);
    assert_memory_equal(mapped, "hellowor", 8);
    io->unmap(NULL, mapped, 8);
    assert_int_equal(stat(in_folder("a"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(io->open(NULL, in_folder("a"), ANNEX_OPEN_CREATE, &file), EEXIST);
    assert_int_equal(io->rename(NULL, in_folder("a"), in_folder("b")), 0);
    assert_int_equal(io->sync_directory(NULL, test_folder), 0);
    assert_int_equal(io->remove(NULL, in_folder("b")), 0);
}

static void files__misused__answer_the_errno(void **state)
{
    annex_env env = annex_env_default();
    const annex_io *io = &env.io;
    const void *mapped;
    char buffer[4] = "abc";
    uint64_t bytes;
    void *file;

    (void)state;
    assert_int_equal(io->open(NULL, in_folder("none"), ANNEX_OPEN_READ, &file), ENOENT);
    assert_null(file);
    assert_int_equal(io->open(NULL, test_folder, ANNEX_OPEN_READ, &file), EISDIR);
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    assert_int_equal(io->open(NULL, in_folder("pipe"), ANNEX_OPEN_READ, &file), ESPIPE);
    assert_int_equal(io->remove(NULL, in_folder("pipe")), 0);
    assert_int_equal(io->remove(NULL, in_folder("pipe")), ENOENT);
    assert_int_equal(io->rename(NULL, in_folder("none"), in_folder("b")), ENOENT);
    assert_int_equal(io->sync_directory(NULL, in_folder("none")), ENOENT);
    file = (void *)(intptr_t)9999;
    assert_int_equal(io->size(NULL, file, &bytes), EBADF);
    assert_int_equal(io->read(NULL, file, buffer, 4, 0), EBADF);
    assert_int_equal(io->write(NULL, file, buffer, 4, 0), EBADF);
    assert_int_equal(io->sync(NULL, file), EBADF);
    assert_int_equal(io->map(NULL, file, 4096, &mapped), EBADF);
    assert_int_equal(io->close(NULL, file), EBADF);
}

/* A program may have closed its standard input; the next file must not take its place. */
static void files__opened_without_standard_input__leave_its_place_free(void **state)
{
    pid_t child = fork();
    int status;

    (void)state;
    if (child == 0) {
        annex_env env = annex_env_default();
        void *file;

        close(0);
        _exit(env.io.open(NULL, "/proc/self/status", ANNEX_OPEN_READ, &file) == 0 &&
                      (intptr_t)file > 2 && fcntl(0, F_GETFD) == -1
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void files__limit_of_size__is_an_error_with_a_name(void **state)
{
    pid_t child = fork();
    int status;

    (void)state;
    if (child == 0) {
        struct rlimit limit = {3000, 3000};
        annex_env env = annex_env_default();
        annex_error error;

        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(replace_with(&env, in_folder("big"), 'n', &error) == ANNEX_FULL &&
                      strstr(error.message, "big: File too large") != NULL
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replace__paths_of_every_shape__are_written),
        cmocka_unit_test(replace__any_call_fails__old_or_new_stays_and_nothing_leaks),
        cmocka_unit_test(replace__power_fails_before_any_change__old_or_new_is_whole),
        cmocka_unit_test(replace__every_name_taken__gives_up),
        cmocka_unit_test(files__written_mapped_renamed__hold_their_bytes),
        cmocka_unit_test(files__misused__answer_the_errno),
        cmocka_unit_test(files__opened_without_standard_input__leave_its_place_free),
        cmocka_unit_test(files__limit_of_size__is_an_error_with_a_name),
    };

    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
