/*
 * options.c - the table of options, and the parser that it drives.
 *
 * One row is an option as some commands know it; an option that means something else to another
 * command has a row for each. Values are checked here as far as the table says; what only the
 * library can know (whether a column exists) is left to the library.
 */
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

#define FOR(command) (1u << COMMAND_##command)
#define EVERY ((1u << COMMAND_END) - 1)
#define LISTS \
    (FOR(SEARCH) | FOR(LIST) | FOR(SYNC) | FOR(OPTIMIZE) | FOR(CHECK) | FOR(DEFAULT) | FOR(COMPARE))
#define REPORTS                                                                            \
    (LISTS | FOR(CREATE) | FOR(COPY) | FOR(INFO) | FOR(BUILD) | FOR(EVAL) | FOR(VECTORS) | \
     FOR(EXPORT) | FOR(IMPORT))

#define ENGINES                                                                         \
    (FOR(CREATE) | FOR(COPY) | FOR(SEARCH) | FOR(COMPARE) | FOR(SYNC) | FOR(OPTIMIZE) | \
     FOR(LIST) | FOR(INFO) | FOR(CHECK) | FOR(SIMILAR))

#define METRICS "l2|ip|cosine|l1"

/* clang-format off */
const struct option options_table[] = {
    {OPTION_TABLE, "table", 0, OPTION_IS_TEXTS, "TABLE", 0, 0, FOR(CREATE),
     "the table that holds the vectors; given several times, one index over all of them"},
    {OPTION_VECTOR, "vector", 0, OPTION_IS_TEXTS, "COLUMN", 0, 0, FOR(CREATE),
     "the column with the vectors; once, or once for each --table"},
    {OPTION_VECTOR, "vector", 0, OPTION_IS_TEXTS, "COLUMN", 0, 0, FOR(COPY),
     "another column of vectors"},
    {OPTION_KEY, "key", 0, OPTION_IS_TEXTS, "COLUMNS", 0, 0, FOR(CREATE),
     "the columns that name a row, separated by commas; the primary key unless given"},
    {OPTION_WHERE, "where", 0, OPTION_IS_TEXTS, "SQL", 0, 0, FOR(CREATE) | FOR(COPY),
     "index only the rows that fulfil this condition"},
    {OPTION_LLM_COLLECTION, "llm-collection", 0, OPTION_IS_TEXTS, "NAME", 0, 0, FOR(CREATE),
     "a collection of llm; given several times, one index over all of them"},
    {OPTION_MODEL, "model", 0, OPTION_IS_TEXT, "NAME", 0, 0, FOR(CREATE) | FOR(COPY),
     "the model that made the vectors: what is said here is checked wherever it can be"},
    {OPTION_MODEL, "model", 0, OPTION_IS_TEXT, "NAME", 0, 0, FOR(SEARCH),
     "the model that made the query; an index of another one refuses it"},
    {OPTION_DEFAULT, "default", 0, OPTION_IS_FLAG, NULL, 0, 0, FOR(CREATE) | FOR(COPY),
     "searches of the table or collection by its own name use this index"},
    {OPTION_TABLE, "table", 0, OPTION_IS_TEXT, "TABLE", 0, 0, FOR(COMPARE),
     "the table whose indexes are measured"},
    {OPTION_COLLECTION, "collection", 0, OPTION_IS_TEXT, "NAME", 0, 0, FOR(COMPARE),
     "the collection of llm whose indexes are measured"},
    {OPTION_SAMPLE, "queries", 0, OPTION_IS_COUNT, "N", 1, 100000, FOR(COMPARE),
     "how many rows are asked about; 100 unless given"},
    {OPTION_DATABASE, "database", 'd', OPTION_IS_FILE, "FILE", 0, 0, FOR(SIMILAR),
     "the database; LLM_EMBEDDINGS_DB, else the one of llm, unless given"},
    {OPTION_NUMBER, "number", 'n', OPTION_IS_TEXT, "N", 0, 0, FOR(SIMILAR),
     "how many items; 10 unless given, -1 for all"},
    {OPTION_PLAIN, "plain", 'p', OPTION_IS_FLAG, NULL, 0, 0, FOR(SIMILAR),
     "print plain text instead of JSON"},
    {OPTION_PREFIX, "prefix", 0, OPTION_IS_TEXT, "TEXT", 0, 0, FOR(SIMILAR),
     "only items whose id begins with this"},
    {OPTION_QUERY, "vector", 0, OPTION_IS_TEXT, "JSON", 0, 0, FOR(SIMILAR),
     "the vector to compare with; - reads it from standard input"},
    {OPTION_INDEX, "index", 0, OPTION_IS_TEXT, "NAME", 0, 0, FOR(SIMILAR),
     "the index to use; the default one of the collection unless given"},
    {OPTION_RECALL, "recall", 0, OPTION_IS_REAL, "R", 0, 0, FOR(SIMILAR),
     "be faster and find this share of the items; all of them unless given"},
    {OPTION_CONTENT, "content", 'c', OPTION_IS_TEXT, "TEXT", 0, 0, FOR(SIMILAR),
     "for llm only, which has a model to embed it"},
    {OPTION_INPUT, "input", 'i', OPTION_IS_FILE, "FILE", 0, 0, FOR(SIMILAR),
     "for llm only, which has a model to embed it"},
    {OPTION_BINARY, "binary", 0, OPTION_IS_FLAG, NULL, 0, 0, FOR(SIMILAR),
     "says to llm what --input is"},
    {OPTION_TABLE, "table", 0, OPTION_IS_TEXT, "TABLE", 0, 0, FOR(EXPORT),
     "export this table, which needs no index, with --vector and --key"},
    {OPTION_TABLE, "table", 0, OPTION_IS_TEXT, "TABLE", 0, 0, FOR(IMPORT),
     "the table to fill; it is made when there is none"},
    {OPTION_LLM_COLLECTION, "llm-collection", 0, OPTION_IS_TEXT, "NAME", 0, 0, FOR(EXPORT),
     "export this collection of llm, which needs no index"},
    {OPTION_LLM_COLLECTION, "llm-collection", 0, OPTION_IS_TEXT, "NAME", 0, 0, FOR(IMPORT),
     "the collection of llm to fill; it is made when there is none"},
    {OPTION_MODEL, "model", 'm', OPTION_IS_TEXT, "NAME", 0, 0, FOR(IMPORT),
     "the model that made the vectors, for a new collection"},
    {OPTION_VECTOR, "vector", 0, OPTION_IS_TEXT, "COLUMN", 0, 0, FOR(EXPORT) | FOR(IMPORT),
     "the column with the vectors; an imported table has embedding unless given"},
    {OPTION_KEY, "key", 0, OPTION_IS_TEXT, "COLUMNS", 0, 0, FOR(EXPORT) | FOR(IMPORT),
     "the columns that name a row, separated by commas; id unless given"},
    {OPTION_CONTENT, "content", 0, OPTION_IS_TEXT, "COLUMN", 0, 0, FOR(EXPORT) | FOR(IMPORT),
     "the column with the text of a row; an imported table has content unless given"},
    {OPTION_METADATA, "metadata", 0, OPTION_IS_TEXT, "COLUMN", 0, 0, FOR(EXPORT) | FOR(IMPORT),
     "the column with JSON about a row; an imported table has metadata unless given"},
    {OPTION_WHERE, "where", 0, OPTION_IS_TEXT, "SQL", 0, 0, FOR(EXPORT),
     "export only the rows that fulfil this condition"},
    {OPTION_VECTOR_FORMAT, "vector-format", 0, OPTION_IS_CHOICE, "f32|f64|f16|bf16|i8|u8|bits|json",
     0, 0, FOR(EXPORT),
     "how the column of --table stores a vector; f32 unless given, text is JSON"},
    {OPTION_VECTOR_FORMAT, "vector-format", 0, OPTION_IS_CHOICE, "f32|bits", 0, 0, FOR(IMPORT),
     "bits: bytes of a .npy file are bits, and stay as they are"},
    {OPTION_FORMAT, "format", 0, OPTION_IS_CHOICE, "npy|jsonl|llm", 0, 0, FOR(EXPORT),
     "what to write; what the name of the output ends in, else npy"},
    {OPTION_FORMAT, "format", 0, OPTION_IS_CHOICE, "npy|jsonl", 0, 0, FOR(IMPORT),
     "what to read; what the name of the file ends in unless given"},
    {OPTION_KEYS, "keys", 0, OPTION_IS_FILE, "FILE", 0, 0, FOR(IMPORT),
     "the keys of a .npy file; OUT.keys.npy or OUT.keys.jsonl beside OUT.npy unless given"},
    {OPTION_REPLACE, "replace", 0, OPTION_IS_FLAG, NULL, 0, 0, FOR(IMPORT),
     "items whose key is there replace those that are there"},
    {OPTION_IGNORE, "ignore", 0, OPTION_IS_FLAG, NULL, 0, 0, FOR(IMPORT),
     "items whose key is there are left out"},
    {OPTION_OUTPUT, "output", 'o', OPTION_IS_FILE, "OUT", 0, 0, FOR(EXPORT),
     "the file to write, such as posts.npy or posts.jsonl; - prints JSON lines"},
    {OPTION_OFF, "off", 0, OPTION_IS_FLAG, NULL, 0, 0, FOR(DEFAULT),
     "it shall be the default no more"},
    {OPTION_METRIC, "metric", 'm', OPTION_IS_CHOICE, METRICS "|hamming|jaccard", 0, 0,
     FOR(CREATE) | FOR(COPY),
     "how far two vectors are apart; l2 unless given"},
    {OPTION_METRIC, "metric", 'm', OPTION_IS_CHOICE, METRICS, 0, 0, FOR(BUILD),
     "how far two vectors are apart; what the file says, else l2"},
    {OPTION_INDEX, "index", 0, OPTION_IS_CHOICE, "auto|flat|graph|ivf", 0, 0,
     FOR(CREATE) | FOR(COPY) | FOR(BUILD),
     "the kind of index; auto takes flat for few rows and graph for many, ivf is the smallest"},
    {OPTION_ENGINE, "engine", 0, OPTION_IS_TEXT, "NAME", 0, 0, FOR(CREATE) | FOR(COPY),
     "what searches the index; annex unless another engine is given and loaded"},
    {OPTION_ENGINE_OPTIONS, "engine-options", 0, OPTION_IS_TEXT, "JSON", 0, 0,
     FOR(CREATE) | FOR(COPY),
     "options of another engine than annex, such as '{\"lists\": 100}'"},
    {OPTION_LOAD_ENGINE, "load-engine", 0, OPTION_IS_TEXTS, "FILE", 0, 0, ENGINES,
     "load an engine from a shared object, which runs its code"},
    {OPTION_RECALL, "recall", 0, OPTION_IS_REAL, "R", 0, 0, FOR(CREATE) | FOR(COPY),
     "the recall that searches aim at when they do not say, such as 0.95"},
    {OPTION_STORAGE, "storage", 0, OPTION_IS_CHOICE, "database|file", 0, 0,
     FOR(CREATE) | FOR(COPY),
     "where the index lives; inside the database unless given"},
    {OPTION_FORMAT, "format", 0, OPTION_IS_CHOICE, "f32|f16|bf16|i8|u8|bits|json", 0, 0,
     FOR(CREATE) | FOR(COPY),
     "how the column stores a vector; found out from the rows unless given"},
    {OPTION_DIMENSION, "dimension", 0, OPTION_IS_COUNT, "N", 1, ANNEX_MAX_DIMENSION,
     FOR(CREATE) | FOR(COPY),
     "elements of a vector; found out from the rows unless given"},

    {OPTION_QUERY, "query", 0, OPTION_IS_TEXT, "JSON", 0, 0, FOR(SEARCH),
     "the query, such as '[0.1, 0.2]'; - reads it from standard input"},
    {OPTION_QUERY_FILE, "query-file", 0, OPTION_IS_FILE, "FILE", 0, 0, FOR(SEARCH),
     "a file of queries: .npy, .fvecs, .fbin, .hdf5; one group of answers each"},
    {OPTION_LIKE, "like", 0, OPTION_IS_TEXT, "KEY", 0, 0, FOR(SEARCH),
     "search with the vector of this row and leave the row out; a JSON array for compound keys"},
    {OPTION_QUERIES, "queries", 0, OPTION_IS_FILE, "FILE", 0, 0, FOR(EVAL),
     "the queries: .hdf5 in the layout of ann-benchmarks, .npy, .fvecs, .fbin"},
    {OPTION_TRUTH, "truth", 0, OPTION_IS_FILE, "FILE", 0, 0, FOR(EVAL),
     "keys of each query's nearest rows: .ivecs, .npy, .hdf5; else from the file of the queries, "
     "else by exact search"},
    {OPTION_DATASET, "dataset", 0, OPTION_IS_TEXT, "NAME", 0, 0, FOR(SEARCH) | FOR(EVAL),
     "the data set of an HDF5 file to read; test unless given"},
    {OPTION_DATASET, "dataset", 0, OPTION_IS_TEXT, "NAME", 0, 0, FOR(BUILD) | FOR(VECTORS),
     "the data set of an HDF5 file to read; train unless given"},
    {OPTION_K, "k", 'k', OPTION_IS_COUNT, "N", 1, 1000000,
     FOR(SEARCH) | FOR(EVAL) | FOR(COMPARE),
     "how many neighbours; 10 unless given"},
    {OPTION_WITHIN, "within", 0, OPTION_IS_REAL, "DISTANCE", 0, 0, FOR(SEARCH),
     "all rows at most this far away, instead of the k nearest"},
    {OPTION_WHERE, "where", 0, OPTION_IS_TEXT, "SQL", 0, 0, FOR(SEARCH),
     "search only the rows of the table that fulfil this condition"},
    {OPTION_EFFORT, "effort", 0, OPTION_IS_EFFORT, "N|exact", 1, 1000000000, FOR(SEARCH),
     "how many candidates a search keeps; exact looks at every row"},
    {OPTION_RECALL, "recall", 0, OPTION_IS_REAL, "R", 0, 0, FOR(SEARCH),
     "the least effort that was measured to reach this recall"},
    {OPTION_MMR, "mmr", 0, OPTION_IS_REAL, "W", 0, 0, FOR(SEARCH),
     "choose rows unlike each other: 1 weighs nearness only, 0 difference only"},
    {OPTION_CANDIDATES, "candidates", 0, OPTION_IS_COUNT, "N", 1, 10000, FOR(SEARCH),
     "how many of the nearest --mmr chooses from; 5 times -k, at least 50, unless given"},
    {OPTION_GROUP, "group", 0, OPTION_IS_TEXT, "COLUMN", 0, 0, FOR(SEARCH),
     "the nearest row of each of -k groups: rows with one value in this column"},
    {OPTION_MAX_SCAN, "max-scan", 0, OPTION_IS_COUNT, "N", 1, INT64_C(1) << 40, FOR(SEARCH),
     "look at no more rows than this, and say so if the answer is cut"},
    {OPTION_TIMEOUT_MS, "timeout-ms", 0, OPTION_IS_COUNT, "N", 1, INT32_MAX, FOR(SEARCH),
     "after this time answer with what was found, and say so"},
    {OPTION_EFFORTS, "efforts", 0, OPTION_IS_TEXT, "N,N,...", 0, 0, FOR(EVAL),
     "measure at these efforts; unless given they are chosen to cover recall up to 0.995"},

    {OPTION_RAW, "raw", 0, OPTION_IS_CHOICE, "auto|keep|f16|bf16|none", 0, 0, FOR(BUILD),
     "how the file keeps the vectors, for distances: f16 and bf16 round them to half the bytes"},
    {OPTION_CODES, "codes", 0, OPTION_IS_CHOICE, "auto|q8|q4|f16|bf16|f32", 0, 0,
     FOR(CREATE) | FOR(COPY) | FOR(BUILD),
     "how rows are coded for search; auto takes a byte an element, q4 half of that"},
    {OPTION_DEGREE, "degree", 0, OPTION_IS_COUNT, "N", 8, 128,
     FOR(CREATE) | FOR(COPY) | FOR(BUILD),
     "neighbours of a row in a graph, a multiple of 8"},
    {OPTION_BUILD_EFFORT, "build-effort", 0, OPTION_IS_COUNT, "N", 4, 100000,
     FOR(CREATE) | FOR(COPY) | FOR(BUILD), "candidates kept while a row is linked into a graph"},
    {OPTION_SEED, "seed", 0, OPTION_IS_COUNT, "N", 0, INT64_MAX, FOR(BUILD),
     "start of the random numbers; the same rows and seed give the same file"},
    {OPTION_MAX_MEMORY, "max-memory", 0, OPTION_IS_BYTES, "BYTES", 1, INT64_MAX, FOR(BUILD),
     "refuse to start when this cannot suffice, such as 4G"},
    {OPTION_THREADS, "threads", 't', OPTION_IS_COUNT, "N", 0, 1024,
     FOR(CREATE) | FOR(COPY) | FOR(SEARCH) | FOR(BUILD),
     "how many threads work; all of the machine unless given"},
    {OPTION_THREADS, "threads", 't', OPTION_IS_COUNT, "N", 0, 1024, FOR(EVAL),
     "1, unless given, asks query by query; more ask all at once; 0 is all of the machine"},
    {OPTION_BUILD_SECONDS, "build-seconds", 0, OPTION_IS_REAL, "S", 0, 0, FOR(EVAL),
     "copied into the report: an index file does not hold how long its build took"},
    {OPTION_PLOT, "plot", 0, OPTION_IS_FILE, "FILE.svg", 0, 0, FOR(EVAL),
     "also draw queries per second over recall"},
    {OPTION_CPU, "cpu", 0, OPTION_IS_FLAG, NULL, 0, 0, FOR(INFO),
     "the instruction sets that this machine has and the one in use"},
    {OPTION_HEAD, "head", 0, OPTION_IS_COUNT, "N", 1, INT64_MAX, FOR(VECTORS),
     "print the first N vectors, or write only these"},
    {OPTION_OUTPUT, "output", 'o', OPTION_IS_FILE, "INDEX", 0, 0, FOR(BUILD),
     "the index file to write, such as my.annex"},
    {OPTION_OUTPUT, "output", 'o', OPTION_IS_FILE, "FILE", 0, 0, FOR(VECTORS),
     "write the vectors to this file: .npy .fvecs .bvecs .fbin .u8bin .i8bin"},
    {OPTION_FORMAT, "format", 0, OPTION_IS_CHOICE, "f32|f16|bf16|i8|u8|f64", 0, 0, FOR(VECTORS),
     "the type of the elements written"},
    {OPTION_FORCE, "force", 'f', OPTION_IS_FLAG, NULL, 0, 0,
     FOR(BUILD) | FOR(VECTORS) | FOR(EXPORT),
     "replace the output when it exists"},

    {OPTION_MAN, "man", 0, OPTION_IS_FLAG, NULL, 0, 0, FOR(HELP),
     "print the manual page (troff)"},
    {OPTION_COMPLETION, "completion", 0, OPTION_IS_CHOICE, "bash|zsh|fish", 0, 0, FOR(HELP),
     "print the completion for a shell"},
    {OPTION_JSON, "json", 0, OPTION_IS_FLAG, NULL, 0, 0, REPORTS,
     "print one JSON document"},
    {OPTION_JSONL, "jsonl", 0, OPTION_IS_FLAG, NULL, 0, 0, LISTS,
     "print one JSON object a line"},
    {OPTION_CSV, "csv", 0, OPTION_IS_FLAG, NULL, 0, 0, LISTS,
     "print comma-separated values under a line of names"},
    {OPTION_QUIET, "quiet", 'q', OPTION_IS_FLAG, NULL, 0, 0, EVERY & ~FOR(HELP),
     "no progress and no remarks; errors are still printed"},
    {OPTION_VERBOSE, "verbose", 'v', OPTION_IS_FLAG, NULL, 0, 0, EVERY & ~FOR(HELP),
     "say more on standard error, such as how an answer was found"},
    {OPTION_HELP, "help", 'h', OPTION_IS_FLAG, NULL, 0, 0, EVERY,
     "explain the command"},
};
/* clang-format on */
const size_t options_table_length = ARRAY_LENGTH(options_table);

/* Whether `word` is one of the words of `choices`, "a|b|c". */
static bool options_choice_has(const char *choices, const char *word)
{
    size_t length = strlen(word);
    while (length > 0) {
        size_t n = strcspn(choices, "|");
        if (n == length && memcmp(choices, word, n) == 0) {
            return true;
        }
        if (choices[n] == '\0') {
            break;
        }
        choices += n + 1;
    }
    return false;
}

/* ---- what was probably meant ------------------------------------------------------------------*/

#define LONGEST_WORD 32

/* Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][LONGEST_WORD + 1];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    size_t n = strlen(b);
    for (size_t j = 0; j <= n; j++) {
        last[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        now[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t cost = last[j - 1] + (a[i - 1] != b[j - 1]);
            cost = last[j] + 1 < cost ? last[j] + 1 : cost;
            cost = now[j - 1] + 1 < cost ? now[j - 1] + 1 : cost;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                cost = before[j - 2] + 1 < cost ? before[j - 2] + 1 : cost;
            }
            now[j] = cost;
        }
        size_t *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[n];
}

/* How far `typed` is from `name`; SIZE_MAX when nobody would mean one by the other. */
static size_t unlikeness(const char *typed, const char *name)
{
    size_t length = strlen(typed);
    if (length == 0 || length > LONGEST_WORD || strlen(name) > LONGEST_WORD) {
        return SIZE_MAX;
    }
    if (length >= 2 && strncmp(typed, name, length) == 0) {
        return 0;
    }
    size_t distance = edit_distance(typed, name);
    return distance <= 1 + length / 4 && distance < length ? distance : SIZE_MAX;
}

const struct command *command_nearest(const char *name)
{
    const struct command *nearest = NULL;
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < COMMAND_END; i++) {
        size_t distance = unlikeness(name, commands[i]->name);
        if (distance < least) {
            least = distance;
            nearest = commands[i];
        }
    }
    return nearest;
}

static const struct option *option_nearest(const struct command *command, const char *name)
{
    const struct option *nearest = NULL;
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < options_table_length; i++) {
        const struct option *option = &options_table[i];
        size_t distance = unlikeness(name, option->name);
        if (option_is_for(option, command) && distance < least) {
            least = distance;
            nearest = option;
        }
    }
    return nearest;
}

/* ---- parsing ----------------------------------------------------------------------------------*/

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMAND_END; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static const struct option *option_find(const struct command *command, const char *name,
                                        size_t length, char letter)
{
    for (size_t i = 0; i < options_table_length; i++) {
        const struct option *option = &options_table[i];
        if (!option_is_for(option, command)) {
            continue;
        }
        if (letter != 0
                ? option->letter == letter
                : strlen(option->name) == length && memcmp(option->name, name, length) == 0) {
            return option;
        }
    }
    return NULL;
}

/* A count with an optional unit; false when `text` is anything else or too large. */
static bool parse_count(const char *text, bool units, uint64_t *count)
{
    if (text[0] < '0' || text[0] > '9') {
        return false; /* strtoull would take signs and spaces */
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    unsigned shift = 0;
    if (units && *end != '\0') {
        const char *letters = "KMGT";
        const char *unit = memchr(letters, *end & ~0x20, 4);
        if (unit == NULL) {
            return false;
        }
        shift = 10 * (unsigned)(unit - letters + 1);
        end++;
        if (strcmp(end, "B") == 0 || strcmp(end, "iB") == 0) {
            end += strlen(end);
        }
    }
    *count = (uint64_t)number << shift;
    return *end == '\0' && *count >> shift == number;
}

static bool parse_real(const char *text, double *real)
{
    char *end;
    *real = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*real);
}

static bool parse_value(const struct option *option, const char *text, struct option_value *value)
{
    value->text = text;
    switch (option->kind) {
    case OPTION_IS_CHOICE:
        if (!options_choice_has(option->value, text)) {
            session_say("--%s is one of %s, not \"%s\"", option->name, option->value, text);
            return false;
        }
        break;
    case OPTION_IS_EFFORT:
        if (strcmp(text, "exact") == 0) {
            value->count = ANNEX_EFFORT_EXACT;
            break;
        }
        /* fall through */
    case OPTION_IS_COUNT:
    case OPTION_IS_BYTES:
        if (!parse_count(text, option->kind == OPTION_IS_BYTES, &value->count) ||
            value->count < option->minimum || value->count > option->maximum) {
            session_say("--%s is a whole number%s from %" PRIu64 " to %" PRIu64 "%s, not \"%s\"",
                        option->name,
                        option->kind == OPTION_IS_BYTES ? ", if need be with K, M, G or T," : "",
                        option->minimum, option->maximum,
                        option->kind == OPTION_IS_EFFORT ? " or the word exact" : "", text);
            return false;
        }
        break;
    case OPTION_IS_REAL:
        if (!parse_real(text, &value->real)) {
            session_say("--%s is a number, not \"%s\"", option->name, text);
            return false;
        }
        break;
    default:
        break;
    }
    return true;
}

static void say_unknown(const struct command *command, const char *typed)
{
    char name[LONGEST_WORD + 1] = "";
    size_t length = strcspn(typed, "=");
    if (length <= LONGEST_WORD) {
        memcpy(name, typed, length);
    }
    const char *bare = name + strspn(name, "-");
    const struct option *nearest = option_nearest(command, bare);
    if (nearest != NULL) {
        session_say("annex %s has no option %.*s; did you mean --%s?", command->name, (int)length,
                    typed, nearest->name);
        return;
    }
    session_say("annex %s has no option %.*s; see annex help %s", command->name, (int)length, typed,
                command->name);
}

size_t arguments_count(const struct arguments *arguments, enum option_id id)
{
    size_t n = 0;
    while (arguments_text(arguments, id, n) != NULL) {
        n++;
    }
    return n;
}

const char *arguments_text(const struct arguments *arguments, enum option_id id, size_t which)
{
    for (size_t i = 0; i < arguments->n_texts; i++) {
        if (arguments->texts[i].id == id && which-- == 0) {
            return arguments->texts[i].text;
        }
    }
    return NULL;
}

static bool keep_text(const struct option *option, const char *text, struct arguments *arguments)
{
    if (arguments->n_texts == MAX_TEXTS) {
        session_say("--%s is given too often", option->name);
        return false;
    }
    arguments->texts[arguments->n_texts].id = option->id;
    arguments->texts[arguments->n_texts++].text = text;
    return true;
}

/* Takes the option at argv[*place], and its value, which may be the argument after it. */
static bool take_option(const struct command *command, int argc, char **argv, int *place,
                        struct arguments *arguments)
{
    const char *word = argv[*place];
    bool is_long = word[1] == '-';
    const char *name = word + (is_long ? 2 : 1);
    size_t length = is_long ? strcspn(name, "=") : 1;
    const struct option *option = option_find(command, name, length, is_long ? 0 : name[0]);
    bool attached = name[length] != '\0';
    if (option == NULL || (!is_long && attached && option->kind == OPTION_IS_FLAG)) {
        say_unknown(command, word);
        return false;
    }
    struct option_value *value = &arguments->options[option->id];
    if (value->given && option->kind != OPTION_IS_FLAG && option->kind != OPTION_IS_TEXTS) {
        session_say("--%s is given twice; give it once", option->name);
        return false;
    }
    value->given = true;
    if (option->kind == OPTION_IS_FLAG) {
        if (attached) {
            session_say("--%s takes no value", option->name);
        }
        return !attached;
    }
    const char *text = name + length + (is_long || name[length] == '=');
    /* A value may begin with one dash, as negative numbers do; "--name" is the next option. */
    if (!attached && (*place + 1 >= argc || strncmp(argv[*place + 1], "--", 2) == 0)) {
        session_say("--%s needs a value, %s", option->name, option->value);
        return false;
    }
    text = attached ? text : argv[++*place];
    return option->kind == OPTION_IS_TEXTS ? keep_text(option, text, arguments)
                                           : parse_value(option, text, value);
}

bool options_parse(const struct command *command, int argc, char **argv,
                   struct arguments *arguments)
{
    *arguments = (struct arguments){.command = command};
    bool more_options = true;
    for (int i = 0; i < argc; i++) {
        if (more_options && strcmp(argv[i], "--") == 0) {
            more_options = false;
        } else if (more_options && argv[i][0] == '-' && argv[i][1] != '\0') {
            if (!take_option(command, argc, argv, &i, arguments)) {
                return false;
            }
        } else if (arguments->n_operands < command->most_operands) {
            arguments->operands[arguments->n_operands++] = argv[i];
        } else {
            session_say("annex %s takes %s, so \"%s\" is one too many; see annex help %s",
                        command->name, command->operands, argv[i], command->name);
            return false;
        }
    }
    if (arguments->n_operands < command->least_operands && !arguments->options[OPTION_HELP].given) {
        session_say("annex %s needs %s; see annex help %s", command->name, command->operands,
                    command->name);
        return false;
    }
    int modes = arguments->options[OPTION_JSON].given + arguments->options[OPTION_JSONL].given +
                arguments->options[OPTION_CSV].given;
    if (modes > 1) {
        session_say("choose one of --json, --jsonl and --csv");
        return false;
    }
    return true;
}
