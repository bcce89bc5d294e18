/*
 * declaration.c - the text of a CREATE VIRTUAL TABLE, taken apart.
 *
 * SQLite hands the arguments of a module over as they were written, divided by commas: a comma in
 * quotes, in a comment or between parentheses divides nothing.
 */
#include "sqlite/declaration.h"

static bool declaration_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static bool declaration_is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

static char declaration_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static struct piece piece_skip(struct piece piece, size_t bytes)
{
    return (struct piece){piece.text + bytes, piece.bytes - bytes};
}

/* The bytes of the quoted text at the start, 0 when the closing quote is missing. */
static size_t declaration_quoted(struct piece rest)
{
    char close = rest.text[0] == '[' ? ']' : rest.text[0];

    for (size_t i = 1; i < rest.bytes; i++) {
        if (rest.text[i] != close) {
            continue;
        }
        if (close == ']' || i + 1 == rest.bytes || rest.text[i + 1] != close) {
            return i + 1;
        }
        i++;
    }
    return 0;
}

/* The bytes of the comment at the start, 0 when there is none. One that never ends is a comment. */
static size_t declaration_comment(struct piece rest)
{
    bool line = rest.bytes > 1 && rest.text[0] == '-' && rest.text[1] == '-';
    size_t i = 2;

    if (!line && !(rest.bytes > 1 && rest.text[0] == '/' && rest.text[1] == '*')) {
        return 0;
    }
    for (; i < rest.bytes; i++) {
        if (line && rest.text[i] == '\n') {
            return i + 1;
        }
        if (!line && rest.text[i] == '*' && i + 1 < rest.bytes && rest.text[i + 1] == '/') {
            return i + 2;
        }
    }
    return rest.bytes;
}

/*
 * The bytes of what stands at the start: white space, a comment, something in quotes, a word, or
 * one character. 0: the end, or a quote that never ends.
 */
static size_t declaration_token(struct piece rest)
{
    size_t bytes = 0;

    if (rest.bytes == 0) {
        return 0;
    }
    switch (rest.text[0]) {
    case '\'':
    case '"':
    case '`':
    case '[':
        return declaration_quoted(rest);
    default:
        break;
    }
    while (bytes < rest.bytes && declaration_is_space(rest.text[bytes])) {
        bytes++;
    }
    if (bytes == 0) {
        bytes = declaration_comment(rest);
    }
    if (bytes == 0) {
        while (bytes < rest.bytes && declaration_is_word(rest.text[bytes])) {
            bytes++;
        }
    }
    return bytes == 0 ? 1 : bytes;
}

/* The next token that is neither white space nor comment; empty at the end. */
static struct piece declaration_take(struct piece *rest)
{
    for (;;) {
        size_t bytes = declaration_token(*rest);
        struct piece token = {rest->text, bytes};

        *rest = piece_skip(*rest, bytes);
        if (bytes == 0 ||
            (!declaration_is_space(token.text[0]) && declaration_comment(token) == 0)) {
            return token;
        }
    }
}

/* How many bytes the two have in common from the start, without regard to the case. */
static size_t piece_common(struct piece piece, const char *word)
{
    size_t n = 0;

    while (n < piece.bytes && word[n] != '\0' &&
           declaration_lower(piece.text[n]) == declaration_lower(word[n])) {
        n++;
    }
    return n;
}

bool piece_is(struct piece piece, const char *word)
{
    return piece_common(piece, word) == piece.bytes && word[piece.bytes] == '\0';
}

bool piece_abbreviates(struct piece piece, const char *word)
{
    return piece.bytes > 0 && piece_common(piece, word) == piece.bytes;
}

bool piece_starts(struct piece piece, const char *start)
{
    return start[piece_common(piece, start)] == '\0';
}

bool piece_names(struct piece piece, const char *name)
{
    bool quoted = piece.bytes >= 2 && !declaration_is_word(piece.text[0]);

    return quoted ? piece_is((struct piece){piece.text + 1, piece.bytes - 2}, name)
                  : piece_is(piece, name);
}

bool piece_number(struct piece piece, size_t most, size_t *number)
{
    *number = 0;
    for (size_t i = 0; i < piece.bytes; i++) {
        size_t digit = (size_t)(piece.text[i] - '0');

        if (piece.text[i] < '0' || piece.text[i] > '9' || digit > most ||
            *number > (most - digit) / 10) {
            return false;
        }
        *number = 10 * *number + digit;
    }
    return piece.bytes > 0;
}

struct piece declaration_word(struct piece *rest)
{
    size_t bytes = 0;
    struct piece word;

    while (rest->bytes > 0 && declaration_is_space(rest->text[0])) {
        *rest = piece_skip(*rest, 1);
    }
    while (bytes < rest->bytes && declaration_is_word(rest->text[bytes])) {
        bytes++;
    }
    if (bytes == 0 && rest->bytes > 0) {
        bytes = 1;
    }
    word = (struct piece){rest->text, bytes};
    *rest = piece_skip(*rest, bytes);
    return word;
}

/*
 * The bytes up to a `stop` outside of quotes, comments and parentheses; all of them when there is
 * none. False when a quote or an opened parenthesis never ends.
 */
static bool declaration_find(struct piece text, char stop, size_t *bytes)
{
    struct piece rest = text;
    size_t depth = 0;

    while (rest.bytes > 0 && (depth > 0 || rest.text[0] != stop)) {
        size_t token = declaration_token(rest);

        if (token == 0) {
            return false;
        }
        depth += rest.text[0] == '(';
        depth -= rest.text[0] == ')' && depth > 0;
        rest = piece_skip(rest, token);
    }
    *bytes = text.bytes - rest.bytes;
    return depth == 0;
}

bool declaration_read(const char *sql, size_t bytes, struct declaration *declaration)
{
    static const char *const words[] = {"create", "virtual", "table"};
    struct piece rest = {sql, bytes};
    struct piece token;
    size_t inside;

    *declaration = (struct declaration){{sql, 0}, {sql, 0}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!piece_is(declaration_take(&rest), words[i])) {
            return false;
        }
    }
    /* The name, perhaps IF NOT EXISTS, perhaps a schema: nothing of it is needed. */
    do {
        token = declaration_take(&rest);
    } while (token.bytes > 0 && !piece_is(token, "using"));
    declaration->module = declaration_take(&rest);
    if (declaration->module.bytes == 0) {
        return false;
    }
    token = declaration_take(&rest);
    if (token.bytes == 0 || piece_is(token, ";")) {
        return true;
    }
    declaration->arguments = rest;
    if (!piece_is(token, "(") || !declaration_find(rest, ')', &inside) || inside == rest.bytes) {
        return false;
    }
    declaration->arguments.bytes = inside;
    return true;
}

bool declaration_next(struct piece *rest, struct piece *argument)
{
    size_t bytes;

    *argument = (struct piece){rest->text, 0};
    if (rest->bytes == 0) {
        return false;
    }
    if (!declaration_find(*rest, ',', &bytes)) {
        bytes = rest->bytes;
    }
    argument->bytes = bytes;
    *rest = piece_skip(*rest, bytes < rest->bytes ? bytes + 1 : bytes);
    while (argument->bytes > 0 && declaration_is_space(argument->text[0])) {
        *argument = piece_skip(*argument, 1);
    }
    while (argument->bytes > 0 && declaration_is_space(argument->text[argument->bytes - 1])) {
        argument->bytes--;
    }
    return true;
}
