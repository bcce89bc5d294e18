/* main.c - the command annex: finds the command that was typed and runs it. */
#include <stdio.h>
#include <string.h>

#include "commands.h"

const struct command *const commands[COMMAND_END] = {
    [COMMAND_CREATE] = &command_create,   [COMMAND_COPY] = &command_copy,
    [COMMAND_DEFAULT] = &command_default, [COMMAND_SEARCH] = &command_search,
    [COMMAND_SIMILAR] = &command_similar, [COMMAND_COMPARE] = &command_compare,
    [COMMAND_SYNC] = &command_sync,       [COMMAND_OPTIMIZE] = &command_optimize,
    [COMMAND_LIST] = &command_list,       [COMMAND_INFO] = &command_info,
    [COMMAND_CHECK] = &command_check,     [COMMAND_RENAME] = &command_rename,
    [COMMAND_DROP] = &command_drop,       [COMMAND_EXPORT] = &command_export,
    [COMMAND_IMPORT] = &command_import,   [COMMAND_BUILD] = &command_build,
    [COMMAND_EVAL] = &command_eval,       [COMMAND_VECTORS] = &command_vectors,
    [COMMAND_HELP] = &command_help,
};

static int run_command(const char *name, int argc, char **argv)
{
    const struct command *command = command_find(name);
    if (command == NULL) {
        const struct command *nearest = command_nearest(name);
        return nearest != NULL
                   ? session_usage("there is no command %s; did you mean %s?", name, nearest->name)
                   : session_usage("there is no command %s; annex help lists them", name);
    }
    struct session session = {0};
    if (!options_parse(command, argc, argv, &session.arguments)) {
        return EXIT_USAGE;
    }
    if (session_has(&session, OPTION_HELP)) {
        help_command(command);
        return EXIT_OK;
    }
    session_open(&session);
    return command->run(&session);
}

int main(int argc, char **argv)
{
    int code = EXIT_OK;
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help_short();
    } else if (strcmp(argv[1], "--version") == 0) {
        printf("annex %s\n", annex_version());
    } else if (argv[1][0] == '-') {
        code = session_usage("the command comes first, as in annex list docs.db; annex help lists "
                             "the commands");
    } else {
        code = run_command(argv[1], argc - 2, argv + 2);
    }
    return session_close_output(code);
}
