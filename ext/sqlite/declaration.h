/*
 * declaration.h - the text of a CREATE VIRTUAL TABLE, taken apart as SQLite takes it apart.
 *
 * Everything found is a piece of the text that was given; nothing is allocated, and this file needs
 * no SQLite, so that it can be fuzzed alone.
 */
#ifndef ANNEX_DECLARATION_H
#define ANNEX_DECLARATION_H

#include <stdbool.h>
#include <stddef.h>

struct piece {
    const char *text; /* not terminated */
    size_t bytes;
};

struct declaration {
    struct piece module;    /* as written, perhaps in quotes */
    struct piece arguments; /* between the outer parentheses; empty without any */
};

/* False: `sql` is not a CREATE VIRTUAL TABLE, or has a quote or parenthesis that never ends. */
bool declaration_read(const char *sql, size_t bytes, struct declaration *declaration);

/*
 * Takes the next argument off `rest`, without the white space around it: up to the next comma
 * outside of quotes, comments and parentheses. False: there is none left.
 */
bool declaration_next(struct piece *rest, struct piece *argument);

/*
 * Takes the next word off an argument: a run of letters, digits, '_' and bytes beyond ASCII; or one
 * other character. Empty at the end.
 */
struct piece declaration_word(struct piece *rest);

/* Whether the piece is `word`, without regard to the case of ASCII letters. */
bool piece_is(struct piece piece, const char *word);
/* Whether the piece is the beginning of `word` or all of it; the empty piece is not. */
bool piece_abbreviates(struct piece piece, const char *word);
/* Whether the piece begins with `start`. */
bool piece_starts(struct piece piece, const char *start);
/* piece_is when the piece may be an identifier in quotes. */
bool piece_names(struct piece piece, const char *name);
/* A number of decimal digits and nothing else, at most `most`. */
bool piece_number(struct piece piece, size_t most, size_t *number);

#endif
