/*
 * fuzz_faiss_index.c - the input is a serialised FAISS index, as annex_import finds it in a vss0
 * table. Its vectors lie inside the input, and there are as many as it says.
 */
#include "sqlite/import/import_faiss.h"
#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_visit {
    const uint8_t *data;
    size_t size;
    size_t vector_bytes;
    size_t n;
};

static bool fuzz_vector(void *context, int64_t id, const uint8_t *vector)
{
    struct fuzz_visit *visit = context;

    (void)id;
    FUZZ_REQUIRE(vector >= visit->data && visit->vector_bytes <= visit->size);
    FUZZ_REQUIRE((size_t)(vector - visit->data) <= visit->size - visit->vector_bytes);
    visit->n++;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct faiss_vectors vectors;
    const char *why;

    if (!faiss_vectors_read(data, size, &vectors, &why)) {
        FUZZ_REQUIRE(why != NULL);
        return 0;
    }
    struct fuzz_visit visit = {data, size, 4 * vectors.dimension, 0};
    if (faiss_vectors_each(&vectors, fuzz_vector, &visit)) {
        FUZZ_REQUIRE(visit.n == vectors.n);
    }
    FUZZ_REQUIRE(visit.n <= vectors.n);
    return 0;
}
