/*
 * replay.c - runs a fuzz target on files, without a fuzzing engine.
 *
 * Every argument is a file, or a folder whose files are all taken in the order of their names.
 * Prints TAP, one test per input, so that the test runner can count them. A crash ends the program,
 * and the last line printed before it names the input.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path, unsigned *number)
{
    int failed = 1;
    uint8_t *data = NULL;
    struct stat info;
    FILE *file = fopen(path, "rb");

    if (file == NULL || fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode)) {
        goto cleanup;
    }
    /* An exact allocation lets the address sanitizer see the first byte past the end. */
    data = malloc((size_t)info.st_size);
    if ((data == NULL && info.st_size > 0) ||
        fread(data, 1, (size_t)info.st_size, file) != (size_t)info.st_size) {
        goto cleanup;
    }
    printf("# %s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, (size_t)info.st_size);
    failed = 0;

cleanup:
    printf("%s %u - %s\n", failed ? "not ok" : "ok", ++*number, path);
    free(data);
    if (file != NULL) {
        fclose(file);
    }
    return failed;
}

static int replay_is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int replay_folder(const char *folder, unsigned *number)
{
    int failed = 0;
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, replay_is_visible, alphasort);

    for (int i = 0; i < count; i++) {
        char path[4096];

        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        failed |= replay_file(path, number);
        free(entries[i]);
    }
    free(entries);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    unsigned number = 0;

    for (int i = 1; i < argc; i++) {
        struct stat info;

        if (stat(argv[i], &info) == 0 && S_ISDIR(info.st_mode)) {
            failed |= replay_folder(argv[i], &number);
        } else {
            failed |= replay_file(argv[i], &number);
        }
    }
    printf("1..%u\n", number);
    return failed;
}
