/*
 * build.h - from a stream of rows to an index: the steps of annex_build, in order.
 *
 *   survey.c     pass 1: check every element, gather what the codec needs, hold some rows back
 *   codes.c      choose how rows are coded
 *   encode.c     pass 2: code every row; find the true neighbours of the rows held back
 *   order.c      bring similar rows together; find rows with equal codes
 *   link.c       the graph
 *   entries.c    more rows to start from, where walks miss clusters
 *   repair.c     make every row reachable
 *   ivf.c        or lists: kmeans.c finds centroids, measure_lists.c measures recall
 *   calibrate.c  measure recall with the rows held back, before they are linked themselves
 *   emit.c       write the image (pass 3, when vectors are stored)
 *   thaw.c, change.c, refit.c, save.c   changes of an open index
 *
 * Invariant: nothing here depends on the number of threads, on time or on addresses. Parallel steps
 * write to places that belong to one row.
 */
#ifndef ANNEX_BUILD_H
#define ANNEX_BUILD_H

#include "build/link.h"
#include "index/index.h"

enum {
    BUILD_FLAT_BELOW = 5000, /* rows; ANNEX_FAMILY_AUTO scans fewer: it takes well under a ms */
    BUILD_DEGREE = 64,
    BUILD_EFFORT = 80,
    BUILD_ENTRIES = 16,   /* random rows: 8 and 64 of them were slower, 32 equal */
    BUILD_HELD_OUT = 200, /* rows that measure recall */
};

#define BUILD_ALPHA 1.1f

/* A row held back, its nearest rows, and where they ended up. */
struct held_out {
    uint64_t row;  /* number in the source, without skipped ones: its slot before ordering */
    float *vector; /* [dimension], unit length under cosine */
    uint32_t n;    /* rows in nearest */
    walk_item nearest[INDEX_CALIBRATED_K]; /* (order distance, slot before ordering), sorted */
};

struct builder {
    annex_env env;
    annex_build_options options;
    const annex_rows *source;
    bool bits;
    size_t vector_bytes;
    annex_codes stored; /* see stored.h */
    struct codec codec;
    struct codec_survey survey;
    float *center;                  /* [dimension] */
    uint64_t vectors_sum, keys_sum; /* of the first pass: what later ones must see again */
    uint32_t n;                     /* rows that are indexed */
    uint64_t skipped;               /* zero vectors under cosine */
    uint8_t *codes;                 /* [n x codec.row_bytes] */
    float *errors;                  /* [n] */
    int64_t *keys;                  /* [n] */
    char *key_bytes;
    uint64_t n_key_bytes;
    uint32_t *raw_row; /* [n] slot -> row of RAW; NULL: in order */
    uint32_t *same;    /* [n]; NULL: no duplicates */
    uint32_t *linked;  /* [n_linked] representatives, in the order of linking */
    uint32_t n_linked;
    uint32_t n_held;      /* the last of `linked`: held back rows */
    uint32_t *neighbours; /* [n x degree] */
    uint32_t entries[GRAPH_MAX_ENTRIES];
    uint32_t n_entries;
    struct held_out *held; /* [n_held_rows] */
    uint32_t n_held_rows;
    annex_recall_point recall[ANNEX_MAX_RECALL_POINTS];
    uint32_t n_recall;
    float reach[2]; /* see index_reach */
    annex_family family;
    /* Of lists. */
    struct ivf_list *lists; /* [n_lists + 1] */
    uint32_t n_lists;
    uint8_t *centroids; /* [n_centroids], of which n_lists are used */
    uint32_t n_centroids;
    uint8_t *blocks; /* [n_blocks] */
    size_t n_blocks;
};

/* Whether rows are not the vectors as given. */
static inline bool build_alters(const struct builder *builder)
{
    return builder->options.metric == ANNEX_COSINE || builder->stored != ANNEX_CODES_AUTO;
}
/* Then: the row of a vector, of unit length under cosine and rounded; false when it is zero. */
bool build_row(const struct builder *builder, const float *vector, float *row);
/* Part of vectors_sum and keys_sum: does not depend on how rows are grouped into batches. */
uint64_t build_vector_hash(const struct builder *builder, const void *vector, uint64_t row);
uint64_t build_key_hash(struct key_view key, uint64_t row);
/* The key of row i of a batch; `row` is its number in the source, for batches without keys. */
struct key_view build_batch_key(uint32_t key_kind, const annex_batch *batch, size_t i,
                                uint64_t row);
/* ANNEX_INVALID: a later pass saw something else than the first. */
annex_status build_source_changed(annex_error *error);

/* The codec: what the options ask for, or what serves a sample of the rows. */
annex_status build_choose_codes(struct builder *builder, annex_error *error);
/* After build_encode: codes that do not rank true neighbours first are replaced. Graphs only. */
annex_status build_check_codes(struct builder *builder, annex_error *error);
/* Whether a row is held back; `slot` is that before ordering. */
bool build_is_held(const struct builder *builder, uint64_t slot);
/* Undoes build_encode. */
void build_forget_codes(struct builder *builder);
annex_status build_survey(struct builder *builder, annex_error *error);
annex_status build_encode(struct builder *builder, annex_error *error);
annex_status build_order(struct builder *builder, annex_error *error);
/* Rows get the order of `places`: [n] slot before, in the lower 32 bits. */
annex_status build_move_rows(struct builder *builder, const uint64_t *places, annex_error *error);
annex_status build_ivf(struct builder *builder, annex_error *error);
/* The lists built so far, as searches see them. */
struct ivf build_lists(const struct builder *builder);
annex_status build_calibrate_lists(struct builder *builder, annex_error *error);
annex_status build_find_same(struct builder *builder, annex_error *error);
/* More entries for a graph of linked[0..n_linked), if it is in clusters that walks miss. */
annex_status build_add_entries(struct builder *builder, struct graph *graph, uint32_t n_linked,
                               annex_error *error);
annex_status build_calibrate(struct builder *builder, const struct graph *graph,
                             annex_error *error);

/* Graphs with fewer rows are walked by their window only. */
#define BUILD_REACH_ROWS (4 * INDEX_REACH_HIGH)
/* Walks from some queries and tells how many rows they expanded on average. */
typedef annex_status build_walks(void *context, uint32_t effort, float reach, double *hops,
                                 annex_error *error);
/* What index_reach needs to know of a graph. */
annex_status build_find_reach(build_walks *walks, void *context, float reach[2],
                              annex_error *error);

/* Gives rows that no walk can reach an edge from a near row. Works on the final graph. */
annex_status repair_reach(const annex_env *env, const struct graph *graph, uint32_t *neighbours,
                          const struct link_options *options, const uint32_t *linked,
                          uint32_t n_linked, annex_error *error);

/* ---- emit.c ----------------------------------------------------------------------------------*/

/* Everything an image holds, by slot. NULL arrays are left out. */
struct image {
    annex_env env;
    struct segment_header header;
    const uint8_t *codes;
    const float *errors;
    const float *center;
    const uint32_t *neighbours;
    const uint32_t *entries;
    uint32_t n_entries;
    const int64_t *keys;
    const char *key_bytes;
    uint64_t n_key_bytes;
    const uint32_t *same;
    const uint32_t *raw_row;
    struct ivf ivf; /* of lists */
    const annex_recall_point *recall;
    uint32_t n_recall;
    size_t row_bytes;
    size_t raw_row_bytes; /* 0: no vectors */
    /* Appends all vectors to SECTION_RAW, in order of RAW's rows. */
    annex_status (*write_raw)(void *context, struct segment_writer *writer, annex_error *error);
    void *raw_context;
};

/*
 * Writes what an image holds, which is not needed any more then, to a file, or to memory when path
 * is NULL. To be finished by emit_open or segment_writer_finish.
 */
annex_status emit_image(const struct image *image, const char *path, struct segment_writer **writer,
                        annex_error *error);
/* Opens it and gives the file its name; neither, when one fails. Closes the writer in any case. */
annex_status emit_open(const annex_env *env, struct segment_writer *writer,
                       const struct segment_header *header, const char *path, annex_index **index,
                       annex_error *error);

#endif
