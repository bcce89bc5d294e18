/*
 * index.c - the type annex._annex.Index: how an index comes to be and how it goes.
 *
 * Closing waits for nobody: it forbids new calls, and the last one that runs closes the index.
 */
#include "module.h"

int index_enter(struct index *self)
{
    if (self->index == NULL || self->closing) {
        PyErr_SetString(PyExc_ValueError, "the index is closed");
        return -1;
    }
    self->users++;
    return 0;
}

static void index_close_unused(struct index *self)
{
    annex_index *index = self->index;

    if (self->users == 0) {
        self->index = NULL;
        annex_index_close(index);
    }
}

void index_leave(struct index *self)
{
    self->users--;
    if (self->closing) {
        index_close_unused(self);
    }
}

/* ---- birth ------------------------------------------------------------------------------------*/

static struct index *index_new(PyTypeObject *type)
{
    struct index *self = PyObject_New(struct index, type);
    pthread_rwlockattr_t attributes;

    if (self == NULL) {
        return NULL;
    }
    self->index = NULL;
    self->users = 0;
    self->closing = 0;
    pthread_rwlockattr_init(&attributes);
    /* a change does not wait for ever while others search */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&self->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    return self;
}

static PyObject *index_adopt(PyObject *type, annex_index *index)
{
    struct index *self = index_new((PyTypeObject *)type);
    annex_index_info info;

    if (self == NULL) {
        annex_index_close(index);
        return NULL;
    }
    annex_index_describe(index, &info);
    self->index = index;
    self->metric = info.metric;
    self->dimension = info.dimension;
    self->key_kind = info.key_kind;
    return (PyObject *)self;
}

static PyObject *index_build_rows(PyObject *type, annex_build_options *options, const char *path,
                                  const struct rows *rows, const struct keys *keys,
                                  PyObject *progress)
{
    annex_error error = {.status = ANNEX_OK};
    annex_env env = module_env();
    annex_index *index = NULL;
    struct source source;
    annex_rows stream;
    struct call call;
    annex_status status;

    if (keys->given && keys->n != rows->n) {
        return PyErr_Format(PyExc_ValueError, "there are %zu vectors and %zu keys", rows->n,
                            keys->n);
    }
    if (source_begin(&source, rows, keys) != 0) {
        return NULL;
    }
    options->dimension = (uint32_t)rows->dimension;
    options->key_kind = keys->ends.held ? ANNEX_KEY_BYTES : ANNEX_KEY_INTEGER;
    stream = source_rows(&source);
    call_begin(&call, progress);
    status = annex_build(&env, options, &stream, path, &index, &error);
    call_end(&call);
    source_end(&source);
    if (status != ANNEX_OK) {
        return raise_status(status, &error);
    }
    return index_adopt(type, index);
}

static int index_parse_names(const char *metric, const char *family, const char *raw,
                             const char *codes, annex_build_options *options)
{
    annex_error error = {.status = ANNEX_OK};
    annex_status status = annex_metric_parse(metric, &options->metric, &error);

    if (status == ANNEX_OK) {
        status = annex_family_parse(family, &options->family, &error);
    }
    if (status == ANNEX_OK) {
        status = annex_raw_parse(raw, &options->raw, &error);
    }
    if (status == ANNEX_OK) {
        status = annex_codes_parse(codes, &options->codes, &error);
    }
    if (status != ANNEX_OK) {
        raise_status(status, &error);
        return -1;
    }
    return 0;
}

static PyObject *index_build(PyObject *type, PyObject *arguments)
{
    annex_build_options options = ANNEX_BUILD_OPTIONS_INIT;
    PyObject *vectors, *keys, *ends, *progress, *made = NULL;
    const char *metric, *path, *family, *raw, *codes;
    unsigned dimension;
    unsigned long long max_memory_bytes, seed;
    struct rows rows = {.n = 0};
    struct keys taken = {.n = 0};

    if (!PyArg_ParseTuple(arguments, "OOOIszsssIIIKKO", &vectors, &keys, &ends, &dimension, &metric,
                          &path, &family, &raw, &codes, &options.degree, &options.effort,
                          &options.threads, &max_memory_bytes, &seed, &progress)) {
        return NULL;
    }
    options.max_memory_bytes = max_memory_bytes;
    options.seed = seed;
    if (index_parse_names(metric, family, raw, codes, &options) == 0 &&
        rows_take(vectors, "vectors", options.metric, dimension, &rows) == 0 &&
        keys_take(keys, ends, &taken) == 0) {
        made = index_build_rows(type, &options, path, &rows, &taken,
                                progress == Py_None ? NULL : progress);
    }
    keys_release(&taken);
    buffer_release(&rows.buffer);
    return made;
}

static PyObject *index_open(PyObject *type, PyObject *arguments)
{
    annex_error error = {.status = ANNEX_OK};
    annex_env env = module_env();
    annex_index *index = NULL;
    const char *path;
    unsigned flags;
    struct call call;
    annex_status status;

    if (!PyArg_ParseTuple(arguments, "sI", &path, &flags)) {
        return NULL;
    }
    call_begin(&call, NULL);
    status = annex_index_open(&env, path, flags, &index, &error);
    call_end(&call);
    return status == ANNEX_OK ? index_adopt(type, index) : raise_status(status, &error);
}

/* ---- what it is -------------------------------------------------------------------------------*/

static PyObject *recall_points(const annex_index_info *info)
{
    PyObject *points = PyTuple_New((Py_ssize_t)info->n_recall_points);

    for (uint32_t i = 0; points != NULL && i < info->n_recall_points; i++) {
        const annex_recall_point *point = &info->recall_points[i];
        PyObject *pair = Py_BuildValue("(Id)", point->effort, (double)point->recall);

        if (pair == NULL) {
            Py_DECREF(points);
            return NULL;
        }
        PyTuple_SetItem(points, (Py_ssize_t)i, pair);
    }
    return points;
}

static const char *codes_name(const annex_index_info *info)
{
    const char *name = annex_codes_name(info->codes);

    return name ? name : "";
}

static PyObject *index_info(PyObject *object, PyObject *nothing)
{
    struct index *self = (struct index *)object;
    annex_index_info info;
    PyObject *points;

    (void)nothing;
    if (index_enter(self) != 0) {
        return NULL;
    }
    annex_index_describe(self->index, &info);
    index_leave(self);
    points = recall_points(&info);
    if (points == NULL) {
        return NULL;
    }
    return Py_BuildValue(
        "{s:s, s:I, s:s, s:s, s:s, s:s, s:K, s:K, s:K, s:K, s:K, s:I, s:I, s:N, s:N, s:N, s:N,"
        " s:N}",
        "metric", annex_metric_name(info.metric), "dimension", info.dimension, "family",
        annex_family_name(info.family), "codes", codes_name(&info), "raw", annex_raw_name(info.raw),
        "key_kind", info.key_kind == ANNEX_KEY_BYTES ? "bytes" : "integer", "rows",
        (unsigned long long)info.rows, "slots", (unsigned long long)info.slots, "skipped",
        (unsigned long long)info.skipped, "bytes", (unsigned long long)info.bytes, "raw_bytes",
        (unsigned long long)info.raw_bytes, "degree", info.degree, "default_effort",
        info.default_effort, "lossless", PyBool_FromLong(info.lossless), "rotated",
        PyBool_FromLong(info.rotated), "has_vectors", PyBool_FromLong(info.has_raw), "changed",
        PyBool_FromLong(info.dirty), "recall_points", points);
}

static PyObject *index_close(PyObject *object, PyObject *nothing)
{
    struct index *self = (struct index *)object;

    (void)nothing;
    if (self->index != NULL) {
        self->closing = 1;
        index_close_unused(self);
    }
    Py_INCREF(Py_None);
    return Py_None;
}

static void index_dealloc(PyObject *object)
{
    struct index *self = (struct index *)object;
    PyTypeObject *type = Py_TYPE(object);

    annex_index_close(self->index);
    pthread_rwlock_destroy(&self->lock);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyObject *index_refuse_new(PyTypeObject *type, PyObject *arguments, PyObject *named)
{
    (void)type, (void)arguments, (void)named;
    PyErr_SetString(PyExc_TypeError, "use Index.build or Index.open");
    return NULL;
}

static PyMethodDef index_methods[] = {
    {"build", index_build, METH_VARARGS | METH_CLASS, NULL},
    {"open", index_open, METH_VARARGS | METH_CLASS, NULL},
    {"info", index_info, METH_NOARGS, NULL},
    {"close", index_close, METH_NOARGS, NULL},
    {"search", index_search, METH_VARARGS, NULL},
    {"within", index_within, METH_VARARGS, NULL},
    {"insert", index_insert, METH_VARARGS, NULL},
    {"update", index_update, METH_VARARGS, NULL},
    {"delete", index_delete, METH_VARARGS, NULL},
    {"save", index_save, METH_VARARGS, NULL},
    {"check", index_check, METH_NOARGS, NULL},
    {"vector", index_vector, METH_VARARGS, NULL},
    {"contains", index_contains, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot index_slots[] = {
    {Py_tp_methods, index_methods},
    {Py_tp_dealloc, index_dealloc},
    {Py_tp_new, index_refuse_new},
    {0, NULL},
};

PyType_Spec index_spec = {
    .name = "annex._annex.Index",
    .basicsize = sizeof(struct index),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = index_slots,
};
