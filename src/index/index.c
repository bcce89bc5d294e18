/*
 * index.c - opening, describing and closing an index.
 */
#include "index/index.h"

/* ---- opening ---------------------------------------------------------------------------------*/

static const void *section(const struct segment *segment, enum segment_kind kind)
{
    return segment->sections[kind].rows ? segment->sections[kind].data : NULL;
}

static void attach(annex_index *index)
{
    const struct segment *segment = index->segment;
    const struct segment_header *header = &segment->header;
    const struct segment_section *sections = segment->sections;
    index->header = *header;
    index->header.build_effort = MAX(1, MIN(header->build_effort, INDEX_MAX_BUILD_EFFORT));
    struct codec_form form = {.metric = (annex_metric)header->metric,
                              .dimension = header->dimension,
                              .codes = (annex_codes)header->code,
                              .rotated = header->rotated != 0,
                              .seed = header->seed,
                              .lossless = header->lossless != 0,
                              .fixed_scale = header->fixed_scale,
                              .max_norm = header->max_norm,
                              .center = section(segment, SECTION_CENTER)};
    codec_restore(&index->codec, &form);
    index->slots = index->live = (uint32_t)header->slots;
    index->graph =
        (struct graph){.codec = &index->codec,
                       .rows = section(segment, SECTION_CODES),
                       .neighbours = section(segment, SECTION_GRAPH),
                       .degree = header->degree,
                       .slots = index->slots,
                       .entries = section(segment, SECTION_ENTRY),
                       .n_entries = (uint32_t)MIN(sections[SECTION_ENTRY].rows, GRAPH_MAX_ENTRIES)};
    if (header->family == ANNEX_IVF) {
        index->ivf = (struct ivf){.rabitq = rabitq_make(header->seed, header->dimension),
                                  .centroids = section(segment, SECTION_CENTROIDS),
                                  .lists = section(segment, SECTION_LISTS),
                                  .blocks = section(segment, SECTION_BLOCKS),
                                  .n_lists = (uint32_t)sections[SECTION_CENTROIDS].rows};
    }
    index->errors = section(segment, SECTION_ERRORS);
    index->raw = section(segment, SECTION_RAW);
    index->keeps_raw = sections[SECTION_RAW].data != NULL || header->raw_code;
    index->raw_row = section(segment, SECTION_RAW_ROW);
    index->same = section(segment, SECTION_SAME);
    index->keys = section(segment, SECTION_KEYS);
    index->key_bytes = section(segment, SECTION_KEY_BYTES);
    index->n_key_bytes = sections[SECTION_KEY_BYTES].rows;
    index->key_hash = section(segment, SECTION_KEY_HASH);
    index->hash_size = index->key_hash ? sections[SECTION_KEY_HASH].rows : 0;
    index->n_recall = (uint32_t)MIN(sections[SECTION_RECALL].rows, ANNEX_MAX_RECALL_POINTS);
    for (uint32_t i = 0; i < index->n_recall; i++) {
        memcpy(&index->recall[i], (const char *)sections[SECTION_RECALL].data + 8 * i, 8);
    }
}

annex_status index_new(const annex_env *env, struct segment *segment, void *image,
                       uint64_t image_bytes, annex_index **out, annex_error *error)
{
    annex_index *index;
    *out = NULL;
    annex_status status = memory_new(env, 1, sizeof *index, &index, error);
    if (status) {
        segment_close(segment);
        memory_free(env, image, image_bytes, 1);
        return status;
    }
    index->env = *env;
    index->segment = segment;
    index->image = image;
    index->image_bytes = image_bytes;
    pthread_mutex_init(&index->turn, NULL);
    pthread_rwlock_init(&index->lock, NULL);
    pthread_mutex_init(&index->scratch_lock, NULL);
    attach(index);
    *out = index;
    if (index->header.code_bytes != index->codec.code_bytes) {
        status = error_set(error, ANNEX_DAMAGED,
                           "the index has codes of %u bytes where %u were expected; build it again",
                           index->header.code_bytes, index->codec.code_bytes);
        annex_index_close(index);
        *out = NULL;
    }
    return status;
}

/* Copies the image of an opened file into memory and opens it there. */
static annex_status load_segment(struct segment *mapped, void **image, uint64_t *bytes,
                                 struct segment **segment, annex_error *error)
{
    annex_env env = mapped->env;
    *bytes = mapped->image_bytes;
    annex_status status = memory_new_raw(&env, *bytes, 1, image, error);
    if (!status) {
        memcpy(*image, mapped->image, *bytes);
        status = segment_open_image(&env, *image, *bytes, segment, error);
    }
    segment_close(mapped);
    if (status) {
        memory_free(&env, *image, *bytes, 1);
        *image = NULL;
    }
    return status;
}

static annex_status open_segment(const annex_env *env, struct segment *segment, unsigned flags,
                                 annex_index **index, annex_error *error)
{
    if (flags & ANNEX_INDEX_VERIFY) {
        annex_status status = segment_verify(segment, error);
        if (status) {
            segment_close(segment);
            return status;
        }
    }
    void *image = NULL;
    uint64_t bytes = 0;
    if (flags & ANNEX_INDEX_LOAD) {
        TRY(load_segment(segment, &image, &bytes, &segment, error));
    }
    return index_new(env, segment, image, bytes, index, error);
}

annex_status annex_index_open(const annex_env *env, const char *path, unsigned flags,
                              annex_index **index, annex_error *error)
{
    struct segment *segment;
    *index = NULL;
    TRY(segment_open(env, path, &segment, error));
    return open_segment(env, segment, flags, index, error);
}

annex_status annex_index_open_image(const annex_env *env, const void *image, uint64_t bytes,
                                    unsigned flags, annex_index **index, annex_error *error)
{
    struct segment *segment;
    *index = NULL;
    TRY(segment_open_image(env, image, bytes, &segment, error));
    return open_segment(env, segment, flags, index, error);
}

void annex_index_close(annex_index *index)
{
    if (!index) {
        return;
    }
    annex_env env = index->env;
    scratch_free_all(index);
    if (index->free_owned) {
        index->free_owned(index);
    }
    segment_close(index->segment);
    memory_free(&env, index->image, index->image_bytes, 1);
    pthread_mutex_destroy(&index->turn);
    pthread_rwlock_destroy(&index->lock);
    pthread_mutex_destroy(&index->scratch_lock);
    memory_free(&env, index, 1, sizeof *index);
}

/* ---- families --------------------------------------------------------------------------------*/

static const char *const family_names[] = {[ANNEX_FAMILY_AUTO] = "auto",
                                           [ANNEX_FLAT] = "flat",
                                           [ANNEX_GRAPH] = "graph",
                                           [ANNEX_IVF] = "ivf"};

const char *annex_family_name(annex_family family)
{
    return (size_t)family < ARRAY_LENGTH(family_names) ? family_names[family] : NULL;
}

annex_status annex_family_parse(const char *name, annex_family *family, annex_error *error)
{
    *family = ANNEX_FAMILY_AUTO;
    for (size_t i = 0; i < ARRAY_LENGTH(family_names); i++) {
        if (strcmp(name, family_names[i]) == 0) {
            *family = (annex_family)i;
            return ANNEX_OK;
        }
    }
    return error_set(error, ANNEX_INVALID, "'%s' is no kind of index; use auto, flat, graph or ivf",
                     name);
}

/* ---- describing ------------------------------------------------------------------------------*/

annex_status index_check_query(const annex_index *index, const void *vector, annex_error *error)
{
    annex_metric metric = index->codec.metric;
    bool zero;
    if (codec_is_bits(metric)) {
        return ANNEX_OK;
    }
    if (!codec_accepts(metric, vector, index->codec.dimension, &zero)) {
        return codec_refuse(vector, index->codec.dimension, "the query", error);
    }
    if (zero && metric == ANNEX_COSINE) {
        return error_set(error, ANNEX_INVALID,
                         "the query is a zero vector, which has no cosine distance to anything");
    }
    return ANNEX_OK;
}

const void *index_raw(const annex_index *index, uint32_t slot)
{
    if (!index->raw) {
        return NULL;
    }
    uint32_t row = index->raw_row ? MIN(index->raw_row[slot], index->slots - 1) : slot;
    return index->raw + (size_t)row * stored_bytes(&index->codec, index_stored(index));
}

static annex_raw raw_of(const annex_index *index)
{
    annex_codes stored = index_stored(index);
    return !index->keeps_raw            ? ANNEX_RAW_NONE
           : stored == ANNEX_CODES_F16  ? ANNEX_RAW_F16
           : stored == ANNEX_CODES_BF16 ? ANNEX_RAW_BF16
                                        : ANNEX_RAW_KEEP;
}

void annex_index_describe(const annex_index *index, annex_index_info *info)
{
    const struct segment_header *header = &index->header;
    pthread_rwlock_t *lock = &((annex_index *)(uintptr_t)index)->lock;
    pthread_rwlock_rdlock(lock);
    *info = (annex_index_info){
        .metric = (annex_metric)header->metric,
        .dimension = header->dimension,
        .family = (annex_family)header->family,
        .key_kind = (annex_key_kind)header->key_kind,
        .rows = index->live,
        .slots = index->slots,
        .skipped = header->skipped,
        .bytes = index->segment ? index->segment->image_bytes : 0,
        .degree = header->degree,
        .default_effort = header->default_effort,
        .codes = index->codec.codes,
        .raw = raw_of(index),
        .lossless = index->codec.lossless,
        .rotated = index->codec.rotated,
        .has_raw = index->raw || index->codec.lossless,
        .dirty = index->dirty,
        .n_recall_points = index->n_recall,
        .content = {header->content[0], header->content[1]},
    };
    if (index->raw) {
        info->raw_bytes = index->slots * (uint64_t)stored_bytes(&index->codec, index_stored(index));
    }
    memcpy(info->recall_points, index->recall, sizeof index->recall);
    pthread_rwlock_unlock(lock);
}
