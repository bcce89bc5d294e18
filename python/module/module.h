/*
 * module.h - what the files of the extension module annex._annex share.
 *
 * The module is a thin one: it turns buffers and numbers into the arguments of annex.h, releases
 * the GIL around every call that may take longer than a moment, and turns errors into exceptions.
 * python/annex/ above it has defaults, NumPy arrays and documentation, and is its only caller: so
 * functions here take positional arguments only, all of them.
 *
 * Invariants
 *   1. Only the limited API of CPython 3.9 is used, so that one binary serves every later version.
 *   2. While the GIL is released nothing of Python is touched but memory of buffers that are held.
 *   3. An annex_index is closed when nobody uses it any more: index_enter and index_leave count,
 *      under the GIL.
 *   4. Every function that returns int returns 0, or -1 with an exception set.
 */
#ifndef ANNEX_PYTHON_MODULE_H
#define ANNEX_PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03090000
#include <Python.h>
#include <stdlib.h>

#include <pthread.h>

#include "annex.h"

/*
 * The buffer protocol entered the limited API with 3.11, as it had been since 3.0: the same struct,
 * the same functions, exported by every version.
 */
typedef struct bufferinfo {
    void *buf;
    PyObject *obj;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    int readonly;
    int ndim;
    char *format;
    Py_ssize_t *shape;
    Py_ssize_t *strides;
    Py_ssize_t *suboffsets;
    void *internal;
} Py_buffer;

PyAPI_FUNC(int) PyObject_GetBuffer(PyObject *object, Py_buffer *view, int flags);
PyAPI_FUNC(void) PyBuffer_Release(Py_buffer *view);

/* ---- call.c: leaving Python and coming back ---------------------------------------------------*/

/*
 * A call of the library: between call_begin and call_end the GIL is released. The progress hook of
 * module_env finds the call of its thread, lets Python handle signals (Ctrl-C) and calls
 * `progress`.
 */
struct call {
    PyThreadState *saved;
    PyObject *progress; /* borrowed; called with (phase, done, total); NULL: nobody wants to know */
    uint64_t next_look_ns;
    int raised; /* a signal handler or `progress` raised: its exception waits in `saved` */
    struct call *outer;
};

void call_begin(struct call *call, PyObject *progress);
void call_end(struct call *call);
uint64_t call_now_ns(void);
annex_env module_env(void);

/* Sets the exception for a status and returns NULL; the one that waits if Python asked to stop. */
PyObject *raise_status(annex_status status, const annex_error *error);

/* ---- buffers.c: what comes in and goes out ----------------------------------------------------*/

struct buffer {
    Py_buffer view;
    int held;
};

void buffer_release(struct buffer *buffer);

/* Rows of vectors, as they lie in memory: [n x dimension]. */
struct rows {
    struct buffer buffer;
    annex_format format;
    size_t n;
    size_t dimension;
    size_t row_bytes;
};

/*
 * Holds a C-contiguous buffer of one or two axes. One axis: `dimension` elements a row, or a single
 * row when that is 0. For bit metrics elements are bytes, and `dimension` 0 is eight times as many.
 */
int rows_take(PyObject *object, const char *what, annex_metric metric, size_t dimension,
              struct rows *rows);
/* All rows as annex.h takes them; *wide is to be given to free. */
int rows_widen(const struct rows *rows, const void **vectors, void **wide);

/* Keys: none, int64, or bytes one behind the other with the end of each. */
struct keys {
    struct buffer keys;
    struct buffer ends;
    size_t n;
    int given;
};

/* `ends` is None for integers. `keys` is None for no keys. */
int keys_take(PyObject *keys, PyObject *ends, struct keys *taken);
void keys_release(struct keys *keys);
/* ANNEX_INVALID unless the keys are of this kind. */
int keys_fit(const struct keys *keys, annex_key_kind kind);
void keys_batch(const struct keys *keys, annex_batch *batch);

/* A writable buffer of exactly `bytes` bytes. */
int output_take(PyObject *object, size_t bytes, struct buffer *output);

/* The rows and their keys as a source of annex_build. */
struct source {
    const struct rows *rows;
    const struct keys *keys;
    float *wide;    /* room for rows that are not f32 */
    uint64_t *ends; /* of byte keys, from the first byte of a batch */
    size_t at;
    size_t step;
};

int source_begin(struct source *source, const struct rows *rows, const struct keys *keys);
void source_end(struct source *source);
annex_rows source_rows(struct source *source);

/* ---- index.c: the type -----------------------------------------------------------------------*/

/*
 * `lock` is held for writing by changes, one at a time, and for reading by those who look at rows
 * by number, which changes move. Searches that do not are left to annex.h, and never wait for it.
 */
struct index {
    PyObject_HEAD annex_index *index;
    pthread_rwlock_t lock;
    Py_ssize_t users;
    int closing;
    annex_metric metric;
    size_t dimension;
    annex_key_kind key_kind;
};

extern PyType_Spec index_spec;

int index_enter(struct index *self);
void index_leave(struct index *self);

/* search.c and change.c: methods of the type */
PyObject *index_search(PyObject *self, PyObject *arguments);
PyObject *index_within(PyObject *self, PyObject *arguments);
PyObject *index_insert(PyObject *self, PyObject *arguments);
PyObject *index_update(PyObject *self, PyObject *arguments);
PyObject *index_delete(PyObject *self, PyObject *arguments);
PyObject *index_save(PyObject *self, PyObject *arguments);
PyObject *index_check(PyObject *self, PyObject *arguments);
PyObject *index_vector(PyObject *self, PyObject *arguments);
PyObject *index_contains(PyObject *self, PyObject *arguments);

#endif
