/*
 * commands.h - the commands, one file cmd_<name>.c each, and what several of them share.
 *
 * Each run function prints its result or one sentence, and returns the exit code.
 */
#ifndef ANNEX_CLI_COMMANDS_H
#define ANNEX_CLI_COMMANDS_H

#include "session.h"

extern const struct command command_create, command_copy, command_default, command_search,
    command_similar, command_compare, command_sync, command_optimize, command_list, command_info,
    command_check, command_rename, command_drop, command_export, command_import, command_build,
    command_eval, command_vectors, command_help;

/* ---- targets (target.c) -----------------------------------------------------------------------*/

/* Whether the first operand is an index file; everything else is taken for a database. */
bool target_is_index_file(const char *target);
/* Loads what --load-engine names. */
annex_status target_load_engines(const struct session *session, annex_db *db, annex_error *error);
/* Opens the first operand as a database. */
annex_status target_open_database(struct session *session, unsigned flags, annex_db **db,
                                  annex_error *error);
/* Opens the first operand as an index file. */
annex_status target_open_index(struct session *session, unsigned flags, annex_index **index,
                               annex_error *error);

/* Indexes of a database: the one that the second operand names, or all. */
struct target_indexes {
    annex_db_index *list; /* of annex_db_list */
    size_t n_list;
    const annex_db_index *first;
    size_t n;
};
/* ANNEX_NOT_FOUND when the operand names none. */
annex_status target_indexes_get(struct session *session, annex_db *db,
                                struct target_indexes *indexes, annex_error *error);
/* The one of a name. */
annex_status target_index_named(struct session *session, annex_db *db, const char *name,
                                struct target_indexes *indexes, annex_error *error);
/* The same, but exactly one: without an operand the database must have a single index. */
annex_status target_index_get(struct session *session, annex_db *db, struct target_indexes *indexes,
                              annex_error *error);
/* Before the database is closed. What was never filled may be freed too. */
void target_indexes_free(annex_db *db, struct target_indexes *indexes);

/* ---- help.c -----------------------------------------------------------------------------------*/

void help_short(void);
void help_command(const struct command *command);
void help_man(void);
/* completion.c */
void completion_print(const char *shell);

/* ---- shared by commands -----------------------------------------------------------------------*/

/* Prints all that a database knows about an index (info, create). */
void info_print_index(const struct session *session, const annex_db_index *index);

/* The options that define an index (create, copy) as JSON, freed by free(); NULL: no memory. */
char *define_options(const struct session *session);

typedef annex_status (*maintenance)(annex_db *db, const char *index, annex_sync_report *report,
                                    annex_error *error);
/* Does `work` to the index that is named, or to all (sync, optimize). */
int sync_run(struct session *session, maintenance work);

#endif
