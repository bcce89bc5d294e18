/*
 * disk.h - files in memory that forget, as a disk does when the power fails.
 *
 * Every file has what programs see and what would survive. A write changes the first, a sync makes
 * it survive; names (create, rename, remove) survive when the directory was synced. disk_crash()
 * decides by a seed what else the disk happened to write before the power went: any part of
 * unsynced data in sectors of 512 bytes, any number of the first unsynced changes of names.
 *
 * The power can be set to fail before the n-th change, so that a test can crash between any two.
 */
#ifndef ANNEX_TEST_DISK_H
#define ANNEX_TEST_DISK_H

#include <stdbool.h>

#include "annex.h"

#define DISK_MAX_FILES 32
#define DISK_MAX_CHANGES 64

struct disk_content {
    uint8_t *data;
    uint64_t bytes;
};

struct disk_file {
    bool used;
    unsigned opened;
    struct disk_content seen;
    struct disk_content survives;
};

/* A directory: names of files, by number. */
struct disk_names {
    char path[DISK_MAX_FILES][256]; /* "" is a free place */
    int file[DISK_MAX_FILES];
};

struct disk {
    annex_env env; /* its io works on the disk, the rest is the default */
    struct disk_file files[DISK_MAX_FILES];
    struct disk_names seen;
    struct disk_names history[DISK_MAX_CHANGES]; /* [0] survives for certain, then one per change */
    unsigned n_history;
    uint64_t changes;        /* writes, syncs and changes of names so far */
    uint64_t power_fails_at; /* this change and all that follows have no effect; 0: never */
};

void disk_init(struct disk *disk);
/* Loses what the seed says, and goes on with what is left. Open files become useless. */
void disk_crash(struct disk *disk, uint64_t seed);
/* A copy of everything, to crash one state with many seeds. */
void disk_copy(struct disk *to, const struct disk *from);
/* Number of names that are in use. */
unsigned disk_count(const struct disk *disk);
void disk_free(struct disk *disk);

#endif
