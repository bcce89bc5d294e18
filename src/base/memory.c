/*
 * memory.c - allocation through the environment, checked sizes, growing buffers.
 *
 * Invariants: every block is 64-byte aligned; a size that overflows is ANNEX_NOMEM, never a short
 * block; a buffer that failed to grow is as it was.
 * Does not: remember sizes - the caller gives them back to memory_free.
 */
#include "base/base.h"

#define MEMORY_ALIGNMENT 64
#define MEMORY_HUGE_BYTES ((size_t)2 << 20)
#define BUFFER_MIN_BYTES 256

bool checked_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

bool checked_multiply(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* `out` is the address of a pointer of any type, hence the copies instead of assignments. */
annex_status memory_new_raw(const annex_env *env, size_t n, size_t size, void *out,
                            annex_error *error)
{
    uint64_t bytes;
    void *block = NULL;

    memcpy(out, &block, sizeof block);
    if (!checked_multiply(n, size, &bytes)) {
        return error_nomem(error, UINT64_MAX);
    }
    if (bytes == 0) {
        return ANNEX_OK;
    }
    block = env->memory.allocate(env->memory.context, bytes,
                                 bytes >= MEMORY_HUGE_BYTES ? MEMORY_HUGE_BYTES : MEMORY_ALIGNMENT);
    if (block == NULL) {
        return error_nomem(error, bytes);
    }
    memcpy(out, &block, sizeof block);
    return ANNEX_OK;
}

annex_status memory_new(const annex_env *env, size_t n, size_t size, void *out, annex_error *error)
{
    void *block;

    TRY(memory_new_raw(env, n, size, out, error));
    memcpy(&block, out, sizeof block);
    if (block != NULL) {
        memset(block, 0, n * size);
    }
    return ANNEX_OK;
}

void memory_free(const annex_env *env, void *pointer, size_t n, size_t size)
{
    if (pointer != NULL) {
        env->memory.release(env->memory.context, pointer, n * size);
    }
}

/* ---- growing buffers -------------------------------------------------------------------------*/

annex_status buffer_reserve(const annex_env *env, struct buffer *buffer, size_t extra_bytes,
                            annex_error *error)
{
    uint64_t wanted;
    size_t capacity;
    char *data;

    /* One more than asked for, so that text can always be terminated. */
    if (!checked_add(buffer->bytes, extra_bytes, &wanted) || wanted >= SIZE_MAX / 2) {
        return error_nomem(error, UINT64_MAX);
    }
    wanted++;
    if (wanted <= buffer->capacity) {
        return ANNEX_OK;
    }
    capacity = MAX(MAX(wanted, BUFFER_MIN_BYTES), buffer->capacity * 2);
    TRY(memory_new_raw(env, capacity, 1, &data, error));
    if (buffer->bytes > 0) {
        memcpy(data, buffer->data, buffer->bytes);
    }
    data[buffer->bytes] = '\0';
    memory_free(env, buffer->data, buffer->capacity, 1);
    buffer->data = data;
    buffer->capacity = capacity;
    return ANNEX_OK;
}

annex_status buffer_append(const annex_env *env, struct buffer *buffer, const void *data,
                           size_t bytes, annex_error *error)
{
    TRY(buffer_reserve(env, buffer, bytes, error));
    if (bytes > 0) {
        memcpy(buffer->data + buffer->bytes, data, bytes);
    }
    buffer->bytes += bytes;
    buffer->data[buffer->bytes] = '\0';
    return ANNEX_OK;
}

void buffer_free(const annex_env *env, struct buffer *buffer)
{
    memory_free(env, buffer->data, buffer->capacity, 1);
    *buffer = (struct buffer){0};
}

/* ---- bitmaps ---------------------------------------------------------------------------------*/

size_t bitmap_count(const uint64_t *map, size_t bits)
{
    size_t count = 0;

    for (size_t i = 0; i < bits / 64; i++) {
        count += (size_t)__builtin_popcountll(map[i]);
    }
    if (bits % 64 != 0) {
        uint64_t mask = (UINT64_C(1) << (bits % 64)) - 1;

        count += (size_t)__builtin_popcountll(map[bits / 64] & mask);
    }
    return count;
}
