/*
 * change.c - insert, update, delete and save, one at a time; check, and single rows.
 */
#include "module.h"

typedef annex_status (*change_function)(annex_index *index, const annex_batch *batch,
                                        annex_error *error);

static PyObject *index_change(struct index *self, change_function change, const annex_batch *batch)
{
    annex_error error = {.status = ANNEX_OK};
    struct call call;
    annex_status status;

    call_begin(&call, NULL);
    pthread_rwlock_wrlock(&self->lock);
    status = change(self->index, batch, &error);
    pthread_rwlock_unlock(&self->lock);
    call_end(&call);
    return status == ANNEX_OK ? Py_BuildValue("") : raise_status(status, &error);
}

static PyObject *index_add(struct index *self, change_function change, PyObject *arguments)
{
    PyObject *vectors, *keys, *ends, *result = NULL;
    struct rows rows = {.n = 0};
    struct keys taken = {.n = 0};
    annex_batch batch = {.n = 0};
    void *wide = NULL;

    if (!PyArg_ParseTuple(arguments, "OOO", &vectors, &keys, &ends) || index_enter(self) != 0) {
        return NULL;
    }
    if (rows_take(vectors, "vectors", self->metric, self->dimension, &rows) == 0 &&
        keys_take(keys, ends, &taken) == 0 && keys_fit(&taken, self->key_kind) == 0) {
        if (taken.n != rows.n) {
            PyErr_Format(PyExc_ValueError, "there are %zu vectors and %zu keys", rows.n, taken.n);
        } else if (rows_widen(&rows, &batch.vectors, &wide) == 0) {
            keys_batch(&taken, &batch);
            result = index_change(self, change, &batch);
        }
    }
    free(wide);
    keys_release(&taken);
    buffer_release(&rows.buffer);
    index_leave(self);
    return result;
}

PyObject *index_insert(PyObject *self, PyObject *arguments)
{
    return index_add((struct index *)self, annex_index_insert, arguments);
}

PyObject *index_update(PyObject *self, PyObject *arguments)
{
    return index_add((struct index *)self, annex_index_update, arguments);
}

PyObject *index_delete(PyObject *object, PyObject *arguments)
{
    struct index *self = (struct index *)object;
    PyObject *keys, *ends, *result = NULL;
    struct keys taken = {.n = 0};
    annex_batch batch = {.n = 0};

    if (!PyArg_ParseTuple(arguments, "OO", &keys, &ends) || index_enter(self) != 0) {
        return NULL;
    }
    if (keys_take(keys, ends, &taken) == 0 && keys_fit(&taken, self->key_kind) == 0) {
        keys_batch(&taken, &batch);
        result = index_change(self, annex_index_delete, &batch);
    }
    keys_release(&taken);
    index_leave(self);
    return result;
}

PyObject *index_save(PyObject *object, PyObject *arguments)
{
    struct index *self = (struct index *)object;
    annex_error error = {.status = ANNEX_OK};
    const char *path;
    struct call call;
    annex_status status;

    if (!PyArg_ParseTuple(arguments, "s", &path) || index_enter(self) != 0) {
        return NULL;
    }
    call_begin(&call, NULL);
    pthread_rwlock_wrlock(&self->lock);
    status = annex_index_save(self->index, path, &error);
    pthread_rwlock_unlock(&self->lock);
    call_end(&call);
    index_leave(self);
    return status == ANNEX_OK ? Py_BuildValue("") : raise_status(status, &error);
}

PyObject *index_check(PyObject *object, PyObject *nothing)
{
    struct index *self = (struct index *)object;
    annex_error error = {.status = ANNEX_OK};
    struct call call;
    annex_status status;

    (void)nothing;
    if (index_enter(self) != 0) {
        return NULL;
    }
    call_begin(&call, NULL);
    pthread_rwlock_rdlock(&self->lock);
    status = annex_index_check(self->index, &error);
    pthread_rwlock_unlock(&self->lock);
    call_end(&call);
    index_leave(self);
    return status == ANNEX_OK ? Py_BuildValue("") : raise_status(status, &error);
}

/* ---- single rows ------------------------------------------------------------------------------*/

/* `key` is an int or bytes, as the index has them. The lock must be held for what comes of it. */
static annex_status index_find(struct index *self, PyObject *key, uint32_t *row, annex_error *error)
{
    char *bytes;
    Py_ssize_t n;
    long long number;

    if (self->key_kind == ANNEX_KEY_BYTES) {
        if (PyBytes_AsStringAndSize(key, &bytes, &n) != 0) {
            return ANNEX_CANCELLED;
        }
        return annex_index_find_bytes(self->index, bytes, (size_t)n, row, error);
    }
    number = PyLong_AsLongLong(key);
    if (number == -1 && PyErr_Occurred()) {
        return ANNEX_CANCELLED;
    }
    return annex_index_find(self->index, number, row, error);
}

/* Takes the lock for reading without holding the GIL meanwhile: who has it may need the GIL. */
static void index_lock(struct index *self)
{
    Py_BEGIN_ALLOW_THREADS;
    pthread_rwlock_rdlock(&self->lock);
    Py_END_ALLOW_THREADS;
}

PyObject *index_vector(PyObject *object, PyObject *arguments)
{
    struct index *self = (struct index *)object;
    annex_error error = {.status = ANNEX_OK};
    PyObject *key, *room;
    struct buffer output = {.held = 0};
    annex_status status;
    uint32_t row;

    if (!PyArg_ParseTuple(arguments, "OO", &key, &room) || index_enter(self) != 0) {
        return NULL;
    }
    if (output_take(room, annex_vector_bytes(self->metric, self->dimension), &output) != 0) {
        index_leave(self);
        return NULL;
    }
    index_lock(self);
    status = index_find(self, key, &row, &error);
    if (status == ANNEX_OK) {
        status = annex_index_vector(self->index, row, output.view.buf, &error);
    }
    pthread_rwlock_unlock(&self->lock);
    buffer_release(&output);
    index_leave(self);
    return status == ANNEX_OK ? Py_BuildValue("") : raise_status(status, &error);
}

PyObject *index_contains(PyObject *object, PyObject *arguments)
{
    struct index *self = (struct index *)object;
    annex_error error = {.status = ANNEX_OK};
    annex_status status;
    PyObject *key;
    uint32_t row;

    if (!PyArg_ParseTuple(arguments, "O", &key) || index_enter(self) != 0) {
        return NULL;
    }
    index_lock(self);
    status = index_find(self, key, &row, &error);
    pthread_rwlock_unlock(&self->lock);
    index_leave(self);
    if (status != ANNEX_OK && status != ANNEX_NOT_FOUND) {
        return raise_status(status, &error);
    }
    return PyBool_FromLong(status == ANNEX_OK);
}
