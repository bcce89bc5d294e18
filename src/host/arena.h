/*
 * arena.h - memory that is released all at once: names, definitions, lists, results.
 *
 * Invariants
 *   1. What an arena gave stays where it is until arena_free.
 *   2. A zeroed struct with `env` set is an empty arena; arena_free leaves one.
 * Does not: give single pieces back.
 */
#ifndef ANNEX_ARENA_H
#define ANNEX_ARENA_H

#include "base/base.h"

struct arena_block;

struct arena {
    const annex_env *env;
    struct arena_block *blocks;
};

/* *out = zeroed bytes aligned to 16; never NULL, also for zero bytes. */
annex_status arena_new(struct arena *arena, size_t n, size_t size, void *out, annex_error *error);
/* A terminated copy of `bytes` bytes. */
annex_status arena_text(struct arena *arena, const char *text, size_t bytes, const char **out,
                        annex_error *error);
annex_status arena_printf(struct arena *arena, const char **out, annex_error *error,
                          const char *format, ...) __attribute__((format(printf, 4, 5)));
void arena_free(struct arena *arena);

#endif
