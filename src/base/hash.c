/*
 * hash.c - the one hash of Annex: XXH3-64, for checksums, for keys and for names of cached files.
 *
 * Invariant: the same bytes and seed give the same number on every machine; numbers are stored in
 * files, so another function here would be another file format.
 */
#include <xxhash.h>

#include "base/base.h"

uint64_t hash_bytes(const void *data, size_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, bytes, seed);
}
