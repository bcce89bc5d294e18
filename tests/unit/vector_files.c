/* vector_files.c - see vector_files.h. */
#include "vector_files.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

const float files_six[6] = {1, -2, 3, 4, 5, 127};

static char folder[64];
static char path_text[320];

const char *files_folder(void)
{
    return folder;
}

const char *files_path(const char *name)
{
    snprintf(path_text, sizeof path_text, "%s/%s", folder, name);
    return path_text;
}

void files_put(const char *name, const void *data, size_t bytes)
{
    FILE *file = fopen(files_path(name), "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

void files_put_npy(const char *name, int version, const char *header, const void *data,
                   size_t bytes)
{
    char file[512];
    uint32_t length = (uint32_t)strlen(header);
    size_t length_bytes = version == 1 ? 2 : 4;

    memcpy(file, "\x93NUMPY", 6);
    file[6] = (char)version;
    file[7] = 0;
    memcpy(file + 8, &length, length_bytes);
    memcpy(file + 8 + length_bytes, header, length);
    assert_true(8 + length_bytes + length + bytes <= sizeof file);
    memcpy(file + 8 + length_bytes + length, data, bytes);
    files_put(name, file, 8 + length_bytes + length + bytes);
}

void files_clear(void)
{
    DIR *open_folder = opendir(folder);
    struct dirent *entry;

    assert_non_null(open_folder);
    while ((entry = readdir(open_folder)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            remove(files_path(entry->d_name));
        }
    }
    closedir(open_folder);
}

size_t files_count(void)
{
    size_t n = 0;
    DIR *open_folder = opendir(folder);
    struct dirent *entry;

    assert_non_null(open_folder);
    while ((entry = readdir(open_folder)) != NULL) {
        n += entry->d_name[0] != '.';
    }
    closedir(open_folder);
    return n;
}

int files_set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/annex-test-file-XXXXXX");
    return mkdtemp(folder) == NULL;
}

int files_tear_down(void **state)
{
    (void)state;
    files_clear();
    return rmdir(folder);
}

annex_reader *files_open(const char *name)
{
    annex_env env = annex_env_default();
    annex_reader *reader;
    annex_error error;

    if (annex_reader_open(&env, files_path(name), NULL, &reader, &error) != ANNEX_OK) {
        fail_msg("%s: %s", name, error.message);
    }
    return reader;
}

void files_assert_refused(const char *name, annex_status status, const char *message)
{
    annex_env env = annex_env_default();
    annex_reader *reader = (annex_reader *)&env;
    annex_error error;

    assert_int_equal(annex_reader_open(&env, files_path(name), NULL, &reader, &error), status);
    assert_null(reader);
    if (strstr(error.message, message) == NULL || strstr(error.message, folder) == NULL) {
        fail_msg("%s", error.message);
    }
}

/* Reads all rows, which must be `rows` x `dimension` and equal `expected`. */
static void assert_all_rows(annex_reader *reader, const float *expected, size_t rows,
                            size_t dimension)
{
    annex_rows source = annex_reader_rows(reader);
    annex_batch batch;
    annex_error error;
    size_t row = 0;

    for (;;) {
        if (source.next(source.context, &batch, &error) != ANNEX_OK) {
            fail_msg("%s", error.message);
        }
        if (batch.n == 0) {
            break;
        }
        assert_null(batch.keys);
        assert_true(batch.n <= rows - row);
        assert_memory_equal(batch.vectors, expected + row * dimension,
                            batch.n * dimension * sizeof(float));
        row += batch.n;
    }
    assert_int_equal(row, rows);
}

void files_assert_rows(const char *name, const char *kind, annex_format format,
                       const float *expected, size_t rows, size_t dimension)
{
    annex_reader *reader = files_open(name);
    annex_rows source = annex_reader_rows(reader);
    annex_reader_info info;

    annex_reader_describe(reader, &info);
    assert_int_equal(info.rows, rows);
    assert_int_equal(info.dimension, dimension);
    assert_int_equal(info.format, format);
    assert_int_equal(info.metric, 0);
    assert_string_equal(info.kind, kind);
    assert_all_rows(reader, expected, rows, dimension);
    assert_int_equal(source.rewind(source.context, NULL), ANNEX_OK);
    assert_all_rows(reader, expected, rows, dimension);
    annex_reader_close(reader);
}
