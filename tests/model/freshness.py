#!/usr/bin/python3
"""The freshness model: whatever is done to a database, by whom and in which order, an answer is
that of brute force over what a plain SELECT sees in the same snapshot.

    tests/model/freshness.py [--seed N] [--operations N] [--processes N] [--world N]

A run is a series of worlds. Each is a new database: a table (keys, vectors, journal, page size are
drawn from the seed), one to three indexes on it, a writer without Annex, a writer with Annex, and
readers with Annex, each a process. The coordinator draws a batch of changes, has a writer run it,
now and then does something to the database (EVENTS), and has every reader check itself (worker.py):
all rows, few rows, LIMIT, key filters, annex_within, at effort "exact". Readers of a WAL database
keep snapshots over many batches and are asked again inside them. Processes take turns, so that a
seed names a history; only the last part of each world is a free-running one, in which two writers
and all readers are busy at once.

Prints TAP, one test for each world, then what was covered. BUILD is taken from ANNEX_BUILD.
"""

import argparse
import collections
import math
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from changes import Changes
from tables import NAMES, World, quote
from worker import serve

ROOT = Path(__file__).resolve().parent.parent.parent
EXTENSION = Path(os.environ.get("ANNEX_BUILD", ROOT / "build")).resolve() / "annex.so"
WORLD_OPERATIONS = 2500
FREE_SHARE = 0.2


class Difference(Exception):
    """An answer that is not that of brute force, or an error nobody expects."""


class Process:
    """A worker, and the pipe to it. `call` waits; `send` and `wait` let several work at once."""

    def __init__(self, context, name, annex, stop):
        self.name, self.annex = name, annex
        self.pipe, other = context.Pipe()
        arguments = (other, str(EXTENSION), stop)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.snapshot = False

    def send(self, method, *arguments):
        self.pipe.send((method, arguments))

    def wait(self):
        try:
            result, error = self.pipe.recv()
        except EOFError:
            raise Difference(f"{self.name} died") from None
        if error:
            raise Difference(f"{self.name}: {error}")
        return result

    def call(self, method, *arguments):
        self.send(method, *arguments)
        return self.wait()

    def must(self, method, *arguments):
        """For what answers a sentence when it is not as it should be."""
        found = self.call(method, *arguments)
        if found:
            raise Difference(f"{self.name}: {found}")


class History:
    """One world from its creation to its end."""

    def __init__(self, number, seed, processes, stop, folder):
        self.rng = random.Random(f"{seed}/{number}")
        self.stop = stop
        self.plain, self.annex, *self.readers = processes
        self.writers = [self.plain, self.annex]
        self.world = World(self.rng)
        self.changes = Changes(self.world, self.rng)
        self.copies = 0
        self.path = str(folder / f"world{number}.db")
        self.backup = None
        self.done = 0
        self.log = collections.deque(maxlen=12)
        self.counts = collections.Counter()

    # ---- life

    def run(self):
        self.open_all(first=True)
        while self.done < WORLD_OPERATIONS * (1 - FREE_SHARE):
            self.step()
        self.end_snapshots()
        self.check_all()
        self.run_free()
        self.check_all()
        for index in self.world.indexes:
            self.annex.must("tend", "annex_optimize", index["name"])
            self.annex.must("tend", "annex_check", index["name"])
        self.check_all()
        self.close_all()

    def open_all(self, first=False):
        for process in (*self.writers, *self.readers):
            process.call("open", self.path, process.annex, self.world.recursive)
            process.snapshot = False
            if first and process is self.plain:
                self.create()

    def close_all(self):
        for process in (*self.writers, *self.readers):
            process.call("close")

    def create(self):
        world = self.world
        statements = [(f"PRAGMA page_size = {world.page_bytes}", ()),
                      (f"PRAGMA encoding = '{world.encoding}'", ()),
                      (f"PRAGMA auto_vacuum = {world.vacuum}", ()),
                      (f"PRAGMA journal_mode = {world.journal}", ())]
        if world.kind.parents:
            statements.append(("CREATE TABLE parents(id INTEGER PRIMARY KEY)", ()))
            statements += [("INSERT INTO parents VALUES (?)", (i,)) for i in range(8)]
        statements.append((f"CREATE TABLE {quote(world.table)}{world.kind.create()}", ()))
        self.plain.call("setup", statements)
        self.plain.call("write", [("begin", [("BEGIN", ())])]
                        + [self.changes.insert() for _ in range(world.space // 2)], [])
        self.annex.call("open", self.path, True, world.recursive)
        for index in world.spec():
            self.annex.must("create", index)
        self.annex.call("close")

    def step(self):
        rng = self.rng
        writer = rng.choice(self.writers)
        batch = self.changes.batch(rng.choice([5, 30, 60, 90]), writer is self.annex)
        self.note(f"{writer.name} writes {len(batch)}")
        writer.must("write", batch, self.world.spec())
        self.done += sum(1 for what, _ in batch if what != "search inside")
        if rng.random() < 0.35:
            event = rng.choice(EVENTS)
            self.note(f"{event.__name__}")
            event(self)
            self.counts[event.__name__.replace("_", " ")] += 1
            self.done += 1
        self.turn_snapshots()
        self.check_all()

    def run_free(self):
        """Everybody at once; in a rollback journal nobody reads while somebody commits."""
        self.stop.clear()
        self.close_all()
        for process in (*self.writers, *self.readers):
            process.call("open", self.path, process.annex, self.world.recursive, 0.05)
        n = int(WORLD_OPERATIONS * FREE_SHARE / 2)
        for writer in self.writers:
            writer.send("free_write", self.world, self.rng.random(), n, writer.annex)
        for reader in self.readers:
            reader.send("free_read", self.world.spec(), self.rng.random())
        found = []
        for process in (*self.writers, *self.readers):
            try:
                answer = process.wait()
                found += [f"{process.name} while others write: {answer}"] if answer else []
            except Difference as difference:
                found.append(str(difference))
            if process is self.annex:
                self.stop.set()
        if found:
            raise Difference("; ".join(found))
        self.done += 2 * n
        self.close_all()
        self.open_all()

    # ---- checks

    def note(self, text):
        self.log.append(text)

    def check_all(self):
        """Readers at once, each in its snapshot; the writer with Annex now and then."""
        seed = self.rng.randrange(2 ** 32)
        for reader in self.readers:
            if reader.snapshot:
                reader.send("check_snapshot", seed)
            else:
                reader.send("check", self.world.spec(), seed)
        found = [(reader, reader.wait()) for reader in self.readers]
        if self.rng.random() < 0.3:
            found.append((self.annex, self.annex.call("check", self.world.spec(), seed)))
        for process, answer in found:
            if answer:
                old = ", old snapshot" if process.snapshot else ""
                raise Difference(f"{process.name}{old}: {answer}")

    def turn_snapshots(self):
        for reader in self.readers:
            if reader.snapshot and self.rng.random() < 0.25:
                reader.call("end")
                reader.snapshot = False
            elif not reader.snapshot and self.world.journal == "wal" and self.rng.random() < 0.25:
                reader.must("begin", self.world.spec())
                reader.snapshot = True

    def end_snapshots(self):
        for reader in self.readers:
            if reader.snapshot:
                reader.call("end")
                reader.snapshot = False

    def free_process(self):
        """Somebody with Annex who is not inside an old snapshot."""
        return self.rng.choice([self.annex] + [r for r in self.readers if not r.snapshot])

    def index(self):
        return self.rng.choice(self.world.indexes)

    def mend(self):
        """Syncs everything, as somebody does who reads why an index is stale."""
        for index in self.world.indexes:
            self.annex.must("tend", "annex_sync", index["name"])


# ---- what is done to a database besides changing rows

def sync(h):
    h.free_process().must("tend", "annex_sync", h.index()["name"])


def optimize(h):
    h.free_process().must("tend", "annex_optimize", h.index()["name"])


def check(h):
    h.free_process().must("tend", "annex_check", h.index()["name"])


def sync_in_old_snapshot(h):
    for reader in h.readers:
        if reader.snapshot:
            reader.must("refused_in_snapshot", h.index()["name"])


def list_indexes(h):
    h.free_process().call("scalar", "SELECT count(*) FROM annex_indexes")


def integrity_check(h):
    answer = h.rng.choice(h.writers).call("scalar", "PRAGMA integrity_check")
    if answer != "ok":
        raise Difference(f"integrity_check: {answer}")


def vacuum(h):
    h.rng.choice(h.writers).call("setup", [("VACUUM", ())])


def vacuum_into(h):
    """Everybody goes on with the copy."""
    h.end_snapshots()
    h.copies += 1
    path = f"{h.path}.{h.copies}"
    h.rng.choice(h.writers).call("setup", [("VACUUM INTO ?", (path,))])
    h.close_all()
    h.path = path
    h.backup = None
    h.open_all()
    if h.world.journal == "wal":
        h.plain.call("scalar", "PRAGMA journal_mode = wal")


def take_backup(h):
    h.end_snapshots()
    h.copies += 1
    path = f"{h.path}.{h.copies}"
    h.rng.choice(h.writers).call("backup_to", path)
    world = h.world
    h.backup = (path, world.table, list(world.indexes), dict(world.names), world.journal)


def restore_backup(h):
    """Over the database that everybody has open, or by opening the copy instead."""
    if h.backup is None:
        return
    h.end_snapshots()
    path, h.world.table, indexes, names, journal = h.backup
    h.world.indexes, h.world.names = list(indexes), dict(names)
    if journal == h.world.journal and h.rng.random() < 0.6:
        h.rng.choice(h.writers).call("restore_from", path)
    else:
        h.close_all()
        h.path, h.world.journal, h.backup = path, journal, None
        h.open_all()


def rename_table(h):
    """SQLite tells of it in the triggers, so these are made good first, and a sync writes the new
    name down before they can be lost again."""
    h.mend()
    name = h.rng.choice([name for name in NAMES if name != h.world.table])
    h.rng.choice(h.writers).call("setup", [
        (f"ALTER TABLE {quote(h.world.table)} RENAME TO {quote(name)}", ())])
    h.world.table = name
    h.check_all()
    h.mend()


def rename_table_and_back(h):
    table, writer = quote(h.world.table), h.rng.choice(h.writers)
    writer.call("setup", [(f'ALTER TABLE {table} RENAME TO "for a moment"', ()),
                          (f'ALTER TABLE "for a moment" RENAME TO {table}', ())])


def rename_column(h):
    """Of the key, the vectors, the condition, or none of them; see rename_table."""
    h.mend()
    column = h.rng.choice(list(h.world.names))
    name = h.rng.choice([column, column + "2", column + ' "x"'])
    if name == h.world.names[column]:
        return
    h.rng.choice(h.writers).call("setup", [
        (f"ALTER TABLE {quote(h.world.table)} RENAME COLUMN {quote(h.world.names[column])} "
         f"TO {quote(name)}", ())])
    h.world.names[column] = name
    h.check_all()
    h.mend()


def add_and_drop_column(h):
    table, writer = quote(h.world.table), h.rng.choice(h.writers)
    writer.call("setup", [(f"ALTER TABLE {table} ADD COLUMN more DEFAULT 7", ())])
    h.check_all()
    if h.rng.random() < 0.5:
        writer.call("setup", [(f"ALTER TABLE {table} DROP COLUMN more", ())])
    else:
        writer.call("rebuild", *h.world.rebuild(h.rng))


def rebuild_table(h):
    h.rng.choice(h.writers).call("rebuild", *h.world.rebuild(h.rng))


def rolled_back_rebuild(h):
    table = quote(h.world.table)
    h.rng.choice(h.writers).call("setup", [
        ("BEGIN", ()), (f"DELETE FROM {table}", ()), (f"DROP TABLE {table}", ()), ("ROLLBACK", ())])


def rolled_back_schema_change(h):
    """The number of the schema comes again, for another schema: one that lacks a trigger."""
    table = quote(h.world.table)
    h.annex.call("setup", [("BEGIN", ()), (f"ALTER TABLE {table} ADD COLUMN more", ())])
    h.annex.must("check", h.world.spec(), h.rng.randrange(2 ** 32))
    h.annex.call("setup", [("ROLLBACK", ())])
    h.plain.call("drop_triggers", False, h.rng.randrange(99))
    h.plain.must("write", [h.changes.one() for _ in range(10)], h.world.spec())
    h.annex.must("check", h.world.spec(), h.rng.randrange(2 ** 32))


def drop_trigger(h):
    h.rng.choice(h.writers).call("drop_triggers", h.rng.random() < 0.3, h.rng.randrange(99))


def cut_log(h):
    condition = h.rng.choice(["1", "seq < (SELECT max(seq) FROM {log})",
                              "seq = (SELECT min(seq) FROM {log})"])
    h.rng.choice(h.writers).call("cut_log", condition, h.rng.randrange(99))


def lose_segments(h):
    h.rng.choice(h.writers).call("setup", [
        (f"DELETE FROM {h.rng.choice(['annex_segment', 'annex_part'])}", ())])


def delete_everything(h):
    h.rng.choice(h.writers).must("write", [h.changes.delete_all()]
                                 + [h.changes.one() for _ in range(40)], h.world.spec())
    h.done += 41


def analyze_and_index(h):
    table, lang = quote(h.world.table), quote(h.world.names["lang"])
    h.rng.choice(h.writers).call("setup", [
        ("ANALYZE", ()), (f"CREATE INDEX IF NOT EXISTS by_lang ON {table}({lang})", ()),
        ("REINDEX", ()), ("DROP INDEX by_lang", ())])


def switch_journal(h):
    h.end_snapshots()
    h.close_all()
    h.plain.call("open", h.path, False, h.world.recursive)
    h.world.journal = h.plain.call("scalar", "PRAGMA journal_mode = "
                                   + h.rng.choice(["wal", "delete", "truncate", "persist"]))
    h.plain.call("close")
    h.open_all()


def checkpoint(h):
    h.rng.choice(h.writers).call("scalar", "PRAGMA wal_checkpoint(PASSIVE)")


def toggle_recursive_triggers(h):
    h.world.recursive = 1 - h.world.recursive
    for writer in h.writers:
        writer.call("setup", [(f"PRAGMA recursive_triggers = {h.world.recursive}", ())])


def drop_and_create_index(h):
    at = h.rng.randrange(len(h.world.indexes))
    h.annex.must("tend", "annex_drop", h.world.indexes[at]["name"])
    h.world.indexes[at] = h.world.index(h.rng)
    h.annex.must("create", h.world.spec()[at])


def drop_and_create_index_of_one_name(h):
    """A reader that keeps the old one in memory must not take it for the new one."""
    at = h.rng.randrange(len(h.world.indexes))
    name = h.world.indexes[at]["name"]
    h.annex.must("tend", "annex_drop", name)
    h.world.indexes[at] = dict(h.world.index(h.rng), name=name)
    h.annex.must("create", h.world.spec()[at])


def rename_index(h):
    at = h.rng.randrange(len(h.world.indexes))
    old = h.world.indexes[at]["name"]
    new = f"{old}x" if len(old) < 12 else f"idx{at}r"
    h.annex.call("scalar", "SELECT annex_rename(?, ?)", (old, new))
    h.world.indexes[at] = dict(h.world.indexes[at], name=new)


EVENTS = [sync] * 10 + 2 * [
    optimize, check, sync_in_old_snapshot, drop_trigger, rename_column, rebuild_table,
    rebuild_table, take_backup, restore_backup] + [
    list_indexes, integrity_check, vacuum, vacuum_into, rename_table, rename_table_and_back,
    add_and_drop_column, rolled_back_rebuild, rolled_back_schema_change, cut_log, lose_segments,
    delete_everything, analyze_and_index, switch_journal, checkpoint, toggle_recursive_triggers,
    drop_and_create_index, drop_and_create_index_of_one_name, rename_index]


# ---- the run

def print_counts(title, counts):
    print(f"# {title}")
    for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        print(f"#   {n:>10,}  {name}")


def start(processes):
    """The writers and readers, each a process; and the flag that ends the free-running part."""
    context = multiprocessing.get_context("fork")
    names = [("writer without Annex", False), ("writer with Annex", True)]
    names += [(f"reader {i + 1}", True) for i in range(processes - 2)]
    stop = context.Event()
    return [Process(context, name, annex, stop) for name, annex in names], stop


class Report:
    """What all worlds together have done."""

    def __init__(self):
        self.changes, self.looks = collections.Counter(), collections.Counter()
        self.events, self.worlds = collections.Counter(), collections.Counter()
        self.slowest = []
        self.failed = 0

    def add(self, history, processes):
        self.events += history.counts
        self.worlds[f"keys: {type(history.world.kind).__name__}"] += 1
        self.worlds[f"vectors: {history.world.form}"] += 1
        self.worlds[f"journal at the end: {history.world.journal}"] += 1
        for process in processes:
            counts, looks, slow = process.call("report")
            self.changes += counts
            self.looks += looks
            self.slowest = sorted(self.slowest + slow, reverse=True)[:5]

    def print(self, seed, n_worlds, seconds):
        operations = sum(self.changes.values()) + sum(self.events.values())
        refused = sum(n for what, n in self.changes.items() if what.endswith("(refused)"))
        print_counts("changes", self.changes)
        print_counts("events", self.events)
        print_counts("searches", self.looks)
        print_counts("worlds", self.worlds)
        print("# searches that took most processor time, and how long they took")
        for took, wall, what in self.slowest:
            print(f"#   {1000 * took:>8.1f} ms {1000 * wall:>8.1f} ms  {what}")
        print(f"# seed {seed}: {operations:,} operations ({refused:,} of them refused by a "
              f"constraint), {n_worlds} worlds, {self.failed} differences, {seconds:.0f} s")


def run_world(number, arguments, report):
    folder = Path(tempfile.mkdtemp(prefix="annex-model-"))
    processes, stop = start(arguments.processes)
    history = History(number, arguments.seed, processes, stop, folder)
    name = f"world {number} of seed {arguments.seed}: {history.world}"
    began = time.time()
    try:
        history.run()
        report.add(history, processes)
        shutil.rmtree(folder)
        print(f"ok {number + 1} - {name} ({time.time() - began:.1f} s)", flush=True)
    except Difference as difference:
        report.failed += 1
        print(f"not ok {number + 1} - {name}")
        print(f"#   after {history.done} operations: {difference}")
        print(f"#   last: {'; '.join(history.log)}\n#   kept: {folder}", flush=True)
    for process in processes:
        process.process.kill()
        process.process.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=int(os.environ.get("ANNEX_SEED", "1")))
    parser.add_argument("--operations", type=int, default=10000, help="about so many")
    parser.add_argument("--processes", type=int, default=6, help="two writers, the rest readers")
    parser.add_argument("--world", type=int, help="only this one")
    arguments = parser.parse_args()
    worlds = range(max(1, math.ceil(arguments.operations / WORLD_OPERATIONS)))
    if arguments.world is not None:
        worlds = [arguments.world]
    report, began = Report(), time.time()
    with tempfile.TemporaryDirectory(prefix="annex-model-cache-") as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        print(f"1..{len(worlds)}", flush=True)
        for number in worlds:
            run_world(number, arguments, report)
    report.print(arguments.seed, len(worlds), time.time() - began)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
