/*
 * items_files.c - the items of files: JSON lines, or a .npy with the keys beside it.
 *
 * Files come from anywhere: each line and each size is checked, and a message says which line or
 * row it was.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "progress.h"
#include "transfer/jsonl.h"
#include "transfer/transfer.h"

#define LINE_LIMIT ((size_t)256 << 20)
#define KEYS_AT_ONCE 4096

/* ---- lines ------------------------------------------------------------------------------------*/

struct lines {
    FILE *file;
    const char *name;
    char *data;
    size_t capacity, start, end;
    bool over;
    uint64_t number, bytes; /* of the line given last, and up to its end */
};

static annex_status lines_open(struct lines *lines, const char *path, uint64_t *bytes,
                               annex_error *error)
{
    struct stat about;
    lines->name = path;
    lines->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (lines->file == NULL) {
        return session_error(error, ANNEX_NOT_FOUND, "cannot open %s", path);
    }
    bool known = fstat(fileno(lines->file), &about) == 0 && S_ISREG(about.st_mode);
    *bytes = known ? (uint64_t)about.st_size : 0;
    lines->capacity = (size_t)1 << 16;
    lines->data = session_memory(lines->capacity, 1);
    return ANNEX_OK;
}

static void lines_close(struct lines *lines)
{
    if (lines->file != NULL && lines->file != stdin) {
        fclose(lines->file);
    }
    free(lines->data);
}

/* Reads on, behind what is there. */
static annex_status lines_fill(struct lines *lines, annex_error *error)
{
    if (lines->start > 0) {
        memmove(lines->data, lines->data + lines->start, lines->end - lines->start);
        lines->end -= lines->start;
        lines->start = 0;
    }
    if (lines->end == lines->capacity) {
        char *larger =
            lines->capacity < LINE_LIMIT ? realloc(lines->data, 2 * lines->capacity) : NULL;
        if (larger == NULL) {
            return session_error(error, ANNEX_INVALID,
                                 "%s, line %" PRIu64 ": the line is longer than %zu bytes",
                                 lines->name, lines->number + 1, lines->capacity);
        }
        lines->data = larger;
        lines->capacity *= 2;
    }
    size_t room = lines->capacity - lines->end;
    size_t n = fread(lines->data + lines->end, 1, room, lines->file);
    if (progress_interrupted()) {
        return session_error(error, ANNEX_CANCELLED, "interrupted");
    }
    if (n < room && ferror(lines->file)) {
        return session_error(error, ANNEX_IO, "cannot read %s", lines->name);
    }
    lines->end += n;
    lines->over = n == 0;
    return ANNEX_OK;
}

static bool is_blank(const char *text, size_t bytes)
{
    size_t i = 0;
    while (i < bytes && memchr(" \t\r", text[i], 3) != NULL) {
        i++;
    }
    return i == bytes;
}

/* The next line that is not blank; *text is NULL behind the last. */
static annex_status lines_next(struct lines *lines, const char **text, size_t *bytes,
                               annex_error *error)
{
    size_t looked = 0;
    for (;;) {
        const char *begin = lines->data + lines->start;
        size_t there = lines->end - lines->start;
        const char *end = memchr(begin + looked, '\n', there - looked);
        if (end == NULL && !lines->over) {
            looked = there;
            annex_status status = lines_fill(lines, error);
            if (status != ANNEX_OK) {
                return status;
            }
            continue;
        }
        *bytes = end != NULL ? (size_t)(end - begin) : there;
        *text = end == NULL && there == 0 ? NULL : begin;
        lines->start += *bytes + (end != NULL);
        lines->bytes += *bytes + (end != NULL);
        lines->number++;
        looked = 0;
        if (*text == NULL || !is_blank(*text, *bytes)) {
            return ANNEX_OK;
        }
    }
}

/* ---- JSON lines -------------------------------------------------------------------------------*/

struct jsonl_source {
    struct items base;
    struct lines lines;
    struct jsonl line;
};

static annex_status at_line(const struct items *source, annex_error *error)
{
    char why[ANNEX_ERROR_BYTES];
    struct item none = {0};
    memcpy(why, error->message, sizeof(why));
    return transfer_error(source, &none, error, error->status, "%s", why);
}

static annex_status next_line(struct items *base, struct item *item, annex_error *error)
{
    struct jsonl_source *source = (struct jsonl_source *)base;
    const char *text;
    size_t bytes;
    *item = (struct item){0};
    annex_status status = lines_next(&source->lines, &text, &bytes, error);
    base->at = source->lines.number;
    base->done = source->lines.bytes;
    if (status != ANNEX_OK || text == NULL) {
        return status;
    }
    if (base->at == 1 && bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        bytes -= 3;
    }
    status = jsonl_parse(&source->line, text, bytes, item, error);
    if (status != ANNEX_OK) {
        return at_line(base, error);
    }
    if (item->vector == NULL) {
        return transfer_error(base, item, error, ANNEX_INVALID,
                              "there is no embedding; llm embed-multi reads ids and content, and "
                              "embeds them");
    }
    return ANNEX_OK;
}

static void close_lines(struct items *base)
{
    struct jsonl_source *source = (struct jsonl_source *)base;
    lines_close(&source->lines);
    jsonl_free(&source->line);
    free(source);
}

annex_status items_open_jsonl(const char *path, struct items **opened, annex_error *error)
{
    struct jsonl_source *source = session_memory(1, sizeof(*source));
    source->base = (struct items){.next = next_line, .close = close_lines, .name = path};
    source->base.unit = "line";
    source->base.has_text = true;
    annex_status status = lines_open(&source->lines, path, &source->base.total, error);
    if (status != ANNEX_OK) {
        close_lines(&source->base);
        return status;
    }
    *opened = &source->base;
    return ANNEX_OK;
}

/* ---- .npy -------------------------------------------------------------------------------------*/

struct npy_source {
    struct items base;
    annex_reader *reader;
    annex_rows rows;
    annex_batch batch;
    size_t in_batch;
    uint32_t dimension;
    unsigned char *bits; /* the bytes of a row that holds bits */
    annex_reader *keys;  /* NULL: they are lines */
    int64_t *numbers;
    size_t n_numbers;
    struct lines lines;
    struct jsonl line;
    char *key_name;
};

static annex_status no_key(const struct npy_source *source, annex_error *error)
{
    return session_error(error, ANNEX_INVALID, "%s has %" PRIu64 " vectors, and %s %s keys",
                         source->base.name, source->base.total, source->key_name,
                         source->base.done < source->base.total ? "fewer" : "more");
}

static annex_status next_number(struct npy_source *source, struct item *item, annex_error *error)
{
    uint64_t row = source->base.done;
    size_t place = (size_t)(row % KEYS_AT_ONCE);
    if (place == 0) {
        uint64_t left = source->base.total - row;
        size_t n = left < KEYS_AT_ONCE ? (size_t)left : KEYS_AT_ONCE;
        annex_status status = annex_reader_integers(source->keys, row, n, source->numbers, error);
        if (status != ANNEX_OK) {
            return status;
        }
    }
    item->key[0] = (annex_value){.type = ANNEX_INTEGER, .integer = source->numbers[place]};
    item->n_key = 1;
    return ANNEX_OK;
}

static annex_status next_key(struct npy_source *source, struct item *item, annex_error *error)
{
    const char *text;
    size_t bytes;
    if (source->keys != NULL) {
        return next_number(source, item, error);
    }
    annex_status status = lines_next(&source->lines, &text, &bytes, error);
    if (status != ANNEX_OK) {
        return status;
    }
    if (text == NULL) {
        return no_key(source, error);
    }
    status = jsonl_parse_key(&source->line, text, bytes, item, error);
    if (status != ANNEX_OK) {
        char why[256];
        snprintf(why, sizeof(why), "%.255s", error->message);
        return session_error(error, status, "%s, line %" PRIu64 ": %s", source->key_name,
                             source->lines.number, why);
    }
    return ANNEX_OK;
}

/* Behind the last vector there must be no key. */
static annex_status end_keys(struct npy_source *source, annex_error *error)
{
    const char *text = NULL;
    size_t bytes;
    annex_status status =
        source->keys != NULL ? ANNEX_OK : lines_next(&source->lines, &text, &bytes, error);
    return status == ANNEX_OK && text != NULL ? no_key(source, error) : status;
}

static annex_status next_row(struct items *base, struct item *item, annex_error *error)
{
    struct npy_source *source = (struct npy_source *)base;
    annex_status status = ANNEX_OK;
    *item = (struct item){0};
    if (source->in_batch == source->batch.n) {
        status = source->rows.next(source->rows.context, &source->batch, error);
        source->in_batch = 0;
    }
    if (status == ANNEX_OK && source->batch.n == 0) {
        return end_keys(source, error);
    }
    if (status == ANNEX_OK) {
        status = next_key(source, item, error);
    }
    if (status != ANNEX_OK) {
        return status;
    }
    const float *vector =
        (const float *)source->batch.vectors + source->in_batch++ * source->dimension;
    base->at = ++base->done;
    item->vector = vector;
    item->dimension = source->dimension;
    if (base->bits) {
        for (size_t i = 0; i < source->dimension; i++) {
            source->bits[i] = (unsigned char)vector[i];
        }
        item->vector = source->bits;
        item->dimension = (size_t)8 * source->dimension;
    }
    return ANNEX_OK;
}

static void close_npy(struct items *base)
{
    struct npy_source *source = (struct npy_source *)base;
    annex_reader_close(source->reader);
    annex_reader_close(source->keys);
    lines_close(&source->lines);
    jsonl_free(&source->line);
    free(source->numbers);
    free(source->bits);
    free(source->key_name);
    free(source);
}

static char *join(const char *start, size_t n, const char *end)
{
    char *text = session_memory(n + strlen(end) + 1, 1);
    memcpy(text, start, n);
    memcpy(text + n, end, strlen(end) + 1);
    return text;
}

/* The file of keys: --keys, or the one beside the vectors. */
static annex_status find_keys(const struct session *session, struct npy_source *source,
                              annex_error *error)
{
    static const char *const endings[] = {".keys.npy", ".keys.jsonl"};
    const char *given = session_option(session, OPTION_KEYS)->text, *path = source->base.name;
    struct stat about;
    if (given != NULL) {
        source->key_name = join(given, strlen(given), "");
        return ANNEX_OK;
    }
    size_t n = strlen(path) - (transfer_ends_with(path, ".npy") ? strlen(".npy") : 0);
    for (size_t i = 0; i < 2; i++) {
        char *name = join(path, n, endings[i]);
        if (stat(name, &about) != 0) {
            free(name);
        } else if (source->key_name != NULL) {
            free(name);
            return session_error(error, ANNEX_INVALID,
                                 "there are two files of keys for %s; choose one with --keys",
                                 path);
        } else {
            source->key_name = name;
        }
    }
    return source->key_name != NULL
               ? ANNEX_OK
               : session_error(error, ANNEX_NOT_FOUND,
                               "there are no keys for %s: neither %.*s.keys.npy nor "
                               "%.*s.keys.jsonl; --keys names another file",
                               path, (int)n, path, (int)n, path);
}

static annex_status open_keys(struct session *session, struct npy_source *source,
                              annex_error *error)
{
    annex_reader_info info;
    uint64_t bytes;
    annex_status status = find_keys(session, source, error);
    if (status != ANNEX_OK) {
        return status;
    }
    if (!transfer_ends_with(source->key_name, ".npy")) {
        return lines_open(&source->lines, source->key_name, &bytes, error);
    }
    status = annex_reader_open(&session->env, source->key_name, NULL, &source->keys, error);
    if (status != ANNEX_OK) {
        return status;
    }
    annex_reader_describe(source->keys, &info);
    if (info.dimension != 1 || info.format != ANNEX_FORMAT_AUTO) {
        return session_error(error, ANNEX_INVALID,
                             "%s does not hold one integer of 32 or 64 bits for each vector",
                             source->key_name);
    }
    source->numbers = session_memory(KEYS_AT_ONCE, sizeof(int64_t));
    if (info.rows != source->base.total) {
        return session_error(error, ANNEX_INVALID,
                             "%s has %" PRIu64 " vectors, and %s %" PRIu64 " keys",
                             source->base.name, source->base.total, source->key_name, info.rows);
    }
    return ANNEX_OK;
}

static annex_status open_vectors(struct session *session, struct npy_source *source,
                                 annex_error *error)
{
    annex_reader_info info;
    const char *format = session_option(session, OPTION_VECTOR_FORMAT)->text;
    annex_status status =
        annex_reader_open(&session->env, source->base.name, NULL, &source->reader, error);
    if (status != ANNEX_OK) {
        return status;
    }
    annex_reader_describe(source->reader, &info);
    source->base.total = info.rows;
    source->base.bits = format != NULL && strcmp(format, "bits") == 0;
    source->dimension = info.dimension;
    source->rows = annex_reader_rows(source->reader);
    if (source->base.bits && info.format != ANNEX_U8) {
        return session_error(error, ANNEX_INVALID, "%s holds no bytes (u8), so no bits either",
                             source->base.name);
    }
    source->bits = session_memory(info.dimension, 1);
    return ANNEX_OK;
}

annex_status items_open_npy(struct session *session, const char *path, struct items **opened,
                            annex_error *error)
{
    struct npy_source *source = session_memory(1, sizeof(*source));
    source->base = (struct items){.next = next_row, .close = close_npy, .name = path};
    source->base.unit = "row";
    annex_status status = open_vectors(session, source, error);
    if (status == ANNEX_OK) {
        status = open_keys(session, source, error);
    }
    if (status != ANNEX_OK) {
        close_npy(&source->base);
        return status;
    }
    *opened = &source->base;
    return ANNEX_OK;
}
