/*
 * fuzz_declaration.c - the input is the CREATE VIRTUAL TABLE that annex_import finds in a database.
 *
 * Whatever it says, names lie inside it, columns are counted right and have a size; and what is
 * refused is refused with a sentence.
 */
#include "sqlite/import/import_declaration.h"
#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_name(struct piece name, const char *text, size_t bytes)
{
    FUZZ_REQUIRE(name.bytes > 0 && name.text >= text && name.bytes <= bytes);
    FUZZ_REQUIRE((size_t)(name.text - text) <= bytes - name.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char none[] = "";
    const char *text = size > 0 ? (const char *)data : none;
    struct vec0_declaration declaration;
    enum import_module module;
    annex_error error = {ANNEX_OK, ""};
    size_t counts[VEC0_ROLES] = {0};

    if (!import_declaration_read(text, size, &module, &declaration, &error)) {
        FUZZ_REQUIRE((module == IMPORT_NEITHER) == (error.message[0] == '\0'));
        return 0;
    }
    FUZZ_REQUIRE(declaration.n > 1 && declaration.n <= VEC0_MAX_COLUMNS);
    for (size_t i = 0; i < declaration.n; i++) {
        const struct vec0_column *column = &declaration.columns[i];

        FUZZ_REQUIRE((i == 0) == (column->role == VEC0_KEY));
        FUZZ_REQUIRE(column->number == counts[column->role]++);
        FUZZ_REQUIRE(column->role != VEC0_VECTOR || vec0_vector_bytes(column) > 0);
        if (i > 0 || declaration.counts[VEC0_KEY] > 0) {
            fuzz_name(column->name, text, size);
        }
    }
    FUZZ_REQUIRE(counts[VEC0_VECTOR] > 0);
    for (int role = VEC0_VECTOR; role < VEC0_ROLES; role++) {
        FUZZ_REQUIRE(counts[role] == declaration.counts[role]);
    }
    return 0;
}
