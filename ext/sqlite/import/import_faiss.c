/*
 * import_faiss.c - the vectors inside a serialised FAISS index, as sqlite-vss stores one for each
 * column: by default a flat index in a map of ids.
 *
 * Invariant: nothing is read outside the blob. Every count is compared with what is left of it
 * before it is used; positions inside lists and maps are checked as they are met.
 *
 * The format is FAISS's own dump (faiss/impl/index_write.cpp): four letters that name the class,
 * little-endian fields, arrays behind their u64 count.
 */
#include "sqlite/import/import_faiss.h"

#include <string.h>

#define FAISS_MAX_DIMENSION 65536

/* What is left of the blob. `good` goes false with the first read beyond its end, and stays. */
struct faiss_reader {
    const uint8_t *at;
    size_t left;
    bool good;
};

static uint64_t faiss_u64(const uint8_t *bytes)
{
    uint64_t value = 0;

    for (int i = 7; i >= 0; i--) {
        value = value << 8 | bytes[i];
    }
    return value;
}

/* The next `n` items of `bytes` each; NULL, and no longer good, when there are fewer. */
static const uint8_t *faiss_take(struct faiss_reader *reader, uint64_t n, size_t bytes)
{
    const uint8_t *taken = reader->at;

    if (!reader->good || n > reader->left / bytes) {
        reader->good = false;
        return NULL;
    }
    reader->at += n * bytes;
    reader->left -= n * bytes;
    return taken;
}

static uint64_t faiss_take_number(struct faiss_reader *reader, size_t bytes)
{
    const uint8_t *taken = faiss_take(reader, 1, bytes);
    uint64_t value = 0;

    for (size_t i = bytes; taken != NULL && i-- > 0;) {
        value = value << 8 | taken[i];
    }
    return value;
}

/* An array behind its count. */
static const uint8_t *faiss_take_array(struct faiss_reader *reader, size_t bytes, uint64_t *n)
{
    *n = faiss_take_number(reader, 8);
    return faiss_take(reader, *n, bytes);
}

static bool faiss_is(const uint8_t *name, const char *letters)
{
    return name != NULL && memcmp(name, letters, 4) == 0;
}

/* The header of every index, behind its four letters. */
struct faiss_header {
    uint64_t n;
    size_t dimension;
    uint64_t metric;
};

static struct faiss_header faiss_take_header(struct faiss_reader *reader)
{
    struct faiss_header header = {0};
    uint64_t dimension = faiss_take_number(reader, 4);

    header.n = faiss_take_number(reader, 8);
    faiss_take(reader, 17, 1); /* two dummies, is_trained */
    header.metric = faiss_take_number(reader, 4);
    if (header.metric > 1) {
        faiss_take(reader, 4, 1); /* metric_arg */
    }
    reader->good = reader->good && dimension > 0 && dimension <= FAISS_MAX_DIMENSION;
    header.dimension = reader->good ? (size_t)dimension : 1;
    return header;
}

static bool faiss_is_flat(const uint8_t *name)
{
    return faiss_is(name, "IxF2") || faiss_is(name, "IxFI") || faiss_is(name, "IxFl");
}

/* The vectors of a flat index; also of the one that an IVF index finds its lists with. */
static const uint8_t *faiss_take_flat(struct faiss_reader *reader, struct faiss_header *header)
{
    const uint8_t *flat;
    uint64_t words;

    *header = faiss_take_header(reader);
    flat = faiss_take_array(reader, 4, &words);
    reader->good =
        reader->good && words % header->dimension == 0 && words / header->dimension == header->n;
    return flat;
}

/* Lists of vectors and positions. Their sizes add up to what the header says. */
static void faiss_take_lists(struct faiss_reader *reader, struct faiss_vectors *vectors, uint64_t n)
{
    const uint8_t *name = faiss_take(reader, 4, 1);
    uint64_t n_lists = faiss_take_number(reader, 8);
    uint64_t code_bytes = faiss_take_number(reader, 8);
    const uint8_t *kind = faiss_take(reader, 4, 1);
    bool sparse = faiss_is(kind, "sprs");
    uint64_t n_sizes;
    uint64_t sum = 0;

    vectors->sizes = faiss_take_array(reader, 8, &n_sizes);
    vectors->sizes_stride = sparse ? 16 : 8;
    vectors->lists = reader->at;
    reader->good = reader->good && faiss_is(name, "ilar") && (sparse || faiss_is(kind, "full")) &&
                   code_bytes == 4 * vectors->dimension &&
                   (sparse ? n_sizes % 2 == 0 : n_sizes == n_lists);
    if (!reader->good) {
        return;
    }
    vectors->n_lists = (size_t)(sparse ? n_sizes / 2 : n_sizes);
    vectors->sizes += sparse ? 8 : 0; /* pairs of a list and its size */
    for (size_t i = 0; i < vectors->n_lists && reader->good; i++) {
        uint64_t size = faiss_u64(vectors->sizes + i * vectors->sizes_stride);

        faiss_take(reader, size, (size_t)code_bytes + 8);
        sum += size;
    }
    reader->good = reader->good && sum == n;
}

static void faiss_take_ivf(struct faiss_reader *reader, struct faiss_vectors *vectors,
                           struct faiss_header *header, const char **why)
{
    struct faiss_header coarse;
    uint64_t ignored;

    *header = faiss_take_header(reader);
    vectors->dimension = header->dimension;
    faiss_take(reader, 16, 1); /* nlist, nprobe */
    if (!faiss_is_flat(faiss_take(reader, 4, 1))) {
        *why = "of lists that are not found by a flat index";
        reader->good = false;
        return;
    }
    faiss_take_flat(reader, &coarse);
    /* The direct map: its type, an array, and for type 2 pairs. */
    if (faiss_take_number(reader, 1) == 2) {
        faiss_take_array(reader, 8, &ignored);
        faiss_take_array(reader, 16, &ignored);
    } else {
        faiss_take_array(reader, 8, &ignored);
    }
    faiss_take_lists(reader, vectors, header->n);
}

/* The graph is passed over: what it leads to are the vectors of a flat index. */
static const uint8_t *faiss_take_hnsw(struct faiss_reader *reader, struct faiss_header *header)
{
    static const size_t arrays[] = {8, 4, 4, 8, 4}; /* bytes of their items */
    uint64_t ignored;

    faiss_take_header(reader);
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        faiss_take_array(reader, arrays[i], &ignored);
    }
    faiss_take(reader, 5, 4); /* entry point, top level, two efforts, a dummy */
    reader->good = reader->good && faiss_is_flat(faiss_take(reader, 4, 1));
    return faiss_take_flat(reader, header);
}

bool faiss_vectors_read(const uint8_t *blob, size_t bytes, struct faiss_vectors *vectors,
                        const char **why)
{
    static const annex_metric metrics[] = {ANNEX_IP, ANNEX_L2, ANNEX_L1}; /* FAISS counts so */
    struct faiss_reader reader = {blob, bytes, true};
    struct faiss_header header = {0};
    const uint8_t *name = faiss_take(&reader, 4, 1);
    bool mapped = faiss_is(name, "IxMp") || faiss_is(name, "IxM2");

    *vectors = (struct faiss_vectors){0};
    *why = "cut short or damaged";
    if (mapped) {
        faiss_take_header(&reader);
        name = faiss_take(&reader, 4, 1);
    }
    if (faiss_is_flat(name)) {
        vectors->flat = faiss_take_flat(&reader, &header);
    } else if (faiss_is(name, "IHNf")) {
        vectors->flat = faiss_take_hnsw(&reader, &header);
    } else if (faiss_is(name, "IwFl")) {
        faiss_take_ivf(&reader, vectors, &header, why);
    } else if (name != NULL) {
        *why = "of a kind that does not keep the vectors as they are";
        return false;
    }
    if (mapped) {
        uint64_t n;

        vectors->ids = faiss_take_array(&reader, 8, &n);
        reader.good = reader.good && n == header.n;
    }
    vectors->n = (size_t)header.n;
    vectors->dimension = header.dimension;
    if (reader.good && header.metric >= sizeof metrics / sizeof metrics[0]) {
        *why = "of a metric that Annex does not have";
        return false;
    }
    vectors->metric = reader.good ? metrics[header.metric] : vectors->metric;
    return reader.good;
}

static bool faiss_give(const struct faiss_vectors *vectors, uint64_t position,
                       const uint8_t *vector,
                       bool (*each)(void *context, int64_t id, const uint8_t *vector),
                       void *context)
{
    uint64_t id = position;

    if (vectors->ids != NULL) {
        if (position >= vectors->n) {
            return false;
        }
        id = faiss_u64(vectors->ids + 8 * position);
    }
    return each(context, (int64_t)id, vector);
}

bool faiss_vectors_each(const struct faiss_vectors *vectors,
                        bool (*each)(void *context, int64_t id, const uint8_t *vector),
                        void *context)
{
    size_t bytes = 4 * vectors->dimension;
    const uint8_t *list = vectors->lists;

    for (size_t i = 0; vectors->flat != NULL && i < vectors->n; i++) {
        if (!faiss_give(vectors, i, vectors->flat + i * bytes, each, context)) {
            return false;
        }
    }
    for (size_t i = 0; vectors->flat == NULL && i < vectors->n_lists; i++) {
        size_t size = (size_t)faiss_u64(vectors->sizes + i * vectors->sizes_stride);
        const uint8_t *positions = list + size * bytes;

        for (size_t j = 0; j < size; j++) {
            if (!faiss_give(vectors, faiss_u64(positions + 8 * j), list + j * bytes, each,
                            context)) {
                return false;
            }
        }
        list = positions + 8 * size;
    }
    return true;
}
