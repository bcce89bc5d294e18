/*
 * codes.c - how rows are coded: by measuring, on the rows held back, what codes lose. The same rows
 * give the same choice everywhere: nothing is timed.
 */
#include "build/build.h"

static struct codec_form wish(const struct builder *builder, annex_codes codes, bool rotated)
{
    return (struct codec_form){.metric = builder->options.metric,
                               .dimension = builder->options.dimension,
                               .codes = builder->bits ? ANNEX_CODES_BITS : codes,
                               .rotated = rotated,
                               .seed = builder->options.seed};
}

/* The sum of squares that the codec chosen last loses of the rows held back. */
static double measure_loss(const struct builder *builder, uint8_t *row, float *work)
{
    double sum = 0;
    for (uint32_t h = 0; h < builder->n_held_rows; h++) {
        float lost;
        const float *vector = builder->held[h].vector;
        if (builder->options.metric == ANNEX_COSINE) {
            float *unit = work + builder->options.dimension;
            codec_normalize(vector, unit, builder->options.dimension);
            vector = unit;
        }
        codec_encode(&builder->codec, vector, row, work, &lost);
        sum += (double)lost * lost;
    }
    return sum;
}

/*
 * auto: bytes. Where a few elements are much larger than the others, they take the scale of a row
 * for themselves; then vectors are rotated, if that at least halves the loss. It costs a query a
 * microsecond or two.
 */
annex_status build_choose_codes(struct builder *builder, annex_error *error)
{
    const annex_env *env = &builder->env;
    annex_codes codes = builder->options.codes;
    struct codec_form plain = wish(builder, codes, false), turned = wish(builder, codes, true);
    struct codec *codec = &builder->codec;
    uint32_t dimension = builder->options.dimension;
    float *work = NULL;
    uint8_t *row = NULL;
    annex_status status;
    codec_choose(codec, &plain, &builder->survey, builder->center);
    bool lists = builder->options.family > ANNEX_GRAPH; /* whose own codes are rotated */
    if (codec->codes != ANNEX_CODES_Q8 || codec->fixed_scale > 0 || lists) {
        return ANNEX_OK;
    }
    uint32_t row_bytes = codec->row_bytes;
    TRY_CLEANUP(memory_new(env, dimension, 2 * sizeof *work, &work, error));
    TRY_CLEANUP(memory_new(env, row_bytes, 1, &row, error));
    double plain_loss = measure_loss(builder, row, work);
    codec_choose(codec, &turned, &builder->survey, builder->center);
    if (!(measure_loss(builder, row, work) < plain_loss / 2)) {
        codec_choose(codec, &plain, &builder->survey, builder->center);
    }
cleanup:
    memory_free(env, work, dimension, 2 * sizeof *work);
    memory_free(env, row, row_bytes, 1);
    return status;
}
