/*
 * paths.c - see paths.h.
 */
#include "build/paths.h"

enum { MAX_STEPS = 1000 /* a row that is deeper becomes nobody's parent while others can */ };

#define NO_PATH UINT32_MAX

uint32_t paths_count_edges(const struct paths *paths, uint32_t slot)
{
    const uint32_t *row = paths_row(paths, slot);
    uint32_t n = 0;
    while (n < paths->degree && row[n] != GRAPH_END) {
        n++;
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

bool paths_has_edge(const struct paths *paths, uint32_t from, uint32_t to)
{
    return holds(paths_row(paths, from), paths_count_edges(paths, from), to);
}

/*
 * How many steps it is from a row to its entry; NO_PATH when the way leads through `without`, ends
 * at a row that is leaving, or is longer than `most`.
 */
static uint32_t depth(const struct paths *paths, uint32_t slot, uint32_t without, uint32_t most)
{
    for (uint32_t steps = 0; slot != without && steps <= most; steps++) {
        uint32_t parent = paths->parent[slot];
        if (parent == slot || parent == GRAPH_END) {
            return parent == slot ? steps : NO_PATH;
        }
        slot = parent;
    }
    return NO_PATH;
}

/* Makes the neighbour that links to the row and is nearest to an entry its parent. */
static bool hang_on_neighbour(struct paths *paths, uint32_t slot, uint32_t except)
{
    const uint32_t *row = paths_row(paths, slot);
    uint32_t n = paths_count_edges(paths, slot), least = NO_PATH, parent = GRAPH_END;
    for (uint32_t i = 0; i < n && least > 0; i++) {
        uint32_t from = row[i];
        if (from != except && paths_is_linked(paths, from) && paths_has_edge(paths, from, slot)) {
            uint32_t steps = depth(paths, from, slot, MIN(least, MAX_STEPS));
            parent = steps < least ? from : parent;
            least = MIN(steps, least);
        }
    }
    if (parent != GRAPH_END) {
        paths->parent[slot] = parent;
    }
    return parent != GRAPH_END;
}

bool paths_add(struct paths *paths, uint32_t from, uint32_t to)
{
    uint32_t *row = paths_row(paths, from), n = paths_count_edges(paths, from);
    if (holds(row, n, to)) {
        return true;
    }
    if (n < paths->degree) {
        row[n] = to;
    }
    return n < paths->degree;
}

/* Makes `from` link to `to`; false when all its edges are to children that have no one else. */
static bool make_edge(struct paths *paths, uint32_t from, uint32_t to)
{
    uint32_t *row = paths_row(paths, from), n = paths_count_edges(paths, from);
    if (paths_add(paths, from, to)) {
        return true;
    }
    for (int may_move = 0; may_move < 2; may_move++) {
        for (uint32_t i = n; i-- > 0;) {
            bool child = paths->parent[row[i]] == from && row[i] != from;
            if (!child || (may_move && hang_on_neighbour(paths, row[i], from))) {
                row[i] = to;
                return true;
            }
        }
    }
    return false;
}

static bool hang_on(struct paths *paths, uint32_t slot, uint32_t from, uint32_t most)
{
    if (from == slot || !paths_is_linked(paths, from) ||
        depth(paths, from, slot, most) == NO_PATH || !make_edge(paths, from, slot)) {
        return false;
    }
    paths->parent[slot] = from;
    return true;
}

bool paths_hang(struct paths *paths, uint32_t slot, const uint32_t *near, uint32_t n)
{
    if (hang_on_neighbour(paths, slot, GRAPH_END)) {
        return true;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (hang_on(paths, slot, near[i], MAX_STEPS)) {
            return true;
        }
    }
    /* Rows that are not behind this one have more places than children: one has room. */
    for (uint32_t i = 0; i < paths->slots; i++) {
        paths->room_at = (paths->room_at + 1) % paths->slots;
        if (hang_on(paths, slot, paths->room_at, UINT32_MAX - 1)) {
            return true;
        }
    }
    return false;
}

void paths_leave(struct paths *paths, uint32_t slot, const uint32_t *near, uint32_t n)
{
    const uint32_t *row = paths_row(paths, slot);
    uint32_t edges = paths_count_edges(paths, slot);
    paths->parent[slot] = GRAPH_END; /* rows behind it have no path until they hang elsewhere */
    for (uint32_t i = 0; i < edges; i++) {
        if (paths->parent[row[i]] == slot && row[i] != slot) {
            paths_hang(paths, row[i], near, n);
        }
    }
}

void paths_put(struct paths *paths, uint32_t slot, const uint32_t *ids, uint32_t n)
{
    uint32_t *row = paths_row(paths, slot), edges = paths_count_edges(paths, slot);
    uint32_t list[GRAPH_MAX_DEGREE], count = 0;
    for (uint32_t i = 0; i < edges; i++) { /* children stay, unless they have another parent now */
        bool child = paths->parent[row[i]] == slot && row[i] != slot;
        if (child && (holds(ids, n, row[i]) || !hang_on_neighbour(paths, row[i], slot))) {
            list[count++] = row[i];
        }
    }
    uint32_t n_children = count;
    for (uint32_t i = 0; i < n && count < paths->degree; i++) {
        if (!holds(list, n_children, ids[i])) {
            list[count++] = ids[i];
        }
    }
    memset(row, 0xff, paths->degree * sizeof *row);
    memcpy(row, list, count * sizeof *row);
}

void paths_spread(struct paths *paths, uint32_t slot, uint32_t *queue)
{
    uint32_t n_queue = 0;
    queue[n_queue++] = slot;
    for (uint32_t next = 0; next < n_queue; next++) {
        const uint32_t *row = paths_row(paths, queue[next]);
        for (uint32_t i = 0; i < paths->degree && row[i] != GRAPH_END; i++) {
            if (!paths_is_linked(paths, row[i])) {
                paths->parent[row[i]] = queue[next];
                queue[n_queue++] = row[i];
            }
        }
    }
}
