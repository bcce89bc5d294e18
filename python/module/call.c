/*
 * call.c - leaving Python and coming back: the GIL, signals, exceptions.
 *
 * The library calls its progress hook from the thread that made the call; there, and only there,
 * the GIL is taken again for a moment, at most twenty times a second. An exception raised then
 * stays with the thread, the library is asked to stop, and raise_status leaves it as it is.
 */
#include <time.h>

#include "module.h"

#define LOOK_INTERVAL_NS UINT64_C(50000000)

static _Thread_local struct call *current_call;

uint64_t call_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

void call_begin(struct call *call, PyObject *progress)
{
    *call = (struct call){
        .progress = progress,
        .next_look_ns = call_now_ns() + LOOK_INTERVAL_NS,
        .outer = current_call,
    };
    current_call = call;
    call->saved = PyEval_SaveThread();
}

void call_end(struct call *call)
{
    PyEval_RestoreThread(call->saved);
    current_call = call->outer;
}

/* With the GIL: true when Python wants the call to stop. */
static int call_look(const struct call *call, const char *phase, uint64_t done, uint64_t total)
{
    PyObject *answer;

    if (PyErr_CheckSignals() != 0) {
        return 1;
    }
    if (call->progress == NULL) {
        return 0;
    }
    answer = PyObject_CallFunction(call->progress, "sKK", phase, (unsigned long long)done,
                                   (unsigned long long)total);
    Py_XDECREF(answer);
    return answer == NULL;
}

static int call_progress(void *context, const char *phase, uint64_t done, uint64_t total)
{
    struct call *call = current_call;
    uint64_t now = call_now_ns();

    (void)context;
    if (call == NULL || call->raised) {
        return call != NULL;
    }
    if (now < call->next_look_ns && !(call->progress && done == total)) {
        return 0;
    }
    call->next_look_ns = now + LOOK_INTERVAL_NS;
    PyEval_RestoreThread(call->saved);
    call->raised = call_look(call, phase, done, total);
    call->saved = PyEval_SaveThread();
    return call->raised;
}

annex_env module_env(void)
{
    annex_env env = annex_env_default();

    env.log.progress = call_progress;
    return env;
}

PyObject *raise_status(annex_status status, const annex_error *error)
{
    PyObject *errors, *exception;

    if (status == ANNEX_CANCELLED && PyErr_Occurred()) {
        return NULL;
    }
    errors = PyImport_ImportModule("annex.errors");
    if (errors == NULL) {
        return NULL;
    }
    exception = PyObject_CallMethod(errors, "of_status", "is", (int)status, error->message);
    Py_DECREF(errors);
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}
