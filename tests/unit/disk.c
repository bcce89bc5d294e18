/*
 * disk.c - see disk.h.
 */
#include "disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define SECTOR_BYTES 512

static void *disk_allocate(size_t bytes)
{
    void *block = aligned_alloc(64, round_up(MAX(bytes, 1), 64));

    if (block == NULL) {
        abort();
    }
    memset(block, 0, round_up(MAX(bytes, 1), 64));
    return block;
}

static struct disk_content disk_clone(const struct disk_content *content)
{
    struct disk_content clone = {disk_allocate(content->bytes), content->bytes};

    if (content->bytes > 0) {
        memcpy(clone.data, content->data, content->bytes);
    }
    return clone;
}

/* ---- names -----------------------------------------------------------------------------------*/

static int disk_find(const struct disk_names *names, const char *path)
{
    for (int i = 0; i < DISK_MAX_FILES; i++) {
        if (strcmp(names->path[i], path) == 0) {
            return i;
        }
    }
    return -1;
}

/* Counts a change; true when the power is off. */
static bool disk_is_off(struct disk *disk)
{
    disk->changes++;
    return disk->power_fails_at != 0 && disk->changes >= disk->power_fails_at;
}

static void disk_record_names(struct disk *disk)
{
    if (disk->n_history == DISK_MAX_CHANGES) {
        abort(); /* more changes of names without a sync than any test makes */
    }
    disk->history[disk->n_history++] = disk->seen;
}

static bool disk_names_hold(const struct disk_names *names, int number)
{
    for (int i = 0; i < DISK_MAX_FILES; i++) {
        if (names->path[i][0] != '\0' && names->file[i] == number) {
            return true;
        }
    }
    return false;
}

/* A place for a file; that of a removed one when nothing can bring its name back. */
static int disk_free_place(struct disk *disk)
{
    for (int number = 0; number < DISK_MAX_FILES; number++) {
        struct disk_file *file = &disk->files[number];
        bool held = file->opened > 0 || disk_names_hold(&disk->seen, number);

        for (unsigned i = 0; i < disk->n_history && !held; i++) {
            held = disk_names_hold(&disk->history[i], number);
        }
        if (!file->used) {
            return number;
        }
        if (!held) {
            free(file->seen.data);
            free(file->survives.data);
            return number;
        }
    }
    return -1;
}

/* ---- the io table ----------------------------------------------------------------------------*/

static int disk_open(void *context, const char *path, annex_open_mode mode, void **file)
{
    struct disk *disk = context;
    int name = disk_find(&disk->seen, path);
    int number;

    *file = NULL;
    if (mode == ANNEX_OPEN_READ) {
        if (name < 0) {
            return ENOENT;
        }
        number = disk->seen.file[name];
        disk->files[number].opened++;
        *file = &disk->files[number];
        return 0;
    }
    if (name >= 0) {
        return EEXIST;
    }
    if (disk_is_off(disk)) {
        return EIO;
    }
    name = disk_find(&disk->seen, "");
    number = disk_free_place(disk);
    if (name < 0 || number < 0 || strlen(path) >= sizeof disk->seen.path[0]) {
        abort();
    }
    disk->files[number] = (struct disk_file){.used = true,
                                             .opened = 1,
                                             .seen = {disk_allocate(0), 0},
                                             .survives = {disk_allocate(0), 0}};
    memcpy(disk->seen.path[name], path, strlen(path) + 1);
    disk->seen.file[name] = number;
    disk_record_names(disk);
    *file = &disk->files[number];
    return 0;
}

static int disk_close(void *context, void *file)
{
    (void)context;
    ((struct disk_file *)file)->opened--;
    return 0;
}

static int disk_size(void *context, void *file, uint64_t *bytes)
{
    (void)context;
    *bytes = ((struct disk_file *)file)->seen.bytes;
    return 0;
}

static int disk_read(void *context, void *file, void *buffer, size_t bytes, uint64_t offset)
{
    struct disk_content *content = &((struct disk_file *)file)->seen;

    (void)context;
    if (offset > content->bytes || bytes > content->bytes - offset) {
        return EIO;
    }
    memcpy(buffer, content->data + offset, bytes);
    return 0;
}

static int disk_write(void *context, void *file, const void *buffer, size_t bytes, uint64_t offset)
{
    struct disk_content *content = &((struct disk_file *)file)->seen;

    if (disk_is_off(context)) {
        return EIO;
    }
    if (offset + bytes > content->bytes) {
        struct disk_content longer = {disk_allocate(offset + bytes), offset + bytes};

        memcpy(longer.data, content->data, content->bytes);
        free(content->data);
        *content = longer;
    }
    memcpy(content->data + offset, buffer, bytes);
    return 0;
}

static int disk_sync(void *context, void *file)
{
    struct disk_file *synced = file;

    if (disk_is_off(context)) {
        return EIO;
    }
    free(synced->survives.data);
    synced->survives = disk_clone(&synced->seen);
    return 0;
}

static int disk_rename(void *context, const char *from, const char *to)
{
    struct disk *disk = context;
    int name = disk_find(&disk->seen, from);
    int replaced = disk_find(&disk->seen, to);

    if (disk_is_off(disk)) {
        return EIO;
    }
    if (name < 0) {
        return ENOENT;
    }
    if (replaced >= 0) {
        disk->seen.path[replaced][0] = '\0';
    }
    memcpy(disk->seen.path[name], to, strlen(to) + 1);
    disk_record_names(disk);
    return 0;
}

static int disk_remove(void *context, const char *path)
{
    struct disk *disk = context;
    int name = disk_find(&disk->seen, path);

    if (disk_is_off(disk)) {
        return EIO;
    }
    if (name < 0) {
        return ENOENT;
    }
    disk->seen.path[name][0] = '\0';
    disk_record_names(disk);
    return 0;
}

static int disk_sync_directory(void *context, const char *path)
{
    struct disk *disk = context;

    (void)path;
    if (disk_is_off(disk)) {
        return EIO;
    }
    disk->history[0] = disk->seen;
    disk->n_history = 1;
    return 0;
}

static int disk_map(void *context, void *file, uint64_t bytes, const void **address)
{
    struct disk_content *content = &((struct disk_file *)file)->seen;

    (void)context;
    *address = NULL;
    if (bytes > content->bytes) {
        return EIO;
    }
    *address = disk_clone(content).data;
    return 0;
}

static void disk_unmap(void *context, const void *address, uint64_t bytes)
{
    (void)context;
    (void)bytes;
    free((void *)(uintptr_t)address);
}

/* ---- use -------------------------------------------------------------------------------------*/

static void disk_bind(struct disk *disk)
{
    disk->env = annex_env_default();
    disk->env.io = (annex_io){.context = disk,
                              .open = disk_open,
                              .close = disk_close,
                              .size = disk_size,
                              .read = disk_read,
                              .write = disk_write,
                              .sync = disk_sync,
                              .rename = disk_rename,
                              .remove = disk_remove,
                              .sync_directory = disk_sync_directory,
                              .map = disk_map,
                              .unmap = disk_unmap};
}

void disk_init(struct disk *disk)
{
    memset(disk, 0, sizeof *disk);
    disk->n_history = 1;
    disk_bind(disk);
}

/* Each sector, and the length, as seen or as synced. One seed in four keeps all, one nothing. */
static struct disk_content disk_mix(const struct disk_file *file, uint64_t *random)
{
    uint64_t mode = random_below(random, 4);
    bool keep_length = mode == 0 || (mode != 1 && random_below(random, 2) == 0);
    uint64_t bytes = keep_length ? file->seen.bytes : file->survives.bytes;
    struct disk_content mixed = {disk_allocate(bytes), bytes};

    for (uint64_t at = 0; at < bytes; at += SECTOR_BYTES) {
        bool keep = mode == 0 || (mode != 1 && random_below(random, 2) == 0);
        const struct disk_content *from = keep ? &file->seen : &file->survives;

        if (at < from->bytes) {
            memcpy(mixed.data + at, from->data + at,
                   MIN(MIN(SECTOR_BYTES, from->bytes - at), bytes - at));
        }
    }
    return mixed;
}

void disk_crash(struct disk *disk, uint64_t seed)
{
    uint64_t random = seed;

    disk->seen = disk->history[random_below(&random, disk->n_history)];
    disk->history[0] = disk->seen;
    disk->n_history = 1;
    disk->power_fails_at = 0;
    for (int i = 0; i < DISK_MAX_FILES; i++) {
        struct disk_file *file = &disk->files[i];

        file->opened = 0;
        if (file->used) {
            struct disk_content mixed = disk_mix(file, &random);

            free(file->seen.data);
            free(file->survives.data);
            file->seen = mixed;
            file->survives = disk_clone(&mixed);
        }
    }
}

void disk_copy(struct disk *to, const struct disk *from)
{
    *to = *from;
    for (int i = 0; i < DISK_MAX_FILES; i++) {
        if (from->files[i].used) {
            to->files[i].seen = disk_clone(&from->files[i].seen);
            to->files[i].survives = disk_clone(&from->files[i].survives);
        }
    }
    disk_bind(to);
}

unsigned disk_count(const struct disk *disk)
{
    unsigned count = 0;

    for (int i = 0; i < DISK_MAX_FILES; i++) {
        count += disk->seen.path[i][0] != '\0';
    }
    return count;
}

void disk_free(struct disk *disk)
{
    for (int i = 0; i < DISK_MAX_FILES; i++) {
        if (disk->files[i].used) {
            free(disk->files[i].seen.data);
            free(disk->files[i].survives.data);
        }
    }
    memset(disk, 0, sizeof *disk);
}
