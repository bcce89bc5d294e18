"""One process of the freshness model: it does what the coordinator says, and checks by itself.

A difference between Annex and brute force is answered as a sentence, never raised: the coordinator
reports it with the seed. Errors that nobody expects are raised and end the run.
"""

import collections
import random
import sqlite3
import time
import traceback

from changes import Changes
from tables import quote
from truth import Truth, difference, order, slack

EXACT = '{"effort":"exact"}'
BUSY = ("locked", "busy")
# What annex_check may find: lost triggers or segments, bad rows, rows that REPLACE removed.
CHECK_FINDS = ("annex_sync", "cannot be indexed", "they are never answered")


class Worker:
    def __init__(self, extension, stop):
        self.extension, self.stop = extension, stop
        self.db = None
        self.kept = []
        self.clear()

    def clear(self):
        self.counts = collections.Counter()  # operations
        self.looks = collections.Counter()
        self.slowest = []

    def open(self, path, annex, recursive, wait_s=5):
        self.db = sqlite3.connect(path, isolation_level=None, timeout=wait_s)
        self.path = path
        if annex:
            self.db.enable_load_extension(True)
            self.db.load_extension(self.extension)
            self.db.enable_load_extension(False)
        self.db.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here
        self.db.execute(f"PRAGMA recursive_triggers = {recursive}")
        self.db.execute("PRAGMA foreign_keys = ON")

    def close(self):
        self.db.close()
        self.db = None

    # ---- writing

    def setup(self, statements):
        for sql, parameters in statements:
            self.db.execute(sql, parameters)

    def scalar(self, sql, parameters=()):
        return self.db.execute(sql, parameters).fetchone()[0]

    def write(self, batch, indexes):
        """Runs changes; answers the first difference that a search in between found."""
        found = None
        for what, statements in batch:
            if what == "search inside":
                found = found or self.check(indexes, statements)
            elif what == "sync inside":
                for index in indexes:
                    self.scalar(f"SELECT {statements}(?)", (index["name"],))
                    self.counts[what] += 1
            elif not self.change(what, statements):
                break
        if self.db.in_transaction:
            self.db.execute("COMMIT")
        return found

    def change(self, what, statements):
        """False when the whole transaction is gone."""
        inside = self.db.in_transaction
        try:
            for sql, parameters in statements:
                self.db.execute(sql, parameters)
            self.counts[what] += 1
        except sqlite3.IntegrityError:
            self.counts[what + " (refused)"] += 1
        return self.db.in_transaction or not inside or what in ("commit", "rollback")

    # ---- what people do to a database

    def names(self, kind, pattern):
        return [name for (name,) in self.db.execute(
            "SELECT name FROM sqlite_schema WHERE type = ? AND name GLOB ? ORDER BY name",
            (kind, pattern))]

    def drop_triggers(self, all_of_them, number):
        triggers = self.names("trigger", "annex_log_*")
        at = number % max(len(triggers), 1)
        for name in triggers if all_of_them else triggers[at:at + 1]:
            self.db.execute(f"DROP TRIGGER {quote(name)}")

    def cut_log(self, condition, number):
        logs = self.names("table", "annex_log_*")
        log = quote(logs[number % len(logs)])  # there is an index, so there is one
        self.db.execute(f"DELETE FROM {log} WHERE {condition.format(log=log)}")

    def rebuild(self, table, body, columns, where, put_back):
        """As migrations do: a new table, a copy, the old one dropped. The triggers go with it, and
        some programs put them back."""
        triggers = self.db.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND "
                                   "tbl_name = ?", (table,)).fetchall()
        self.db.execute("PRAGMA foreign_keys = OFF")
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute('CREATE TABLE "new table"' + body)
        self.db.execute(f'INSERT INTO "new table"({columns}) SELECT {columns} FROM {quote(table)} '
                        f"WHERE {where}")
        self.db.execute(f"DROP TABLE {quote(table)}")
        self.db.execute(f'ALTER TABLE "new table" RENAME TO {quote(table)}')
        for (sql,) in triggers if put_back else []:
            self.db.execute(sql)
        self.db.execute("COMMIT")
        self.db.execute("PRAGMA foreign_keys = ON")

    def backup_to(self, path):
        with sqlite3.connect(path) as copy:
            self.db.backup(copy)
        copy.close()

    def restore_from(self, path):
        copy = sqlite3.connect(path)
        copy.backup(self.db)
        copy.close()

    def create(self, index):
        """A row that is no vector is refused, and named; it is emptied, and the rest is tried."""
        arguments = (index["name"], index["table"], index["column"], index["options"])
        while True:
            try:
                return self.scalar("SELECT annex_create(?, ?, ?, ?)", arguments) and None
            except sqlite3.OperationalError as error:
                why = str(error)
                self.looks["create refused: bad row"] += 1
            truth = Truth(self.db, index)
            good = set(truth.keys)
            bad = [row[:-1] for row in truth.all_rows
                   if row[-1] is not None and row[:-1] not in good]
            if not bad:
                return f"annex_create refuses {index['name']}: {why}"
            match = " AND ".join(f"{quote(column)} IS ?" for column in index["keys"])
            for key in bad:
                self.db.execute(f"UPDATE {quote(index['table'])} "
                                f"SET {quote(index['column'])} = NULL WHERE {match}", key)

    def tend(self, verb, name):
        """annex_sync, annex_optimize, annex_check, annex_drop. Answers what is wrong."""
        try:
            self.scalar(f"SELECT {verb}(?)", (name,))
        except sqlite3.Error as error:
            text = str(error)
            if verb == "annex_check" and any(words in text for words in CHECK_FINDS):
                self.looks["annex_check finds fault"] += 1
                return None
            return f"{verb}: {text}"
        self.counts[verb] += 1
        return None

    # ---- snapshots

    def begin(self, indexes):
        self.db.execute("BEGIN")
        self.kept = indexes
        self.looks["snapshots"] += 1
        return self.check(indexes, 1)

    def end(self):
        self.db.execute("COMMIT")

    def check_snapshot(self, seed):
        self.looks["answers from old snapshots"] += 1
        return self.check(self.kept, seed)

    def refused_in_snapshot(self, name):
        """A sync cannot write from a snapshot that is no longer the newest. In the newest it can,
        and then holds the lock for writing until the transaction ends."""
        before = self.db.total_changes
        try:
            self.scalar("SELECT annex_sync(?)", (name,))
        except sqlite3.OperationalError as error:
            self.counts["sync in an old snapshot refused"] += 1
            # An index of later has no place in the snapshot.
            if not any(word in str(error) for word in (*BUSY, "there is no index")):
                return f"sync in an old snapshot: {error}"
        if self.db.total_changes != before:
            self.db.execute("COMMIT")
            self.db.execute("BEGIN")
            self.scalar("SELECT count(*) FROM sqlite_schema")
        return None

    # ---- searching

    def ask(self, index, function, more, where="", keys=(), options=EXACT):
        """[(key, distance)]"""
        columns = ", ".join(["key", "key2"][:len(index["keys"])])
        start = time.perf_counter(), time.process_time()
        rows = self.db.execute(
            f"SELECT {columns}, distance, plan FROM {function}(?, ?, ?, ?) {where}",
            (index["name"], *more, options, *keys)).fetchall()
        wall, took = time.perf_counter() - start[0], time.process_time() - start[1]
        plan = rows[0][-1] if rows else ""
        self.looks["searches"] += 1
        self.looks["searches of a stale index"] += "stale" in plan
        self.looks["rows compared"] += len(rows)
        if len(self.slowest) < 5 or took > self.slowest[-1][0]:
            self.slowest.append((took, wall, f"{function}, {len(rows)} rows: {plan}"))
            self.slowest = sorted(self.slowest, reverse=True)[:5]
        return [(row[:-2], row[-2]) for row in rows]

    def check(self, indexes, seed):
        """The first difference between the answers and brute force, in one snapshot; or None."""
        rng = random.Random(seed)
        alone = not self.db.in_transaction
        if alone:
            self.db.execute("BEGIN")
        try:
            for index in indexes:
                found = self.check_index(index, rng)
                if found:
                    return f"{index['name']} ({index['options']}) {found}"
            return None
        finally:
            if alone:
                self.db.execute("COMMIT")

    def check_index(self, index, rng):
        truth = Truth(self.db, index)
        numbers, query = truth.query(rng)
        expected = truth.distances(numbers)
        all_rows = self.ask(index, "annex_search", (query, len(expected) + 7))
        found = difference(all_rows, expected, len(expected))
        if found:
            return "k = all: " + found
        k = rng.choice([0, 1, 3, 10, 50])
        answer = self.ask(index, "annex_search", (query, k))
        if answer != all_rows[:k]:
            return f"k = {k}: {difference(answer, expected, k) or 'other rows than k = all'}"
        return (self.check_streamed(index, rng, query, expected, all_rows)
                or self.check_filter(index, rng, query, expected, truth)
                or self.check_within(index, rng, query, expected)
                or self.check_vector(index, rng, truth))

    def check_streamed(self, index, rng, query, expected, all_rows):
        """Without k, rows come as long as they are read: all in order, or, unless the effort is
        exact, each at least once and none twice."""
        if rng.random() < 0.2:
            answer = self.ask(index, "annex_search", (query, None), options=None)
            found = difference(sorted(answer, key=lambda row: (row[1], order(row[0]))),
                               expected, len(expected))
            return found and f"every row, effort as it is: {found}"
        n, skip = rng.choice([0, 1, 5, 40, 300, -1]), rng.choice([0, 0, 3, 50])
        answer = self.ask(index, "annex_search", (query, None), f"LIMIT {n} OFFSET {skip}")
        right = all_rows[skip:] if n < 0 else all_rows[skip:skip + n]
        return None if answer == right else f"LIMIT {n} OFFSET {skip} differs"

    def check_filter(self, index, rng, query, expected, truth):
        firsts = sorted({key[0] for key in truth.keys}, key=lambda part: order((part,)))
        wanted = rng.sample(firsts, rng.choice([0, 1, len(firsts) // 10, len(firsts) // 2,
                                                len(firsts)]) if len(firsts) > 1 else len(firsts))
        wanted = wanted[:4000] + ["no such key"]
        k = rng.choice([1, 5, 5000])
        places = ", ".join(["(?)"] * len(wanted))
        answer = self.ask(index, "annex_search", (query, k), f"WHERE key IN (VALUES {places})",
                          wanted)
        chosen = set(wanted)
        among = {key: distance for key, distance in expected.items() if key[0] in chosen}
        found = difference(answer, among, k)
        return found and f"key IN ({len(wanted)} keys), k = {k}: {found}"

    def check_within(self, index, rng, query, expected):
        """The limit is set into a gap, where rounding does not matter."""
        steps = sorted(set(expected.values()))
        gaps = [(a + b) / 2 for a, b in zip(steps, steps[1:]) if b - a > 4 * slack(expected)]
        limit = rng.choice(gaps) if gaps else 1e9
        answer = self.ask(index, "annex_within", (query, limit))
        inside = {key: distance for key, distance in expected.items() if distance < limit}
        found = difference(answer, inside, len(inside))
        return found and f"annex_within {limit}: {found}"

    def check_vector(self, index, rng, truth):
        if not truth.keys:
            return None
        at = rng.randrange(len(truth.keys))
        places = ", ".join("?" * len(index["keys"]))
        value = self.scalar(f"SELECT annex_vector(?, {places})",
                            (index["name"], *truth.keys[at]))
        if index["form"] == "bits":
            return None if value is not None else f"annex_vector has no {truth.keys[at]}"
        right = truth.matrix[at].astype("<f4").tobytes()
        return None if value == right else f"annex_vector gives another one for {truth.keys[at]}"

    # ---- all at once

    def free_write(self, world, seed, n, tends):
        """n changes in transactions of its own, while others do the same."""
        rng, indexes = random.Random(seed), world.spec()
        changes = Changes(world, rng)
        done = 0
        while done < n:
            size = rng.randint(1, 20)
            self.retry(lambda: self.db.execute("BEGIN IMMEDIATE"))
            for _ in range(size):
                what, statements = changes.one()
                if not self.change(what, statements):
                    break
            done += size
            if self.db.in_transaction:
                self.retry(lambda: self.db.execute(rng.choice(["COMMIT"] * 5 + ["ROLLBACK"])))
            if tends and rng.random() < 0.1:
                verb = rng.choice(["annex_sync"] * 4 + ["annex_optimize"])
                self.retry(lambda: self.scalar(f"SELECT {verb}(?)", (rng.choice(indexes)["name"],)))
                self.counts[verb] += 1
            elif not tends and rng.random() < 0.02:
                self.retry(rng.choice([
                    lambda: self.drop_triggers(False, rng.randrange(99)),
                    lambda: self.rebuild(*world.rebuild(rng))]))
                self.counts["triggers lost while others write"] += 1
        return None

    def free_read(self, indexes, seed):
        """Snapshots of its own choice until the writers are done, each asked two or three times."""
        rng = random.Random(seed)
        checked = 0
        while not self.stop.is_set() or checked < 3:
            found = self.retry(lambda: self.free_snapshot(indexes, rng))
            if found:
                return found
            checked += 1
            if rng.random() < 0.03:
                self.retry(lambda: self.scalar("SELECT annex_sync(?)",
                                               (rng.choice(indexes)["name"],)))
                self.counts["annex_sync"] += 1
        self.looks["checks while others write"] += checked
        return None

    def free_snapshot(self, indexes, rng):
        self.db.execute("BEGIN")
        try:
            for _ in range(rng.choice([1, 1, 2, 3])):
                found = self.check(indexes, rng.randrange(2 ** 32))
                if found:
                    return found
                time.sleep(rng.choice([0, 0, 0.01]))
            return None
        finally:
            if self.db.in_transaction:
                self.db.execute("COMMIT")

    def retry(self, action):
        """Again and again while somebody else holds a lock; what was begun is rolled back."""
        inside = self.db.in_transaction
        deadline = time.monotonic() + 60
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                if self.db.in_transaction and not inside:
                    self.db.execute("ROLLBACK")
                locked = any(word in str(error) for word in BUSY)
                if not locked or time.monotonic() > deadline:
                    raise
                self.looks["busy"] += 1
                time.sleep(0.002)


def serve(pipe, extension, stop):
    """The life of a process: (method, arguments) in, (difference or result, error) out."""
    worker = Worker(extension, stop)
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        if method == "report":
            pipe.send(((worker.counts, worker.looks, worker.slowest), None))
            worker.clear()
            continue
        try:
            pipe.send((getattr(worker, method)(*arguments), None))
        except Exception:  # whatever it is, the coordinator wants to know
            text = traceback.format_exc()
            if worker.db is not None and worker.db.in_transaction:
                worker.db.execute("ROLLBACK")  # nobody shall wait for it
            pipe.send((None, f"{method}: {text}"))
