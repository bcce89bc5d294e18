/*
 * buffers.c - vectors, keys and room for results, through the buffer protocol.
 *
 * Nothing is copied: f32 and packed bits are handed on as they lie in memory, other elements are
 * widened in pieces of about a megabyte. What is not contiguous, not little-endian or of another
 * type is refused with the sentence that says how to convert it. No lengths are trusted: every
 * buffer is held to the number of bytes that shape and type make.
 */
#include <string.h>

#include "module.h"

enum { BUFFER_WRITABLE = 0x1, BUFFER_FORMAT = 0x4, BUFFER_STRIDES = 0x18 };

#define STEP_BYTES ((size_t)1 << 20)

void buffer_release(struct buffer *buffer)
{
    if (buffer->held) {
        PyBuffer_Release(&buffer->view);
        buffer->held = 0;
    }
}

static int buffer_take(PyObject *object, int flags, struct buffer *buffer)
{
    buffer->held = PyObject_GetBuffer(object, &buffer->view, flags) == 0;
    return buffer->held ? 0 : -1;
}

static int buffer_is_contiguous(const Py_buffer *view)
{
    Py_ssize_t stride = view->itemsize;

    for (int axis = view->ndim - 1; axis >= 0; axis--) {
        if (view->shape[axis] > 1 && view->strides[axis] != stride) {
            return view->len == 0;
        }
        stride *= view->shape[axis];
    }
    return 1;
}

/* The one letter of a buffer's format, 0 for structures and for big-endian elements. */
static char buffer_letter(const Py_buffer *view)
{
    const char *format = view->format ? view->format : "B";

    if (*format == '@' || *format == '=' || *format == '<') {
        format++;
    }
    return format[0] != '\0' && format[1] == '\0' ? format[0] : '\0';
}

static int buffer_is_integer(const Py_buffer *view, const char *letters)
{
    char letter = buffer_letter(view);

    return letter != '\0' && strchr(letters, letter) && view->itemsize == sizeof(int64_t);
}

/* ---- vectors ----------------------------------------------------------------------------------*/

static annex_format format_of(char letter)
{
    switch (letter) {
    case 'f':
        return ANNEX_F32;
    case 'e':
        return ANNEX_F16;
    case 'd':
        return ANNEX_F64;
    case 'b':
        return ANNEX_I8;
    case 'B':
        return ANNEX_U8;
    default:
        return ANNEX_FORMAT_AUTO;
    }
}

static int rows_set_format(const char *what, annex_metric metric, struct rows *rows)
{
    const Py_buffer *view = &rows->buffer.view;
    int bits = metric == ANNEX_HAMMING || metric == ANNEX_JACCARD;

    if (view->format && (*view->format == '>' || *view->format == '!')) {
        PyErr_Format(PyExc_ValueError, "the %s are big-endian (%s); pass a.astype('<f4')", what,
                     view->format);
        return -1;
    }
    rows->format = format_of(buffer_letter(view));
    if (bits) {
        rows->format = rows->format == ANNEX_U8 ? ANNEX_BITS : ANNEX_FORMAT_AUTO;
    }
    if (rows->format == ANNEX_FORMAT_AUTO) {
        PyErr_Format(PyExc_TypeError, "the %s have elements of type '%s'; %s takes %s", what,
                     view->format ? view->format : "B", annex_metric_name(metric),
                     bits ? "packed bits, uint8: numpy.packbits(a, axis=1, bitorder='little')"
                          : "float32, float16, float64, int8 and uint8: a.astype('float32')");
        return -1;
    }
    return 0;
}

static int rows_set_shape(const char *what, size_t dimension, struct rows *rows)
{
    const Py_buffer *view = &rows->buffer.view;
    size_t per_row = rows->format == ANNEX_BITS ? (dimension + 7) / 8 : dimension;
    size_t last;

    if (view->ndim < 1 || view->ndim > 2) {
        PyErr_Format(PyExc_ValueError, "the %s have %d axes; give them as [n, dimension]", what,
                     view->ndim);
        return -1;
    }
    last = (size_t)view->shape[view->ndim - 1];
    if (view->ndim == 1 && dimension != 0 && last % per_row == 0) {
        rows->n = last / per_row;
        last = per_row;
    } else {
        rows->n = view->ndim == 2 ? (size_t)view->shape[0] : 1;
    }
    if (dimension == 0) {
        dimension = rows->format == ANNEX_BITS ? 8 * last : last;
        per_row = last;
    }
    if (last != per_row || dimension == 0 || dimension > ANNEX_MAX_DIMENSION) {
        PyErr_Format(PyExc_ValueError,
                     dimension == 0 || dimension > ANNEX_MAX_DIMENSION
                         ? "the %s have %zu %s a row; a vector has 1 to 65535 elements"
                         : "the %s have %zu %s a row; a vector of this index has %zu",
                     what, last, rows->format == ANNEX_BITS ? "bytes" : "elements", per_row);
        return -1;
    }
    rows->dimension = dimension;
    rows->row_bytes = last * (size_t)view->itemsize;
    return 0;
}

int rows_take(PyObject *object, const char *what, annex_metric metric, size_t dimension,
              struct rows *rows)
{
    *rows = (struct rows){.n = 0};
    if (buffer_take(object, BUFFER_FORMAT | BUFFER_STRIDES, &rows->buffer) != 0) {
        return -1;
    }
    if (rows_set_format(what, metric, rows) == 0 && rows_set_shape(what, dimension, rows) == 0) {
        if (buffer_is_contiguous(&rows->buffer.view)) {
            return 0;
        }
        PyErr_Format(PyExc_ValueError,
                     "the %s do not lie one behind the other in memory; pass "
                     "numpy.ascontiguousarray(a)",
                     what);
    }
    buffer_release(&rows->buffer);
    return -1;
}

int rows_widen(const struct rows *rows, const void **vectors, void **wide)
{
    size_t elements = rows->n * rows->dimension;
    annex_error error = {.status = ANNEX_OK};
    annex_status status;

    *wide = NULL;
    *vectors = rows->buffer.view.buf;
    if (rows->format == ANNEX_F32 || rows->format == ANNEX_BITS) {
        return 0;
    }
    *vectors = *wide = malloc(elements ? elements * sizeof(float) : 1);
    if (*wide == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    status = annex_vector_widen(rows->format, rows->buffer.view.buf, elements, *wide, &error);
    if (status != ANNEX_OK) {
        free(*wide);
        *wide = NULL;
        raise_status(status, &error);
        return -1;
    }
    return 0;
}

/* ---- keys -------------------------------------------------------------------------------------*/

void keys_release(struct keys *keys)
{
    buffer_release(&keys->keys);
    buffer_release(&keys->ends);
}

static int keys_check(const struct keys *taken)
{
    const Py_buffer *ends = &taken->ends.view;
    const uint64_t *end = ends->buf;
    uint64_t before = 0;

    if (!buffer_is_contiguous(&taken->keys.view)) {
        PyErr_SetString(PyExc_ValueError, "the keys do not lie one behind the other in memory; "
                                          "pass numpy.ascontiguousarray(a)");
        return -1;
    }
    if (!taken->ends.held) {
        if (taken->keys.view.ndim != 1 || !buffer_is_integer(&taken->keys.view, "ql")) {
            PyErr_SetString(PyExc_TypeError, "integer keys are one row of int64: pass "
                                             "numpy.asarray(keys, dtype='int64')");
            return -1;
        }
        return 0;
    }
    for (size_t i = 0; i < taken->n; i++) {
        if (end[i] < before || end[i] > (uint64_t)taken->keys.view.len) {
            PyErr_SetString(PyExc_ValueError, "the ends of the keys are out of order");
            return -1;
        }
        before = end[i];
    }
    return 0;
}

int keys_take(PyObject *keys, PyObject *ends, struct keys *taken)
{
    *taken = (struct keys){.n = 0};
    if (keys == Py_None) {
        return 0;
    }
    taken->given = 1;
    if (buffer_take(keys, BUFFER_FORMAT | BUFFER_STRIDES, &taken->keys) != 0) {
        return -1;
    }
    if (ends == Py_None) {
        taken->n = (size_t)taken->keys.view.len / sizeof(int64_t);
    } else if (buffer_take(ends, BUFFER_FORMAT | BUFFER_STRIDES, &taken->ends) == 0 &&
               buffer_is_integer(&taken->ends.view, "QL") &&
               buffer_is_contiguous(&taken->ends.view)) {
        taken->n = (size_t)taken->ends.view.len / sizeof(uint64_t);
    } else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_TypeError, "the ends of the keys are one row of uint64");
    }
    if (PyErr_Occurred() || keys_check(taken) != 0) {
        keys_release(taken);
        return -1;
    }
    return 0;
}

int keys_fit(const struct keys *keys, annex_key_kind kind)
{
    if (keys->given && (keys->ends.held != 0) != (kind == ANNEX_KEY_BYTES)) {
        PyErr_Format(PyExc_TypeError, "the keys of this index are %s",
                     kind == ANNEX_KEY_BYTES ? "text" : "integers");
        return -1;
    }
    return 0;
}

void keys_batch(const struct keys *keys, annex_batch *batch)
{
    batch->n = keys->n;
    if (keys->ends.held) {
        batch->key_bytes = keys->keys.view.buf;
        batch->key_ends = keys->ends.view.buf;
    } else if (keys->given) {
        batch->keys = keys->keys.view.buf;
    }
}

int output_take(PyObject *object, size_t bytes, struct buffer *output)
{
    if (buffer_take(object, BUFFER_WRITABLE | BUFFER_FORMAT | BUFFER_STRIDES, output) != 0) {
        return -1;
    }
    if ((size_t)output->view.len != bytes || !buffer_is_contiguous(&output->view)) {
        PyErr_Format(PyExc_ValueError, "room for results has %zd bytes, not %zu contiguous ones",
                     output->view.len, bytes);
        buffer_release(output);
        return -1;
    }
    return 0;
}

/* ---- a source for annex_build -----------------------------------------------------------------*/

void source_end(struct source *source)
{
    free(source->wide);
    free(source->ends);
    *source = (struct source){.rows = NULL};
}

int source_begin(struct source *source, const struct rows *rows, const struct keys *keys)
{
    int wide = rows->format != ANNEX_F32 && rows->format != ANNEX_BITS;

    *source = (struct source){.rows = rows, .keys = keys};
    source->step = rows->row_bytes < STEP_BYTES ? STEP_BYTES / rows->row_bytes : 1;
    if (wide) {
        source->wide = malloc(source->step * rows->dimension * sizeof *source->wide);
    }
    if (keys->ends.held) {
        source->ends = malloc(source->step * sizeof *source->ends);
    }
    if ((wide && !source->wide) || (keys->ends.held && !source->ends)) {
        source_end(source);
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* The ends of a batch count from the first byte of its first key. */
static void source_set_keys(struct source *source, size_t n, annex_batch *batch)
{
    const struct keys *keys = source->keys;
    size_t at = source->at;

    if (keys->ends.held) {
        const uint64_t *ends = keys->ends.view.buf;
        uint64_t begin = at ? ends[at - 1] : 0;

        for (size_t i = 0; i < n; i++) {
            source->ends[i] = ends[at + i] - begin;
        }
        batch->key_bytes = (const char *)keys->keys.view.buf + begin;
        batch->key_ends = source->ends;
    } else if (keys->given) {
        batch->keys = (const int64_t *)keys->keys.view.buf + at;
    }
}

static annex_status source_next(void *context, annex_batch *batch, annex_error *error)
{
    struct source *source = context;
    const struct rows *rows = source->rows;
    size_t left = rows->n - source->at;
    size_t n = left < source->step ? left : source->step;
    const char *from = (const char *)rows->buffer.view.buf + source->at * rows->row_bytes;

    *batch = (annex_batch){.n = n, .vectors = from};
    if (n == 0) {
        return ANNEX_OK;
    }
    if (source->wide) {
        annex_status status =
            annex_vector_widen(rows->format, from, n * rows->dimension, source->wide, error);
        if (status != ANNEX_OK) {
            return status;
        }
        batch->vectors = source->wide;
    }
    source_set_keys(source, n, batch);
    source->at += n;
    return ANNEX_OK;
}

static annex_status source_rewind(void *context, annex_error *error)
{
    struct source *source = context;

    (void)error;
    source->at = 0;
    return ANNEX_OK;
}

annex_rows source_rows(struct source *source)
{
    return (annex_rows){.context = source, .next = source_next, .rewind = source_rewind};
}
