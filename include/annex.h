/*
 * annex.h - the public interface of Annex: a vector index for the data you already have.
 *
 * Three ways to use it, from the simplest to the most direct:
 *
 *   1. A database.   annex_db_open("docs.db"), annex_db_create(...), annex_db_search(...). The
 *                    index lives beside the rows it indexes; answers are as fresh as the table.
 *   2. A file.       annex_build(rows, "my.annex"), annex_index_open("my.annex"),
 *                    annex_index_search(...). For vectors that come from files or from a program.
 *   3. The parts.    Readers and writers of vector files, distances, text <-> vector.
 *
 * Rules that hold everywhere
 *   - A function that can fail returns an annex_status, 0 for success. Its last parameter is an
 *     optional annex_error owned by the caller; after a failure it holds one sentence for a person.
 *   - Output parameters are cleared first. After an error the object is as it was before.
 *   - "borrows" means until the call returns; "keeps" means until the object is closed. What the
 *     library allocates, the library frees, by the function named with it.
 *   - Memory, files, threads and messages go through an annex_env, which is never NULL:
 *     annex_env_default is the usual one. There is no global state; the library never prints, never
 *     exits, installs no signal handler.
 *   - Structs of options are set up by the macro named after them (ANNEX_..._INIT), which fills in
 *     struct_bytes; members left alone mean the default.
 *   - What does not say since which version it exists has been there since 0.1.0.
 *   - Distances: smaller is nearer, under every metric. Ties are ordered by key.
 *   - One writer and any number of readers may use one annex_index at a time. An annex_db is used
 *     by one thread at a time, like the database connection that it wraps.
 *   - Little-endian machines with 64-bit pointers.
 */
#ifndef ANNEX_H
#define ANNEX_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ANNEX_VERSION_MAJOR 0
#define ANNEX_VERSION_MINOR 1
#define ANNEX_VERSION_PATCH 0
#define ANNEX_VERSION_TEXT "0.1.0"

#define ANNEX_API __attribute__((visibility("default")))

/* The version of the library that is running, "0.1.0". Static text. */
ANNEX_API const char *annex_version(void);

/* ---- Status and error -------------------------------------------------------------------------*/

/* Values are stable: new ones are added at the end. */
typedef enum annex_status {
    ANNEX_OK = 0,
    ANNEX_NOMEM = 1,       /* memory could not be allocated, or a budget does not allow it */
    ANNEX_IO = 2,          /* the operating system failed to read, write or map */
    ANNEX_DAMAGED = 3,     /* the content of a file contradicts itself or its checksum */
    ANNEX_TOO_NEW = 4,     /* the file needs a newer Annex */
    ANNEX_BUSY = 5,        /* somebody else holds a lock; try again */
    ANNEX_INVALID = 6,     /* an argument or the data given are wrong: dimension, NaN, option … */
    ANNEX_NOT_FOUND = 7,   /* the named index, table, file, key … does not exist */
    ANNEX_EXISTS = 8,      /* the name is already taken */
    ANNEX_UNSUPPORTED = 9, /* a feature this build or this index does not have */
    ANNEX_CANCELLED = 10,  /* the caller asked to stop, through annex_log.progress */
    ANNEX_READ_ONLY = 11,  /* the database, file or handle cannot be written */
    ANNEX_FULL = 12,       /* a limit of the format or the disk was reached */
    ANNEX_HOST = 13,       /* the database answered with an error; its text is in the message */
    ANNEX_INTERNAL = 14    /* a defect of Annex; the handle refuses further work */
} annex_status;

#define ANNEX_ERROR_BYTES 512

/* Caller-owned. Meaningful only after a call that returned a status other than ANNEX_OK. */
typedef struct annex_error {
    annex_status status;
    char message[ANNEX_ERROR_BYTES]; /* UTF-8, one sentence, always terminated */
} annex_error;

/* A short name for a status, "damaged". Static text. */
ANNEX_API const char *annex_status_name(annex_status status);

/* ---- Environment: memory, files, threads, messages --------------------------------------------*/

typedef struct annex_memory {
    void *context;
    /* At least `bytes` bytes aligned to `alignment` (a power of two >= 16), or NULL. */
    void *(*allocate)(void *context, size_t bytes, size_t alignment);
    /* `bytes` is the number given to allocate. NULL is allowed. */
    void (*release)(void *context, void *pointer, size_t bytes);
} annex_memory;

typedef enum annex_open_mode {
    ANNEX_OPEN_READ = 0,  /* existing file, for reading */
    ANNEX_OPEN_CREATE = 1 /* new file, mode 0600, for reading and writing; EEXIST when it exists */
} annex_open_mode;

/* Every function returns 0 or an errno value. Offsets are absolute; there is no file position. */
typedef struct annex_io {
    void *context;
    int (*open)(void *context, const char *path, annex_open_mode mode, void **file);
    int (*close)(void *context, void *file);
    int (*size)(void *context, void *file, uint64_t *bytes);
    /* Reads or writes all `bytes` bytes; a file that ends before them is EIO. */
    int (*read)(void *context, void *file, void *buffer, size_t bytes, uint64_t offset);
    int (*write)(void *context, void *file, const void *buffer, size_t bytes, uint64_t offset);
    int (*sync)(void *context, void *file);
    int (*rename)(void *context, const char *from, const char *to);
    int (*remove)(void *context, const char *path);
    int (*sync_directory)(void *context, const char *path);
    /* Maps the first `bytes` bytes for reading, shared between processes. */
    int (*map)(void *context, void *file, uint64_t bytes, const void **address);
    void (*unmap)(void *context, const void *address, uint64_t bytes);
} annex_io;

typedef struct annex_threads {
    void *context;
    /* How many threads the machine offers this process, at least 1. */
    unsigned (*count)(void *context);
    /*
     * Calls work(argument, i) once for each i < n, if possible at the same time, and returns when
     * all have returned. The calling thread takes part. May run them one after the other.
     */
    void (*run)(void *context, unsigned n, void (*work)(void *argument, unsigned i),
                void *argument);
} annex_threads;

typedef enum annex_level { ANNEX_LOG_WARNING = 1, ANNEX_LOG_INFO = 2 } annex_level;

/* Either function may be NULL. They must not call back into the library. */
typedef struct annex_log {
    void *context;
    void (*message)(void *context, annex_level level, const char *text);
    /*
     * Called up to 50 times a second during long work, from the thread that made the call. `phase`
     * is static text ("reading", "linking" …), `done` of `total` units of work. A value other than
     * 0 asks to stop: the call then returns ANNEX_CANCELLED and leaves everything as it was.
     */
    int (*progress)(void *context, const char *phase, uint64_t done, uint64_t total);
} annex_log;

/* Copied by the calls that take it; what the contexts point to is kept. */
typedef struct annex_env {
    annex_memory memory;
    annex_io io;
    annex_threads threads;
    annex_log log;
} annex_env;

/* The environment of the C library and POSIX: malloc, files, pthreads, silence. */
ANNEX_API annex_env annex_env_default(void);

/* ---- Vectors and metrics ----------------------------------------------------------------------*/

/* Dimension counts elements: bits for ANNEX_HAMMING and ANNEX_JACCARD. */
#define ANNEX_MAX_DIMENSION 65535
#define ANNEX_MAX_ROWS 0x7ffffffeu /* rows in one index file or segment */

typedef enum annex_metric {
    ANNEX_L2 = 1,      /* Euclidean distance, not squared */
    ANNEX_IP = 2,      /* minus the inner product */
    ANNEX_COSINE = 3,  /* 1 - cos(a, b); a zero vector has no distance and is not indexed */
    ANNEX_L1 = 4,      /* sum of absolute differences */
    ANNEX_HAMMING = 5, /* number of differing bits */
    ANNEX_JACCARD = 6  /* 1 - |a AND b| / |a OR b| over bits; 0 for two empty sets */
} annex_metric;

/* "l2", "ip", "cosine", "l1", "hamming", "jaccard"; NULL for other values. */
ANNEX_API const char *annex_metric_name(annex_metric metric);
/* The reverse; also knows "euclidean", "angular", "dot", "manhattan". ANNEX_INVALID otherwise. */
ANNEX_API annex_status annex_metric_parse(const char *name, annex_metric *metric,
                                          annex_error *error);

/* How elements are stored where they come from. Inside Annex a vector is f32, or packed bits. */
typedef enum annex_format {
    ANNEX_FORMAT_AUTO = 0,
    ANNEX_F32 = 1,  /* IEEE 754 single, little-endian */
    ANNEX_F16 = 2,  /* IEEE 754 half */
    ANNEX_BF16 = 3, /* upper half of an f32 */
    ANNEX_I8 = 4,
    ANNEX_U8 = 5,
    ANNEX_BITS = 6, /* 8 elements a byte, element i is bit i % 8 of byte i / 8 */
    ANNEX_JSON = 7, /* text: [0.1, 2, -3e-4] */
    ANNEX_F64 = 8
} annex_format;

ANNEX_API const char *annex_format_name(annex_format format);
ANNEX_API annex_status annex_format_parse(const char *name, annex_format *format,
                                          annex_error *error);

/* Bytes of one vector as Annex takes it: 4 * dimension, or (dimension + 7) / 8 for bit metrics. */
ANNEX_API size_t annex_vector_bytes(annex_metric metric, size_t dimension);

/*
 * Widens `n` elements from `format` (not JSON, BITS) to f32. `from` needs no alignment. Borrows
 * both.
 */
ANNEX_API annex_status annex_vector_widen(annex_format format, const void *from, size_t n,
                                          float *to, annex_error *error);

/*
 * Reads a JSON array of numbers, `bytes` bytes of UTF-8, into `vector` ([capacity] f32). *n is the
 * number of elements, also when it exceeds `capacity` (ANNEX_FULL). NaN, Infinity, nesting and
 * anything but numbers are ANNEX_INVALID with the element's number.
 */
ANNEX_API annex_status annex_vector_parse(const char *text, size_t bytes, float *vector,
                                          size_t capacity, size_t *n, annex_error *error);

/*
 * Writes `n` elements as a JSON array with as few digits as read back to the same f32. Returns the
 * length without the terminator, also when `bytes` was too small (then nothing useful was written).
 * NaN and infinities, which JSON does not have, become null.
 */
ANNEX_API size_t annex_vector_format(const float *vector, size_t n, char *text, size_t bytes);

/*
 * The exact distance of two vectors of `dimension` elements (f32, or packed bits). A zero vector
 * under ANNEX_COSINE gives NaN. NaN or infinite elements are ANNEX_INVALID.
 */
ANNEX_API annex_status annex_distance(annex_metric metric, size_t dimension, const void *a,
                                      const void *b, double *distance, annex_error *error);
/*
 * The same from one query to `n` rows, [n x dimension] f32 row-major or packed bits one behind the
 * other, all borrowed: distances[i], i < n, is what annex_distance gives, to the last bit, and NaN
 * for a row that it refuses. ANNEX_INVALID when it refuses the query, also with n = 0. Costs little
 * more than reading the rows; memory is allocated only above 2,000 dimensions.
 */
ANNEX_API annex_status annex_distances(annex_metric metric, size_t dimension, const void *query,
                                       const void *rows, size_t n, double *distances,
                                       annex_error *error);

/* The kernels in use: "ref", "avx2", "avx512", "avx512vnni", "neon". ANNEX_CPU overrides. */
ANNEX_API const char *annex_isa(void);
/* The i-th set of kernels this machine can run, slowest first; NULL past the last. */
ANNEX_API const char *annex_isa_available(size_t i);

/* ---- Building an index file -------------------------------------------------------------------*/

typedef enum annex_key_kind {
    ANNEX_KEY_INTEGER = 0, /* int64 */
    ANNEX_KEY_BYTES = 1    /* up to 65535 bytes, ordered by memcmp */
} annex_key_kind;

/* Some rows of a source. All pointers stay valid until the next call to the source. */
typedef struct annex_batch {
    size_t n;
    const void *vectors;      /* [n x dimension] f32 row-major, or [n x (dimension+7)/8] bytes */
    const int64_t *keys;      /* [n]; NULL: rows are numbered from 0 (integer keys only) */
    const char *key_bytes;    /* byte keys: key i is key_bytes[key_ends[i-1] .. key_ends[i]) */
    const uint64_t *key_ends; /* [n] */
} annex_batch;

/*
 * A source of rows that can be read twice and gives the same rows in the same order each time.
 * `next` sets batch->n to 0 at the end.
 */
typedef struct annex_rows {
    void *context;
    annex_status (*next)(void *context, annex_batch *batch, annex_error *error);
    annex_status (*rewind)(void *context, annex_error *error);
} annex_rows;

typedef enum annex_family {
    ANNEX_FAMILY_AUTO = 0, /* flat below a few thousand rows, graph above */
    ANNEX_FLAT = 1,        /* scan of compact codes, exact answers */
    ANNEX_GRAPH = 2,       /* one-layer navigable graph */
    /*
     * Lists of near rows, one bit for each dimension: the least memory. For l2, cosine and ip.
     * Without stored vectors and `fetch`, distances are estimates.
     */
    ANNEX_IVF = 3
} annex_family;

/* "auto", "flat", "graph", "ivf"; NULL for other values. */
ANNEX_API const char *annex_family_name(annex_family family);
/* The reverse. ANNEX_INVALID otherwise. */
ANNEX_API annex_status annex_family_parse(const char *name, annex_family *family,
                                          annex_error *error);

typedef enum annex_raw {
    ANNEX_RAW_AUTO = 0, /* keep, unless the codes lose nothing */
    ANNEX_RAW_KEEP = 1, /* the vectors are stored in the file: exact distances without the source */
    ANNEX_RAW_NONE = 2, /* only codes: exact distances need annex_search_options.fetch */
    /*
     * Kept in half the bytes: each element (under cosine, of the vector scaled to unit length) is
     * rounded to a float of 16 bits before anything else is done with it. Distances, exact answers
     * and annex_index_vector are those of the rounded vectors, so is what `fetch` gives. f16 keeps
     * 11 bits of elements from 6e-5 to 65504, beyond which they are ANNEX_INVALID; bf16 keeps 8
     * bits of any. Not for hamming and jaccard.
     */
    ANNEX_RAW_F16 = 3,
    ANNEX_RAW_BF16 = 4
} annex_raw;

/* "auto", "keep", "none", "f16", "bf16"; NULL for other values. */
ANNEX_API const char *annex_raw_name(annex_raw raw);
ANNEX_API annex_status annex_raw_parse(const char *name, annex_raw *raw, annex_error *error);

/* How rows are coded for search. Answers are ranked by vectors wherever there are any. */
typedef enum annex_codes {
    /*
     * q8, rotated where a sample shows that this halves the loss; in a graph f16 or f32 where bytes
     * do not tell neighbours apart, q4 where max_memory_bytes leaves no room for bytes.
     */
    ANNEX_CODES_AUTO = 0,
    ANNEX_CODES_Q8 = 1,   /* a byte an element, a scale a row; bytes are kept without loss */
    ANNEX_CODES_BITS = 2, /* hamming and jaccard have these and no others */
    ANNEX_CODES_Q4 = 3,   /* half a byte an element, of the vector rotated; not for l1 */
    ANNEX_CODES_F16 = 4,  /* IEEE 754 half: clipped at 65504 times a power of two */
    ANNEX_CODES_BF16 = 5, /* upper half of an f32 */
    ANNEX_CODES_F32 = 6   /* the vectors themselves */
} annex_codes;

/* "auto", "q8", "bits", "q4", "f16", "bf16", "f32"; NULL for other values. */
ANNEX_API const char *annex_codes_name(annex_codes codes);
ANNEX_API annex_status annex_codes_parse(const char *name, annex_codes *codes, annex_error *error);

typedef struct annex_build_options {
    size_t struct_bytes; /* sizeof(annex_build_options) */
    annex_metric metric;
    uint32_t dimension;
    annex_key_kind key_kind;
    annex_family family;
    annex_raw raw;
    uint32_t degree;           /* neighbours a row, 8..128, multiple of 8; 0: chosen */
    uint32_t effort;           /* candidates kept while linking, >= degree / 2; 0: chosen */
    uint32_t threads;          /* 0: all; the result does not depend on it */
    uint64_t max_memory_bytes; /* ANNEX_NOMEM before work begins when it cannot suffice; 0: any */
    uint64_t seed;
    annex_codes codes;
} annex_build_options;

#define ANNEX_BUILD_OPTIONS_INIT                                        \
    {                                                                   \
        .struct_bytes = sizeof(annex_build_options), .metric = ANNEX_L2 \
    }

typedef struct annex_index annex_index;

/*
 * Builds an index from `rows` and opens it. With a path the index is written to that file
 * (temporary file, sync, rename, sync of the directory: on failure an older file stays); without
 * one (NULL) it lives in memory. The same rows, options and seed give the same bytes for any number
 * of threads and any processor.
 *
 * Rows are read twice, once more when vectors are stored or codes had to be replaced; a source that
 * gives other rows then is ANNEX_INVALID. So are NaN, infinite elements and, except under cosine,
 * lengths above 4e18; two rows with one key are ANNEX_INVALID; zero vectors under cosine are left
 * out and counted in annex_index_info.skipped. Zero rows make a valid, empty index.
 *
 * Cost: about 100 us a row and thread at 384 dimensions. Memory: codes (dimension + 8 bytes) and
 * 4 x degree + 60 bytes a row, which is little more than the file; without a path the index comes
 * on top. Source: Subramanya et al., DiskANN, NeurIPS 2019 (pruning rule); Dobson et al.,
 * ParlayANN, PPoPP 2024 (deterministic batches). Since 0.1.
 */
ANNEX_API annex_status annex_build(const annex_env *env, const annex_build_options *options,
                                   const annex_rows *rows, const char *path, annex_index **index,
                                   annex_error *error);

/* ---- An open index ----------------------------------------------------------------------------*/

enum {
    ANNEX_INDEX_VERIFY = 1, /* read the whole file once and compare every checksum */
    /*
     * Read the file into memory of huge pages where the system has them, instead of mapping it:
     * opening takes as long as reading, searches are some 10 % faster, and the memory is not
     * shared.
     */
    ANNEX_INDEX_LOAD = 2
};

/*
 * Opens an index file; milliseconds at any size. Header and section table are verified, sections by
 * ANNEX_INDEX_VERIFY or annex_index_check; a search in a damaged file may miss rows but never reads
 * outside it. ANNEX_NOT_FOUND, ANNEX_DAMAGED, ANNEX_TOO_NEW, ANNEX_IO.
 */
ANNEX_API annex_status annex_index_open(const annex_env *env, const char *path, unsigned flags,
                                        annex_index **index, annex_error *error);
/* The same from an image in memory, 64-byte aligned, kept until the index is closed. */
ANNEX_API annex_status annex_index_open_image(const annex_env *env, const void *image,
                                              uint64_t bytes, unsigned flags, annex_index **index,
                                              annex_error *error);
/* NULL is allowed. No call on the index may be running. */
ANNEX_API void annex_index_close(annex_index *index);

/* A pair (effort, recall) that was measured after the build, with rows held back from the index. */
typedef struct annex_recall_point {
    uint32_t effort;
    float recall; /* at k = 10 */
} annex_recall_point;

#define ANNEX_MAX_RECALL_POINTS 16

typedef struct annex_index_info {
    annex_metric metric;
    uint32_t dimension;
    annex_family family;
    annex_codes codes;
    annex_raw raw; /* never auto */
    annex_key_kind key_kind;
    uint64_t rows;      /* live rows */
    uint64_t slots;     /* rows including deleted ones: row numbers are below this */
    uint64_t skipped;   /* zero vectors left out at the build */
    uint64_t bytes;     /* of the file image */
    uint64_t raw_bytes; /* of which stored vectors */
    uint32_t degree;
    uint32_t default_effort; /* of searches that name none; 0: those are exact */
    int lossless;            /* codes hold the vectors exactly */
    int rotated;             /* vectors are rotated before they are coded */
    int has_raw;             /* vectors are stored, or the codes are lossless */
    int dirty;               /* changed since it was opened or saved */
    uint32_t n_recall_points;
    annex_recall_point recall_points[ANNEX_MAX_RECALL_POINTS];
    uint64_t content[2]; /* checksum of the content: equal content, equal number */
} annex_index_info;

ANNEX_API void annex_index_describe(const annex_index *index, annex_index_info *info);

typedef struct annex_hit {
    double distance;
    int64_t key; /* integer keys; 0 for byte keys */
    uint32_t
        row; /* for annex_index_key and the filters; stable until rows are inserted or deleted */
} annex_hit;

#define ANNEX_EFFORT_EXACT 0xffffffffu

typedef struct annex_search_stats {
    uint64_t hops;      /* rows whose neighbours were looked at */
    uint64_t distances; /* approximate distances computed */
    uint64_t reranked;  /* exact distances computed */
    uint64_t cut;       /* queries that max_scan or stop ended early */
    uint64_t bytes;     /* of codes, neighbour lists and vectors read, as often as they were */
} annex_search_stats;

/*
 * A place in the order (distance, key) of answers. Right behind a row: its distance and its key as
 * an annex_hit and annex_index_key_bytes tell them. NaN as distance is ANNEX_INVALID.
 */
typedef struct annex_place {
    double distance;
    int64_t key;           /* for integer keys */
    const void *key_bytes; /* for byte keys, borrowed; NULL for integer keys */
    size_t n_key_bytes;
    int before_keys; /* 1: before every row at that distance; the key is not looked at */
} annex_place;

typedef struct annex_search_options {
    size_t struct_bytes; /* sizeof(annex_search_options) */
    /* How much work: one of the two, or neither for the default of the index. */
    /* Candidates kept, or lists looked at, 1 … ; ANNEX_EFFORT_EXACT: every row is considered. */
    uint32_t effort;
    /* 0 < recall <= 1: the least effort that measured this and a third of what is left to 1. */
    double recall;
    /* For several queries; 0: all, 1: the calling thread only. An exact one is shared when > 1. */
    uint32_t threads;
    /* Filters; a row must pass all that are given. min(k, passing rows) rows are always found. */
    const uint64_t *allowed; /* bitmap over rows, bit i % 64 of word i / 64; [(slots + 63) / 64] */
    int (*accept)(void *context, uint32_t row, int64_t key); /* 1: may be found; from any thread */
    void *accept_context;
    /*
     * Exact vectors from outside, when the index stores none. Fills vectors[i] for rows[i], i < n,
     * and present[i] = 1, or present[i] = 0 for a row that must not be found (deleted, changed).
     */
    annex_status (*fetch)(void *context, const uint32_t *rows, size_t n, void *vectors,
                          unsigned char *present, annex_error *error);
    void *fetch_context;
    /* Only rows behind this place, borrowed: answers in pages. Every row is considered. */
    const annex_place *after;
    /*
     * A query ends early, with what it has found, once it has looked at so many codes (0: any
     * number), or once `stop`, asked every millisecond or so and from any thread, returns other
     * than 0. Such an answer may have fewer rows than there are; stats->cut counts them.
     */
    uint64_t max_scan;
    int (*stop)(void *context);
    void *stop_context;
    annex_search_stats *stats; /* optional; summed over the queries */
} annex_search_options;

#define ANNEX_SEARCH_OPTIONS_INIT                    \
    {                                                \
        .struct_bytes = sizeof(annex_search_options) \
    }

/*
 * The k nearest rows of each query. `queries` is [n_queries x dimension] f32 row-major (or packed
 * bits), borrowed. hits is [n_queries x k], found is [n_queries]: hits[q * k .. q * k + found[q])
 * in ascending (distance, key). k beyond the number of passing rows gives all of them; k = 0 gives
 * none. Distances are exact when the index has vectors, is lossless or `fetch` is given, otherwise
 * they are those of the codes. options may be NULL. ANNEX_INVALID for NaN, a zero query under
 * cosine, or an effort and a recall at once. Without `fetch` no memory is allocated after the first
 * searches.
 */
ANNEX_API annex_status annex_index_search(const annex_index *index, const void *queries,
                                          size_t n_queries, size_t k,
                                          const annex_search_options *options, annex_hit *hits,
                                          size_t *found, annex_error *error);

/*
 * All rows at most `distance` from the query, ascending. Exact unless an effort is given.
 * *hits ([*n]) is freed by annex_hits_free.
 */
ANNEX_API annex_status annex_index_within(const annex_index *index, const void *query,
                                          double distance, const annex_search_options *options,
                                          annex_hit **hits, size_t *n, annex_error *error);
ANNEX_API void annex_hits_free(const annex_index *index, annex_hit *hits, size_t n);

/* The row that has a key. ANNEX_NOT_FOUND. */
ANNEX_API annex_status annex_index_find(const annex_index *index, int64_t key, uint32_t *row,
                                        annex_error *error);
ANNEX_API annex_status annex_index_find_bytes(const annex_index *index, const void *key,
                                              size_t bytes, uint32_t *row, annex_error *error);
/* The key of a row below info.slots. *key points into the index: until it is changed or closed. */
ANNEX_API annex_status annex_index_key(const annex_index *index, uint32_t row, int64_t *key,
                                       annex_error *error);
ANNEX_API annex_status annex_index_key_bytes(const annex_index *index, uint32_t row,
                                             const void **key, size_t *bytes, annex_error *error);
/*
 * The vector of a row, [dimension] f32 or packed bits; under cosine the unit vector. Without stored
 * vectors it is the one the codes stand for.
 */
ANNEX_API annex_status annex_index_vector(const annex_index *index, uint32_t row, void *vector,
                                          annex_error *error);

/*
 * Changes. They happen in memory, take effect for searches at once and are kept by
 * annex_index_save. A batch is one change: all of it, or none. Insert refuses keys that are there
 * (ANNEX_EXISTS); delete refuses keys that are not (ANNEX_NOT_FOUND); update replaces or adds.
 * Readers wait for at most one row. Cost a row: insert as a search of the build effort, delete the
 * same. A graph that as many rows were inserted into as it was built from, and an index whose codes
 * have come to lose much more than they would have to, is built anew within the insert or the save
 * that notices, from its stored vectors; rows keep their numbers, and readers do not wait. Source
 * of the repair after a delete: Xu et al., IP-DiskANN, arXiv 2502.13826.
 */
ANNEX_API annex_status annex_index_insert(annex_index *index, const annex_batch *batch,
                                          annex_error *error);
ANNEX_API annex_status annex_index_update(annex_index *index, const annex_batch *batch,
                                          annex_error *error);
ANNEX_API annex_status annex_index_delete(annex_index *index, const annex_batch *keys,
                                          annex_error *error);
/*
 * Writes the index to a file, atomically, without the deleted rows (row numbers change on reopen).
 */
ANNEX_API annex_status annex_index_save(annex_index *index, const char *path, annex_error *error);

/*
 * Reads everything: checksums, ids, keys, and whether a walk can reach every row. ANNEX_DAMAGED
 * says what was found.
 */
ANNEX_API annex_status annex_index_check(const annex_index *index, annex_error *error);

/* ---- Files of vectors -------------------------------------------------------------------------*/

typedef struct annex_reader annex_reader;

typedef struct annex_reader_info {
    uint64_t rows;
    uint32_t dimension;  /* elements; bits for ANNEX_BITS */
    annex_format format; /* as stored, AUTO for wider integers; rows are widened (not BITS) */
    annex_metric metric; /* from the file (HDF5 attribute "distance"), 0 when it does not say */
    char kind[16];       /* "npy", "fvecs", "bvecs", "ivecs", "fbin", "u8bin", "i8bin", "hdf5" */
} annex_reader_info;

/*
 * Opens a file or a folder of files (in name order, one dimension) for reading. `dataset` names the
 * data set inside an HDF5 file, NULL for "train". The kind follows the file name's ending.
 * Sizes are validated against the file before anything is allocated.
 */
ANNEX_API annex_status annex_reader_open(const annex_env *env, const char *path,
                                         const char *dataset, annex_reader **reader,
                                         annex_error *error);
ANNEX_API void annex_reader_close(annex_reader *reader);
ANNEX_API void annex_reader_describe(const annex_reader *reader, annex_reader_info *info);
/* A view for annex_build, valid until the reader is closed; rows are numbered from 0. */
ANNEX_API annex_rows annex_reader_rows(annex_reader *reader);
/* Reads `n` rows from row `first` as integers (ivecs, integer npy and HDF5): [n x dimension]. */
ANNEX_API annex_status annex_reader_integers(annex_reader *reader, uint64_t first, size_t n,
                                             int64_t *values, annex_error *error);

/*
 * Writes vectors to a file, the kind by the name's ending: .npy, .fvecs, .bvecs, .fbin, .u8bin,
 * .i8bin. Temporary file, sync, rename. ANNEX_FORMAT_AUTO is what the kind holds, f32 for .npy. A
 * value that the format does not have (0.5 as u8, 1e6 as f16) is ANNEX_INVALID; f16 rounds.
 */
ANNEX_API annex_status annex_vectors_write(const annex_env *env, const char *path,
                                           const annex_rows *rows, uint32_t dimension,
                                           annex_format format, annex_error *error);

/* ---- A database -------------------------------------------------------------------------------*/

typedef struct annex_db annex_db;

/* A value of the database: a key, a query. `data` is borrowed, UTF-8 for text. */
typedef enum annex_value_type {
    ANNEX_NULL = 0,
    ANNEX_INTEGER = 1,
    ANNEX_REAL = 2,
    ANNEX_TEXT = 3,
    ANNEX_BLOB = 4
} annex_value_type;

typedef struct annex_value {
    annex_value_type type;
    int64_t integer;
    double real;
    const void *data;
    size_t bytes;
} annex_value;

#define ANNEX_MAX_KEY_COLUMNS 8

enum {
    ANNEX_DB_READ_ONLY = 1,
    ANNEX_DB_CREATE = 2 /* create the file when it does not exist */
};

/*
 * Opens a database: a path or file: URI of SQLite. ANNEX_UNSUPPORTED for other schemes in this
 * version. Nothing is written by opening or searching.
 */
ANNEX_API annex_status annex_db_open(const annex_env *env, const char *target, unsigned flags,
                                     annex_db **db, annex_error *error);
/*
 * Uses a sqlite3 * of the caller, kept: its transaction, its snapshot, its interrupts. Prepared
 * statements stay open on it until annex_db_close, which must come before sqlite3_close.
 */
ANNEX_API annex_status annex_db_adopt_sqlite(const annex_env *env, void *connection, annex_db **db,
                                             annex_error *error);
ANNEX_API void annex_db_close(annex_db *db);

/*
 * Defines an index over table.column and builds it, in one transaction (a savepoint inside the
 * caller's). `options` is a JSON object or NULL; docs/SQL.md lists its members: key, where, metric,
 * index, codes, recall, storage, format, degree, effort … Unknown members are ANNEX_INVALID.
 * Index and table names may be qualified by a schema ("aux.docs").
 *
 * The member "sources" adds further tables to the one given, "llm_collection" takes collections of
 * llm: an index over several sources is searched as one, and one of them alone by the name
 * "index.source". Sources of different dimensions or models are ANNEX_INVALID.
 */
ANNEX_API annex_status annex_db_create(annex_db *db, const char *index, const char *table,
                                       const char *column, const char *options, annex_error *error);

typedef struct annex_sync_report {
    uint64_t inserted; /* rows new to the segments */
    uint64_t deleted;  /* rows gone or replaced */
    uint64_t segments; /* after the call */
    int rebuilt;       /* the index was built anew */
    int swept;         /* the table was compared with the index, which was stale */
} annex_sync_report;

/*
 * Moves the delta into segments. report may be NULL. Within the caller's transaction if any. A
 * stale index is compared with its table, which is read once, and gets what it lacks; annex_log
 * says why. ANNEX_INVALID when a sync cannot mend it; ANNEX_NOT_FOUND when index, table or a column
 * of it is gone; ANNEX_READ_ONLY, ANNEX_BUSY.
 */
ANNEX_API annex_status annex_db_sync(annex_db *db, const char *index, annex_sync_report *report,
                                     annex_error *error);
/* Builds the index anew from its table, as one segment. */
ANNEX_API annex_status annex_db_optimize(annex_db *db, const char *index, annex_sync_report *report,
                                         annex_error *error);
/* Verifies definition, triggers, log, segments, and every row against the table. */
ANNEX_API annex_status annex_db_check(annex_db *db, const char *index, annex_error *error);
ANNEX_API annex_status annex_db_drop(annex_db *db, const char *index, annex_error *error);
ANNEX_API annex_status annex_db_rename(annex_db *db, const char *from, const char *to,
                                       annex_error *error);
/*
 * Builds another index of the same definition, over the rows of today. `changes` is a JSON object
 * or NULL: options that shall be others, and "column". The default index of a source stays the one
 * it is unless "default" says otherwise.
 */
ANNEX_API annex_status annex_db_copy(annex_db *db, const char *from, const char *to,
                                     const char *changes, annex_error *error);
/*
 * Makes an index the default one of its sources (on = 1), instead of the one that was, or of none
 * (on = 0): annex_db_search takes the name of a table or collection for its default index. A switch
 * is one transaction.
 */
ANNEX_API annex_status annex_db_default(annex_db *db, const char *index, int on,
                                        annex_error *error);

/* One row of the list of indexes. Text lives as long as the list. */
typedef struct annex_db_index {
    const char *name;
    const char *schema;
    const char *table;
    const char *column;
    const char *keys;  /* "id", or "collection_id, id" */
    const char *where; /* "" when there is no condition */
    const char *metric;
    const char *family;  /* "flat", "graph" */
    const char *format;  /* of the column: "f32", "json" … */
    const char *storage; /* "database" or "file" */
    const char *state;   /* "fresh", "delta" (rows wait for a sync), "stale" */
    const char *reason;  /* why it is stale and what to run; "" otherwise */
    const char *options; /* JSON as given to annex_db_create */
    uint32_t dimension;
    uint64_t rows;       /* in segments and not deleted */
    uint64_t delta_rows; /* changed since the last sync */
    uint64_t dead_rows;  /* deleted or replaced, still in segments */
    uint64_t segments;
    uint64_t bytes;       /* of the segments */
    double recall;        /* what a search without options aims at, measured after the build */
    size_t n_key_columns; /* 0 when the index cannot be read */
    const char *const *key_columns; /* [n_key_columns] of `keys`: a name may hold a comma */
    const char *source;             /* the table, or the collection of llm */
    const char *model;              /* that made the vectors; "" when it was not said */
    int is_default;                 /* of its source */
    /*
     * 0: over one source. Otherwise an index over several, which are in the list as well, named
     * "index.source": `table`, `column`, `keys` and `source` are those of all, joined by ", ", and
     * figures their sums.
     */
    size_t n_sources;
    int is_member;        /* one of those */
    double build_seconds; /* that the last build of all rows took */
} annex_db_index;

ANNEX_API annex_status annex_db_list(annex_db *db, annex_db_index **list, size_t *n,
                                     annex_error *error);
ANNEX_API void annex_db_list_free(annex_db *db, annex_db_index *list, size_t n);

/* What searches have cost. Zero at first; each search that succeeds adds what it took. */
typedef struct annex_spent {
    uint64_t rows; /* whose code or vector was looked at */
    uint64_t microseconds;
} annex_spent;

/*
 * A question: a query (or `like`), how many rows or how far, and which rows may be found. All that
 * it points to is borrowed.
 *
 * A long answer can be read in parts, each of which begins behind the last row of the one before:
 *
 *   request.k = 100, request.goes_on = request.exact = 1;
 *   annex_db_search(db, index, &request, &part, &error);
 *   size_t n = annex_result_count(part);                 // fewer than k: this is the last part
 *   annex_value key = annex_result_key(part, n - 1, 0);  // one for each key column
 *   request.has_after = 1, request.after_key = &key;
 *   request.after_distance = annex_result_distance(part, n - 1);
 *   annex_db_search(db, index, &request, &next, &error); // and then annex_result_free(part)
 *
 * While the table stays as it is, this gives every row once. Without `exact` the first part may
 * come from a graph, and what that misses no other part has.
 */
typedef struct annex_db_request {
    size_t struct_bytes; /* sizeof(annex_db_request) */
    annex_value query;   /* blob in the column's format or f32; or JSON text */
    const annex_value
        *like; /* [key columns]: the query is this row's vector (the row is left out) */
    size_t k;
    int has_distance; /* 1: all rows at most `distance` away; k is ignored */
    double distance;
    /*
     * A JSON object; NULL: none. "effort" (a number or "exact") or "recall"; "threads"; "max_scan"
     * (rows) and "timeout_ms", which end a search early (annex_result_complete); "mmr" and
     * "candidates"; "group"; "model". docs/SQL.md explains them. Unknown members are ANNEX_INVALID.
     */
    const char *options;
    /* Pre-filters: only rows whose first key column is among keys, and that fulfil `where`. */
    const annex_value *keys;
    size_t n_keys;
    int has_keys;
    const char *where; /* SQL over the source table, NULL */
    int exact;         /* 1: every row is considered, whatever the options say */
    /*
     * 1: the answer is one part of several. When the table itself is scanned, because the index is
     * stale or the filter passes few rows, it may have more than k rows. The options mmr and group,
     * which choose k rows, are ANNEX_INVALID.
     */
    int goes_on;
    /*
     * 1: only rows behind (after_distance, after_key) in the order of answers; every row is
     * considered. after_key is [key columns], or NULL for all rows from after_distance on.
     */
    int has_after;
    double after_distance;
    const annex_value *after_key;
    size_t after_source; /* annex_result_source of that row */
    size_t like_source;  /* of the row `like`, in an index over several sources */
    annex_spent *spent;  /* NULL, or what max_scan and timeout_ms of several searches count */
} annex_db_request;

#define ANNEX_DB_REQUEST_INIT                             \
    {                                                     \
        .struct_bytes = sizeof(annex_db_request), .k = 10 \
    }

typedef struct annex_result annex_result;

/*
 * Searches as the caller's transaction sees the table at this moment: segments, minus rows changed
 * since, plus an exact scan of those; candidates are re-read from the table. A stale index
 * (triggers lost, log cut) is answered by an exact scan of the table and a warning through
 * annex_log. *result is freed by annex_result_free and outlives `db`. ANNEX_INVALID for what is
 * wrong with the request; ANNEX_NOT_FOUND when index, table or the row `like` is not there;
 * ANNEX_BUSY, ANNEX_CANCELLED. When there is no index of this name, the default one of the table or
 * collection of this name is searched.
 */
ANNEX_API annex_status annex_db_search(annex_db *db, const char *index,
                                       const annex_db_request *request, annex_result **result,
                                       annex_error *error);
ANNEX_API size_t annex_result_count(const annex_result *result);
ANNEX_API size_t annex_result_key_columns(const annex_result *result);
ANNEX_API double annex_result_distance(const annex_result *result, size_t i);
/* Key column `column` of hit i; its data lives as long as the result. */
ANNEX_API annex_value annex_result_key(const annex_result *result, size_t i, size_t column);
/*
 * The source of hit i, counted from 0, and its name: a table, or a collection of llm. Of an index
 * over one source all hits have the number 0. Rows of a source with fewer key columns than
 * annex_result_key_columns have ANNEX_NULL in the others.
 */
ANNEX_API size_t annex_result_source(const annex_result *result, size_t i);
ANNEX_API const char *annex_result_source_name(const annex_result *result, size_t i);
/* One line that says how the answer was found, "graph effort=64 segments=1 delta=3 filter=keys". */
ANNEX_API const char *annex_result_plan(const annex_result *result);
/* 0 when max_scan or timeout_ms ended the search early: nearer rows may be missing, or all. */
ANNEX_API int annex_result_complete(const annex_result *result);
/* 1 when every row was considered, so that the answer is exact (if it is complete). */
ANNEX_API int annex_result_exact(const annex_result *result);
ANNEX_API void annex_result_free(annex_result *result);

/*
 * Up to n keys of rows drawn at random from an index, each once: questions to measure it with. The
 * same seed draws the same ones from the same index. Distances are 0.
 */
ANNEX_API annex_status annex_db_sample(annex_db *db, const char *index, size_t n, uint64_t seed,
                                       annex_result **result, annex_error *error);

/*
 * The vector of a row now in the table, [*dimension] f32 or packed bits in *bytes bytes, freed by
 * annex_db_free. `key` is [key_columns]. ANNEX_NOT_FOUND when there is no such row, or none with a
 * vector; ANNEX_INVALID when the key of the index has another number of columns.
 */
ANNEX_API annex_status annex_db_vector(annex_db *db, const char *index, const annex_value *key,
                                       size_t key_columns, void **vector, size_t *bytes,
                                       annex_metric *metric, uint32_t *dimension,
                                       annex_error *error);
ANNEX_API void annex_db_free(annex_db *db, void *pointer, size_t bytes);

/* ---- A database of llm ------------------------------------------------------------------------*/

/* What `llm similar` is asked for. All that it points to is borrowed. */
typedef struct annex_db_similar_request {
    size_t struct_bytes;    /* sizeof(annex_db_similar_request) */
    const char *collection; /* by its name */
    const char *index;      /* NULL: the default index of the collection, without one every item */
    const char *id;         /* of the item whose vector is the query, and which is left out … */
    const double *vector;   /* … or the query itself, [dimension]; the other one is NULL */
    size_t dimension;
    int64_t number;      /* of items; -1: all */
    const char *prefix;  /* of the ids that may be found, as SQL's LIKE has it; NULL: any */
    const char *options; /* of annex_db_request; NULL: exact, as llm is */
} annex_db_similar_request;

#define ANNEX_DB_SIMILAR_REQUEST_INIT                                  \
    {                                                                  \
        .struct_bytes = sizeof(annex_db_similar_request), .number = 10 \
    }

typedef struct annex_similar_row {
    const char *id; /* terminated */
    size_t id_bytes;
    double score;         /* cosine similarity in the arithmetic of llm: greater is more like */
    annex_value content;  /* NULL unless llm was asked to store it */
    annex_value metadata; /* JSON text, or NULL */
} annex_similar_row;

typedef struct annex_similar annex_similar;

/*
 * The items of a collection that are most like an item or a vector: the same items, scores and
 * order as `llm similar` gives, found by an index where there is one. ANNEX_NOT_FOUND in the words
 * of llm: "Collection does not exist", "ID not found in collection", "No embeddings table found in
 * database". Items whose vector is zero or missing are left out, where llm fails.
 * *result is freed by annex_similar_free and outlives `db`.
 */
ANNEX_API annex_status annex_db_similar(annex_db *db, const annex_db_similar_request *request,
                                        annex_similar **result, annex_error *error);
ANNEX_API size_t annex_similar_count(const annex_similar *result);
/* Item i, best first; it lives as long as the result. */
ANNEX_API const annex_similar_row *annex_similar_at(const annex_similar *result, size_t i);
ANNEX_API void annex_similar_free(annex_similar *result);

#ifdef __cplusplus
}
#endif
#endif
