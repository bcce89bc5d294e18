/* fuzz_fvecs.c - the first byte says which of the raw vector files the rest is. */
#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {
        "input.fvecs", "input.bvecs", "input.ivecs", "input.fbin", "input.u8bin", "input.i8bin",
    };

    if (size > 0) {
        struct fuzz_input input = {data + 1, size - 1};

        fuzz_read_vectors(&input, paths[data[0] % (sizeof paths / sizeof paths[0])]);
    }
    return 0;
}
