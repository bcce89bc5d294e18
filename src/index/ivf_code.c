/*
 * ivf_code.c - which list a row belongs to, and what it is coded as: bits of what it differs from
 * the list's centroid, both as the codec has them, about its center and rotated.
 */
#include "index/index.h"

enum { CODER_ARRAYS = 4 };

uint32_t ivf_list_of(const struct ivf *ivf, uint32_t slot)
{
    uint32_t low = 0, high = ivf->n_lists;
    if (ivf->tail && slot >= ivf->lists[high].first) {
        return MIN(ivf->tail[slot - ivf->lists[high].first], ivf->n_lists - 1);
    }
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (ivf->lists[middle].first <= slot) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

size_t ivf_coder_bytes(const struct codec *codec)
{
    return CODER_ARRAYS * round_up(codec->dimension * sizeof(float), 64);
}

void ivf_coder_init(const struct codec *codec, struct ivf_coder *coder, void *memory)
{
    size_t elements = round_up(codec->dimension * sizeof(float), 64) / sizeof(float);
    *coder = (struct ivf_coder){.list = UINT32_MAX, .vector = memory};
    coder->row = coder->vector + elements;
    coder->centroid = coder->row + elements;
    coder->work = coder->centroid + elements;
}

/* What a coded row is from the center of the codec, rotated. */
static void rotate_row(const struct ivf *ivf, const struct codec *codec, struct ivf_coder *coder,
                       const uint8_t *row, float *rotated)
{
    codec_decode(codec, row, coder->vector);
    for (uint32_t j = 0; j < codec->dimension; j++) {
        coder->vector[j] -= codec->center[j];
    }
    rotation_apply(&ivf->rabitq.rotation, coder->vector, rotated);
}

static void use_list(const struct ivf *ivf, const struct codec *codec, struct ivf_coder *coder,
                     uint32_t list)
{
    if (coder->list != list) {
        coder->list = list;
        rotate_row(ivf, codec, coder, ivf->centroids + (size_t)list * codec->row_bytes,
                   coder->centroid);
    }
}

struct rabitq_residual ivf_encode(const struct ivf *ivf, const struct codec *codec,
                                  struct ivf_coder *coder, const uint8_t *row, uint32_t list,
                                  uint8_t *block, uint32_t place)
{
    use_list(ivf, codec, coder, list);
    rotate_row(ivf, codec, coder, row, coder->row);
    return rabitq_encode(&ivf->rabitq, coder->row, coder->centroid, codec->metric == ANNEX_IP,
                         coder->work, block, place);
}

size_t ivf_compare_bytes(const annex_index *index)
{
    return ivf_coder_bytes(&index->codec) + index->ivf.rabitq.block_bytes;
}

bool ivf_holds(const annex_index *index, uint32_t slot, const uint8_t *row, void *memory)
{
    const struct ivf *ivf = &index->ivf;
    const uint8_t *held = ivf_block(ivf, (uint8_t *)(uintptr_t)ivf->blocks, slot);
    uint8_t *block = (uint8_t *)memory + ivf_coder_bytes(&index->codec);
    struct ivf_coder coder;
    ivf_coder_init(&index->codec, &coder, memory);
    ivf_encode(ivf, &index->codec, &coder, row, ivf_list_of(ivf, slot), block, 0);
    return rabitq_equal(&ivf->rabitq, block, 0, held, slot % RABITQ_ROWS);
}

static void ivf_decode(const struct ivf *ivf, const struct codec *codec, struct ivf_coder *coder,
                       uint32_t slot, float *vector)
{
    const uint8_t *block = ivf_block(ivf, (uint8_t *)(uintptr_t)ivf->blocks, slot);
    use_list(ivf, codec, coder, ivf_list_of(ivf, slot));
    rabitq_decode(&ivf->rabitq, block, slot % RABITQ_ROWS, coder->row);
    for (uint32_t j = 0; j < codec->dimension; j++) {
        coder->row[j] += coder->centroid[j];
    }
    rotation_undo(&ivf->rabitq.rotation, coder->row, vector);
    for (uint32_t j = 0; j < codec->dimension; j++) {
        vector[j] += codec->center[j];
    }
}

annex_status ivf_vector(const annex_index *index, uint32_t slot, float *vector, annex_error *error)
{
    struct ivf_coder coder;
    void *memory;
    size_t bytes = ivf_coder_bytes(&index->codec);
    TRY(memory_new_raw(&index->env, bytes, 1, &memory, error));
    ivf_coder_init(&index->codec, &coder, memory);
    ivf_decode(&index->ivf, &index->codec, &coder, slot, vector);
    memory_free(&index->env, memory, bytes, 1);
    return ANNEX_OK;
}
