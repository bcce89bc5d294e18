/*
 * db_sync.c - a sync: moving the delta into segments, or building all of them anew (fold.c), in one
 * transaction.
 *
 * A stale index has no delta: nobody knows which rows were changed. Then the table is compared with
 * the segments that can be opened, and what differs is the delta.
 *
 * Invariants
 *   1. One transaction; after a failure database, log and segments are as they were.
 *   2. The watermark is the last log row that was read, in the transaction that wrote the segments.
 *   3. Files go only after the commit.
 *   4. The sources of an index are synced one after the other, each in a transaction of its own.
 */
#include "catalog/catalog.h"

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
    for (size_t i = 0; i < work->fold.n_older; i++) {
        fold_absorb(&work->fold, i);
    }
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
        if (index->parts[i].index == NULL) {
            fold_absorb(fold, i);
        }
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
    work->report.rebuilt = fold->anew;
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

static annex_status sync_work_run(struct sync_work *work, annex_error *error)
{
    struct catalog_index *index = work->index;
    TRY(sync_look(work, error));
    TRY(fold_open(&work->fold, work->db, index, error));
    /* New names are written down: the triggers, which tell them, may be lost one day. */
    bool changed =
        index->stale.message[0] != '\0' || index->delta.last_seq != index->seq || index->followed;
    if (!changed && !work->optimize) {
        return ANNEX_OK;
    }
    TRY(sync_build(work, error));
    work->report.inserted = sync_count_inserted(work);
    work->report.deleted = work->fold.n_deleted;
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
    annex_status status = sync_work_run(&work, error);
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
        fold_close(&work.fold);
    }
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
