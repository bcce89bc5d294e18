/*
 * completion.c - the completion of shells, from the tables of commands and options.
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"

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
        if (!option_is_for(option, command) || option->kind == OPTION_IS_FLAG) {
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
        if (option_is_for(&options_table[i], command)) {
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

/* Help inside single quotes and brackets. */
static void zsh_text(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            fputs("'\\'", stdout);
        } else if (strchr("[]:\\", *text) != NULL) {
            putchar('\\');
        }
        putchar(*text);
    }
}

static void zsh_option(const struct option *option)
{
    if (option->letter != 0) {
        printf("            '(-%c --%s)'{-%c,--%s}'[", option->letter, option->name, option->letter,
               option->name);
    } else {
        printf("            '--%s[", option->name);
    }
    zsh_text(option->help);
    putchar(']');
    if (option->kind != OPTION_IS_FLAG) {
        printf(":%s:", option->name);
    }
    if (option->kind == OPTION_IS_CHOICE) {
        putchar('(');
        print_choices(option->value);
        putchar(')');
    } else if (option->kind == OPTION_IS_FILE) {
        fputs("_files", stdout);
    }
    puts("' \\");
}

static void completion_zsh(void)
{
    puts("#compdef annex\n"
         "# Completion of annex for zsh.\n"
         "_annex()\n"
         "{\n"
         "    local -a commands=(");
    for (size_t i = 0; i < COMMAND_END; i++) {
        printf("        '%s:", commands[i]->name);
        zsh_text(commands[i]->summary);
        puts("'");
    }
    puts("    )\n"
         "    if ((CURRENT == 2)); then\n"
         "        _describe command commands\n"
         "        return\n"
         "    fi\n"
         "    local command=$words[2]\n"
         "    shift words\n"
         "    ((CURRENT--))\n"
         "    case $command in");
    for (size_t c = 0; c < COMMAND_END; c++) {
        printf("    %s)\n        _arguments \\\n", commands[c]->name);
        for (size_t i = 0; i < options_table_length; i++) {
            if (option_is_for(&options_table[i], commands[c])) {
                zsh_option(&options_table[i]);
            }
        }
        puts(c == COMMAND_HELP ? "            '1:command:_describe command commands'"
                               : "            '*:file:_files'");
        puts("        ;;");
    }
    puts("    esac\n"
         "}\n"
         "_annex \"$@\"");
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
            if (!option_is_for(option, commands[c])) {
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

void completion_print(const char *shell)
{
    if (strcmp(shell, "bash") == 0) {
        completion_bash();
    } else if (strcmp(shell, "zsh") == 0) {
        completion_zsh();
    } else {
        completion_fish();
    }
}
