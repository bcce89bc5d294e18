/* fence.c - see fence.h. */
#include "fence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

uint64_t random_state;

uint64_t random_u64(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void random_bytes(void *to, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        ((uint8_t *)to)[i] = (uint8_t)random_u64();
    }
}

void extreme_bytes(void *to, size_t bytes)
{
    static const uint8_t extreme[] = {0, 1, 127, 128, 129, 254, 255};
    uint64_t pick = random_u64();
    for (size_t i = 0; i < bytes; i++) {
        bool same = pick % 2;
        ((uint8_t *)to)[i] = extreme[(same ? pick / 2 : random_u64()) % sizeof extreme];
    }
}

struct fence fence_create(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (bytes / page + 1) * page;
    struct fence f = {.map_bytes = inside + 2 * page};
    f.map = mmap(NULL, f.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(f.map != MAP_FAILED);
    f.start = f.map + page;
    f.end = f.start + inside;
    assert_int_equal(mprotect(f.start, inside, PROT_READ | PROT_WRITE), 0);
    return f;
}

void fence_destroy(struct fence *f)
{
    munmap(f->map, f->map_bytes);
}
