/* cmd_help.c - annex help. */
#include "commands.h"

static int run(struct session *session)
{
    if (session_has(session, OPTION_MAN)) {
        help_man();
        return EXIT_OK;
    }
    if (session_has(session, OPTION_COMPLETION)) {
        completion_print(session_option(session, OPTION_COMPLETION)->text);
        return EXIT_OK;
    }
    if (session->arguments.n_operands == 0) {
        help_short();
        return EXIT_OK;
    }
    const char *name = session->arguments.operands[0];
    const struct command *command = command_find(name);
    if (command == NULL) {
        const struct command *nearest = command_nearest(name);
        return nearest != NULL
                   ? session_usage("there is no command %s; did you mean %s?", name, nearest->name)
                   : session_usage("there is no command %s; annex help lists them", name);
    }
    help_command(command);
    return EXIT_OK;
}

const struct command command_help = {
    .id = COMMAND_HELP,
    .name = "help",
    .operands = "[COMMAND]",
    .least_operands = 0,
    .most_operands = 1,
    .summary = "explain a command; manual page and shell completion",
    .description =
        "Without COMMAND it lists the commands. The manual page and the completion are made\n"
        "from the same tables that annex uses itself.",
    .examples = "annex help search\n"
                "annex help --man | man -l -\n"
                "annex help --completion bash > ~/.local/share/bash-completion/completions/annex",
    .run = run,
};
