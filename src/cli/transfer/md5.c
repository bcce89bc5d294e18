/* md5.c - see md5.h. Source: Rivest, The MD5 Message-Digest Algorithm, RFC 1321, 1992. */
#include "transfer/md5.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static uint32_t rotate(uint32_t x, unsigned n)
{
    return x << n | x >> (32 - n);
}

/* One block of 64 bytes into the state. `sines` are the constants floor(2^32 |sin i|). */
static void mix(uint32_t state[4], const unsigned char block[64], const uint32_t sines[64])
{
    static const unsigned char shifts[4][4] = {
        {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t words[16], a = state[0], b = state[1], c = state[2], d = state[3];
    memcpy(words, block, sizeof(words));
    for (unsigned i = 0; i < 64; i++) {
        unsigned word;
        uint32_t f;
        switch (i / 16) {
        case 0:
            f = (b & c) | (~b & d);
            word = i;
            break;
        case 1:
            f = (d & b) | (~d & c);
            word = (5 * i + 1) % 16;
            break;
        case 2:
            f = b ^ c ^ d;
            word = (3 * i + 5) % 16;
            break;
        default:
            f = c ^ (b | ~d);
            word = 7 * i % 16;
            break;
        }
        f += a + sines[i] + words[word];
        a = d;
        d = c;
        c = b;
        b += rotate(f, shifts[i / 16][i % 4]);
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
}

void md5_digest(const void *data, size_t bytes, unsigned char digest[MD5_BYTES])
{
    uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}, sines[64];
    unsigned char tail[128] = {0};
    const unsigned char *from = data;
    size_t left = bytes;
    uint64_t bits = (uint64_t)bytes * 8;
    for (unsigned i = 0; i < 64; i++) {
        sines[i] = (uint32_t)(int64_t)(fabs(sin((double)i + 1)) * 4294967296.0);
    }
    for (; left >= 64; left -= 64, from += 64) {
        mix(state, from, sines);
    }
    if (left > 0) {
        memcpy(tail, from, left);
    }
    tail[left] = 0x80;
    size_t end = left < 56 ? 64 : 128;
    memcpy(tail + end - 8, &bits, sizeof(bits));
    for (size_t i = 0; i < end; i += 64) {
        mix(state, tail + i, sines);
    }
    memcpy(digest, state, MD5_BYTES);
}
