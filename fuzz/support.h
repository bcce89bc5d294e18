/*
 * support.h - what the fuzz targets share: an environment whose only file is the input.
 *
 * A target must hold for every input: no crash, no read outside the input, and no memory out of
 * proportion to it. Targets check what they can beyond that, and end the process when it is wrong.
 */
#ifndef FUZZ_SUPPORT_H
#define FUZZ_SUPPORT_H

#include <stddef.h>
#include <stdint.h>

#include "annex.h"

/* Ends the process, so that the engine keeps the input, when a property does not hold. */
#define FUZZ_REQUIRE(property) ((property) ? (void)0 : fuzz_fail(#property, __FILE__, __LINE__))

void fuzz_fail(const char *property, const char *file, int line) __attribute__((noreturn));

struct fuzz_input {
    const uint8_t *data;
    size_t size;
};

/*
 * The environment: every path opens `input` for reading, nothing can be written, no threads. More
 * than 64 MiB at once is a failed allocation: no input of a few kilobytes is worth that much.
 */
annex_env fuzz_env(struct fuzz_input *input);

/* Opens `input` as a file of vectors called `path`, and reads all of it twice. */
void fuzz_read_vectors(struct fuzz_input *input, const char *path);

#endif
