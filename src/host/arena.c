/*
 * arena.c - see arena.h. Blocks grow from 4 KiB; what does not fit gets a block of its own.
 */
#include "host/arena.h"

#include <stdio.h>

enum { ARENA_BLOCK_BYTES = 4096, ARENA_ALIGNMENT = 16 };

struct arena_block {
    struct arena_block *next;
    size_t bytes; /* of the block with this head */
    size_t used;
};

annex_status arena_new(struct arena *arena, size_t n, size_t size, void *out, annex_error *error)
{
    void *given = NULL;
    uint64_t wanted = 0;
    memcpy(out, &given, sizeof given); /* the address of a pointer of any type */
    if (!checked_multiply(n, size, &wanted) || wanted > SIZE_MAX / 2) {
        return error_nomem(error, UINT64_MAX);
    }
    size_t head = (size_t)round_up(sizeof(struct arena_block), ARENA_ALIGNMENT);
    size_t bytes = (size_t)round_up(wanted, ARENA_ALIGNMENT);
    struct arena_block *block = arena->blocks;
    if (block == NULL || block->bytes - block->used < bytes) {
        size_t block_bytes = MAX((size_t)ARENA_BLOCK_BYTES, head + bytes);
        TRY(memory_new(arena->env, block_bytes, 1, &block, error));
        *block = (struct arena_block){arena->blocks, block_bytes, head};
        arena->blocks = block;
    }
    given = (char *)block + block->used;
    memcpy(out, &given, sizeof given);
    block->used += bytes;
    return ANNEX_OK;
}

annex_status arena_text(struct arena *arena, const char *text, size_t bytes, const char **out,
                        annex_error *error)
{
    char *copy = NULL;
    *out = NULL;
    TRY(arena_new(arena, bytes + 1, 1, &copy, error));
    if (bytes > 0) {
        memcpy(copy, text, bytes);
    }
    *out = copy;
    return ANNEX_OK;
}

annex_status arena_printf(struct arena *arena, const char **out, annex_error *error,
                          const char *format, ...)
{
    va_list arguments;
    char *text = NULL;
    *out = NULL;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) {
        return error_set(error, ANNEX_INTERNAL, "cannot format text with \"%s\"", format);
    }
    TRY(arena_new(arena, (size_t)length + 1, 1, &text, error));
    va_start(arguments, format);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    *out = text;
    return ANNEX_OK;
}

void arena_free(struct arena *arena)
{
    while (arena->blocks != NULL) {
        struct arena_block *block = arena->blocks;
        arena->blocks = block->next;
        memory_free(arena->env, block, block->bytes, 1);
    }
}
