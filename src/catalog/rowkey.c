/*
 * rowkey.c - how a row is named inside a segment. One INTEGER PRIMARY KEY is an integer; every
 * other key is bytes that compare by memcmp as SQLite compares the values, column after column:
 *
 *   number   05  nearest f64, order-preserving, big-endian   what an integer lacks, i16
 *   text     07  bytes, 00 written as 00 ff                               00 00
 *   blob     08  likewise
 *
 * An integer and a real of one value are one key, as they are for SQLite. NULL names nothing.
 * rowkey_set keeps keys in order of arrival and finds them by hash.
 */
#include "catalog/catalog.h"

#include <math.h>
#include <stdio.h>

enum { KEY_NUMBER = 5, KEY_TEXT = 7, KEY_BLOB = 8, KEY_NUMBER_BYTES = 11 };

/* ---- encoding --------------------------------------------------------------------------------*/

static void number_encode(const annex_value *value, uint8_t out[KEY_NUMBER_BYTES])
{
    double nearest = value->type == ANNEX_INTEGER ? (double)value->integer : value->real;
    int lacking = 0;
    if (value->type == ANNEX_INTEGER) {
        lacking = (int)((__int128)value->integer - (__int128)nearest);
    }
    nearest += 0.0; /* -0.0 and 0.0 are one value */
    uint64_t order = 0;
    memcpy(&order, &nearest, sizeof order);
    order = order >> 63 ? ~order : order | UINT64_C(1) << 63;
    out[0] = KEY_NUMBER;
    for (int i = 0; i < 8; i++) {
        out[1 + i] = (uint8_t)(order >> (56 - 8 * i));
    }
    out[9] = (uint8_t)((lacking + 32768) >> 8);
    out[10] = (uint8_t)(lacking + 32768);
}

static void number_decode(const uint8_t *in, annex_value *value)
{
    uint64_t order = 0;
    for (int i = 0; i < 8; i++) {
        order = order << 8 | in[1 + i];
    }
    order = order >> 63 ? order & ~(UINT64_C(1) << 63) : ~order;
    memcpy(&value->real, &order, sizeof order);
    int lacking = (in[9] << 8 | in[10]) - 32768;
    bool whole =
        value->real >= -0x1p63 && value->real <= 0x1p63 && value->real == floor(value->real);
    __int128 integer = whole ? (__int128)value->real + lacking : 0;
    if (whole && integer >= INT64_MIN && integer <= INT64_MAX) {
        value->type = ANNEX_INTEGER;
        value->integer = (int64_t)integer;
        value->real = 0;
    } else {
        value->type = ANNEX_REAL;
    }
}

static annex_status bytes_encode(const annex_env *env, const annex_value *value,
                                 struct buffer *buffer, annex_error *error)
{
    const uint8_t *data = value->data;
    TRY(buffer_reserve(env, buffer, 2 * value->bytes + 3, error));
    uint8_t *out = (uint8_t *)buffer->data + buffer->bytes;
    size_t n = 0;
    out[n++] = value->type == ANNEX_TEXT ? KEY_TEXT : KEY_BLOB;
    for (size_t i = 0; i < value->bytes; i++) {
        out[n++] = data[i];
        if (data[i] == 0) {
            out[n++] = 0xff;
        }
    }
    out[n++] = 0;
    out[n++] = 0;
    buffer->bytes += n;
    return ANNEX_OK;
}

annex_status rowkey_encode(const annex_env *env, struct rowkey_shape shape,
                           const annex_value *values, struct buffer *buffer, struct rowkey *key,
                           annex_error *error)
{
    char text[KEY_TEXT_BYTES];
    *key = (struct rowkey){0};
    if (shape.integer) {
        bool whole = values[0].type == ANNEX_REAL && values[0].real == floor(values[0].real) &&
                     fabs(values[0].real) < 0x1p63;
        if (values[0].type != ANNEX_INTEGER && !whole) {
            return error_set(error, ANNEX_INVALID,
                             "%s is not an integer, as keys of this index are",
                             rowkey_print(values, 1, text));
        }
        key->integer = whole ? (int64_t)values[0].real : values[0].integer;
        return ANNEX_OK;
    }
    size_t start = buffer->bytes;
    for (size_t i = 0; i < shape.n_columns; i++) {
        if (values[i].type == ANNEX_INTEGER || values[i].type == ANNEX_REAL) {
            uint8_t number[KEY_NUMBER_BYTES];
            number_encode(&values[i], number);
            TRY(buffer_append(env, buffer, number, sizeof number, error));
        } else if (values[i].type == ANNEX_NULL) {
            return error_set(error, ANNEX_INVALID,
                             "the key %s has a NULL in it, which names no row",
                             rowkey_print(values, shape.n_columns, text));
        } else {
            TRY(bytes_encode(env, &values[i], buffer, error));
        }
    }
    key->n_bytes = buffer->bytes - start;
    key->bytes = buffer->data + start;
    if (key->n_bytes > UINT16_MAX) {
        return error_set(error, ANNEX_INVALID, "the key %s is longer than 65,535 bytes",
                         rowkey_print(values, shape.n_columns, text));
    }
    return ANNEX_OK;
}

/* One value; returns the bytes it took, 0 when they are no value. */
static size_t value_decode(const uint8_t *in, size_t n, struct arena *arena, annex_value *value,
                           annex_status *status, annex_error *error)
{
    memset(value, 0, sizeof *value);
    if (n >= KEY_NUMBER_BYTES && in[0] == KEY_NUMBER) {
        number_decode(in, value);
        return KEY_NUMBER_BYTES;
    }
    if (n < 3 || (in[0] != KEY_TEXT && in[0] != KEY_BLOB)) {
        return 0;
    }
    uint8_t *out = NULL;
    *status = arena_new(arena, n, 1, &out, error);
    size_t used = 1, length = 0;
    while (*status == ANNEX_OK && used + 1 < n) {
        uint8_t byte = in[used++];
        if (byte == 0 && in[used++] == 0) {
            value->type = in[0] == KEY_TEXT ? ANNEX_TEXT : ANNEX_BLOB;
            value->data = out;
            value->bytes = length;
            return used;
        }
        out[length++] = byte;
    }
    return 0;
}

annex_status rowkey_decode(struct rowkey_shape shape, const struct rowkey *key, struct arena *arena,
                           annex_value *values, annex_error *error)
{
    if (shape.integer) {
        values[0] = (annex_value){.type = ANNEX_INTEGER, .integer = key->integer};
        return ANNEX_OK;
    }
    const uint8_t *in = (const uint8_t *)key->bytes;
    size_t left = key->n_bytes;
    for (size_t i = 0; i < shape.n_columns; i++) {
        annex_status status = ANNEX_OK;
        size_t used = value_decode(in, left, arena, &values[i], &status, error);
        TRY(status);
        if (used == 0) {
            return error_set(
                error, ANNEX_DAMAGED,
                "a segment holds a key that is none; run annex_optimize to rebuild it");
        }
        in += used;
        left -= used;
    }
    return ANNEX_OK;
}

int rowkey_compare(const struct rowkey *a, const struct rowkey *b)
{
    if (a->bytes == NULL) {
        return (a->integer > b->integer) - (a->integer < b->integer);
    }
    int order = memcmp(a->bytes, b->bytes, MIN(a->n_bytes, b->n_bytes));
    return order != 0 ? order : (a->n_bytes > b->n_bytes) - (a->n_bytes < b->n_bytes);
}

const char *rowkey_print(const annex_value *values, size_t n, char text[KEY_TEXT_BYTES])
{
    size_t used = (size_t)snprintf(text, KEY_TEXT_BYTES, "%s", n > 1 ? "(" : "");
    for (size_t i = 0; i < n && used < KEY_TEXT_BYTES - 48; i++) {
        const annex_value *value = &values[i];
        const char *separator = i > 0 ? ", " : "";
        char *out = text + used;
        size_t room = KEY_TEXT_BYTES - used;
        int shown = (int)MIN(value->bytes, (size_t)24);
        while (shown > 0 && (size_t)shown < value->bytes && value->type == ANNEX_TEXT &&
               (((const uint8_t *)value->data)[shown] & 0xc0) == 0x80) {
            shown--; /* not in the middle of a character */
        }
        if (value->type == ANNEX_INTEGER) {
            used += (size_t)snprintf(out, room, "%s%lld", separator, (long long)value->integer);
        } else if (value->type == ANNEX_REAL) {
            used += (size_t)snprintf(out, room, "%s%.17g", separator, value->real);
        } else if (value->type == ANNEX_TEXT) {
            used += (size_t)snprintf(out, room, "%s'%.*s'%s", separator, shown,
                                     (const char *)value->data, value->bytes > 24 ? "..." : "");
        } else if (value->type == ANNEX_BLOB) {
            used += (size_t)snprintf(out, room, "%sa blob of %zu bytes", separator, value->bytes);
        } else {
            used += (size_t)snprintf(out, room, "%sNULL", separator);
        }
    }
    snprintf(text + used, KEY_TEXT_BYTES - used, "%s", n > 1 ? ")" : "");
    return text;
}

/* ---- sets ------------------------------------------------------------------------------------*/

static uint64_t rowkey_hash(const struct rowkey *key)
{
    return key->bytes == NULL ? hash_mix((uint64_t)key->integer + UINT64_C(0x9e3779b97f4a7c15))
                              : hash_bytes(key->bytes, key->n_bytes, 0);
}

struct rowkey rowkey_set_at(const struct rowkey_set *set, size_t position)
{
    assert(position < set->n);
    if (set->integer) {
        return (struct rowkey){.integer = ((const int64_t *)set->integers.data)[position]};
    }
    const uint64_t *ends = (const uint64_t *)set->ends.data;
    uint64_t start = position > 0 ? ends[position - 1] : 0;
    return (struct rowkey){.bytes = set->bytes.data + start, .n_bytes = ends[position] - start};
}

/* The slot that holds the key, or the empty one where it belongs. */
static size_t rowkey_set_slot(const struct rowkey_set *set, const struct rowkey *key)
{
    size_t slot = rowkey_hash(key) & (set->n_slots - 1);
    while (set->slots[slot] != 0) {
        struct rowkey other = rowkey_set_at(set, set->slots[slot] - 1);
        if (rowkey_compare(key, &other) == 0) {
            break;
        }
        slot = (slot + 1) & (set->n_slots - 1);
    }
    return slot;
}

bool rowkey_set_find(const struct rowkey_set *set, const struct rowkey *key, size_t *position)
{
    if (set->n == 0) {
        return false;
    }
    size_t slot = rowkey_set_slot(set, key);
    *position = (size_t)set->slots[slot] - 1;
    return set->slots[slot] != 0;
}

static annex_status rowkey_set_grow(const annex_env *env, struct rowkey_set *set,
                                    annex_error *error)
{
    size_t n_slots = MAX((size_t)64, 2 * set->n_slots);
    uint32_t *slots = NULL;
    if (set->n >= UINT32_MAX / 4) {
        return error_set(error, ANNEX_FULL, "too many keys at a time");
    }
    TRY(memory_new(env, n_slots, sizeof *slots, &slots, error));
    memory_free(env, set->slots, set->n_slots, sizeof *slots);
    set->slots = slots;
    set->n_slots = n_slots;
    for (size_t i = 0; i < set->n; i++) {
        struct rowkey key = rowkey_set_at(set, i);
        set->slots[rowkey_set_slot(set, &key)] = (uint32_t)i + 1;
    }
    return ANNEX_OK;
}

annex_status rowkey_set_add(const annex_env *env, struct rowkey_set *set, const struct rowkey *key,
                            size_t *position, bool *added, annex_error *error)
{
    *position = 0;
    *added = false;
    if (2 * (set->n + 1) > set->n_slots) {
        TRY(rowkey_set_grow(env, set, error));
    }
    size_t slot = rowkey_set_slot(set, key);
    if (set->slots[slot] != 0) {
        *position = (size_t)set->slots[slot] - 1;
        return ANNEX_OK;
    }
    if (set->integer) {
        TRY(buffer_append(env, &set->integers, &key->integer, sizeof key->integer, error));
    } else {
        TRY(buffer_reserve(env, &set->ends, sizeof(uint64_t), error));
        TRY(buffer_append(env, &set->bytes, key->bytes, key->n_bytes, error));
        uint64_t end = set->bytes.bytes;
        TRY(buffer_append(env, &set->ends, &end, sizeof end, error));
    }
    *position = set->n;
    set->slots[slot] = (uint32_t)++set->n;
    *added = true;
    return ANNEX_OK;
}

void rowkey_set_clear(struct rowkey_set *set)
{
    set->n = 0;
    set->integers.bytes = set->bytes.bytes = set->ends.bytes = 0;
    if (set->n_slots > 0) {
        memset(set->slots, 0, set->n_slots * sizeof *set->slots);
    }
}

void rowkey_set_free(const annex_env *env, struct rowkey_set *set)
{
    buffer_free(env, &set->integers);
    buffer_free(env, &set->bytes);
    buffer_free(env, &set->ends);
    memory_free(env, set->slots, set->n_slots, sizeof *set->slots);
    *set = (struct rowkey_set){.integer = set->integer};
}
