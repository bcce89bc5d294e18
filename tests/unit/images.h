/*
 * images.h - images of the file format for tests, made from a recipe.
 *
 * graph_recipe is small (about 70 KiB) and has every kind of section; big_recipe has sections of
 * several chunks. The content is random, so that no two blocks are equal.
 */
#ifndef ANNEX_TEST_IMAGES_H
#define ANNEX_TEST_IMAGES_H

#include "segment/format.h"

#define SLOTS 200
#define DIMENSION 24
#define BLOCK SEGMENT_ALIGNMENT

struct plan {
    enum segment_kind kind;
    uint32_t stride;
    uint64_t rows;
};

struct recipe {
    const struct segment_header *header;
    const struct plan *plan;
    size_t n;
    uint64_t seed; /* of the content, which is random */
    size_t piece;  /* bytes an append; 0: whole sections */
};

extern const struct recipe graph_recipe;
extern const struct recipe big_recipe;

/* Writes the image to a file. */
annex_status recipe_write(const struct recipe *recipe, const annex_env *env, const char *path,
                          annex_error *error);
/* Makes it in memory: memory_free(env, image, bytes, 1). */
annex_status recipe_image(const struct recipe *recipe, const annex_env *env, void **image,
                          uint64_t *bytes, annex_error *error);
/* The same where it cannot fail; freed by free(). */
uint8_t *image_make(const struct recipe *recipe, uint64_t *bytes);
/* Opens and verifies an image; closes it again. */
annex_status image_check(const void *image, uint64_t bytes, annex_error *error);
/* Makes content hash and header checksum right again; those of the sections too when asked. */
void image_seal(uint8_t *image, bool sections);
/* Fails the test unless the segment holds exactly what the recipe says. */
void assert_holds(const struct segment *segment, const struct recipe *recipe);

/* A folder for one test program, for cmocka's group setup and teardown, and a path in it. */
extern char test_folder[];
extern char test_path[64];
int folder_make(void **state);
int folder_remove(void **state);

#endif
