/*
 * sink_files.c - items into files: .npy with the keys beside it, or JSON lines.
 *
 * Keys are a .npy of int64 when each is a single integer, otherwise JSON lines, which hold any key.
 * Files get their names when all of them are on the disk: first the keys, then the vectors.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "python_json.h"
#include "transfer/jsonl.h"
#include "transfer/out_file.h"
#include "transfer/transfer.h"

struct npy_sink {
    struct sink base;
    const struct items *source;
    struct out_file vectors, keys;
    char *line; /* a key as JSON, of open_memstream */
    size_t line_bytes;
    FILE *text;
    char stale[OUT_FILE_NAME]; /* keys of the other form, from an export before this */
};

/* ---- .npy -------------------------------------------------------------------------------------*/

/* What was printed to a memstream since the last call, into the file. */
static annex_status write_printed(FILE *text, char *const *line, struct out_file *out,
                                  annex_error *error)
{
    if (fflush(text) != 0) {
        return session_error(error, ANNEX_NOMEM, "out of memory for a line of JSON");
    }
    annex_status status = out_file_write(out, *line, (size_t)ftello(text), error);
    rewind(text);
    return status;
}

static annex_status put_key_line(struct npy_sink *sink, const struct item *item, annex_error *error)
{
    if (!jsonl_put_key(sink->text, item)) {
        return transfer_error(sink->source, item, error, ANNEX_INVALID,
                              "JSON has no form for this key");
    }
    fputc('\n', sink->text);
    return write_printed(sink->text, &sink->line, &sink->keys, error);
}

static annex_status put_npy(struct sink *base, const struct item *item, annex_error *error)
{
    struct npy_sink *sink = (struct npy_sink *)base;
    size_t bytes = sink->source->bits ? (item->dimension + 7) / 8 : item->dimension * sizeof(float);
    annex_status status = out_file_write(&sink->vectors, item->vector, bytes, error);
    if (status != ANNEX_OK) {
        return status;
    }
    base->added++;
    return sink->source->integer_keys
               ? out_file_write(&sink->keys, &item->key[0].integer, sizeof(int64_t), error)
               : put_key_line(sink, item, error);
}

static annex_status finish_npy(struct npy_sink *sink, annex_error *error)
{
    bool bits = sink->source->bits;
    size_t columns = bits ? (sink->base.dimension + 7) / 8 : sink->base.dimension;
    if (sink->base.added == 0) {
        return session_error(error, ANNEX_NOT_FOUND, "%s has no vectors to export",
                             sink->source->name);
    }
    annex_status status =
        out_file_npy_header(&sink->vectors, bits ? "|u1" : "<f4", sink->base.added, columns, error);
    if (status == ANNEX_OK && sink->source->integer_keys) {
        status = out_file_npy_header(&sink->keys, "<i8", sink->base.added, 0, error);
    }
    if (status == ANNEX_OK) {
        status = out_file_finish(&sink->keys, error);
    }
    return status == ANNEX_OK ? out_file_finish(&sink->vectors, error) : status;
}

static annex_status commit_npy(struct sink *base, annex_error *error)
{
    struct npy_sink *sink = (struct npy_sink *)base;
    const annex_io *io = &sink->vectors.env->io;
    annex_status status = finish_npy(sink, error);
    if (status == ANNEX_OK) {
        status = out_file_rename(&sink->keys, error);
    }
    if (status == ANNEX_OK) {
        io->remove(io->context, sink->stale);
        status = out_file_rename(&sink->vectors, error);
    }
    return status;
}

static void close_npy(struct sink *base)
{
    struct npy_sink *sink = (struct npy_sink *)base;
    out_file_abort(&sink->vectors);
    out_file_abort(&sink->keys);
    if (sink->text != NULL) {
        fclose(sink->text);
    }
    free(sink->line);
    free(sink);
}

/* "posts.npy" has its keys in "posts.keys.npy" or "posts.keys.jsonl". */
static annex_status name_keys(struct session *session, struct npy_sink *sink, const char *path,
                              char keys[OUT_FILE_NAME], annex_error *error)
{
    static const char *const endings[] = {".keys.npy", ".keys.jsonl"};
    size_t n = strlen(path) - strlen(".npy");
    if (n + 16 > OUT_FILE_NAME) {
        return session_error(error, ANNEX_INVALID, "the name %.60s... is too long", path);
    }
    bool integers = sink->source->integer_keys;
    snprintf(keys, OUT_FILE_NAME, "%.*s%s", (int)n, path, endings[integers ? 0 : 1]);
    snprintf(sink->stale, OUT_FILE_NAME, "%.*s%s", (int)n, path, endings[integers ? 1 : 0]);
    annex_status status = session_may_write(session, path, error);
    if (status == ANNEX_OK) {
        status = session_may_write(session, keys, error);
    }
    return status == ANNEX_OK ? session_may_write(session, sink->stale, error) : status;
}

annex_status sink_open_npy(struct session *session, const char *path, const struct items *source,
                           struct sink **opened, char keys[OUT_FILE_NAME], annex_error *error)
{
    static const char room[NPY_HEADER_BYTES];
    struct npy_sink *sink = session_memory(1, sizeof(*sink));
    sink->base = (struct sink){.put = put_npy, .commit = commit_npy, .close = close_npy};
    sink->source = source;
    annex_status status = name_keys(session, sink, path, keys, error);
    if (status == ANNEX_OK) {
        status = out_file_open(&sink->vectors, &session->env, path, error);
    }
    if (status == ANNEX_OK) {
        status = out_file_open(&sink->keys, &session->env, keys, error);
    }
    if (status == ANNEX_OK) {
        status = out_file_write(&sink->vectors, room, sizeof(room), error);
    }
    if (status == ANNEX_OK && source->integer_keys) {
        status = out_file_write(&sink->keys, room, sizeof(room), error);
    } else if (status == ANNEX_OK) {
        sink->text = open_memstream(&sink->line, &sink->line_bytes);
        status = sink->text != NULL ? ANNEX_OK : session_error(error, ANNEX_NOMEM, "out of memory");
    }
    if (status != ANNEX_OK) {
        close_npy(&sink->base);
        return status;
    }
    *opened = &sink->base;
    return ANNEX_OK;
}

/* ---- JSON lines -------------------------------------------------------------------------------*/

struct jsonl_sink {
    struct sink base;
    const struct items *source;
    bool for_llm, to_output;
    struct out_file out;
    char *line; /* of open_memstream */
    size_t line_bytes;
    FILE *text;
    char *numbers;
    size_t capacity;
};

/* "-0" as "-0.0": other programs take the former for the integer, which has no sign. */
static void put_numbers(FILE *file, const char *text)
{
    const char *zero = text;
    while ((zero = strstr(zero, "-0")) != NULL) {
        zero += 2;
        if (*zero == ',' || *zero == ']') {
            fwrite(text, 1, (size_t)(zero - text), file);
            fputs(".0", file);
            text = zero;
        }
    }
    fputs(text, file);
}

static void put_embedding(struct jsonl_sink *sink, const struct item *item)
{
    size_t wanted = 32 * item->dimension + 3;
    if (sink->capacity < wanted) {
        free(sink->numbers);
        sink->numbers = session_memory(wanted, 1);
        sink->capacity = wanted;
    }
    annex_vector_format(item->vector, item->dimension, sink->numbers, wanted);
    fputs(", \"embedding\": ", sink->text);
    put_numbers(sink->text, sink->numbers);
}

static annex_status put_texts(struct jsonl_sink *sink, const struct item *item, annex_error *error)
{
    const annex_value *metadata = &item->metadata;
    bool content = item->content.type == ANNEX_TEXT || item->content.type == ANNEX_BLOB;
    if (!content && item->content.type != ANNEX_NULL) {
        return transfer_error(sink->source, item, error, ANNEX_INVALID,
                              "the content is a number, not a text");
    }
    if (content) {
        fputs(", \"content\": ", sink->text);
        jsonl_put_value(sink->text, &item->content);
    }
    if (item->content_hash.bytes == 16 && !content) {
        fputs(", \"content_hash\": \"", sink->text);
        for (size_t i = 0; i < item->content_hash.bytes; i++) {
            fprintf(sink->text, "%02x", ((const unsigned char *)item->content_hash.data)[i]);
        }
        fputc('"', sink->text);
    }
    if (metadata->type == ANNEX_NULL) {
        return ANNEX_OK;
    }
    if (metadata->type != ANNEX_TEXT || !jsonl_is_json(metadata->data, metadata->bytes)) {
        return transfer_error(sink->source, item, error, ANNEX_INVALID, "the metadata is not JSON");
    }
    fputs(", \"metadata\": ", sink->text);
    python_json(sink->text, metadata->data, metadata->bytes);
    return ANNEX_OK;
}

/* What llm embed-multi reads: the id first, then the text to embed. */
static annex_status put_for_llm(struct jsonl_sink *sink, const struct item *item,
                                annex_error *error)
{
    if (item->n_key > 1) {
        return transfer_error(sink->source, item, error, ANNEX_INVALID,
                              "llm has ids of one column");
    }
    if (item->content.type != ANNEX_TEXT ||
        !emit_is_utf8(item->content.data, item->content.bytes)) {
        return transfer_error(sink->source, item, error, ANNEX_INVALID,
                              "there is no text for llm to embed: llm keeps it with --store, and "
                              "--content names the column of another table");
    }
    fputs(", \"content\": ", sink->text);
    jsonl_put_value(sink->text, &item->content);
    return ANNEX_OK;
}

/* A whole line, so that an item that cannot be written leaves nothing of itself. */
static annex_status print_line(struct jsonl_sink *sink, annex_error *error)
{
    if (fflush(sink->text) != 0) {
        return session_error(error, ANNEX_NOMEM, "out of memory for a line of JSON");
    }
    size_t bytes = (size_t)ftello(sink->text);
    rewind(sink->text);
    return fwrite(sink->line, 1, bytes, stdout) == bytes
               ? ANNEX_OK
               : session_error(error, ANNEX_IO, "cannot write to standard output");
}

static annex_status put_jsonl(struct sink *base, const struct item *item, annex_error *error)
{
    struct jsonl_sink *sink = (struct jsonl_sink *)base;
    annex_status status = ANNEX_OK;
    fputs("{\"id\": ", sink->text);
    if (!jsonl_put_key(sink->text, item)) {
        return transfer_error(sink->source, item, error, ANNEX_INVALID,
                              "JSON has no form for this key");
    }
    if (sink->for_llm) {
        status = put_for_llm(sink, item, error);
    } else {
        put_embedding(sink, item);
        status = put_texts(sink, item, error);
    }
    if (status != ANNEX_OK) {
        return status;
    }
    fputs("}\n", sink->text);
    base->added++;
    return sink->to_output ? print_line(sink, error)
                           : write_printed(sink->text, &sink->line, &sink->out, error);
}

static annex_status commit_jsonl(struct sink *base, annex_error *error)
{
    struct jsonl_sink *sink = (struct jsonl_sink *)base;
    if (sink->to_output) {
        return ANNEX_OK; /* session_close_output says whether all of it was written */
    }
    annex_status status = out_file_finish(&sink->out, error);
    return status == ANNEX_OK ? out_file_rename(&sink->out, error) : status;
}

static void close_jsonl(struct sink *base)
{
    struct jsonl_sink *sink = (struct jsonl_sink *)base;
    if (sink->text != NULL) {
        fclose(sink->text);
    }
    out_file_abort(&sink->out);
    free(sink->line);
    free(sink->numbers);
    free(sink);
}

annex_status sink_open_jsonl(struct session *session, const char *path, const struct items *source,
                             bool for_llm, struct sink **opened, annex_error *error)
{
    struct jsonl_sink *sink = session_memory(1, sizeof(*sink));
    annex_status status = ANNEX_OK;
    sink->base = (struct sink){.put = put_jsonl, .commit = commit_jsonl, .close = close_jsonl};
    sink->source = source;
    sink->for_llm = for_llm;
    sink->to_output = strcmp(path, "-") == 0;
    if (source->bits && !for_llm) {
        status =
            session_error(error, ANNEX_UNSUPPORTED,
                          "JSON lines hold numbers, and %s holds bits; write .npy", source->name);
    }
    if (status == ANNEX_OK && !sink->to_output) {
        status = session_may_write(session, path, error);
        if (status == ANNEX_OK) {
            status = out_file_open(&sink->out, &session->env, path, error);
        }
    }
    sink->text = open_memstream(&sink->line, &sink->line_bytes);
    if (status == ANNEX_OK && sink->text == NULL) {
        status = session_error(error, ANNEX_NOMEM, "out of memory");
    }
    if (status != ANNEX_OK) {
        close_jsonl(&sink->base);
        return status;
    }
    *opened = &sink->base;
    return ANNEX_OK;
}
