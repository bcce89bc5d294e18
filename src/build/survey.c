/*
 * survey.c - the first pass over the source: checks every element, gathers what the codec has to
 * know about all rows, and holds a random few back (reservoir sampling: Vitter, TOMS 1985,
 * algorithm R).
 */
#include <inttypes.h>
#include <stdio.h>

#include "build/build.h"

uint64_t build_vector_hash(const struct builder *builder, const void *vector, uint64_t row)
{
    return hash_bytes(vector, builder->vector_bytes, row);
}

/* As much of a codec as stored.h needs, before there is one. */
static struct codec row_form(const struct builder *builder)
{
    return (struct codec){.metric = builder->options.metric,
                          .dimension = builder->options.dimension};
}

bool build_row(const struct builder *builder, const float *vector, float *row)
{
    struct codec form = row_form(builder);
    if (form.metric == ANNEX_COSINE) {
        if (!codec_normalize(vector, row, form.dimension)) {
            return false;
        }
        vector = row;
    }
    stored_round(&form, builder->stored, vector, row);
    return true;
}

uint64_t build_key_hash(struct key_view key, uint64_t row)
{
    return hash_mix(key_hash(key) + row);
}

annex_status build_source_changed(annex_error *error)
{
    return error_set(error, ANNEX_INVALID,
                     "the source gave other rows when it was read again; build again when nothing "
                     "changes it");
}

struct key_view build_batch_key(uint32_t key_kind, const annex_batch *batch, size_t i, uint64_t row)
{
    if (key_kind == ANNEX_KEY_BYTES) {
        uint64_t begin = i ? batch->key_ends[i - 1] : 0;
        return (struct key_view){.bytes = batch->key_bytes ? batch->key_bytes + begin : "",
                                 .n_bytes = batch->key_ends[i] - begin};
    }
    return (struct key_view){.number = batch->keys ? batch->keys[i] : (int64_t)row};
}

static annex_status refuse_vector(const struct builder *builder, const float *vector,
                                  struct key_view key, bool accepted, annex_error *error)
{
    char text[64], what[96];
    snprintf(what, sizeof what, "the vector with key %s", key_text(key, text));
    if (accepted) {
        return stored_refuse(what, error);
    }
    return codec_refuse(vector, builder->options.dimension, what, error);
}

static annex_status hold_out(struct builder *builder, const float *vector, uint64_t *random,
                             annex_error *error)
{
    uint64_t place = builder->n_held_rows;
    if (place == BUILD_HELD_OUT) {
        place = random_below(random, (uint64_t)builder->n + 1);
        if (place >= BUILD_HELD_OUT) {
            return ANNEX_OK;
        }
    } else {
        TRY(memory_new(&builder->env, 1, builder->vector_bytes, &builder->held[place].vector,
                       error));
        builder->n_held_rows++;
    }
    builder->held[place].row = builder->n;
    memcpy(builder->held[place].vector, vector, builder->vector_bytes);
    return ANNEX_OK;
}

static annex_status survey_batch(struct builder *builder, const annex_batch *batch, uint64_t row,
                                 float *unit, uint64_t *random, annex_error *error)
{
    if (!batch->vectors || (builder->options.key_kind == ANNEX_KEY_BYTES && !batch->key_ends)) {
        return error_set(error, ANNEX_INVALID, "the source gave %zu rows without %s", batch->n,
                         batch->vectors ? "byte keys" : "vectors");
    }
    struct codec form = row_form(builder);
    for (size_t i = 0; i < batch->n; i++) {
        const char *vector = (const char *)batch->vectors + i * builder->vector_bytes;
        struct key_view key = build_batch_key(builder->options.key_kind, batch, i, row + i);
        bool zero = false;
        if (key.bytes && key.n_bytes > 65535) { /* also when ends do not ascend */
            return error_set(error, ANNEX_INVALID,
                             "a key has %zu bytes, expected at most 65535 bytes", key.n_bytes);
        }
        builder->vectors_sum += build_vector_hash(builder, vector, row + i);
        builder->keys_sum += build_key_hash(key, row + i);
        bool accepted =
            builder->bits || codec_accepts(builder->options.metric, (const float *)vector,
                                           builder->options.dimension, &zero);
        if (!accepted || !stored_holds(&form, builder->stored, (const float *)vector)) {
            return refuse_vector(builder, (const float *)vector, key, accepted, error);
        }
        if (zero && builder->options.metric == ANNEX_COSINE) {
            builder->skipped++;
            continue;
        }
        if (builder->n == ANNEX_MAX_ROWS) {
            return error_set(error, ANNEX_FULL,
                             "an index file holds at most %u rows; build several", ANNEX_MAX_ROWS);
        }
        builder->n_key_bytes += key.n_bytes;
        if (build_alters(builder)) {
            build_row(builder, (const float *)vector, unit);
            vector = (const char *)unit;
        }
        if (!builder->bits) {
            codec_survey_add(&builder->survey, builder->options.dimension, (const float *)vector);
        }
        TRY(hold_out(builder, (const float *)vector, random, error));
        builder->n++;
    }
    return ANNEX_OK;
}

annex_status build_survey(struct builder *builder, annex_error *error)
{
    const annex_env *env = &builder->env;
    uint64_t random = builder->options.seed ^ 0x5ca1ab1e, row = 0;
    float *unit = NULL;
    struct progress progress;
    annex_status status;
    TRY_CLEANUP(memory_new(env, 1, builder->vector_bytes, &unit, error));
    TRY_CLEANUP(codec_survey_new(env, builder->options.dimension, &builder->survey, error));
    TRY_CLEANUP(memory_new(env, BUILD_HELD_OUT, sizeof *builder->held, &builder->held, error));
    TRY_CLEANUP(memory_new(env, builder->options.dimension, sizeof *builder->center,
                           &builder->center, error));
    TRY_CLEANUP(progress_begin(&progress, env, "reading", 0, error));
    TRY_CLEANUP(builder->source->rewind(builder->source->context, error));
    for (;;) {
        annex_batch batch = {0};
        TRY_CLEANUP(builder->source->next(builder->source->context, &batch, error));
        if (batch.n == 0) {
            break;
        }
        TRY_CLEANUP(survey_batch(builder, &batch, row, unit, &random, error));
        row += batch.n;
        TRY_CLEANUP(progress_update(&progress, row, error));
    }
    status = build_choose_codes(builder, error);
cleanup:
    memory_free(env, unit, 1, builder->vector_bytes);
    return status;
}
