/*
 * fuzz_declaration.c - the input is the CREATE VIRTUAL TABLE that annex_import finds in a database.
 *
 * Whatever it says, names lie inside it, columns are counted right and have a size; and what was
 * not understood is pointed at.
 */
#include "sqlite/import/import_declaration.h"
#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_piece(struct piece piece, const char *text, size_t bytes)
{
    FUZZ_REQUIRE(piece.text >= text && piece.bytes <= bytes);
    FUZZ_REQUIRE((size_t)(piece.text - text) <= bytes - piece.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char none[] = "";
    const char *text = size > 0 ? (const char *)data : none;
    struct import_declaration declaration;
    size_t counts[IMPORT_KINDS] = {0};

    if (!import_declaration_read(text, size, &declaration)) {
        fuzz_piece(declaration.unread, text, size);
        return 0;
    }
    FUZZ_REQUIRE(declaration.n > 0 && declaration.n <= IMPORT_MAX_COLUMNS);
    for (size_t i = 0; i < declaration.n; i++) {
        const struct import_column *column = &declaration.columns[i];

        fuzz_piece(column->name, text, size);
        FUZZ_REQUIRE(column->name.bytes > 0 && column->kind < IMPORT_KINDS);
        FUZZ_REQUIRE(column->number == counts[column->kind]++);
        FUZZ_REQUIRE(column->kind != IMPORT_VECTOR || import_column_bytes(column) > 0);
    }
    FUZZ_REQUIRE(counts[IMPORT_KEY] <= 1 && counts[IMPORT_VECTOR] > 0);
    for (int kind = 0; kind < IMPORT_KINDS; kind++) {
        FUZZ_REQUIRE(counts[kind] == declaration.counts[kind]);
    }
    return 0;
}
