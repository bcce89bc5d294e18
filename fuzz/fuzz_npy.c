/* fuzz_npy.c - the input is a .npy file. */
#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};

    fuzz_read_vectors(&input, "input.npy");
    return 0;
}
