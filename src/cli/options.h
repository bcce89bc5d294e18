/*
 * options.h - what can be typed: the commands, and the one table of their options.
 *
 * The table is the only place that knows an option. The parser, --help, the manual page and the
 * completion of the shells read it, so they cannot disagree.
 */
#ifndef ANNEX_CLI_OPTIONS_H
#define ANNEX_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

/* The order is that of the lists of commands in help. */
enum command_id {
    COMMAND_CREATE,
    COMMAND_COPY,
    COMMAND_DEFAULT,
    COMMAND_SEARCH,
    COMMAND_SIMILAR,
    COMMAND_COMPARE,
    COMMAND_SYNC,
    COMMAND_OPTIMIZE,
    COMMAND_LIST,
    COMMAND_INFO,
    COMMAND_CHECK,
    COMMAND_RENAME,
    COMMAND_DROP,
    COMMAND_EXPORT,
    COMMAND_IMPORT,
    COMMAND_BUILD,
    COMMAND_EVAL,
    COMMAND_VECTORS,
    COMMAND_HELP,
    COMMAND_END
};

enum option_id {
    OPTION_TABLE,
    OPTION_VECTOR,
    OPTION_KEY,
    OPTION_WHERE,
    OPTION_LLM_COLLECTION,
    OPTION_COLLECTION,
    OPTION_VECTOR_FORMAT,
    OPTION_METADATA,
    OPTION_KEYS,
    OPTION_REPLACE,
    OPTION_IGNORE,
    OPTION_SAMPLE,
    OPTION_DATABASE,
    OPTION_CONTENT,
    OPTION_INPUT,
    OPTION_BINARY,
    OPTION_NUMBER,
    OPTION_PLAIN,
    OPTION_PREFIX,
    OPTION_MODEL,
    OPTION_DEFAULT,
    OPTION_OFF,
    OPTION_METRIC,
    OPTION_INDEX,
    OPTION_ENGINE,
    OPTION_ENGINE_OPTIONS,
    OPTION_LOAD_ENGINE,
    OPTION_STORAGE,
    OPTION_FORMAT,
    OPTION_DIMENSION,
    OPTION_DEGREE,
    OPTION_BUILD_EFFORT,
    OPTION_RAW,
    OPTION_CODES,
    OPTION_SEED,
    OPTION_MAX_MEMORY,
    OPTION_QUERY,
    OPTION_QUERY_FILE,
    OPTION_LIKE,
    OPTION_QUERIES,
    OPTION_TRUTH,
    OPTION_DATASET,
    OPTION_K,
    OPTION_WITHIN,
    OPTION_EFFORT,
    OPTION_RECALL,
    OPTION_EFFORTS,
    OPTION_MMR,
    OPTION_CANDIDATES,
    OPTION_GROUP,
    OPTION_MAX_SCAN,
    OPTION_TIMEOUT_MS,
    OPTION_THREADS,
    OPTION_BUILD_SECONDS,
    OPTION_PLOT,
    OPTION_CPU,
    OPTION_HEAD,
    OPTION_OUTPUT,
    OPTION_FORCE,
    OPTION_MAN,
    OPTION_COMPLETION,
    OPTION_JSON,
    OPTION_JSONL,
    OPTION_CSV,
    OPTION_QUIET,
    OPTION_VERBOSE,
    OPTION_HELP,
    OPTION_END
};

enum option_kind {
    OPTION_IS_FLAG,
    OPTION_IS_TEXT,
    OPTION_IS_TEXTS,  /* text that may be given several times: arguments_text */
    OPTION_IS_FILE,   /* text that a shell completes with file names */
    OPTION_IS_CHOICE, /* one of the words in `value`, separated by | */
    OPTION_IS_COUNT,  /* minimum .. maximum */
    OPTION_IS_EFFORT, /* a count, or the word "exact" */
    OPTION_IS_BYTES,  /* a count with K, M, G or T for powers of 1024 */
    OPTION_IS_REAL
};

struct option {
    enum option_id id;
    const char *name;
    char letter; /* 0: none */
    enum option_kind kind;
    const char *value; /* what stands for the value in help, NULL for flags */
    uint64_t minimum, maximum;
    unsigned commands; /* bit 1 << command_id */
    const char *help;  /* one sentence without its full stop */
};

struct option_value {
    bool given;
    const char *text;
    uint64_t count;
    double real;
};

#define MAX_POSITIONALS 3
#define MAX_TEXTS 256

struct session;

struct command {
    enum command_id id;
    const char *name;
    const char *operands; /* "TARGET [INDEX]" */
    size_t least_operands, most_operands;
    const char *summary;     /* one line */
    const char *description; /* paragraphs, lines of at most 78 columns */
    const char *examples;    /* lines of shell */
    int (*run)(struct session *session);
};

struct arguments {
    const struct command *command;
    struct option_value options[OPTION_END];
    const char *operands[MAX_POSITIONALS];
    size_t n_operands;
    struct {
        enum option_id id;
        const char *text;
    } texts[MAX_TEXTS]; /* of OPTION_IS_TEXTS, in the order in which they were given */
    size_t n_texts;
};

/* How many times an option was given, and what with; NULL beyond that. */
size_t arguments_count(const struct arguments *arguments, enum option_id id);
const char *arguments_text(const struct arguments *arguments, enum option_id id, size_t which);

extern const struct option options_table[];
extern const size_t options_table_length;
/* Ordered by command_id. */
extern const struct command *const commands[COMMAND_END];

static inline bool option_is_for(const struct option *option, const struct command *command)
{
    return (option->commands & (1u << command->id)) != 0;
}
const struct command *command_find(const char *name);
/* The command whose name is like `name`, NULL when none is. */
const struct command *command_nearest(const char *name);

/*
 * Fills `arguments` from what follows the command's name. False after a usage error, which has been
 * printed. Options and operands may come in any order; "--" ends the options.
 */
bool options_parse(const struct command *command, int argc, char **argv,
                   struct arguments *arguments);

#endif
