/*
 * build.c - annex_build: the steps of a build, one after the other.
 */
#include <inttypes.h>

#include "build/build.h"

/* ---- options ---------------------------------------------------------------------------------*/

static annex_status check_codes(const annex_build_options *options, annex_error *error)
{
    if (!annex_codes_name(options->codes)) {
        return error_set(error, ANNEX_INVALID, "%d is no kind of code", (int)options->codes);
    }
    return codec_check_codes(options->metric, options->codes, error);
}

static annex_codes stored_of(const annex_build_options *options)
{
    return options->raw == ANNEX_RAW_F16    ? ANNEX_CODES_F16
           : options->raw == ANNEX_RAW_BF16 ? ANNEX_CODES_BF16
                                            : ANNEX_CODES_AUTO;
}

static annex_status check_options(const annex_build_options *options, annex_error *error)
{
    if (options->struct_bytes != sizeof *options) {
        return error_set(error, ANNEX_INVALID,
                         "annex_build_options.struct_bytes is %zu, expected %zu: use "
                         "ANNEX_BUILD_OPTIONS_INIT",
                         options->struct_bytes, sizeof *options);
    }
    if (!annex_metric_name(options->metric)) {
        return error_set(error, ANNEX_INVALID, "%d is no metric", (int)options->metric);
    }
    if (options->dimension < 1 || options->dimension > ANNEX_MAX_DIMENSION) {
        return error_set(error, ANNEX_INVALID, "the dimension is %" PRIu32 ", expected 1 to %d",
                         options->dimension, ANNEX_MAX_DIMENSION);
    }
    if (options->degree &&
        (options->degree < 8 || options->degree > GRAPH_MAX_DEGREE || options->degree % 8)) {
        return error_set(error, ANNEX_INVALID,
                         "the degree is %" PRIu32 ", expected a multiple of 8 from 8 to %d",
                         options->degree, GRAPH_MAX_DEGREE);
    }
    uint32_t least = (options->degree ? options->degree : BUILD_DEGREE) / 2;
    if (options->effort && (options->effort < least || options->effort > INDEX_MAX_BUILD_EFFORT)) {
        return error_set(error, ANNEX_INVALID,
                         "the build effort is %" PRIu32 ", expected %" PRIu32
                         " (half the degree) to %d",
                         options->effort, least, INDEX_MAX_BUILD_EFFORT);
    }
    if ((unsigned)options->family > ANNEX_IVF || (unsigned)options->raw > ANNEX_RAW_BF16 ||
        (unsigned)options->key_kind > ANNEX_KEY_BYTES) {
        return error_set(error, ANNEX_INVALID,
                         "family %d, raw %d or key kind %d is none that annex.h names",
                         (int)options->family, (int)options->raw, (int)options->key_kind);
    }
    if (codec_is_bits(options->metric) && stored_of(options) != ANNEX_CODES_AUTO) {
        return error_set(error, ANNEX_INVALID,
                         "vectors of %s are bits, which are not stored as %s; use keep, none or "
                         "auto",
                         annex_metric_name(options->metric), annex_raw_name(options->raw));
    }
    if (options->family == ANNEX_IVF && !ivf_supports(options->metric)) {
        return error_set(error, ANNEX_INVALID,
                         "an ivf index has no metric %s, only l2, cosine and ip; use flat or graph",
                         annex_metric_name(options->metric));
    }
    if (options->family == ANNEX_IVF && options->codes != ANNEX_CODES_AUTO &&
        options->codes != ANNEX_CODES_Q8) {
        return error_set(error, ANNEX_INVALID,
                         "an ivf index codes its rows by one bit a dimension and takes no codes "
                         "%s; leave codes out",
                         annex_codes_name(options->codes));
    }
    return check_codes(options, error);
}

/* What the steps below hold at once, at their highest. */
static uint64_t memory_needed(const struct builder *builder)
{
    enum { KEPT = 12, HASH = 12, GRAPH = 48, LISTS = 48, CONSTANT = 16 << 20 }; /* n rows of each */
    uint64_t n = builder->n, codes = n * builder->codec.row_bytes;
    uint64_t needed = codes + n * KEPT + CONSTANT;
    if (builder->options.key_kind == ANNEX_KEY_BYTES) {
        needed += 2 * builder->n_key_bytes + n * sizeof *builder->keys; /* while they move */
    }
    switch (builder->family) {
    case ANNEX_GRAPH:
        return needed + n * (builder->options.degree * UINT64_C(4) + GRAPH) + codes / 64;
    case ANNEX_IVF:
        return needed + n * LISTS + codes / 2;
    default:
        return needed + n * HASH;
    }
}

/* A limit that bytes do not fit in makes auto take half bytes, where those serve. */
static annex_status check_memory(struct builder *builder, annex_error *error)
{
    uint64_t most = builder->options.max_memory_bytes;
    if (most && memory_needed(builder) > most && builder->options.codes == ANNEX_CODES_AUTO &&
        builder->family == ANNEX_GRAPH && !builder->codec.lossless &&
        codec_allows(builder->options.metric, ANNEX_CODES_Q4)) {
        builder->options.codes = ANNEX_CODES_Q4;
        TRY(build_choose_codes(builder, error));
    }
    uint64_t needed = memory_needed(builder);
    if (most && needed > most) {
        return error_set(error, ANNEX_NOMEM,
                         "%" PRIu32 " rows need about %" PRIu64
                         " MB to build and the limit is %" PRIu64 " MB; raise it%s",
                         builder->n, (needed >> 20) + 1, most >> 20,
                         builder->family == ANNEX_GRAPH ? ", lower the degree, or use a flat index"
                                                        : " or build several indexes");
    }
    return ANNEX_OK;
}

static void choose(struct builder *builder)
{
    annex_build_options *options = &builder->options;
    builder->family = options->family;
    if (builder->family == ANNEX_FAMILY_AUTO) {
        builder->family = builder->n < BUILD_FLAT_BELOW ? ANNEX_FLAT : ANNEX_GRAPH;
    }
    options->degree = options->degree ? options->degree : BUILD_DEGREE;
    options->effort = options->effort ? options->effort : BUILD_EFFORT;
    /* Small sets cannot spare rows to be asked for. */
    builder->n_held_rows =
        builder->family == ANNEX_FLAT ? 0 : MIN(builder->n_held_rows, builder->n / 20);
    if (builder->family == ANNEX_IVF) {
        builder->codec.lossless = false; /* what the bits are of is not stored */
    }
}

/* ---- linking ---------------------------------------------------------------------------------*/

/* A row with twins stays in the graph when it is held back: it stands for them. */
static bool is_held_back(const struct builder *builder, uint32_t slot)
{
    uint64_t row = builder->raw_row ? builder->raw_row[slot] : slot;
    bool held = false;
    for (uint32_t h = 0; h < builder->n_held_rows && !held; h++) {
        held = builder->held[h].row == row;
    }
    return held && (!builder->same || builder->same[slot] == slot);
}

/* A seeded order in which the rows held back come last. */
static void shuffle_linked(struct builder *builder)
{
    uint64_t random = builder->options.seed ^ 0x0bde4;
    uint32_t *linked = builder->linked, n = builder->n_linked;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)random_below(&random, i);
        uint32_t swap = linked[i - 1];
        linked[i - 1] = linked[j];
        linked[j] = swap;
    }
    for (uint32_t i = 0; i < n - builder->n_held;) {
        if (is_held_back(builder, linked[i])) {
            uint32_t last = n - ++builder->n_held;
            uint32_t swap = linked[last];
            linked[last] = linked[i];
            linked[i] = swap;
        } else {
            i++;
        }
    }
}

static annex_status build_link(struct builder *builder, annex_error *error)
{
    const annex_env *env = &builder->env;
    struct link_options options = {.degree = builder->options.degree,
                                   .effort = builder->options.effort,
                                   .alpha = BUILD_ALPHA,
                                   .threads = builder->options.threads};
    TRY(build_find_same(builder, error));
    TRY(memory_new_raw(env, builder->n, options.degree * 4, &builder->neighbours, error));
    memset(builder->neighbours, 0xff, (size_t)builder->n * options.degree * 4);
    shuffle_linked(builder);
    builder->n_entries = MIN(builder->n_linked - builder->n_held, BUILD_ENTRIES);
    memcpy(builder->entries, builder->linked, builder->n_entries * sizeof *builder->entries);
    struct graph graph = {.codec = &builder->codec,
                          .rows = builder->codes,
                          .neighbours = builder->neighbours,
                          .degree = options.degree,
                          .slots = builder->n,
                          .entries = builder->entries,
                          .n_entries = builder->n_entries};
    uint32_t most = builder->n_linked - builder->n_held;
    TRY(link_rows(env, &graph, builder->neighbours, &options, builder->linked, 0, most, error));
    TRY(build_add_entries(builder, &graph, most, error));
    TRY(build_calibrate(builder, &graph, error));
    TRY(link_rows(env, &graph, builder->neighbours, &options, builder->linked, most,
                  builder->n_linked, error));
    return repair_reach(env, &graph, builder->neighbours, &options, builder->linked,
                        builder->n_linked, error);
}

/* ---- writing ---------------------------------------------------------------------------------*/

struct raw_pass {
    struct builder *builder;
    struct segment_writer *writer;
    float *unit;      /* a row */
    float *packed;    /* the same as it is stored */
    uint64_t row;     /* of the source */
    uint64_t written; /* rows of RAW */
    uint64_t sum;
};

static annex_status write_raw_batch(struct raw_pass *pass, const annex_batch *batch,
                                    annex_error *error)
{
    struct builder *builder = pass->builder;
    size_t bytes = builder->vector_bytes;
    bool alters = build_alters(builder);
    for (size_t i = 0; i < batch->n; i++) {
        const char *vector = (const char *)batch->vectors + i * bytes;
        pass->sum += build_vector_hash(builder, vector, pass->row + i);
        if (alters && build_row(builder, (const void *)vector, pass->unit)) {
            if (pass->written++ == builder->n) {
                return build_source_changed(error);
            }
            stored_pack(&builder->codec, builder->stored, pass->unit, pass->packed);
            TRY(segment_writer_append(pass->writer, SECTION_RAW, pass->packed,
                                      stored_bytes(&builder->codec, builder->stored), error));
        }
    }
    pass->row += batch->n;
    if (alters) {
        return ANNEX_OK;
    }
    pass->written += batch->n;
    if (pass->written > builder->n) {
        return build_source_changed(error);
    }
    return segment_writer_append(pass->writer, SECTION_RAW, batch->vectors, batch->n * bytes,
                                 error);
}

static annex_status write_raw(void *context, struct segment_writer *writer, annex_error *error)
{
    struct builder *builder = context;
    struct raw_pass pass = {.builder = builder, .writer = writer};
    struct progress progress;
    annex_status status;
    uint32_t dimension = builder->options.dimension;
    TRY(memory_new(&builder->env, dimension, 2 * sizeof *pass.unit, &pass.unit, error));
    pass.packed = pass.unit + dimension;
    TRY_CLEANUP(progress_begin(&progress, &builder->env, "writing", builder->n, error));
    TRY_CLEANUP(builder->source->rewind(builder->source->context, error));
    for (;;) {
        annex_batch batch = {0};
        TRY_CLEANUP(builder->source->next(builder->source->context, &batch, error));
        if (batch.n == 0) {
            break;
        }
        TRY_CLEANUP(batch.vectors ? write_raw_batch(&pass, &batch, error)
                                  : build_source_changed(error));
        TRY_CLEANUP(progress_update(&progress, pass.written, error));
    }
    if (pass.written != builder->n || pass.sum != builder->vectors_sum) {
        status = build_source_changed(error);
    }
cleanup:
    memory_free(&builder->env, pass.unit, dimension, 2 * sizeof *pass.unit);
    return status;
}

/* The least effort that measured the recall people expect of a default; 0, a scan, if none did. */
static uint32_t default_effort(const struct builder *builder)
{
    bool lists = builder->family == ANNEX_IVF;
    for (uint32_t i = 0; i < builder->n_recall; i++) {
        if (builder->recall[i].recall >= index_measured_for(0.95)) {
            return builder->recall[i].effort;
        }
    }
    /* Lists looked at: all of them. */
    return lists ? builder->n_lists : builder->n_recall ? 0 : BUILD_EFFORT;
}

static struct image describe_image(struct builder *builder)
{
    const annex_build_options *options = &builder->options;
    bool graph = builder->family == ANNEX_GRAPH, ivf = builder->family == ANNEX_IVF;
    bool raw =
        options->raw == ANNEX_RAW_AUTO ? !builder->codec.lossless : options->raw != ANNEX_RAW_NONE;
    struct image image = {
        .env = builder->env,
        .codes = ivf ? NULL : builder->codes,
        .errors = ivf ? NULL : builder->errors,
        .center = builder->bits ? NULL : builder->center,
        .neighbours = builder->neighbours,
        .entries = graph ? builder->entries : NULL,
        .n_entries = builder->n_entries,
        .keys = builder->keys,
        .key_bytes = builder->key_bytes,
        .n_key_bytes = builder->n_key_bytes,
        .same = builder->same,
        .raw_row = builder->raw_row,
        .ivf = ivf ? build_lists(builder) : (struct ivf){.n_lists = 0},
        .recall = builder->recall,
        .n_recall = builder->n_recall,
        .row_bytes = builder->codec.row_bytes,
        .raw_row_bytes = raw ? stored_bytes(&builder->codec, builder->stored) : 0,
        .write_raw = write_raw,
        .raw_context = builder,
    };
    bool newer = builder->codec.codes > ANNEX_CODES_BITS || builder->codec.rotated;
    image.header = (struct segment_header){
        .slots = builder->n,
        .skipped = builder->skipped,
        .fitted = builder->n,
        .dimension = options->dimension,
        .code_bytes = builder->codec.code_bytes,
        .metric = options->metric,
        .family = builder->family,
        .key_kind = options->key_kind,
        .code = builder->codec.codes,
        .rotated = builder->codec.rotated,
        .degree = graph ? options->degree : 0,
        .lossless = builder->codec.lossless,
        .build_effort = graph ? options->effort : 0,
        .default_effort = graph || ivf ? default_effort(builder) : 0,
        .required_features = (ivf ? SEGMENT_FEATURE_IVF : 0) | (newer ? SEGMENT_FEATURE_CODES : 0) |
                             (builder->stored ? SEGMENT_FEATURE_RAW : 0),
        .raw_code = builder->stored,
        .alpha = graph ? BUILD_ALPHA : 0,
        .reach = {builder->reach[0], builder->reach[1]},
        .max_norm = builder->codec.max_norm,
        .fixed_scale = builder->codec.fixed_scale,
        .seed = options->seed,
    };
    return image;
}

/* ---- the whole -------------------------------------------------------------------------------*/

static void builder_free(struct builder *builder)
{
    const annex_env *env = &builder->env;
    size_t n = builder->n;
    codec_survey_free(env, builder->options.dimension, &builder->survey);
    memory_free(env, builder->center, builder->options.dimension, sizeof *builder->center);
    build_forget_codes(builder);
    memory_free(env, builder->raw_row, n, 4);
    memory_free(env, builder->same, n, 4);
    memory_free(env, builder->linked, n, 4);
    memory_free(env, builder->neighbours, n, builder->options.degree * 4);
    memory_free(env, builder->lists, builder->n_lists + UINT64_C(1), sizeof *builder->lists);
    memory_free(env, builder->centroids, builder->n_centroids, builder->codec.row_bytes);
    memory_free(env, builder->blocks, builder->n_blocks,
                rabitq_make(0, MAX(builder->options.dimension, 1)).block_bytes);
    for (uint32_t h = 0; builder->held && h < BUILD_HELD_OUT; h++) {
        memory_free(env, builder->held[h].vector, 1, builder->vector_bytes);
    }
    memory_free(env, builder->held, BUILD_HELD_OUT, sizeof *builder->held);
}

static annex_status build_image(struct builder *builder, const char *path,
                                struct segment_header *header, struct segment_writer **writer,
                                annex_error *error)
{
    TRY(build_survey(builder, error));
    choose(builder);
    TRY(check_memory(builder, error));
    TRY(build_encode(builder, error));
    if (builder->family == ANNEX_GRAPH && builder->n > 0) {
        TRY(build_check_codes(builder, error));
        TRY(build_order(builder, error));
        TRY(build_link(builder, error));
    }
    if (builder->family == ANNEX_IVF) {
        TRY(build_ivf(builder, error));
    }
    struct image image = describe_image(builder);
    *header = image.header;
    return emit_image(&image, path, writer, error);
}

annex_status annex_build(const annex_env *env, const annex_build_options *options,
                         const annex_rows *rows, const char *path, annex_index **index,
                         annex_error *error)
{
    *index = NULL;
    TRY(check_options(options, error));
    struct builder builder = {
        .env = *env,
        .options = *options,
        .source = rows,
        .bits = codec_is_bits(options->metric),
        .vector_bytes = annex_vector_bytes(options->metric, options->dimension),
        .stored = stored_of(options),
    };
    struct segment_header header;
    struct segment_writer *writer;
    annex_status status = build_image(&builder, path, &header, &writer, error);
    builder_free(&builder); /* before the file is mapped, which takes as much again */
    return status ? status : emit_open(env, writer, &header, path, index, error);
}
