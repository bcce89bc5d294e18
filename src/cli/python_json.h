/*
 * python_json.h - values as Python prints them: json.dumps, repr of a float, textwrap.indent. For
 * output that takes the place of a Python program's, byte for byte.
 */
#ifndef ANNEX_CLI_PYTHON_JSON_H
#define ANNEX_CLI_PYTHON_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The shortest decimal that reads back: 0.1, 1.0, 1e-05, nan. */
void python_real(FILE *file, double value);
/* A text as a JSON string of ASCII. */
void python_text(FILE *file, const char *text, size_t bytes);
/* Valid JSON as json.dumps(json.loads(text)) has it, but that members given twice stay. */
void python_json(FILE *file, const char *text, size_t bytes);
/* Each line that is not blank, behind two spaces. */
void python_indent(FILE *file, const char *text, size_t bytes);

#endif
