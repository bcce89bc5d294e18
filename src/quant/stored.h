/*
 * stored.h - the vectors that an index keeps beside its codes, for exact distances: as given, or
 * with each element rounded to a float of 16 bits, half the bytes.
 *
 * Which of them is an annex_codes: ANNEX_CODES_AUTO as given (f32, or packed bits), ANNEX_CODES_F16
 * or ANNEX_CODES_BF16.
 *
 * Invariant: an index that rounds is an index of the rounded vectors. They are rounded before they
 * are coded, so that codes, bounds and measured recall are those of what is stored.
 * Does not: scale; f16 has no numbers beyond 65504, and stored_holds says so in time.
 */
#ifndef ANNEX_STORED_H
#define ANNEX_STORED_H

#include "quant/codec.h"

/* Of one vector. */
size_t stored_bytes(const struct codec *codec, annex_codes stored);
/* Whether no element is beyond what can be stored. Under cosine every vector is held. */
bool stored_holds(const struct codec *codec, annex_codes stored, const float *vector);
/* ANNEX_INVALID for a vector that stored_holds refused; `what` names it. */
annex_status stored_refuse(const char *what, annex_error *error);
/* to = the vector, of unit length under cosine, as it will be read back. May be in place. */
void stored_round(const struct codec *codec, annex_codes stored, const float *vector, float *to);
/* A vector to its stored form and back. */
void stored_pack(const struct codec *codec, annex_codes stored, const void *vector, void *to);
void stored_unpack(const struct codec *codec, annex_codes stored, const void *from, void *vector);
/* What codec_exact gives for the vector read back. */
float stored_exact(const struct query *query, annex_codes stored, const void *from);

#endif
