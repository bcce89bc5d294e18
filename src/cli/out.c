/*
 * out.c - see out.h. Text from a database may hold anything: in a table each control character is
 * shown as a question mark, so that it cannot steer the terminal.
 */
#include "out.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

#define TABLE_GAP 2
#define CELL_COLUMNS 60 /* longer cells are cut on a terminal */

void out_format_size(uint64_t bytes, char *text, size_t capacity)
{
    const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < ARRAY_LENGTH(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(text, capacity, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

/* ---- lists ------------------------------------------------------------------------------------*/

static void print_csv(const char *text)
{
    if (text[strcspn(text, ",\"\r\n")] == '\0') {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"') {
            putchar('"');
        }
        putchar(*text);
    }
    putchar('"');
}

/* Keeps a cell for the table; `text` may hold zero bytes and control characters. */
static void keep_cell(struct list *list, const char *text, size_t bytes, bool is_number)
{
    if (list->n_cells == list->cell_capacity) {
        size_t capacity = list->cell_capacity == 0 ? 64 : 2 * list->cell_capacity;
        struct list_cell *cells = session_memory(capacity, sizeof(*cells));
        if (list->n_cells > 0) {
            memcpy(cells, list->cells, list->n_cells * sizeof(*cells));
        }
        free(list->cells);
        list->cells = cells;
        list->cell_capacity = capacity;
    }
    char *copy = session_memory(bytes + 1, 1);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        copy[i] = c < 0x20 || c == 0x7f ? '?' : text[i];
    }
    list->cells[list->n_cells++] = (struct list_cell){copy, is_number};
}

/* Puts a value that has been written out already; `json` is its form in JSON. */
static void put(struct list *list, const char *text, size_t bytes, bool is_number, const char *json)
{
    size_t column = list->column++;
    list->column %= list->n_columns;
    if (list->mode == OUT_TABLE) {
        keep_cell(list, text, bytes, is_number);
        return;
    }
    if (list->mode == OUT_CSV) {
        if (column > 0) {
            putchar(',');
        }
        print_csv(text);
        if (list->column == 0) {
            putchar('\n');
        }
        return;
    }
    if (column == 0) {
        if (list->mode == OUT_JSON) {
            fputs(list->rows > 0 ? ",\n" : "\n", stdout);
        }
        list->json = (struct emitter)EMITTER_INIT(stdout);
        emit_begin(&list->json, '{');
    }
    if (column > 0 || !list->grouped || list->mode == OUT_JSONL) {
        emit_key(&list->json, list->columns[column]);
        if (json != NULL) {
            emit_raw(&list->json, json);
        } else {
            emit_bytes(&list->json, text, bytes);
        }
    }
    if (list->column == 0) {
        emit_end(&list->json, '}');
        if (list->mode == OUT_JSONL) {
            putchar('\n');
        }
    }
}

/* The first value of each row of a grouped list. */
static void put_group(struct list *list)
{
    if (list->grouped && list->column == 0) {
        char text[24];
        snprintf(text, sizeof(text), "%" PRIu64, list->groups - 1);
        put(list, text, strlen(text), true, text);
    }
}

static void put_value(struct list *list, const char *text, size_t bytes, bool is_number,
                      const char *json)
{
    put_group(list);
    put(list, text, bytes, is_number, json);
    if (list->column == 0) {
        list->rows++;
    }
}

void list_begin(struct list *list, enum out_mode mode, const char *const *columns, size_t n_columns,
                bool grouped)
{
    *list =
        (struct list){.mode = mode, .columns = columns, .n_columns = n_columns, .grouped = grouped};
    if (mode == OUT_JSON) {
        putchar('[');
    }
    for (size_t i = 0; i < n_columns && mode == OUT_CSV; i++) {
        if (i > 0) {
            putchar(',');
        }
        print_csv(columns[i]);
    }
    if (mode == OUT_CSV) {
        putchar('\n');
    }
}

void list_group(struct list *list)
{
    if (list->mode == OUT_JSON) {
        fputs(list->groups > 0 ? "\n],\n[" : "\n[", stdout);
        list->rows = 0;
    }
    list->groups++;
}

void list_null(struct list *list)
{
    put_value(list, "", 0, false, "null");
}

void list_bool(struct list *list, bool value)
{
    put_value(list, value ? "yes" : "no", value ? 3 : 2, false, value ? "true" : "false");
}

static void put_number(struct list *list, const char *text)
{
    put_value(list, text, strlen(text), true, text);
}

void list_integer(struct list *list, int64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, value);
    put_number(list, text);
}

void list_count(struct list *list, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    put_number(list, text);
}

void list_size(struct list *list, uint64_t bytes)
{
    if (list->mode != OUT_TABLE) {
        list_count(list, bytes);
        return;
    }
    char text[32];
    out_format_size(bytes, text, sizeof(text));
    put_number(list, text);
}

void list_real(struct list *list, double value)
{
    if (!isfinite(value)) {
        list_null(list);
        return;
    }
    char text[40];
    if (list->mode == OUT_TABLE) {
        snprintf(text, sizeof(text), "%.6g", value);
    } else {
        emit_format_real(value, text, sizeof(text));
    }
    put_number(list, text);
}

void list_bytes(struct list *list, const char *text, size_t bytes)
{
    if (list->mode == OUT_TABLE || list->mode == OUT_JSON || list->mode == OUT_JSONL) {
        put_value(list, text, bytes, false, NULL);
        return;
    }
    char *copy = session_memory(bytes + 1, 1); /* a terminated text, for CSV */
    if (bytes > 0) {
        memcpy(copy, text, bytes);
    }
    put_value(list, copy, bytes, false, NULL);
    free(copy);
}

void list_text(struct list *list, const char *text)
{
    put_value(list, text, strlen(text), false, NULL);
}

void list_value(struct list *list, const annex_value *value)
{
    switch (value->type) {
    case ANNEX_NULL:
        list_null(list);
        break;
    case ANNEX_INTEGER:
        list_integer(list, value->integer);
        break;
    case ANNEX_REAL:
        list_real(list, value->real);
        break;
    case ANNEX_TEXT:
        list_bytes(list, value->data, value->bytes);
        break;
    case ANNEX_BLOB: {
        char *text = session_memory(2 * value->bytes + 4, 1);
        memcpy(text, "x'", 2);
        for (size_t i = 0; i < value->bytes; i++) {
            snprintf(text + 2 + 2 * i, 3, "%02x", ((const unsigned char *)value->data)[i]);
        }
        text[2 + 2 * value->bytes] = '\'';
        list_text(list, text);
        free(text);
        break;
    }
    }
}

void list_json(struct list *list, const char *text)
{
    put_value(list, text, strlen(text), false, text);
}

/* ---- the table for people ---------------------------------------------------------------------*/

/* How many columns of a terminal `text` takes, one for each code point. */
static size_t text_columns(const char *text)
{
    size_t columns = 0;
    for (; *text != '\0'; text++) {
        columns += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return columns;
}

/* Prints `text` in `width` columns; `last`: nothing follows, so no space is needed. */
static void print_cell(const char *text, size_t width, bool right, bool last)
{
    size_t columns = text_columns(text);
    size_t space = columns < width ? width - columns : 0;
    if (right) {
        printf("%*s", (int)space, "");
    }
    size_t bytes = 0, printed = 0;
    while (text[bytes] != '\0') {
        bool starts = ((unsigned char)text[bytes] & 0xC0) != 0x80;
        if (starts && printed == width) {
            break;
        }
        printed += starts;
        bytes++;
    }
    fwrite(text, 1, bytes, stdout);
    if (!right && !last) {
        printf("%*s", (int)space, "");
    }
    if (!last) {
        printf("%*s", TABLE_GAP, "");
    }
}

static void print_table(struct list *list)
{
    bool terminal = isatty(STDOUT_FILENO), colour = session_has_colour(STDOUT_FILENO);
    size_t *widths = session_memory(list->n_columns, sizeof(*widths));
    bool *right = session_memory(list->n_columns, sizeof(*right));
    for (size_t c = 0; c < list->n_columns; c++) {
        widths[c] = strlen(list->columns[c]);
        for (size_t i = c; i < list->n_cells; i += list->n_columns) {
            size_t columns = text_columns(list->cells[i].text);
            widths[c] = columns > widths[c] ? columns : widths[c];
            right[c] |= list->cells[i].is_number;
        }
        if (terminal && widths[c] > CELL_COLUMNS) {
            widths[c] = CELL_COLUMNS;
        }
    }
    for (size_t c = 0; c < list->n_columns; c++) {
        fputs(colour ? "\033[1m" : "", stdout);
        print_cell(list->columns[c], widths[c], right[c], c + 1 == list->n_columns);
        fputs(colour ? "\033[0m" : "", stdout);
    }
    putchar('\n');
    for (size_t i = 0; i < list->n_cells; i++) {
        size_t c = i % list->n_columns;
        print_cell(list->cells[i].text, widths[c], right[c], c + 1 == list->n_columns);
        if (c + 1 == list->n_columns) {
            putchar('\n');
        }
    }
    free(widths);
    free(right);
}

void list_end(struct list *list)
{
    if (list->mode == OUT_JSON) {
        if (list->grouped && list->groups > 0) {
            fputs("\n]", stdout);
        }
        fputs(list->rows > 0 || list->groups > 0 ? "\n]\n" : "]\n", stdout);
    } else if (list->mode == OUT_TABLE) {
        print_table(list);
    }
    for (size_t i = 0; i < list->n_cells; i++) {
        free(list->cells[i].text);
    }
    free(list->cells);
    list->cells = NULL;
    list->n_cells = 0;
}

/* ---- records ----------------------------------------------------------------------------------*/

#define LABEL_COLUMNS 18

void record_begin(struct record *record, enum out_mode mode)
{
    record->is_json = mode != OUT_TABLE;
    record->json = (struct emitter)EMITTER_INIT(stdout);
    if (record->is_json) {
        emit_begin(&record->json, '{');
    }
}

/* The name, as JSON or for people: "default_effort" is "default effort". */
static void put_name(struct record *record, const char *name)
{
    if (record->is_json) {
        emit_key(&record->json, name);
        return;
    }
    int columns = 0;
    for (; *name != '\0'; name++, columns++) {
        putchar(*name == '_' ? ' ' : *name);
    }
    printf("%*s", columns < LABEL_COLUMNS ? LABEL_COLUMNS - columns : 1, "");
}

void record_text(struct record *record, const char *name, const char *text)
{
    put_name(record, name);
    if (record->is_json) {
        emit_text(&record->json, text);
    } else {
        printf("%s\n", text);
    }
}

void record_count(struct record *record, const char *name, uint64_t value)
{
    put_name(record, name);
    if (record->is_json) {
        emit_count(&record->json, value);
    } else {
        printf("%" PRIu64 "\n", value);
    }
}

void record_size(struct record *record, const char *name, uint64_t bytes)
{
    if (record->is_json) {
        record_count(record, name, bytes);
        return;
    }
    char text[32];
    out_format_size(bytes, text, sizeof(text));
    record_text(record, name, text);
}

void record_real(struct record *record, const char *name, double value)
{
    put_name(record, name);
    if (record->is_json) {
        emit_real(&record->json, value);
    } else if (isfinite(value)) {
        printf("%.6g\n", value);
    } else {
        puts("unknown");
    }
}

void record_bool(struct record *record, const char *name, bool value)
{
    put_name(record, name);
    if (record->is_json) {
        emit_bool(&record->json, value);
    } else {
        puts(value ? "yes" : "no");
    }
}

void record_end(struct record *record)
{
    if (record->is_json) {
        emit_end(&record->json, '}');
        putchar('\n');
    }
}
