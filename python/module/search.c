/*
 * search.c - search and within: queries, options and filters in, keys and distances out.
 *
 * A filter is a list of keys, which becomes a bitmap over rows, or a mask over integer keys, which
 * is asked for each row, from the threads of the library, without Python. Keys of bytes are copied
 * out before the lock is given back, because a change may move them.
 */
#include <math.h>
#include <string.h>

#include "module.h"

/* What the arguments behind the queries say. */
struct request {
    annex_search_options options;
    annex_search_stats stats;
    struct keys only;    /* keys that may be found */
    struct buffer mask;  /* or: for each integer key from 0 whether it may be found */
    uint64_t *allowed;   /* the bitmap made of `only`; free */
    uint64_t timeout_ns; /* 0: none */
    uint64_t end_ns;
    int locked;
};

static int request_accepts(void *context, uint32_t row, int64_t key)
{
    const Py_buffer *mask = &((struct request *)context)->mask.view;

    (void)row;
    return key >= 0 && key < mask->len && ((const char *)mask->buf)[key];
}

static int request_stops(void *context)
{
    return call_now_ns() >= ((struct request *)context)->end_ns;
}

static void request_end(struct request *request)
{
    keys_release(&request->only);
    buffer_release(&request->mask);
    free(request->allowed);
}

static int request_take_mask(struct request *request, const struct index *index, PyObject *mask)
{
    const Py_buffer *view = &request->mask.view;

    if (mask == Py_None) {
        return 0;
    }
    if (index->key_kind != ANNEX_KEY_INTEGER) {
        PyErr_SetString(PyExc_TypeError, "a mask needs integer keys; give the keys themselves");
        return -1;
    }
    if (PyObject_GetBuffer(mask, &request->mask.view, 0) != 0) { /* contiguous bytes, or refused */
        return -1;
    }
    request->mask.held = 1;
    if (view->itemsize != 1) {
        PyErr_SetString(PyExc_TypeError, "a mask has one bool for each key from 0");
        return -1;
    }
    request->options.accept = request_accepts;
    request->options.accept_context = request;
    return 0;
}

/* The nine arguments that search and within share, as a tuple. */
static int request_take(struct request *request, const struct index *index, PyObject *tuple)
{
    PyObject *only, *ends, *mask;
    unsigned long long max_scan;
    double timeout_s;

    *request = (struct request){.options = ANNEX_SEARCH_OPTIONS_INIT};
    if (!PyArg_ParseTuple(tuple, "IdIKdOOO", &request->options.effort, &request->options.recall,
                          &request->options.threads, &max_scan, &timeout_s, &only, &ends, &mask)) {
        return -1;
    }
    request->options.max_scan = max_scan;
    request->options.stats = &request->stats;
    if (timeout_s > 0) {
        request->timeout_ns = timeout_s < 1e9 ? (uint64_t)(timeout_s * 1e9) : UINT64_C(1) << 60;
        request->options.stop = request_stops;
        request->options.stop_context = request;
    }
    if (keys_take(only, ends, &request->only) != 0 ||
        keys_fit(&request->only, index->key_kind) != 0 ||
        request_take_mask(request, index, mask) != 0) {
        request_end(request);
        return -1;
    }
    return 0;
}

/* ---- without the GIL --------------------------------------------------------------------------*/

static annex_status keys_find(const struct keys *keys, const annex_index *index, size_t i,
                              uint32_t *row)
{
    if (keys->ends.held) {
        const uint64_t *ends = keys->ends.view.buf;
        uint64_t begin = i ? ends[i - 1] : 0;

        return annex_index_find_bytes(index, (const char *)keys->keys.view.buf + begin,
                                      ends[i] - begin, row, NULL);
    }
    return annex_index_find(index, ((const int64_t *)keys->keys.view.buf)[i], row, NULL);
}

static annex_status request_allow(struct request *request, const annex_index *index)
{
    annex_index_info info;

    annex_index_describe(index, &info);
    request->allowed = calloc(info.slots / 64 + 1, sizeof *request->allowed);
    if (request->allowed == NULL) {
        return ANNEX_NOMEM;
    }
    for (size_t i = 0; i < request->only.n; i++) {
        uint32_t row;

        if (keys_find(&request->only, index, i, &row) == ANNEX_OK) {
            request->allowed[row / 64] |= UINT64_C(1) << (row % 64);
        }
    }
    request->options.allowed = request->allowed;
    return ANNEX_OK;
}

/* Holds the lock where rows are looked at by number. */
static annex_status request_begin(struct request *request, struct index *index, annex_error *error)
{
    request->locked = request->only.given || index->key_kind == ANNEX_KEY_BYTES;
    if (request->locked) {
        pthread_rwlock_rdlock(&index->lock);
    }
    request->end_ns = call_now_ns() + request->timeout_ns;
    if (request->only.given && request_allow(request, index->index) != ANNEX_OK) {
        *error = (annex_error){ANNEX_NOMEM, "no memory for the filter"};
        return ANNEX_NOMEM;
    }
    return ANNEX_OK;
}

static void request_unlock(const struct request *request, struct index *index)
{
    if (request->locked) {
        pthread_rwlock_unlock(&index->lock);
    }
}

/* Integer keys and distances, side by side; what was not found is -1, infinitely far away. */
static void hits_spread(const annex_hit *hits, const size_t *found, size_t n, size_t k,
                        int64_t *keys, double *distances)
{
    for (size_t q = 0; q < n; q++) {
        for (size_t i = q * k; i < q * k + k; i++) {
            int hit = i - q * k < found[q];

            distances[i] = hit ? hits[i].distance : INFINITY;
            if (keys != NULL) {
                keys[i] = hit ? hits[i].key : -1;
            }
        }
    }
}

/* ---- results ----------------------------------------------------------------------------------*/

static PyObject *stats_of(const annex_search_stats *stats)
{
    return Py_BuildValue("(KKKKK)", (unsigned long long)stats->hops,
                         (unsigned long long)stats->distances, (unsigned long long)stats->reranked,
                         (unsigned long long)stats->cut, (unsigned long long)stats->bytes);
}

/* Byte keys of n hits as one list; hits beyond `found` of each k are None. */
static PyObject *keys_of(const annex_index *index, const annex_hit *hits, const size_t *found,
                         size_t n, size_t k)
{
    PyObject *list = PyList_New((Py_ssize_t)(n * k));

    for (size_t i = 0; list != NULL && i < n * k; i++) {
        const void *key = NULL;
        size_t bytes = 0;
        PyObject *item = Py_None;

        if (i % k < found[i / k] &&
            annex_index_key_bytes(index, hits[i].row, &key, &bytes, NULL) == ANNEX_OK) {
            item = PyBytes_FromStringAndSize(key, (Py_ssize_t)bytes);
        } else {
            Py_INCREF(item);
        }
        if (item == NULL || PyList_SetItem(list, (Py_ssize_t)i, item) != 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

/* ---- search -----------------------------------------------------------------------------------*/

/* What a search needs, beside the request; all is released by answer_end. */
struct answer {
    struct rows queries;
    struct buffer keys, distances, found;
    const void *vectors;
    void *wide;
    annex_hit *hits;
    size_t k;
};

static void answer_end(struct answer *answer)
{
    buffer_release(&answer->queries.buffer);
    buffer_release(&answer->keys);
    buffer_release(&answer->distances);
    buffer_release(&answer->found);
    free(answer->wide);
    free(answer->hits);
}

static int answer_take(struct answer *answer, const struct index *index, PyObject *queries,
                       PyObject *keys, PyObject *distances, PyObject *found)
{
    size_t n;

    if (rows_take(queries, "queries", index->metric, index->dimension, &answer->queries) != 0) {
        return -1;
    }
    n = answer->queries.n;
    if (answer->queries.buffer.view.ndim == 1 && n == 0) {
        PyErr_Format(PyExc_ValueError,
                     "the query is empty; a vector of this index has %zu elements",
                     index->dimension);
        return -1;
    }
    if (answer->queries.buffer.view.ndim == 1 && n != 1) {
        PyErr_Format(PyExc_ValueError, "there are %zu queries in one row; give them as [%zu, %zu]",
                     n, n, index->dimension);
        return -1;
    }
    if (answer->k > ANNEX_MAX_ROWS || (n && answer->k > PTRDIFF_MAX / sizeof(annex_hit) / n)) {
        PyErr_Format(PyExc_ValueError, "k is %zu; there is no memory for so many", answer->k);
        return -1;
    }
    if (output_take(distances, n * answer->k * sizeof(double), &answer->distances) != 0 ||
        output_take(found, n * sizeof(size_t), &answer->found) != 0 ||
        (keys != Py_None &&
         output_take(keys, n * answer->k * sizeof(int64_t), &answer->keys) != 0) ||
        rows_widen(&answer->queries, &answer->vectors, &answer->wide) != 0) {
        return -1;
    }
    answer->hits = malloc(n * answer->k * sizeof *answer->hits + 1);
    if (answer->hits == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static PyObject *answer_find(struct answer *answer, struct request *request, struct index *index)
{
    annex_error error = {.status = ANNEX_OK};
    size_t *found = answer->found.view.buf;
    size_t n = answer->queries.n;
    PyObject *names = NULL;
    struct call call;
    annex_status status;

    call_begin(&call, NULL);
    status = request_begin(request, index, &error);
    if (status == ANNEX_OK) {
        status = annex_index_search(index->index, answer->vectors, n, answer->k, &request->options,
                                    answer->hits, found, &error);
    }
    if (status == ANNEX_OK) {
        hits_spread(answer->hits, found, n, answer->k,
                    answer->keys.held ? answer->keys.view.buf : NULL, answer->distances.view.buf);
    }
    call_end(&call);
    if (status == ANNEX_OK && index->key_kind == ANNEX_KEY_BYTES) {
        names = keys_of(index->index, answer->hits, found, n, answer->k);
    }
    request_unlock(request, index);
    if (status != ANNEX_OK) {
        return raise_status(status, &error);
    }
    if (names == NULL && PyErr_Occurred()) {
        return NULL;
    }
    return Py_BuildValue(names ? "(NN)" : "(ON)", names ? names : Py_None,
                         stats_of(&request->stats));
}

PyObject *index_search(PyObject *object, PyObject *arguments)
{
    struct index *self = (struct index *)object;
    PyObject *queries, *keys, *distances, *found, *options, *result = NULL;
    struct answer answer = {.k = 0};
    struct request request;
    Py_ssize_t k;

    if (!PyArg_ParseTuple(arguments, "OnOOOO", &queries, &k, &keys, &distances, &found, &options) ||
        index_enter(self) != 0) {
        return NULL;
    }
    answer.k = (size_t)k;
    if (k < 0) {
        PyErr_Format(PyExc_ValueError, "k is %zd; it cannot be negative", k);
    } else if (request_take(&request, self, options) == 0) {
        if (answer_take(&answer, self, queries, keys, distances, found) == 0) {
            result = answer_find(&answer, &request, self);
        }
        answer_end(&answer);
        request_end(&request);
    }
    index_leave(self);
    return result;
}

/* ---- within -----------------------------------------------------------------------------------*/

static PyObject *within_result(struct request *request, const annex_index *index,
                               const annex_hit *hits, size_t n, annex_key_kind kind)
{
    PyObject *distances = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(n * sizeof(double)));
    PyObject *keys = kind == ANNEX_KEY_BYTES
                         ? keys_of(index, hits, &n, n ? 1 : 0, n)
                         : PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(n * sizeof(int64_t)));

    if (distances == NULL || keys == NULL) {
        Py_XDECREF(distances);
        Py_XDECREF(keys);
        return NULL;
    }
    hits_spread(hits, &n, 1, n,
                kind == ANNEX_KEY_BYTES ? NULL : (int64_t *)(void *)PyByteArray_AsString(keys),
                (double *)(void *)PyByteArray_AsString(distances));
    return Py_BuildValue("(NNN)", keys, distances, stats_of(&request->stats));
}

static PyObject *within_find(struct request *request, struct index *index, const void *query,
                             double distance)
{
    annex_error error = {.status = ANNEX_OK};
    PyObject *result = NULL;
    annex_hit *hits = NULL;
    size_t n = 0;
    struct call call;
    annex_status status;

    call_begin(&call, NULL);
    status = request_begin(request, index, &error);
    if (status == ANNEX_OK) {
        status =
            annex_index_within(index->index, query, distance, &request->options, &hits, &n, &error);
    }
    call_end(&call);
    if (status == ANNEX_OK) {
        result = within_result(request, index->index, hits, n, index->key_kind);
        annex_hits_free(index->index, hits, n);
    }
    request_unlock(request, index);
    return status == ANNEX_OK ? result : raise_status(status, &error);
}

PyObject *index_within(PyObject *object, PyObject *arguments)
{
    struct index *self = (struct index *)object;
    PyObject *query, *options, *result = NULL;
    struct request request;
    struct rows rows = {.n = 0};
    const void *vector;
    void *wide = NULL;
    double distance;

    if (!PyArg_ParseTuple(arguments, "OdO", &query, &distance, &options) ||
        index_enter(self) != 0) {
        return NULL;
    }
    if (request_take(&request, self, options) == 0) {
        if (rows_take(query, "query", self->metric, self->dimension, &rows) == 0) {
            if (rows.n != 1) {
                PyErr_Format(PyExc_ValueError, "there are %zu queries; give one", rows.n);
            } else if (rows_widen(&rows, &vector, &wide) == 0) {
                result = within_find(&request, self, vector, distance);
            }
        }
        buffer_release(&rows.buffer);
        free(wide);
        request_end(&request);
    }
    index_leave(self);
    return result;
}
