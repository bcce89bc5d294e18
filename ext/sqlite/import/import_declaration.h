/*
 * import_declaration.h - what the CREATE VIRTUAL TABLE of a vec0 or vss0 table declares.
 */
#ifndef ANNEX_IMPORT_DECLARATION_H
#define ANNEX_IMPORT_DECLARATION_H

#include "sqlite/vec/vec0_declare.h"

enum import_module { IMPORT_NEITHER, IMPORT_VEC0, IMPORT_VSS0 };

/*
 * Reads `sql`, of which names are pieces. A vss0 table has vectors of f32 only, whose metric the
 * index inside it says. False: an error that says which words are not understood; none when
 * *module is IMPORT_NEITHER.
 */
bool import_declaration_read(const char *sql, size_t bytes, enum import_module *module,
                             struct vec0_declaration *declaration, annex_error *error);

#endif
