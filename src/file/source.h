/*
 * source.h - one open file of vectors, whatever its kind.
 *
 *   kind      files                   layout
 *   npy       .npy                    a header, then rows of numbers without gaps
 *   fvecs     .fvecs .bvecs .ivecs    every row begins with its dimension, u32
 *   fbin      .fbin .u8bin .i8bin     u32 rows, u32 dimension, then rows without gaps
 *   hdf5      .hdf5 .h5               a data set of an HDF5 file
 *
 * Invariants
 *   1. An open source with rows has 1 .. ANNEX_MAX_DIMENSION elements a row, and all the rows it
 *      says: for all kinds but hdf5 they were compared with the file's size.
 *   2. Nothing is allocated in proportion to what a header says.
 *   3. Rows are read through annex_env.io, but for hdf5: libhdf5 opens and reads by itself.
 */
#ifndef ANNEX_FILE_SOURCE_H
#define ANNEX_FILE_SOURCE_H

#include "base/base.h"

/* How an element is stored. annex_format has no name for the wider integers. */
enum element {
    ELEMENT_F32,
    ELEMENT_F16,
    ELEMENT_F64,
    ELEMENT_I8,
    ELEMENT_U8,
    ELEMENT_I32,
    ELEMENT_U32,
    ELEMENT_I64
};

struct source_kind;
struct hdf5_dataset;

struct source {
    const annex_env *env;
    const char *path;    /* kept by the caller while the source is open */
    const char *dataset; /* inside an hdf5 file */
    const struct source_kind *kind;
    void *file; /* of annex_env.io; NULL for hdf5 */
    struct hdf5_dataset *hdf5;
    uint64_t file_bytes;
    uint64_t rows;
    uint32_t dimension;
    enum element element;
    annex_format format; /* as stored; ANNEX_FORMAT_AUTO for the wider integers */
    annex_metric metric; /* 0 unless the file says */
    /* All kinds but hdf5: */
    uint64_t data_offset;
    size_t prefix_bytes; /* in front of each row */
};

struct source_kind {
    const char *ending;
    const char *name;
    /* Fills in the source from the file's header. An hdf5 source keeps the file open by itself. */
    annex_status (*read_header)(struct source *source, annex_error *error);
    enum element element; /* where the ending says it */
};

/* ---- element.c --------------------------------------------------------------------------------*/

size_t element_bytes(enum element element);
/* "f32", "i64": for messages. */
const char *element_name(enum element element);
annex_format element_format(enum element element);
bool element_is_integer(enum element element);
void element_widen(enum element element, const void *from, size_t n, float *to);
/* For elements that are integers. */
void element_integers(enum element element, const void *from, size_t n, int64_t *to);

/* ---- source.c ---------------------------------------------------------------------------------*/

/* The kind that a file name's ending says, or NULL. */
const struct source_kind *source_kind_find(const char *path);

/* On failure the source is closed. */
annex_status source_open(struct source *source, const annex_env *env, const char *path,
                         const char *dataset, annex_error *error);
/* Harmless for a source that is all zero or closed. */
void source_close(struct source *source);

/*
 * Reads rows [first, first + n) into `elements`, which has room for n * source_stride(source)
 * bytes; afterwards the first n * dimension elements are there without gaps.
 */
annex_status source_read(struct source *source, uint64_t first, size_t n, void *elements,
                         annex_error *error);

/* ---- header.c ---------------------------------------------------------------------------------*/

/* Bytes of one row in the file. */
size_t source_stride(const struct source *source);
/* ANNEX_DAMAGED beyond the end of the file. */
annex_status source_read_bytes(const struct source *source, uint64_t offset, void *data,
                               size_t bytes, annex_error *error);
annex_status source_check_dimension(const struct source *source, uint64_t dimension,
                                    annex_error *error);
/* Compares rows, dimension, element and data_offset with the size of the file. */
annex_status source_check_size(const struct source *source, annex_error *error);

/* ---- The kinds --------------------------------------------------------------------------------*/

annex_status npy_read_header(struct source *source, annex_error *error);
annex_status fvecs_read_header(struct source *source, annex_error *error);
annex_status fbin_read_header(struct source *source, annex_error *error);
annex_status hdf5_read_header(struct source *source, annex_error *error);
annex_status hdf5_read_rows(struct source *source, uint64_t first, size_t n, void *elements,
                            annex_error *error);
void hdf5_close(struct source *source);

#endif
