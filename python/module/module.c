/*
 * module.c - annex._annex: the functions that need no index, and the module itself.
 */
#include "module.h"

static PyObject *module_version(PyObject *module, PyObject *nothing)
{
    (void)module, (void)nothing;
    return PyUnicode_FromString(annex_version());
}

static PyObject *module_isa(PyObject *module, PyObject *nothing)
{
    (void)module, (void)nothing;
    return PyUnicode_FromString(annex_isa());
}

static PyObject *distances_of(annex_metric metric, const struct rows *query,
                              const struct rows *rows, struct buffer *output)
{
    annex_error error = {.status = ANNEX_OK};
    const void *from = NULL, *to = NULL;
    void *wide_from = NULL, *wide_to = NULL;
    PyObject *result = NULL;
    struct call call;
    annex_status status;

    if (query->n != 1) {
        return PyErr_Format(PyExc_ValueError, "there are %zu queries; give one", query->n);
    }
    if (rows_widen(query, &from, &wide_from) == 0 && rows_widen(rows, &to, &wide_to) == 0) {
        call_begin(&call, NULL);
        status =
            annex_distances(metric, rows->dimension, from, to, rows->n, output->view.buf, &error);
        call_end(&call);
        result = status == ANNEX_OK ? Py_BuildValue("") : raise_status(status, &error);
    }
    free(wide_from);
    free(wide_to);
    return result;
}

/* distances(metric, dimension, query, rows, room): room is [n] doubles, n being the rows given. */
static PyObject *module_distances(PyObject *module, PyObject *arguments)
{
    annex_error error = {.status = ANNEX_OK};
    PyObject *query, *rows, *room, *result = NULL;
    struct rows from = {.n = 0}, to = {.n = 0};
    struct buffer output = {.held = 0};
    const char *name;
    annex_metric metric;
    annex_status status;
    unsigned dimension;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "sIOOO", &name, &dimension, &query, &rows, &room)) {
        return NULL;
    }
    status = annex_metric_parse(name, &metric, &error);
    if (status != ANNEX_OK) {
        return raise_status(status, &error);
    }
    if (rows_take(query, "queries", metric, dimension, &from) == 0 &&
        rows_take(rows, "rows", metric, from.dimension, &to) == 0 &&
        output_take(room, to.n * sizeof(double), &output) == 0) {
        result = distances_of(metric, &from, &to, &output);
    }
    buffer_release(&output);
    buffer_release(&to.buffer);
    buffer_release(&from.buffer);
    return result;
}

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&index_spec);
    int code = -1;

    if (type != NULL) {
        code = PyModule_AddObject(module, "Index", type);
        if (code != 0) {
            Py_DECREF(type);
        }
    }
    return code;
}

static PyMethodDef module_functions[] = {
    {"version", module_version, METH_NOARGS, NULL},
    {"isa", module_isa, METH_NOARGS, NULL},
    {"distances", module_distances, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "annex._annex",
    .m_methods = module_functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__annex(void);

PyMODINIT_FUNC PyInit__annex(void)
{
    return PyModuleDef_Init(&module_definition);
}
