"""Many threads, Ctrl-C, progress, and that nothing leaks."""

import gc
import os
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

import annex


def test_searches_from_many_threads__find_the_same(rows):
    index = annex.Index.build(rows, family="graph")
    expected = index.search(rows, 5)[0].tolist()

    def ask(thread):
        order = numpy.random.default_rng(thread).permutation(600)
        return [index.search(rows[i], 5)[0].tolist() == expected[i] for i in order]

    with ThreadPoolExecutor(8) as pool:
        assert all(all(answers) for answers in pool.map(ask, range(8)))


def test_searches_while_others_change_the_index__are_whole(rows):
    """Text keys and filters look at rows by number, which changes move."""
    names = [f"row {i}" for i in range(600)]
    index = annex.Index.build(rows, names, family="graph")
    numbers = annex.Index.build(rows, family="graph")
    end = time.monotonic() + 2
    failures = []

    def change():
        i = 0
        while time.monotonic() < end:
            index.insert(rows[:3] + 50, ["a", "b", "c"])
            numbers.insert(rows[:3] + 50, [601, 602, 603])
            index.delete(["a", "b", "c"])
            numbers.delete([601, 602, 603])
            i += 1
        return i

    def ask(seed):
        random = numpy.random.default_rng(seed)
        while time.monotonic() < end:
            i = int(random.integers(600))
            if index.search(rows[i], 1)[0] != [names[i]]:
                failures.append(i)
            if index.search(rows[i], 9, keys=[names[i], "a"])[0][:1] != [names[i]]:
                failures.append(i)
            if numbers.search(rows[i], 1, keys=[i, 602])[0].tolist() != [i]:
                failures.append(i)
            assert i in numbers and names[i] in index

    with ThreadPoolExecutor(4) as pool:
        changes = pool.submit(change)
        for asked in [pool.submit(ask, seed) for seed in range(3)]:
            asked.result()
        assert changes.result() > 0
    assert failures == []
    index.check()


@pytest.mark.parametrize("what", ["build", "search"])
def test_other_threads_run_while_the_library_works(what):
    """Neither holds a lock of Python: a thread that counts goes on counting."""
    rows = numpy.random.default_rng(1).standard_normal((8000, 64), dtype="f4")
    index = annex.Index.build(rows, family="flat")
    counted = []
    done = threading.Event()

    def count():
        while not done.is_set():
            counted.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    start = time.monotonic()
    if what == "build":
        annex.Index.build(rows, family="graph")
    else:
        index.search(rows, 10, effort=annex.EXACT, threads=1)
    end = time.monotonic()
    done.set()
    thread.join()
    during = [t for t in counted if start < t < end]
    assert len(during) > 20 * (end - start)


def test_closing_while_others_search__waits_for_nobody_and_breaks_nothing(rows):
    big = numpy.tile(rows, (30, 1))
    for _ in range(5):
        index = annex.Index.build(big, family="flat")
        started = threading.Barrier(4)

        def ask():
            started.wait()
            for _ in range(1000):
                try:
                    assert index.search(rows[0], 1, effort=annex.EXACT)[0].tolist() == [0]
                except ValueError as error:
                    assert "closed" in str(error)
                    return
            raise AssertionError("never closed")

        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(ask) for _ in range(3)]
            started.wait()
            time.sleep(0.002)
            index.close()
            for each in asked:
                each.result()


INTERRUPTED = """
import os, signal, sys, threading, time, numpy, annex
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run unattended
rows = numpy.random.default_rng(1).standard_normal((100000, 128), dtype="f4")
if sys.argv[1] == "search":
    index = annex.Index.build(rows, family="flat")
    call = lambda: index.search(rows, 100, effort=annex.EXACT)
else:
    call = lambda: annex.Index.build(rows, family="graph", path="never.annex")
threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
start = time.monotonic()
try:
    call()
except KeyboardInterrupt:
    took = time.monotonic() - start
    assert took < 20, took
    assert not os.listdir(".")
    if sys.argv[1] == "search":
        assert index.search(rows[7], 1)[0].tolist() == [7]
    sys.exit(42)
"""


@pytest.mark.parametrize("what", ["build", "search"])
def test_ctrl_c__ends_what_takes_long_and_leaves_nothing(what, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, what], cwd=folder, timeout=120)
    assert done.returncode == 42


CHANGED = """
import os, signal, sys, threading, numpy, annex
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run unattended
rows = numpy.random.default_rng(1).standard_normal((200000, 32), dtype="f4")
n, step = 2000, {"slices": 100, "one call": 3000}[sys.argv[1]]
index = annex.Index.build(rows[:n], family="graph")
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    for i in range(n, len(rows), step):
        index.insert(rows[i : i + step], range(i, i + step))
except KeyboardInterrupt:
    index.check()
    assert len(index) < len(rows) and (len(index) - n) % step == 0, len(index)
    last = len(index) - 1
    assert index.search(rows[last], 1)[0].tolist() == [last]
    index.insert(rows[last + 1 : last + 2], [last + 1])
    sys.exit(42)
"""


@pytest.mark.parametrize("how", ["slices", "one call"])
def test_ctrl_c__during_inserts_leaves_whole_calls(how):
    done = subprocess.run([sys.executable, "-c", CHANGED, how], timeout=120)
    assert done.returncode == 42


def test_progress__is_called_and_may_end_the_build():
    rows = numpy.random.default_rng(1).standard_normal((8000, 64), dtype="f4")
    calls = []
    annex.Index.build(rows, family="graph", progress=lambda *call: calls.append(call))
    assert len({phase for phase, _, _ in calls}) > 1
    assert all(isinstance(phase, str) and 0 <= done <= total for phase, done, total in calls)

    def stop(phase, done, total):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        annex.Index.build(rows, family="graph", progress=stop)
    with pytest.raises(TypeError):
        annex.Index.build(rows, family="graph", progress=lambda: None)


def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_nothing_leaks__neither_references_nor_memory(rows):
    names = [f"row {i}" for i in range(600)]
    mask = numpy.ones(600, dtype=bool)
    half = rows.astype("f2")
    held = [rows, names, mask, half, None, (), annex.Index]

    def work():
        index = annex.Index.build(rows)
        text = annex.Index.build(half, names)
        for i in range(40):
            index.search(half[:20], 5, mask=mask, stats=annex.SearchStats())
            index.within(rows[i], 3.0, keys=range(200))
            text.search(rows[:20], 5, keys=names[:50])
            text.within(half[i], 3.0)
            index.insert(half[:1], [1000 + i])
            text.delete([names[i]])
            index.vector(3), 3 in index, index.info, repr(text)
            for wrong in (lambda: index.search(rows[:, ::2]), lambda: text.search(rows, mask=mask),
                          lambda: index.insert(rows, [1]), lambda: index.insert(rows[:1], [3]),
                          lambda: annex.Index.build(rows, names[:3]),
                          lambda: annex.Index.build(rows.T),
                          lambda: index.search(rows[0], keys=["a"])):
                with pytest.raises(Exception):
                    wrong()
        with pytest.raises(ZeroDivisionError):
            annex.Index.build(rows, family="graph", progress=lambda *_: 1 / 0)

    work()
    before = [sys.getrefcount(thing) for thing in held]
    blocks, memory = sys.getallocatedblocks(), resident()
    for _ in range(5):
        work()
    gc.collect()
    after = [sys.getrefcount(thing) for thing in held]
    for old, new in zip(before, after):
        # each of these calls happened at least 200 times; immortal objects are not counted
        assert new - old < 100 or old > 2**30
    assert sys.getallocatedblocks() - blocks < 500
    assert resident() - memory < 8 << 20
