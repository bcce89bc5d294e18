/*
 * mend.c - the graph of an index that changes: new rows are linked, and what led to a deleted row
 * is led on to the rows behind it (after Xu et al., IP-DiskANN, 2025).
 *
 * A row that is deleted leaves the graph at once: the rows near it that point to it get another
 * neighbour each, its children other parents (paths.h). Rows farther away that point to it are not
 * known. They are met by a sweep that looks at SWEEP_ROWS rows with every change, so that no change
 * waits for it; until then walks pass through the row by the edges it had.
 *
 * Walks cost what they cost in a fresh graph while rows have as many neighbours. Each row that
 * comes gives some edges to others, so those that stay long would have ever more: a lost edge is
 * replaced by one, but not where there are half of all places and a fifth more than the build gave
 * to a row. And a row that comes late would have few: it is linked both ways to those that would
 * have chosen it, had it been there.
 *
 * Invariants
 *   1. A ring holds living rows and the linked one, which may be dead.
 *   2. `gone`: dead rows that no row depends on. No edge to one is ever made.
 */
#include <stdlib.h>

#include "build/change.h"

enum {
    SWEEP_ROWS = 64,
    BOTH_AMONG = 40, /* rows near a new one that may be linked to it both ways */
    TWINS_AMONG = 8  /* twins have the lowest score, but not alone */
};

/* ---- lists -----------------------------------------------------------------------------------*/

/* Whether one of ids[0..n) is so near to the candidate that a walk comes to it anyway. */
static bool is_covered(struct linker *linker, uint32_t candidate, float limit, const uint32_t *ids,
                       uint32_t n)
{
    const struct graph *graph = linker->graph;
    float scores[GRAPH_MAX_DEGREE], factor = linker->options.alpha * linker->options.alpha;
    codec_query_set_row(&linker->candidate,
                        graph->rows + (size_t)candidate * graph->codec->row_bytes);
    codec_score(&linker->candidate, graph->rows, ids, n, scores);
    for (uint32_t i = 0; i < n; i++) {
        if (factor * scores[i] < limit) {
            return true;
        }
    }
    return false;
}

static int compare_items(const void *a, const void *b)
{
    walk_item x = *(const walk_item *)a, y = *(const walk_item *)b;
    return x < y ? -1 : x > y;
}

/*
 * Adds to the neighbours ids[0..n) of a row up to `most` of `others`, the nearest first that no
 * neighbour covers. Returns how many there are then.
 */
static uint32_t extend(struct linker *linker, uint32_t row, uint32_t *ids, uint32_t n,
                       const uint32_t *others, uint32_t n_others, uint32_t most)
{
    const struct graph *graph = linker->graph;
    float scores[MEND_NEAR];
    walk_item items[MEND_NEAR];
    codec_query_set_row(&linker->row, graph->rows + (size_t)row * graph->codec->row_bytes);
    codec_score(&linker->row, graph->rows, others, n_others, scores);
    for (uint32_t i = 0; i < n_others; i++) {
        items[i] = walk_item_of(scores[i], others[i]);
    }
    qsort(items, n_others, sizeof *items, compare_items);
    most += n;
    for (uint32_t i = 0; i < n_others && n < most; i++) {
        if (!is_covered(linker, walk_id(items[i]), walk_score(items[i]), ids, n)) {
            ids[n++] = walk_id(items[i]);
        }
    }
    return n;
}

static bool holds(const uint32_t *ids, uint32_t n, uint32_t id)
{
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* The rows behind lost[0..n_lost) that could be neighbours of the slot and are not in ids[0..n). */
static uint32_t gather_behind(const struct owned *owned, uint32_t slot, const uint32_t *lost,
                              uint32_t n_lost, const uint32_t *ids, uint32_t n, uint32_t *others)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n_lost; i++) {
        const uint32_t *behind = paths_row(&owned->paths, lost[i]);
        for (uint32_t j = 0; j < owned->paths.degree && behind[j] != GRAPH_END; j++) {
            if (behind[j] != slot && !bitmap_get(owned->gone, behind[j]) && count < MEND_NEAR &&
                !holds(ids, n, behind[j]) && !holds(others, count, behind[j])) {
                others[count++] = behind[j];
            }
        }
    }
    return count;
}

/* Replaces the edges of a linked row that lead to rows that are gone. */
static void mend_row(annex_index *index, uint32_t slot)
{
    struct owned *owned = index->owned;
    const uint32_t *row = paths_row(&owned->paths, slot);
    uint32_t edges = paths_count_edges(&owned->paths, slot), n = 0, n_lost = 0;
    uint32_t ids[GRAPH_MAX_DEGREE], lost[GRAPH_MAX_DEGREE], others[MEND_NEAR];
    for (uint32_t i = 0; i < edges; i++) {
        if (bitmap_get(owned->gone, row[i])) {
            lost[n_lost++] = row[i];
        } else {
            ids[n++] = row[i];
        }
    }
    if (n_lost == 0) {
        return;
    }
    uint32_t n_others = gather_behind(owned, slot, lost, n_lost, ids, n, others);
    if (n < owned->enough) {
        n = extend(&owned->linker, slot, ids, n, others, n_others, MIN(n_lost, owned->enough - n));
    }
    if (n == 0 && owned->paths.parent[slot] != slot) {
        ids[n++] = owned->paths.parent[slot];
    }
    paths_put(&owned->paths, slot, ids, n);
}

void mend_some(annex_index *index)
{
    struct owned *owned = index->owned;
    for (uint32_t i = 0; i < SWEEP_ROWS && owned->sweep_left > 0; i++, owned->sweep_left--) {
        owned->sweep_at = owned->sweep_at + 1 < index->slots ? owned->sweep_at + 1 : 0;
        if (paths_is_linked(&owned->paths, owned->sweep_at)) {
            mend_row(index, owned->sweep_at);
        }
    }
}

/* ---- entries ---------------------------------------------------------------------------------*/

static bool is_entry(const annex_index *index, uint32_t slot)
{
    return index->owned->paths.parent[slot] == slot;
}

static void add_entry(annex_index *index, uint32_t slot)
{
    index->owned->entries[index->graph.n_entries++] = slot;
    index->owned->paths.parent[slot] = slot;
}

/* Walks that started at the slot start near it, or one start less is left. */
static void leave_entries(annex_index *index, uint32_t slot, const uint32_t *near, uint32_t n)
{
    struct owned *owned = index->owned;
    uint32_t *entries = owned->entries, heir = GRAPH_END;
    const uint32_t *row = paths_row(&owned->paths, slot);
    for (uint32_t i = 0; i < n && heir == GRAPH_END; i++) {
        heir = is_entry(index, near[i]) ? GRAPH_END : near[i];
    }
    for (uint32_t i = 0; i < paths_count_edges(&owned->paths, slot) && heir == GRAPH_END; i++) {
        heir = owned->paths.parent[row[i]] == slot && row[i] != slot ? row[i] : GRAPH_END;
    }
    for (uint32_t i = index->graph.n_entries; i-- > 0;) {
        if (entries[i] == slot && heir != GRAPH_END) {
            entries[i] = heir;
            owned->paths.parent[heir] = heir;
            heir = GRAPH_END; /* a damaged file may name an entry twice */
        } else if (entries[i] == slot) {
            entries[i] = entries[--index->graph.n_entries];
        }
    }
}

/* ---- inserting -------------------------------------------------------------------------------*/

/* Puts the slot into the ring of a row with the same code, which the walk of its insertion met. */
static bool join_twins(annex_index *index, uint32_t slot)
{
    struct owned *owned = index->owned;
    const struct walk *walk = &owned->linker.walk;
    size_t bytes = index->codec.code_bytes + sizeof(float); /* the other term follows from these */
    for (uint32_t i = 0; i < MIN(walk->size, TWINS_AMONG); i++) {
        uint32_t met = walk_id(walk->pool[i]);
        if (!bitmap_get(owned->gone, met) &&
            memcmp(index_code(index, met), index_code(index, slot), bytes) == 0) {
            owned->before[slot] = met;
            owned->same[slot] = owned->same[met];
            owned->before[owned->same[met]] = slot;
            owned->same[met] = slot;
            return true;
        }
    }
    return false;
}

/* Links the slot, after the walk of its insertion, to near rows that do not cover it. */
static void link_both_ways(annex_index *index, uint32_t slot)
{
    struct owned *owned = index->owned;
    struct paths *paths = &owned->paths;
    const struct walk *walk = &owned->linker.walk;
    for (uint32_t i = 0; i < MIN(walk->size, BOTH_AMONG); i++) {
        uint32_t met = walk_id(walk->pool[i]), edges = paths_count_edges(paths, met);
        if (edges < owned->enough && paths_count_edges(paths, slot) < owned->enough &&
            paths_is_linked(paths, met) && !paths_has_edge(paths, met, slot) &&
            !is_covered(&owned->linker, slot, walk_score(walk->pool[i]), paths_row(paths, met),
                        edges)) {
            paths_add(paths, met, slot);
            paths_add(paths, slot, met);
        }
    }
}

/* The slot takes part in walks only from here on: `graph.slots` grows last. */
void mend_insert(annex_index *index, uint32_t slot)
{
    struct owned *owned = index->owned;
    struct linker *linker = &owned->linker;
    struct paths *paths = &owned->paths;
    uint32_t own[GRAPH_MAX_DEGREE], list[GRAPH_MAX_DEGREE], n = 0;
    owned->same[slot] = owned->before[slot] = slot;
    paths->parent[slot] = GRAPH_END;
    memset(paths_row(paths, slot), 0xff, paths->degree * 4);
    linker_insert(linker, slot, own);
    index->graph.slots = index->slots = paths->slots = slot + 1;
    if (join_twins(index, slot)) {
        return; /* found through the one that is linked */
    }
    while (n < paths->degree && own[n] != GRAPH_END) {
        n++;
    }
    paths_put(paths, slot, own, n);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(list, paths_row(paths, own[i]), paths->degree * sizeof *list);
        linker_add_reverse(linker, own[i], &slot, 1, list);
        uint32_t count = 0;
        while (count < paths->degree && list[count] != GRAPH_END) {
            count++;
        }
        paths_put(paths, own[i], list, count);
    }
    link_both_ways(index, slot);
    if (index->graph.n_entries < BUILD_ENTRIES) {
        add_entry(index, slot);
    } else {
        paths_hang(paths, slot, own, n);
    }
}

/* ---- deleting --------------------------------------------------------------------------------*/

/* The rows near a linked one, nearest first, that are linked themselves. */
static uint32_t find_near(annex_index *index, uint32_t slot, uint32_t *near)
{
    struct owned *owned = index->owned;
    struct linker *linker = &owned->linker;
    struct walk *walk = &linker->walk;
    uint32_t n = 0;
    codec_query_set_row(&linker->row, index_code(index, slot));
    graph_walk(&index->graph, &linker->row, linker->options.effort, walk);
    for (uint32_t i = 0; i < walk->size && n < MEND_NEAR; i++) {
        uint32_t id = walk_id(walk->pool[i]);
        if (id != slot && paths_is_linked(&owned->paths, id)) {
            near[n++] = id;
        }
    }
    return n;
}

/* Puts `to` into the place that `gone` has in the list of `from`, if no neighbour covers it. */
static bool replace_edge(annex_index *index, uint32_t from, uint32_t gone, uint32_t to, float score)
{
    const struct paths *paths = &index->owned->paths;
    uint32_t *row = paths_row(paths, from), edges = paths_count_edges(paths, from);
    uint32_t ids[GRAPH_MAX_DEGREE], n = 0, place = 0;
    for (uint32_t i = 0; i < edges; i++) {
        if (row[i] == to) {
            return false;
        }
        if (row[i] == gone) {
            place = i;
        } else {
            ids[n++] = row[i];
        }
    }
    if (n >= index->owned->enough || is_covered(&index->owned->linker, to, score, ids, n)) {
        return false;
    }
    row[place] = to;
    return true;
}

/*
 * Rows that the deleted one led to have lost an edge, rows that led to it have one to give: the
 * nearest pairs of them are linked. So rows that few lead to keep as many.
 */
static void pass_on_edges(annex_index *index, uint32_t slot, const uint32_t *from, uint32_t n_from)
{
    struct owned *owned = index->owned;
    struct linker *linker = &owned->linker;
    const uint32_t *to = paths_row(&owned->paths, slot);
    uint32_t n_to = paths_count_edges(&owned->paths, slot);
    float scores[MEND_NEAR];
    bool gave[MEND_NEAR] = {false}, got[GRAPH_MAX_DEGREE] = {false};
    walk_item *pairs = owned->pairs;
    size_t n = 0;
    for (uint32_t i = 0; i < n_to; i++) {
        codec_query_set_row(&linker->row, index_code(index, to[i]));
        codec_score(&linker->row, index->graph.rows, from, n_from, scores);
        for (uint32_t j = 0; j < n_from && paths_is_linked(&owned->paths, to[i]); j++) {
            pairs[n] = walk_item_of(scores[j], i * MEND_NEAR + j);
            n += from[j] != to[i];
        }
    }
    qsort(pairs, n, sizeof *pairs, compare_items);
    for (size_t p = 0; p < n; p++) {
        uint32_t i = walk_id(pairs[p]) / MEND_NEAR, j = walk_id(pairs[p]) % MEND_NEAR;
        if (!got[i] && !gave[j]) {
            got[i] = gave[j] = replace_edge(index, from[j], slot, to[i], walk_score(pairs[p]));
        }
    }
}

/* The row that stands for no living one any more leaves the graph. */
static void delete_linked(annex_index *index, uint32_t slot)
{
    struct owned *owned = index->owned;
    uint32_t near[MEND_NEAR], from[MEND_NEAR], n_from = 0, n = find_near(index, slot, near);
    bitmap_set(owned->gone, slot);
    if (is_entry(index, slot)) {
        leave_entries(index, slot, near, n);
    }
    paths_leave(&owned->paths, slot, near, n);
    for (uint32_t i = 0; i < n; i++) {
        if (paths_has_edge(&owned->paths, near[i], slot)) {
            from[n_from++] = near[i];
        }
    }
    pass_on_edges(index, slot, from, n_from);
    for (uint32_t i = 0; i < n; i++) {
        mend_row(index, near[i]);
    }
    owned->sweep_left = index->slots;
}

void mend_delete(annex_index *index, uint32_t slot)
{
    struct owned *owned = index->owned;
    uint32_t next = owned->same[slot], before = owned->before[slot];
    if (paths_is_linked(&owned->paths, slot)) {
        if (next == slot) {
            delete_linked(index, slot);
        }
        return; /* twins are found through it, although it is dead */
    }
    owned->same[before] = next;
    owned->before[next] = before;
    owned->same[slot] = owned->before[slot] = slot;
    if (next == before && !index_is_live(index, next) && paths_is_linked(&owned->paths, next)) {
        delete_linked(index, next);
    }
}

/* ---- the first change ------------------------------------------------------------------------*/

/* A fifth more than the mean of rows that have any; small graphs, and rows on a line, need more. */
static uint32_t count_enough(const struct paths *paths)
{
    uint64_t rows = 1, edges = 0;
    for (uint32_t slot = 0; slot < paths->slots; slot++) {
        uint32_t n = paths_count_edges(paths, slot);
        rows += n > 0;
        edges += n;
    }
    uint32_t enough = (uint32_t)MIN(edges * 6 / (rows * 5) + 1, paths->degree);
    return MAX(enough, paths->degree / 2);
}

/* A ring of which no walk finds a row, which only a damaged file has, gets an edge to one. */
static void find_ring(struct owned *owned, struct graph *graph, uint32_t slot, uint64_t *met,
                      uint32_t *queue)
{
    uint32_t linked = slot;
    bool found = false;
    for (uint32_t i = slot; !bitmap_get(met, i); i = owned->same[i]) {
        bitmap_set(met, i);
        found = found || paths_is_linked(&owned->paths, i);
        linked = paths_count_edges(&owned->paths, i) ? i : linked;
    }
    if (found) {
        return;
    }
    if (!paths_hang(&owned->paths, linked, NULL, 0)) {
        owned->entries[0] = owned->paths.parent[linked] = linked;
        graph->n_entries = 1;
    }
    paths_spread(&owned->paths, linked, queue);
}

annex_status mend_start(annex_index *index, struct owned *owned, annex_error *error)
{
    const annex_env *env = &index->env;
    uint32_t n = index->slots, *queue = NULL;
    uint64_t *met = NULL;
    annex_status status;
    TRY_CLEANUP(memory_new_raw(env, n, sizeof *queue, &queue, error));
    TRY_CLEANUP(memory_new(env, bitmap_words(n), sizeof *met, &met, error));
    owned->enough = count_enough(&owned->paths);
    for (uint32_t slot = 0; slot < n; slot++) {
        owned->before[owned->same[slot]] = slot;
        owned->paths.parent[slot] = GRAPH_END;
    }
    for (uint32_t i = 0; i < index->graph.n_entries; i++) {
        owned->paths.parent[owned->entries[i]] = owned->entries[i];
    }
    for (uint32_t i = 0; i < index->graph.n_entries; i++) {
        paths_spread(&owned->paths, owned->entries[i], queue);
    }
    for (uint32_t slot = 0; slot < n; slot++) {
        if (!bitmap_get(met, slot) && index_is_live(index, slot)) {
            find_ring(owned, &index->graph, slot, met, queue);
        }
    }
cleanup:
    memory_free(env, queue, n, sizeof *queue);
    memory_free(env, met, bitmap_words(n), sizeof *met);
    return status;
}
