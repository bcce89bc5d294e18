/*
 * help.c - help and the manual page, from the tables of commands and options.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

#define HELP_COLUMNS 80
#define HELP_INDENT 28

static const char about[] = "Annex adds a vector index to the data you already have.";

static void heading(const char *text)
{
    bool colour = session_has_colour(STDOUT_FILENO);
    printf("\n%s%s%s\n", colour ? "\033[1m" : "", text, colour ? "\033[0m" : "");
}

/* Prints `text` from `column` on, broken between words, each line after the first indented. */
static void print_wrapped(const char *text, size_t column)
{
    for (bool first = true; *text != '\0'; first = false) {
        size_t word = strcspn(text, " ");
        if (!first && column + 1 + word > HELP_COLUMNS) {
            printf("\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        } else if (!first) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)word, text);
        column += word;
        text += word + (text[word] == ' ');
    }
    putchar('\n');
}

/* Each line of `text` after `before`. */
static void print_lines(const char *text, const char *before)
{
    while (*text != '\0') {
        size_t n = strcspn(text, "\n");
        printf("%s%.*s\n", before, (int)n, text);
        text += n + (text[n] == '\n');
    }
}

static void print_option(const struct option *option)
{
    char left[96];
    int n = snprintf(left, sizeof(left), "  %c%c%s --%s%s%s", option->letter != 0 ? '-' : ' ',
                     option->letter != 0 ? option->letter : ' ', option->letter != 0 ? "," : " ",
                     option->name, option->value != NULL ? " " : "",
                     option->value != NULL ? option->value : "");
    fputs(left, stdout);
    if (n + 2 > HELP_INDENT) {
        putchar('\n');
        n = 0;
    }
    printf("%*s", HELP_INDENT - n, "");
    print_wrapped(option->help, HELP_INDENT);
}

void help_command(const struct command *command)
{
    printf("annex %s - %s\n", command->name, command->summary);
    heading("Usage");
    printf("  annex %s %s [options]\n", command->name, command->operands);
    heading("What it does");
    print_lines(command->description, "  ");
    heading("Options");
    for (size_t i = 0; i < options_table_length; i++) {
        if (option_is_for(&options_table[i], command)) {
            print_option(&options_table[i]);
        }
    }
    heading("Examples");
    print_lines(command->examples, "  ");
}

void help_short(void)
{
    printf("annex %s - %s\n", annex_version(), about);
    heading("Usage");
    puts("  annex COMMAND [operands] [options]");
    heading("In a database");
    for (size_t i = 0; i < COMMAND_END; i++) {
        if (i == COMMAND_BUILD) {
            heading("From files of vectors");
        } else if (i == COMMAND_HELP) {
            heading("More");
        }
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    }
    heading("Examples");
    puts("  annex create docs.db docs_idx --table docs --vector embedding --metric cosine\n"
         "  annex search docs.db docs_idx --like 42 -k 5\n"
         "  annex build vectors/ -o my.annex\n"
         "\n"
         "annex help COMMAND explains a command and its options.");
}

/* ---- the manual page --------------------------------------------------------------------------*/

/* Text for troff: no line may begin with a dot, backslashes and dashes are as typed. */
static void man_text(const char *text)
{
    bool line_start = true;
    for (; *text != '\0'; text++) {
        if (line_start && (*text == '.' || *text == '\'')) {
            fputs("\\&", stdout);
        }
        if (*text == '\\') {
            fputs("\\e", stdout);
        } else if (*text == '-') {
            fputs("\\-", stdout);
        } else {
            putchar(*text);
        }
        line_start = *text == '\n';
    }
}

static void man_option(const struct option *option)
{
    fputs(".TP\n\\fB", stdout);
    if (option->letter != 0) {
        printf("\\-%c\\fR, \\fB", option->letter);
    }
    fputs("\\-\\-", stdout);
    man_text(option->name);
    fputs("\\fR", stdout);
    if (option->value != NULL) {
        fputs(" \\fI", stdout);
        man_text(option->value);
        fputs("\\fR", stdout);
    }
    putchar('\n');
    man_text(option->help);
    puts(".");
}

static void man_command(const struct command *command)
{
    printf(".SS annex %s ", command->name);
    man_text(command->operands);
    printf("\n%c", toupper((unsigned char)command->summary[0]));
    man_text(command->summary + 1);
    puts(".\n.PP");
    man_text(command->description);
    putchar('\n');
    for (size_t i = 0; i < options_table_length; i++) {
        const struct option *option = &options_table[i];
        if (option_is_for(option, command) && option->commands != (1u << COMMAND_END) - 1) {
            man_option(option);
        }
    }
    puts(".PP\n.nf\n.RS");
    man_text(command->examples);
    puts("\n.RE\n.fi");
}

void help_man(void)
{
    printf(".TH ANNEX 1 \"\" \"annex %s\" \"User Commands\"\n", annex_version());
    puts(".SH NAME\nannex \\- a vector index for the data you already have");
    puts(".SH SYNOPSIS\n.B annex\n\\fICOMMAND\\fR [\\fIoperands\\fR] [\\fIoptions\\fR]");
    puts(".SH DESCRIPTION");
    puts("Annex finds nearest neighbours among vectors in a SQLite database or in files of\n"
         "vectors. In a database it keeps the index beside the rows, and every answer is as\n"
         "fresh as the table. Results go to standard output, everything else to standard error.\n"
         "Options and operands may come in any order; a long option takes its value after a\n"
         "space or an equals sign.");
    puts(".SH COMMANDS");
    for (size_t i = 0; i < COMMAND_END; i++) {
        man_command(commands[i]);
    }
    puts(".SH EXIT STATUS\n"
         ".TP\n0\nDone.\n"
         ".TP\n1\nFailed; one sentence on standard error says why.\n"
         ".TP\n2\nThe command line is wrong.\n"
         ".TP\n3\nThe file, table, index or key does not exist.\n"
         ".TP\n4\nA file or an index is damaged.\n"
         ".TP\n5\nSomebody else holds a lock; try again.\n"
         ".TP\n130\nInterrupted; nothing was changed.");
    puts(".SH ENVIRONMENT\n"
         ".TP\nANNEX_CPU\nThe instruction set to use: see \\fBannex info \\-\\-cpu\\fR.\n"
         ".TP\nXDG_CACHE_HOME\nWhere indexes inside databases are mapped from; ~/.cache unless set."
         " Everything there can be deleted at any time.\n"
         ".TP\nNO_COLOR\nNo bold text on terminals.");
}
