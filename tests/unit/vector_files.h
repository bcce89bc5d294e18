/*
 * vector_files.h - a folder of files of vectors for one test program, made byte by byte, and what
 * the tests of the file room expect of them.
 */
#ifndef ANNEX_TEST_VECTOR_FILES_H
#define ANNEX_TEST_VECTOR_FILES_H

#include "annex.h"

/* The text of a .npy header. */
#define NPY_HEADER(descr, shape) \
    "{'descr': '" descr "', 'fortran_order': False, 'shape': " shape ", }"

/* 1, -2, 3, 4, 5, 127 */
extern const float files_six[6];

/* Makes and removes the folder: set-up and tear-down of a group of tests. */
int files_set_up(void **state);
int files_tear_down(void **state);

/* The folder, and the path of a file in it; the latter is valid until the next call. */
const char *files_folder(void);
const char *files_path(const char *name);
void files_clear(void);
/* Without hidden files. */
size_t files_count(void);

void files_put(const char *name, const void *data, size_t bytes);
void files_put_npy(const char *name, int version, const char *header, const void *data,
                   size_t bytes);

/* Opens a file that must be good. */
annex_reader *files_open(const char *name);
/* The file must be refused with this status, its path and `message` in the sentence. */
void files_assert_refused(const char *name, annex_status status, const char *message);
/* The file must be good and hold exactly these rows, read twice. */
void files_assert_rows(const char *name, const char *kind, annex_format format,
                       const float *expected, size_t rows, size_t dimension);

#endif
