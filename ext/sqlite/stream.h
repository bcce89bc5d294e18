/*
 * stream.h - the rows of one search, one after the other.
 */
#ifndef ANNEX_STREAM_H
#define ANNEX_STREAM_H

#include "sqlite/extension.h"

/* Searches with an index that may miss rows are made wider up to so many rows. */
#define STREAM_MOST_NEAR 1024
#define STREAM_MOST_ROUNDS 8

struct stream {
    struct connection *connection; /* entered by the caller, left by stream_close */
    /* Set by the caller, kept until stream_close. */
    const char *index;
    annex_db_request request; /* of annex_within, or with a k: the whole answer at once */
    bool endless;             /* no k: rows as long as there are any */
    size_t hint;              /* … of which so many are likely to be read; 0: unknown */
    double least, most;       /* … and none nearer or farther than this is needed */
    /* The rest is stream.c's own. */
    int phase;
    size_t wanted;                            /* by the last search */
    annex_result *rounds[STREAM_MOST_ROUNDS]; /* of the first phase */
    size_t n_rounds;
    annex_result *result; /* the one that is being read: the last round, or a later part */
    size_t row;
    bool missed; /* rows may have been missed so far */
    annex_spent spent;
};

/* Searches, and stands at the first row if there is one. */
annex_status stream_open(struct stream *stream, annex_error *error);
annex_status stream_next(struct stream *stream, annex_error *error);
bool stream_is_over(const struct stream *stream);
/* A zeroed stream may be closed, and one that failed to open. */
void stream_close(struct stream *stream);

#endif
