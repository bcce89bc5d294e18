/*
 * jsonl.c - see jsonl.h.
 *
 * A line is cut into its members first, without understanding them, so that numbers are read as
 * what they are for: elements as f32, with no double between, keys as integers of 64 bits. Each
 * part then has a parser of its own, which refuses what is not JSON.
 */
#include "transfer/jsonl.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "python_json.h"

#define FIRST_CAPACITY 1024
#define JSON_FLAGS (JSON_DECODE_ANY | JSON_ALLOW_NUL)

struct span {
    const char *text;
    size_t bytes;
};

enum { MEMBER_ID, MEMBER_EMBEDDING, MEMBER_CONTENT, MEMBER_HASH, MEMBER_METADATA, MEMBER_END };
static const char *const member_names[MEMBER_END] = {"id", "embedding", "content", "content_hash",
                                                     "metadata"};

/* ---- cutting ----------------------------------------------------------------------------------*/

static void skip_space(struct span *rest)
{
    while (rest->bytes > 0 && memchr(" \t\r\n", rest->text[0], 4) != NULL) {
        rest->text++;
        rest->bytes--;
    }
}

static bool take(struct span *rest, char character)
{
    skip_space(rest);
    if (rest->bytes == 0 || rest->text[0] != character) {
        return false;
    }
    rest->text++;
    rest->bytes--;
    return true;
}

/* The length of the string at `text`, with its quotes; 0 when it does not end. */
static size_t string_length(const char *text, size_t bytes)
{
    for (size_t i = 1; i < bytes; i++) {
        if (text[i] == '"') {
            return i + 1;
        }
        i += text[i] == '\\';
    }
    return 0;
}

/* The length of what looks like a value; 0 when it has no end. */
static size_t value_length(const char *text, size_t bytes)
{
    size_t depth = 0, i = 0;
    while (i < bytes) {
        if (text[i] == '"') {
            size_t n = string_length(text + i, bytes - i);
            if (n == 0) {
                return 0;
            }
            i += n - 1;
        } else if (text[i] == '[' || text[i] == '{') {
            depth++;
        } else if (text[i] == ']' || text[i] == '}') {
            if (depth == 0) {
                return i;
            }
            depth--;
        } else if (depth == 0 && memchr(", \t\r\n", text[i], 5) != NULL) {
            return i;
        }
        i++;
        if (depth == 0 && text[i - 1] != '\0' && memchr("\"]}", text[i - 1], 3) != NULL) {
            return i;
        }
    }
    return depth == 0 ? i : 0;
}

static bool take_value(struct span *rest, struct span *value)
{
    skip_space(rest);
    *value = (struct span){rest->text, value_length(rest->text, rest->bytes)};
    rest->text += value->bytes;
    rest->bytes -= value->bytes;
    return value->bytes > 0;
}

/* ---- values -----------------------------------------------------------------------------------*/

static int digit_of(char character)
{
    return character >= '0' && character <= '9'   ? character - '0'
           : character >= 'a' && character <= 'f' ? character - 'a' + 10
           : character >= 'A' && character <= 'F' ? character - 'A' + 10
                                                  : -1;
}

/* Bytes from digits. The line has room for as many as it could spell. */
static bool take_digits(struct jsonl *line, const json_t *text, annex_value *value)
{
    const char *digits = json_string_value(text);
    size_t n = json_string_length(text);
    char *bytes = line->bytes + line->bytes_used;
    if (digits == NULL || n % 2 != 0) {
        return false;
    }
    for (size_t i = 0; i < n / 2; i++) {
        int high = digit_of(digits[2 * i]), low = digit_of(digits[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        bytes[i] = (char)(high << 4 | low);
    }
    value->data = bytes;
    value->bytes = n / 2;
    line->bytes_used += n / 2;
    return true;
}

/* A text, a number, or bytes spelled as an object. */
static bool take_plain(struct jsonl *line, const json_t *json, annex_value *value)
{
    *value = (annex_value){0};
    switch (json_typeof(json)) {
    case JSON_STRING:
        value->type = ANNEX_TEXT;
        value->data = json_string_value(json);
        value->bytes = json_string_length(json);
        return true;
    case JSON_INTEGER:
        value->type = ANNEX_INTEGER;
        value->integer = json_integer_value(json);
        return true;
    case JSON_REAL:
        value->type = ANNEX_REAL;
        value->real = json_real_value(json);
        return true;
    case JSON_OBJECT:
        value->type = json_object_get(json, "blob") != NULL ? ANNEX_BLOB : ANNEX_TEXT;
        return json_object_size(json) == 1 &&
               take_digits(line, json_object_get(json, value->type == ANNEX_BLOB ? "blob" : "text"),
                           value);
    default:
        return false;
    }
}

static annex_status load(const struct span *span, json_t **json, annex_error *error)
{
    json_error_t problem;
    *json = json_loadb(span->text, span->bytes, JSON_FLAGS, &problem);
    return *json != NULL ? ANNEX_OK
                         : session_error(error, ANNEX_INVALID, "not JSON: %s", problem.text);
}

static annex_status parse_id(struct jsonl *line, const struct span *span, struct item *item,
                             annex_error *error)
{
    annex_status status = load(span, &line->id, error);
    if (status != ANNEX_OK) {
        return status;
    }
    bool several = json_is_array(line->id);
    size_t n = several ? json_array_size(line->id) : 1;
    if (n == 0 || n > TRANSFER_KEYS) {
        return session_error(error, ANNEX_INVALID, "the id has %zu parts; it has 1 to %d", n,
                             TRANSFER_KEYS);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *part = several ? json_array_get(line->id, i) : line->id;
        if (!take_plain(line, part, &item->key[i])) {
            return session_error(error, ANNEX_INVALID,
                                 "the id is neither a text nor a number nor an array of them");
        }
    }
    item->n_key = n;
    return ANNEX_OK;
}

static annex_status parse_embedding(struct jsonl *line, const struct span *span, struct item *item,
                                    annex_error *error)
{
    size_t n = 0;
    annex_status status =
        annex_vector_parse(span->text, span->bytes, line->vector, line->vector_capacity, &n, error);
    if (status == ANNEX_FULL && n <= ANNEX_MAX_DIMENSION) {
        free(line->vector);
        line->vector_capacity = n > FIRST_CAPACITY ? n : FIRST_CAPACITY;
        line->vector = session_memory(line->vector_capacity, sizeof(float));
        status = annex_vector_parse(span->text, span->bytes, line->vector, line->vector_capacity,
                                    &n, error);
    }
    if (status == ANNEX_FULL || (status == ANNEX_OK && n == 0)) {
        return session_error(error, ANNEX_INVALID,
                             "the embedding has %zu elements; a vector has 1 to %d", n,
                             ANNEX_MAX_DIMENSION);
    }
    if (status != ANNEX_OK) {
        return status;
    }
    item->vector = line->vector;
    item->dimension = n;
    return ANNEX_OK;
}

static annex_status parse_content(struct jsonl *line, const struct span *span, struct item *item,
                                  annex_error *error)
{
    annex_status status = load(span, &line->content, error);
    if (status != ANNEX_OK || json_is_null(line->content)) {
        return status;
    }
    if (!take_plain(line, line->content, &item->content) ||
        (item->content.type != ANNEX_TEXT && item->content.type != ANNEX_BLOB)) {
        return session_error(error, ANNEX_INVALID, "the content is not a text");
    }
    return ANNEX_OK;
}

static annex_status parse_hash(struct jsonl *line, const struct span *span, struct item *item,
                               annex_error *error)
{
    json_t *json = NULL;
    annex_status status = load(span, &json, error);
    if (status == ANNEX_OK && !json_is_null(json)) {
        item->content_hash.type = ANNEX_BLOB;
        if (!take_digits(line, json, &item->content_hash) || item->content_hash.bytes != 16) {
            status = session_error(error, ANNEX_INVALID,
                                   "the content_hash is not 32 hexadecimal digits");
        }
    }
    json_decref(json);
    return status;
}

bool jsonl_is_json(const char *text, size_t bytes)
{
    json_t *json = json_loadb(text, bytes, JSON_FLAGS | JSON_DECODE_INT_AS_REAL, NULL);
    bool valid = json != NULL;
    json_decref(json);
    return valid;
}

static annex_status parse_metadata(struct jsonl *line, const struct span *span, struct item *item,
                                   annex_error *error)
{
    size_t bytes = 0;
    if (!jsonl_is_json(span->text, span->bytes)) {
        return session_error(error, ANNEX_INVALID, "the metadata is not JSON");
    }
    if (span->bytes == 4 && memcmp(span->text, "null", 4) == 0) {
        return ANNEX_OK;
    }
    FILE *file = open_memstream(&line->metadata, &bytes);
    if (file == NULL) {
        return session_error(error, ANNEX_NOMEM, "out of memory for metadata");
    }
    python_json(file, span->text, span->bytes);
    if (fclose(file) != 0) {
        return session_error(error, ANNEX_NOMEM, "out of memory for metadata");
    }
    item->metadata = (annex_value){.type = ANNEX_TEXT, .data = line->metadata, .bytes = bytes};
    return ANNEX_OK;
}

/* ---- lines ------------------------------------------------------------------------------------*/

static void forget(struct jsonl *line, size_t bytes, struct item *item)
{
    json_decref(line->id);
    json_decref(line->content);
    free(line->metadata);
    line->id = line->content = NULL;
    line->metadata = NULL;
    line->bytes_used = 0;
    if (line->bytes_capacity < bytes) {
        free(line->bytes);
        line->bytes = session_memory(bytes, 1);
        line->bytes_capacity = bytes;
    }
    *item = (struct item){0};
}

void jsonl_free(struct jsonl *line)
{
    struct item item;
    forget(line, 0, &item);
    free(line->bytes);
    free(line->vector);
    *line = (struct jsonl){0};
}

/* Which member a name means. */
static annex_status find_member(const struct span *name, const struct span *members, size_t *member,
                                annex_error *error)
{
    json_t *json = NULL;
    annex_status status = load(name, &json, error);
    const char *text = json_string_value(json);
    for (*member = 0; text != NULL && *member < MEMBER_END; ++*member) {
        if (strcmp(text, member_names[*member]) == 0) {
            break;
        }
    }
    if (status == ANNEX_OK && (text == NULL || *member == MEMBER_END)) {
        status = session_error(error, ANNEX_INVALID,
                               "there is a member \"%.60s\"; an item has id, embedding, content, "
                               "content_hash and metadata: put it into metadata",
                               text != NULL ? text : "");
    } else if (status == ANNEX_OK && members[*member].text != NULL) {
        status = session_error(error, ANNEX_INVALID, "\"%s\" is there twice", text);
    }
    json_decref(json);
    return status;
}

static annex_status cut(struct span rest, struct span members[MEMBER_END], annex_error *error)
{
    bool more = true;
    if (!take(&rest, '{')) {
        return session_error(error, ANNEX_INVALID, "the line is not a JSON object");
    }
    while (!take(&rest, '}')) {
        struct span name, value;
        size_t member;
        if (!more || rest.bytes == 0 || rest.text[0] != '"' || !take_value(&rest, &name) ||
            !take(&rest, ':') || !take_value(&rest, &value)) {
            return session_error(error, ANNEX_INVALID, "the line is not a whole JSON object");
        }
        annex_status status = find_member(&name, members, &member, error);
        if (status != ANNEX_OK) {
            return status;
        }
        members[member] = value;
        more = take(&rest, ',');
    }
    skip_space(&rest);
    return rest.bytes == 0
               ? ANNEX_OK
               : session_error(error, ANNEX_INVALID, "there is something behind the JSON object");
}

annex_status jsonl_parse(struct jsonl *line, const char *text, size_t bytes, struct item *item,
                         annex_error *error)
{
    static annex_status (*const parsers[MEMBER_END])(struct jsonl *, const struct span *,
                                                     struct item *, annex_error *) = {
        parse_id, parse_embedding, parse_content, parse_hash, parse_metadata};
    struct span members[MEMBER_END] = {0};
    forget(line, bytes, item);
    annex_status status = cut((struct span){text, bytes}, members, error);
    if (status == ANNEX_OK && members[MEMBER_ID].text == NULL) {
        return session_error(error, ANNEX_INVALID, "there is no id");
    }
    for (size_t i = 0; status == ANNEX_OK && i < MEMBER_END; i++) {
        if (members[i].text != NULL) {
            status = parsers[i](line, &members[i], item, error);
        }
    }
    return status;
}

annex_status jsonl_parse_key(struct jsonl *line, const char *text, size_t bytes, struct item *item,
                             annex_error *error)
{
    struct span span = {text, bytes};
    forget(line, bytes, item);
    return parse_id(line, &span, item, error);
}

/* ---- writing ----------------------------------------------------------------------------------*/

bool jsonl_put_value(FILE *file, const annex_value *value)
{
    switch (value->type) {
    case ANNEX_NULL:
        fputs("null", file);
        return true;
    case ANNEX_INTEGER:
        fprintf(file, "%" PRId64, value->integer);
        return true;
    case ANNEX_REAL:
        python_real(file, value->real);
        return isfinite(value->real);
    default:
        break;
    }
    const char *data = value->data;
    if (value->type == ANNEX_TEXT && emit_is_utf8(data, value->bytes)) {
        python_text(file, data, value->bytes);
        return true;
    }
    fputs(value->type == ANNEX_TEXT ? "{\"text\": \"" : "{\"blob\": \"", file);
    for (size_t i = 0; i < value->bytes; i++) {
        fprintf(file, "%02x", (unsigned char)data[i]);
    }
    fputs("\"}", file);
    return true;
}

bool jsonl_put_key(FILE *file, const struct item *item)
{
    bool fits = true;
    fputs(item->n_key > 1 ? "[" : "", file);
    for (size_t i = 0; i < item->n_key; i++) {
        fputs(i > 0 ? ", " : "", file);
        fits &= jsonl_put_value(file, &item->key[i]);
    }
    fputs(item->n_key > 1 ? "]" : "", file);
    return fits;
}
