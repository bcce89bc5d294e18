/*
 * faiss_text.c - ids as Python's json.dumps writes them: 7, 1.5, null, "\u20ac".
 */
#include "sqlite/faiss/faiss.h"
#include "sqlite/statement.h"

/* Reads one character of UTF-8, 0 to 0x10ffff, and moves *c behind it; -1 where there is none. */
static int32_t text_take_character(const unsigned char **c, const unsigned char *end)
{
    static const int32_t least[] = {0, 0x80, 0x800, 0x10000};
    int32_t first = *(*c)++;
    int more = first < 0x80 ? 0 : first < 0xc0 ? -1 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    int32_t character = more > 0 ? first & (0x3f >> more) : first;

    if (more < 0 || first > 0xf4 || end - *c < more) {
        return -1;
    }
    for (int i = 0; i < more; i++) {
        if ((**c & 0xc0) != 0x80) {
            return -1;
        }
        character = character << 6 | (*(*c)++ & 0x3f);
    }
    if (character < least[more] || character > 0x10ffff ||
        (character >= 0xd800 && character < 0xe000)) {
        return -1;
    }
    return character;
}

static void text_escape(sqlite3_str *text, int32_t character)
{
    static const char *const escapes[] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f",
        ['\r'] = "\\r", ['"'] = "\\\"", ['\\'] = "\\\\"};

    if (character < (int32_t)(sizeof escapes / sizeof escapes[0]) && escapes[character] != NULL) {
        sqlite3_str_appendall(text, escapes[character]);
    } else if (character >= ' ' && character <= '~') {
        sqlite3_str_appendchar(text, 1, (char)character);
    } else if (character < 0x10000) {
        sqlite3_str_appendf(text, "\\u%04x", (unsigned)character);
    } else {
        unsigned above = (unsigned)character - 0x10000;

        sqlite3_str_appendf(text, "\\u%04x\\u%04x", 0xd800 + (above >> 10),
                            0xdc00 + (above & 0x3ff));
    }
}

static bool text_add_string(sqlite3_str *text, sqlite3_value *id, annex_error *error)
{
    const unsigned char *c = sqlite3_value_text(id);
    const unsigned char *end;

    if (c == NULL) {
        statement_nomem(error);
        return false;
    }
    end = c + sqlite3_value_bytes(id);
    sqlite3_str_appendchar(text, 1, '"');
    while (c < end) {
        int32_t character = text_take_character(&c, end);

        if (character < 0) {
            connection_refuse(error, "an id that is not valid UTF-8 cannot be written as JSON; use "
                                     "hex(id)");
            return false;
        }
        text_escape(text, character);
    }
    sqlite3_str_appendchar(text, 1, '"');
    return true;
}

bool faiss_text_id(sqlite3_str *text, sqlite3_value *id, annex_error *error)
{
    char number[FAISS_NUMBER_BYTES];

    switch (sqlite3_value_type(id)) {
    case SQLITE_INTEGER:
        sqlite3_str_appendf(text, "%lld", sqlite3_value_int64(id));
        return true;
    case SQLITE_FLOAT:
        sqlite3_str_append(text, number, (int)faiss_number_write(sqlite3_value_double(id), number));
        return true;
    case SQLITE_TEXT:
        return text_add_string(text, id, error);
    case SQLITE_NULL:
        sqlite3_str_appendall(text, "null");
        return true;
    default:
        connection_refuse(error, "a blob as id cannot be written as JSON; use hex(id)");
        return false;
    }
}

/* How many bytes of the text to show: whole characters only, and valid ones. */
static int text_shown_bytes(const unsigned char *text, int bytes)
{
    enum { MOST_BYTES = 40 };
    const unsigned char *end = text + (bytes < MOST_BYTES ? bytes : MOST_BYTES);
    const unsigned char *c = text;
    const unsigned char *shown = text;

    while (c < end && text_take_character(&c, end) > 0) {
        shown = c;
    }
    return (int)(shown - text);
}

const char *faiss_text_show(sqlite3_value *id, char shown[FAISS_SHOWN_BYTES])
{
    int type = sqlite3_value_type(id);
    const unsigned char *text;
    int bytes;
    int n;

    if (type == SQLITE_NULL || type == SQLITE_BLOB) {
        return type == SQLITE_NULL ? "NULL" : "(a blob)";
    }
    text = sqlite3_value_text(id);
    bytes = sqlite3_value_bytes(id);
    if (text == NULL) {
        return "(out of memory)";
    }
    n = text_shown_bytes(text, bytes);
    sqlite3_snprintf(FAISS_SHOWN_BYTES, shown,
                     type != SQLITE_TEXT ? "%.*s"
                     : n == bytes        ? "'%.*s'"
                                         : "'%.*s...'",
                     n, text);
    return shown;
}

void faiss_text_result(sqlite3_context *context, sqlite3_str *text)
{
    int code = sqlite3_str_errcode(text);
    int bytes = sqlite3_str_length(text);
    char *finished = sqlite3_str_finish(text);

    if (code == SQLITE_TOOBIG) {
        sqlite3_result_error_toobig(context);
    } else if (code != SQLITE_OK || finished == NULL) {
        sqlite3_result_error_nomem(context);
    } else {
        sqlite3_result_text(context, finished, bytes, sqlite3_free);
        return;
    }
    sqlite3_free(finished);
}
