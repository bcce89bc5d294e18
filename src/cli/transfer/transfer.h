/*
 * transfer.h - items on their way between a database, index files and files of other programs.
 *
 * annex export and annex import are a source of items, a sink, and the loop between them. A source
 * has one item at a time, whatever the number of them; a sink keeps all of them or, when anything
 * fails, none.
 */
#ifndef ANNEX_CLI_TRANSFER_H
#define ANNEX_CLI_TRANSFER_H

#include "session.h"

/* The key columns of an index, behind the name of the source in one over several. */
#define TRANSFER_KEYS (ANNEX_MAX_KEY_COLUMNS + 1)

/* All of it is borrowed until the next item. */
struct item {
    annex_value key[TRANSFER_KEYS];
    size_t n_key;       /* 0: there are no more items */
    const void *vector; /* [dimension] f32, or packed bits; NULL: it has none */
    size_t dimension;
    annex_value content;      /* text or a blob */
    annex_value content_hash; /* a blob */
    annex_value metadata;     /* JSON text */
};

struct items {
    annex_status (*next)(struct items *source, struct item *item, annex_error *error);
    void (*close)(struct items *source);
    const char *name; /* of the file or database */
    const char *unit; /* what is counted in messages, "line"; NULL: items are named by their key */
    uint64_t at;      /* of these, from 1 */
    uint64_t total;   /* steps to the end, for the progress; 0: not known */
    uint64_t done;
    uint64_t skipped;  /* rows that have no vector */
    bool bits;         /* vectors are packed bits */
    bool integer_keys; /* every key is a single integer */
    bool has_text;     /* items may have content and metadata */
};

struct sink {
    annex_status (*put)(struct sink *sink, const struct item *item, annex_error *error);
    annex_status (*commit)(struct sink *sink, annex_error *error);
    /* Without a commit before it nothing is left of what was put. */
    void (*close)(struct sink *sink);
    uint64_t added, replaced, ignored;
    size_t dimension; /* 0 before the first item */
};

/* ---- transfer.c -------------------------------------------------------------------------------*/

/* Moves all items and commits. Vectors of one dimension, finite; keys of one number of columns. */
annex_status transfer_run(struct items *source, struct sink *sink, const char *phase,
                          annex_error *error);

/* An error that begins with where the item stands. */
annex_status transfer_error(const struct items *source, const struct item *item, annex_error *error,
                            annex_status status, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* "post-7" for messages, cut when it is long. */
void transfer_describe_key(const struct item *item, char text[96]);

/* "a, b" cut into its names, at most TRANSFER_KEYS of them. Returns how many there are. */
size_t transfer_split_names(char *text, const char *names[TRANSFER_KEYS]);
bool transfer_ends_with(const char *text, const char *ending);

/* NULL is allowed. */
void items_close(struct items *source);
void sink_close(struct sink *sink);

/* ---- sources ----------------------------------------------------------------------------------*/

annex_status items_open_index(struct session *session, struct items **source, annex_error *error);
/* An index, a table or a collection of a database. */
annex_status items_open_rows(struct session *session, struct items **source, annex_error *error);
annex_status items_open_npy(struct session *session, const char *path, struct items **source,
                            annex_error *error);
annex_status items_open_jsonl(const char *path, struct items **source, annex_error *error);

/* ---- sinks ------------------------------------------------------------------------------------*/

/* Two files; `keys` has room for the name of the second one. */
annex_status sink_open_npy(struct session *session, const char *path, const struct items *source,
                           struct sink **sink, char keys[4096], annex_error *error);
/* for_llm: what llm embed-multi reads, ids and content without vectors. "-": standard output. */
annex_status sink_open_jsonl(struct session *session, const char *path, const struct items *source,
                             bool for_llm, struct sink **sink, annex_error *error);
annex_status sink_open_table(struct session *session, const struct items *source,
                             struct sink **sink, annex_error *error);
annex_status sink_open_llm(struct session *session, const struct items *source, struct sink **sink,
                           annex_error *error);

#endif
