/*
 * import_declaration.c - the arguments of vec0, which vec0_declare.c reads, and of vss0:
 *
 *   vss0(headline(384), body(384) factory="IVF4096,Flat,IDMap2" metric_type=INNER_PRODUCT)
 */
#include "sqlite/import/import_declaration.h"

/* name(dimension); the index inside says whatever the options behind it say. */
static bool import_add_vss0(struct vec0_declaration *declaration, struct piece argument,
                            annex_error *error)
{
    struct vec0_column column = {.role = VEC0_VECTOR, .elements = VEC_F32, .metric = ANNEX_L2};
    struct piece rest = argument;

    column.name = declaration_word(&rest);
    if (!piece_is(declaration_word(&rest), "(") ||
        !piece_number(declaration_word(&rest), ANNEX_MAX_DIMENSION, &column.dimension) ||
        column.dimension == 0 || !piece_is(declaration_word(&rest), ")")) {
        connection_refuse(error, "'%.*s' is not name(dimension)", (int)argument.bytes,
                          argument.text);
        return false;
    }
    return vec0_declare_column(declaration, &column, error);
}

bool import_declaration_read(const char *sql, size_t bytes, enum import_module *module,
                             struct vec0_declaration *declaration, annex_error *error)
{
    struct declaration table;
    struct piece argument;
    bool good = true;

    *module = IMPORT_NEITHER;
    if (declaration_read(sql, bytes, &table)) {
        *module = piece_names(table.module, "vec0")   ? IMPORT_VEC0
                  : piece_names(table.module, "vss0") ? IMPORT_VSS0
                                                      : IMPORT_NEITHER;
    }
    if (*module == IMPORT_NEITHER) {
        return false;
    }
    vec0_declare_begin(declaration);
    while (good && declaration_next(&table.arguments, &argument)) {
        good = *module == IMPORT_VEC0 ? vec0_declare_add(declaration, argument, error)
                                      : import_add_vss0(declaration, argument, error);
    }
    return good && vec0_declare_end(declaration, error);
}
