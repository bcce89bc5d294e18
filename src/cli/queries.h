/*
 * queries.h - the vectors to search for, from the command line, standard input or a file.
 */
#ifndef ANNEX_CLI_QUERIES_H
#define ANNEX_CLI_QUERIES_H

#include "session.h"

struct queries {
    size_t n;
    uint32_t dimension;
    float *vectors;      /* [n x dimension] */
    char *text;          /* the JSON of a single query as it was typed; NULL for files */
    annex_metric metric; /* what the file says, 0 when it does not */
};

/* A JSON array; "-" reads it from standard input. */
annex_status queries_parse(const char *text, struct queries *queries, annex_error *error);
/* All vectors of a file; `dataset` NULL: "test" of an HDF5 file. */
annex_status queries_read(const struct session *session, const char *path, const char *dataset,
                          struct queries *queries, annex_error *error);
void queries_free(struct queries *queries);

/* Refuses queries whose dimension an index of `dimension` elements cannot take. */
annex_status queries_fit(const struct queries *queries, uint32_t dimension, annex_error *error);
/* Turns vectors of zeros and ones into packed bits, [n x (dimension + 7) / 8], in place. */
annex_status queries_pack(struct queries *queries, annex_error *error);

#endif
