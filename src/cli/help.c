/*
 * help.c - help, the manual page and the completion of shells, all from the tables of commands and
 * options.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

#define HELP_COLUMNS 80
#define HELP_INDENT 28

static const char about[] = "Annex adds a vector index to the data you already have.";

static bool takes(const struct command *command, const struct option *option)
{
    return (option->commands & (1u << command->id)) != 0;
}

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
        if (takes(command, &options_table[i])) {
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
        if (takes(command, option) && option->commands != (1u << COMMAND_END) - 1) {
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

/* ---- completion -------------------------------------------------------------------------------*/

static void print_choices(const char *value)
{
    for (; *value != '\0'; value++) {
        putchar(*value == '|' ? ' ' : *value);
    }
}

static void bash_command(const struct command *command)
{
    printf("    %s)\n        case $previous in\n", command->name);
    for (size_t i = 0; i < options_table_length; i++) {
        const struct option *option = &options_table[i];
        if (!takes(command, option) || option->kind == OPTION_IS_FLAG) {
            continue;
        }
        printf("        --%s", option->name);
        if (option->letter != 0) {
            printf(" | -%c", option->letter);
        }
        if (option->kind == OPTION_IS_CHOICE) {
            fputs(") words=\"", stdout);
            print_choices(option->value);
            puts("\" ;;");
        } else {
            puts(option->kind == OPTION_IS_FILE ? ") files=1 ;;" : ") ;;");
        }
    }
    fputs("        *) files=1 words=\"", stdout);
    for (size_t i = 0; i < options_table_length; i++) {
        if (takes(command, &options_table[i])) {
            printf(" --%s", options_table[i].name);
        }
    }
    puts("\" ;;\n        esac\n        ;;");
}

static void completion_bash(void)
{
    puts("# Completion of annex for bash.\n"
         "_annex()\n"
         "{\n"
         "    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
         "    local words= files=\n"
         "    COMPREPLY=()\n"
         "    if ((COMP_CWORD == 1)); then");
    fputs("        words=\"", stdout);
    for (size_t i = 0; i < COMMAND_END; i++) {
        printf("%s%s", i > 0 ? " " : "", commands[i]->name);
    }
    puts("\"\n"
         "    else\n"
         "    case ${COMP_WORDS[1]} in");
    for (size_t i = 0; i < COMMAND_HELP; i++) {
        bash_command(commands[i]);
    }
    fputs("    help) words=\"--man --completion", stdout);
    for (size_t i = 0; i < COMMAND_HELP; i++) {
        printf(" %s", commands[i]->name);
    }
    puts("\" ;;\n"
         "    esac\n"
         "    fi\n"
         "    if [[ $word == -* || -z $files ]]; then\n"
         "        COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "    else\n"
         "        compopt -o filenames 2>/dev/null\n"
         "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
         "    fi\n"
         "}\n"
         "complete -F _annex annex");
}

static void completion_zsh(void)
{
    puts("#compdef annex\n"
         "# Completion of annex for zsh, through the one for bash.\n"
         "autoload -Uz bashcompinit && bashcompinit");
    completion_bash();
}

/* Text in single quotes, as fish reads it. */
static void fish_text(const char *text)
{
    putchar('\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'' || *text == '\\') {
            putchar('\\');
        }
        putchar(*text);
    }
    putchar('\'');
}

static void completion_fish(void)
{
    puts("# Completion of annex for fish.");
    for (size_t i = 0; i < COMMAND_END; i++) {
        printf("complete -c annex -n __fish_use_subcommand -f -a %s -d ", commands[i]->name);
        fish_text(commands[i]->summary);
        putchar('\n');
    }
    for (size_t c = 0; c < COMMAND_END; c++) {
        for (size_t i = 0; i < options_table_length; i++) {
            const struct option *option = &options_table[i];
            if (!takes(commands[c], option)) {
                continue;
            }
            printf("complete -c annex -n '__fish_seen_subcommand_from %s' -l %s", commands[c]->name,
                   option->name);
            if (option->letter != 0) {
                printf(" -s %c", option->letter);
            }
            if (option->kind == OPTION_IS_CHOICE) {
                fputs(" -x -a '", stdout);
                print_choices(option->value);
                putchar('\'');
            } else if (option->kind == OPTION_IS_FILE) {
                fputs(" -r", stdout);
            } else if (option->kind != OPTION_IS_FLAG) {
                fputs(" -x", stdout);
            }
            fputs(" -d ", stdout);
            fish_text(option->help);
            putchar('\n');
        }
    }
}

void help_completion(const char *shell)
{
    if (strcmp(shell, "bash") == 0) {
        completion_bash();
    } else if (strcmp(shell, "zsh") == 0) {
        completion_zsh();
    } else {
        completion_fish();
    }
}
