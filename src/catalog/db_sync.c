/*
 * db_sync.c - moving the delta into segments, and merging segments.
 *
 * A stale index has no delta: nobody knows which rows were changed. Then the table is compared with
 * the segments that can be opened, and what differs is the delta.
 *
 * Sync marks the old rows of changed keys dead and builds one new segment from the current vectors
 * of those keys. The new segment takes in every segment that is at most twice its size, smallest
 * first, and every one of which more than a fifth is dead. So sizes at least double from segment to
 * segment: their number stays below log2(rows), and a row is rewritten about that often in its
 * life.
 *
 * Invariants
 *   1. One transaction; after a failure database, log and segments are as they were.
 *   2. The watermark is the last log row that was read, in the transaction that wrote the segments.
 *   3. Files go only after the commit.
 *   4. The sources of an index are synced one after the other, each in a transaction of its own.
 */
#include "catalog/search.h"

enum { FOLD_FLAT_BELOW = 4096 }; /* rows; fewer than that make no lists */

/* ---- from the whole table ---------------------------------------------------------------------*/

annex_status catalog_build(annex_db *db, struct catalog_index *index, bool strict,
                           annex_error *error)
{
    struct source_rows rows;
    uint64_t started_us = budget_now_us();
    /* What a sync knows already stays, whatever the first rows have become since. */
    if (strict || !definition_is_complete(&index->definition)) {
        TRY(source_learn(db, index, error));
    }
    if (!definition_is_complete(&index->definition)) {
        return ANNEX_OK; /* there are no rows */
    }
    TRY(source_rows_open(db, index, NULL, "", strict, &rows, error));
    annex_rows view = source_rows_view(&rows);
    annex_status status = store_build(db, index, &view, index->definition.family, error);
    if (status == ANNEX_OK) {
        source_say_left_out(&rows);
    }
    source_rows_close(&rows);
    uint64_t took_ms = (budget_now_us() - started_us) / 1000;
    index->definition.build_ms = (uint32_t)MIN(took_ms, (uint64_t)UINT32_MAX);
    return status;
}

/* ---- folding ---------------------------------------------------------------------------------*/

struct fold {
    annex_db *db;
    struct catalog_index *index;
    uint64_t *n_deleted;
    struct rowkey_set keys; /* of the new segment: changed ones, and those of absorbed segments */
    bool *absorbed;         /* [n_older] */
    size_t n_older;         /* segments before the fold */
    size_t n_absorbed;
};

static void fold_mark_dead(struct fold *fold)
{
    struct catalog_index *index = fold->index;
    for (size_t i = 0; i < index->delta.keys.n; i++) {
        struct rowkey key = rowkey_set_at(&index->delta.keys, i);
        for (size_t j = 0; j < fold->n_older; j++) {
            struct catalog_part *part = &index->parts[j];
            uint32_t row = 0;
            if (part_find(part, &key, &row) && !part_is_dead(part, row)) {
                bitmap_set(part->dead, row);
                part->n_dead++;
                part->dead_changed = true;
                (*fold->n_deleted)++;
            }
        }
    }
}

/* Which segments go into the new one: their live rows are read from the table again. */
static void fold_choose(struct fold *fold)
{
    const struct catalog_index *index = fold->index;
    uint64_t size = index->delta.keys.n;
    bool chosen = true;
    while (chosen) {
        chosen = false;
        for (size_t i = 0; i < fold->n_older; i++) {
            const struct catalog_part *part = &index->parts[i];
            uint64_t live = part->slots - part->n_dead;
            if (!fold->absorbed[i] && (live <= 2 * size || 5 * part->n_dead > part->slots)) {
                fold->absorbed[i] = true;
                fold->n_absorbed++;
                size += live;
                chosen = true;
            }
        }
    }
}

static annex_status fold_take_keys(struct fold *fold, const struct catalog_part *part,
                                   annex_error *error)
{
    size_t position = 0;
    bool added = false;
    for (uint32_t row = 0; part->index != NULL && row < part->slots; row++) {
        struct rowkey key;
        if (part_is_dead(part, row)) {
            continue;
        }
        TRY(part_row_key(part, fold->index->shape, row, &key, error));
        TRY(rowkey_set_add(&fold->db->env, &fold->keys, &key, &position, &added, error));
    }
    return ANNEX_OK;
}

static annex_status fold_build(struct fold *fold, annex_error *error)
{
    struct catalog_index *index = fold->index;
    const struct rowkey_set *changed = &index->delta.keys;
    struct source_rows rows;
    size_t position = 0;
    bool added = false;
    for (size_t i = 0; i < fold->n_older; i++) {
        if (fold->absorbed[i]) {
            TRY(fold_take_keys(fold, &index->parts[i], error));
        }
    }
    for (size_t i = 0; i < changed->n; i++) {
        struct rowkey key = rowkey_set_at(changed, i);
        TRY(rowkey_set_add(&fold->db->env, &fold->keys, &key, &position, &added, error));
    }
    if (fold->keys.n == 0) {
        return ANNEX_OK;
    }
    TRY(source_rows_open(fold->db, index, &fold->keys, "", false, &rows, error));
    annex_rows view = source_rows_view(&rows);
    /* What was asked for is meant for the whole; a small segment is better off when it is flat. */
    annex_family family = index->definition.family;
    if (family == ANNEX_GRAPH || (family == ANNEX_IVF && fold->keys.n < FOLD_FLAT_BELOW)) {
        family = ANNEX_FAMILY_AUTO;
    }
    annex_status status = store_build(fold->db, index, &view, family, error);
    if (status == ANNEX_OK) {
        source_say_left_out(&rows);
    }
    source_rows_close(&rows);
    return status;
}

static annex_status fold_run(struct fold *fold, annex_error *error)
{
    fold_mark_dead(fold);
    fold_choose(fold);
    /* When no segment stays, the table is read in its own order instead of key by key. */
    return fold->n_absorbed == fold->n_older ? catalog_build(fold->db, fold->index, false, error)
                                             : fold_build(fold, error);
}

/* ---- the transaction -------------------------------------------------------------------------*/

struct sync_work {
    annex_db *db;
    struct catalog_index *index;
    struct fold fold;
    annex_sync_report report;
    bool optimize;
};

static bool sync_must_end(annex_status status)
{
    return status == ANNEX_NOMEM || status == ANNEX_BUSY || status == ANNEX_CANCELLED;
}

/* A segment that cannot be used is given up, and the index is stale. */
static annex_status sync_open_part(struct sync_work *work, size_t i, annex_error *error)
{
    struct catalog_part *part = &work->index->parts[i];
    annex_error why = {ANNEX_OK, ""};
    annex_status status = store_look(work->db, work->index, part, &why);
    if (status == ANNEX_OK) {
        status = store_open(work->db, work->index, part, &why);
    }
    if (sync_must_end(status)) {
        return error_set(error, status, "%s", why.message);
    }
    if (status != ANNEX_OK) {
        store_close(work->db, part);
        work->index->stale = why;
    }
    return ANNEX_OK;
}

static annex_status sync_look(struct sync_work *work, annex_error *error)
{
    struct catalog_index *index = work->index;
    bool outgrown = false;
    TRY(catalog_inspect(work->db, index, error));
    if (index->beyond_sync) {
        return error_set(error, ANNEX_INVALID, "index %s cannot be brought up to date: %s",
                         index->name, index->stale.message);
    }
    annex_error why = index->stale;
    for (size_t i = 0; i < index->n_parts; i++) {
        TRY(sync_open_part(work, i, error));
    }
    if (why.message[0] != '\0') {
        index->stale = why; /* the deeper reason */
    }
    if (index->stale.message[0] == '\0') {
        TRY(delta_refresh(work->db, index, error));
    }
    bool changed = index->stale.message[0] != '\0' || index->delta.keys.n > 0;
    return changed ? catalog_outgrown(work->db, index, &outgrown, error) : ANNEX_OK;
}

static annex_status sync_build_anew(struct sync_work *work, annex_error *error)
{
    memset(work->fold.absorbed, 1, work->fold.n_older * sizeof *work->fold.absorbed);
    work->report.rebuilt = 1;
    return catalog_build(work->db, work->index, false, error);
}

/* compare_found: what differs is the delta. */
static annex_status sweep_found(void *context, enum compare_finding finding,
                                const struct rowkey *key, annex_error *error)
{
    struct sync_work *work = context;
    (void)finding;
    return delta_add(work->db, work->index, key, error);
}

/* A stale index: the segments that can be opened are kept, and get what they lack. */
static annex_status sync_sweep(struct sync_work *work, annex_error *error)
{
    struct catalog_index *index = work->index;
    struct fold *fold = &work->fold;
    struct compare_report report;
    for (size_t i = 0; i < work->fold.n_older; i++) {
        fold->absorbed[i] = index->parts[i].index == NULL;
        fold->n_absorbed += fold->absorbed[i];
    }
    log_message(&work->db->env, ANNEX_LOG_WARNING, "index %s is compared with its table: %s",
                index->name, index->stale.message);
    if (fold->n_absorbed == work->fold.n_older) {
        return sync_build_anew(work, error);
    }
    delta_clear(index);
    TRY(compare_table(work->db, index, sweep_found, work, &report, error));
    work->report.swept = 1;
    if (index->delta.keys.n == 0) {
        return ANNEX_OK;
    }
    TRY(fold_run(fold, error));
    work->report.rebuilt = fold->n_absorbed == work->fold.n_older;
    return ANNEX_OK;
}

/* The long part: new segments, of which the database knows nothing yet. */
static annex_status sync_build(struct sync_work *work, annex_error *error)
{
    const struct catalog_index *index = work->index;
    if (work->optimize) {
        return sync_build_anew(work, error);
    }
    if (index->stale.message[0] != '\0') {
        return sync_sweep(work, error);
    }
    return index->delta.keys.n > 0 ? fold_run(&work->fold, error) : ANNEX_OK;
}

/* The short part: everything the database is told. */
static annex_status sync_write(struct sync_work *work, annex_error *error)
{
    annex_db *db = work->db;
    struct catalog_index *index = work->index;
    TRY(db->host->type->change(db->host, error));
    TRY(schema_create_tables(db, index->schema_sql, error)); /* somebody may have dropped one */
    index->parts_expected = 0;
    for (size_t i = 0; i < index->n_parts; i++) {
        struct catalog_part *part = &index->parts[i];
        index->parts_expected += i >= work->fold.n_older || !work->fold.absorbed[i];
        if (i >= work->fold.n_older) {
            TRY(store_write(db, index, part, error));
        } else if (work->fold.absorbed[i]) {
            TRY(schema_delete_part(db, index, part->id, error));
        } else if (part->dead_changed) {
            TRY(schema_update_dead(db, index, part, error));
        }
    }
    if (index->stale.message[0] != '\0') {
        struct host_log log = catalog_log(index);
        TRY(db->host->type->log_repair(db->host, &log, error));
        TRY(log_begin(db, index, error));
    } else {
        index->seq = index->delta.last_seq;
        index->nonce = index->delta.last_nonce;
    }
    TRY(log_trim(db, index, error));
    index->definition.table = index->table; /* it may have been renamed */
    index->definition.integer_key = index->shape.integer;
    index->definition.collection_id = index->collection_now;
    return schema_update_index(db, index, error);
}

static uint64_t sync_count_rows(const struct sync_work *work, size_t first, size_t end)
{
    uint64_t rows = 0;
    for (size_t i = first; i < end; i++) {
        rows += work->index->parts[i].slots - work->index->parts[i].n_dead;
    }
    return rows;
}

/* Rows of new segments that were in none before: without those that only moved. */
static uint64_t sync_count_inserted(const struct sync_work *work)
{
    uint64_t built = sync_count_rows(work, work->fold.n_older, work->index->n_parts);
    uint64_t moved = 0;
    for (size_t i = 0; i < work->fold.n_older; i++) {
        bool readable = work->index->parts[i].index != NULL;
        moved += work->fold.absorbed[i] && readable ? sync_count_rows(work, i, i + 1) : 0;
    }
    return work->report.rebuilt ? built : built - MIN(built, moved);
}

static annex_status sync_run(struct sync_work *work, annex_error *error)
{
    struct catalog_index *index = work->index;
    TRY(sync_look(work, error));
    work->fold.n_older = index->n_parts;
    TRY(memory_new(&work->db->env, MAX(index->n_parts, (size_t)1), sizeof *work->fold.absorbed,
                   &work->fold.absorbed, error));
    /* New names are written down: the triggers, which tell them, may be lost one day. */
    bool changed =
        index->stale.message[0] != '\0' || index->delta.last_seq != index->seq || index->followed;
    if (!changed && !work->optimize) {
        return ANNEX_OK;
    }
    TRY(sync_build(work, error));
    work->report.inserted = sync_count_inserted(work);
    return sync_write(work, error);
}

/* Files of segments that the catalog does not name: the old ones, after a failure the new ones. */
static void sync_remove_files(struct sync_work *work, bool committed)
{
    struct catalog_index *index = work->index;
    for (size_t i = 0; i < index->n_parts; i++) {
        bool older = i < work->fold.n_older;
        bool unused = committed ? older && work->fold.absorbed[i] : !older;
        for (size_t j = 0; unused && j < index->n_parts; j++) {
            bool kept = committed ? j >= work->fold.n_older || !work->fold.absorbed[j]
                                  : j < work->fold.n_older;
            unused = !kept || !store_is_same(&index->parts[i], &index->parts[j]);
        }
        if (unused) {
            store_remove(work->db, index, &index->parts[i]);
        }
    }
}

static uint64_t sync_count_segments(const struct sync_work *work)
{
    uint64_t n = work->index->n_parts;
    for (size_t i = 0; i < work->fold.n_older; i++) {
        n -= work->fold.absorbed[i];
    }
    return n;
}

static annex_status sync_begin(annex_db *db, const char *name, struct catalog_index **index,
                               annex_error *error)
{
    struct host_statement *hold = NULL;
    TRY(db->host->type->begin(db->host, error));
    annex_status status = catalog_open(db, name, index, &hold, error);
    if (status == ANNEX_OK) { /* once more from the catalog: somebody may have edited it */
        catalog_forget(*index);
        db->host->type->finish(hold);
        status = catalog_open(db, name, index, &hold, error);
    }
    db->host->type->finish(hold);
    if (status == ANNEX_OK && db->host->type->read_only(db->host, (*index)->schema)) {
        status = error_set(error, ANNEX_READ_ONLY,
                           "the database of index %s is open for reading only; searches see all "
                           "changes anyway, a sync needs to write",
                           name);
    }
    if (status != ANNEX_OK) {
        db->host->type->rollback(db->host);
    }
    return status;
}

static annex_status catalog_sync(annex_db *db, const char *name, bool optimize,
                                 annex_sync_report *report, annex_error *error)
{
    struct sync_work work = {.db = db, .optimize = optimize};
    if (report != NULL) {
        memset(report, 0, sizeof *report);
    }
    bool alone = !db->host->type->in_transaction(db->host);
    TRY(sync_begin(db, name, &work.index, error));
    work.fold = (struct fold){.db = db, .index = work.index, .n_deleted = &work.report.deleted};
    work.fold.keys.integer = work.index->shape.integer;
    annex_status status = sync_run(&work, error);
    if (status == ANNEX_OK && alone) {
        status = store_sweep(db, work.index, error);
    }
    if (status == ANNEX_OK) {
        status = db->host->type->commit(db->host, error);
    }
    if (status != ANNEX_OK) {
        db->host->type->rollback(db->host);
    } else if (report != NULL) {
        *report = work.report;
        report->segments = sync_count_segments(&work);
    }
    if (work.fold.absorbed != NULL) {
        sync_remove_files(&work, status == ANNEX_OK);
    }
    memory_free(&db->env, work.fold.absorbed, MAX(work.fold.n_older, (size_t)1),
                sizeof *work.fold.absorbed);
    rowkey_set_free(&db->env, &work.fold.keys);
    catalog_forget(work.index);
    return status;
}

/* The sources one after the other, or the index itself. */
static annex_status sync_sources(annex_db *db, const char *name, bool optimize,
                                 annex_sync_report *report, annex_error *error)
{
    struct arena scratch = {&db->env, NULL};
    annex_sync_report sum = {0}, one;
    const char **names = NULL;
    size_t n = 0;
    annex_status status = sources_list(db, &scratch, name, &names, &n, NULL, error);
    for (size_t i = 0; status == ANNEX_OK && i < n; i++) {
        status = catalog_sync(db, names[i], optimize, &one, error);
        sum.inserted += one.inserted;
        sum.deleted += one.deleted;
        sum.segments += one.segments;
        sum.rebuilt |= one.rebuilt;
        sum.swept |= one.swept;
    }
    if (report != NULL) {
        *report = status == ANNEX_OK ? sum : (annex_sync_report){0};
    }
    arena_free(&scratch);
    return status;
}

annex_status annex_db_sync(annex_db *db, const char *index, annex_sync_report *report,
                           annex_error *error)
{
    return sync_sources(db, index, false, report, error);
}

annex_status annex_db_optimize(annex_db *db, const char *index, annex_sync_report *report,
                               annex_error *error)
{
    return sync_sources(db, index, true, report, error);
}
