#!/usr/bin/env python3
"""Compare the functions of sqlite3_annex_vec_init with sqlite-vec itself, on random arguments.

    tools/vec_compare.py [--build build] [--cases 20000] [--seed 1]

Each case is one call, with vectors of every type and length, as JSON of every kind of looseness, or
with what is no vector at all. Both must give the same bytes, the same subtype and type, the same
words of refusal, and distances that agree to a few units of f32. The differences that docs/VEC.md
explains are counted apart. sqlite-vec comes from PyPI into a virtual environment in the build
directory. Fails when there is any other difference.
"""

import argparse
import math
import os
import random
import sqlite3
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

PACKAGE = "sqlite-vec==0.1.9"
PYTHON = "/usr/bin/python3"  # some others are built without extensions for SQLite
ONE = ("vec_f32", "vec_int8", "vec_bit", "vec_length", "vec_type", "vec_to_json", "vec_normalize",
       "vec_quantize_binary", "vec_each")
TWO = ("vec_add", "vec_sub", "vec_distance_l2", "vec_distance_l1", "vec_distance_cosine",
       "vec_distance_hamming")
WRAPPERS = ("{}", "{}", "vec_f32({})", "vec_int8({})", "vec_bit({})")
NUMBERS = ("0", "1", "-1", "127", "-128", "128", "0.5", ".25", "-.5", "3.", "1e2", "1E-3", "+7",
           "16777217", "0.1", "1e-310", "1e39", "1e400", "0x1f", "nan", "-inf", "--1", "e", "")
SEPARATORS = (",", ",", ",", ", ", " ", ",,", "\n", "\t,\r", ";", "\v", "][", "")
LENGTHS = (0, 1, 2, 3, 7, 8, 8, 9, 16, 31, 32, 100)


def random_json(rng):
    small = rng.random() < 0.7  # most are vectors
    numbers = NUMBERS[:14] if small else NUMBERS
    separators = SEPARATORS[:6] if small else SEPARATORS
    text = "".join(rng.choice(numbers) + rng.choice(separators) for _ in range(rng.choice(LENGTHS)))
    start, end = rng.choice(("[", "[", "[", " \n[", "", "{")), rng.choice(("]", "]", "] x", ""))
    return start + text + end


def random_argument(rng):
    kind = rng.random()
    if kind < 0.45:
        return random_json(rng)
    if kind < 0.5:
        return rng.choice((None, 0, 1.5, "", b"", "text"))
    n = rng.choice(LENGTHS)
    if kind < 0.85:
        scale = rng.choice((1, 1, 1, 1e-20, 1e6))
        return struct.pack(f"<{n}f", *(rng.choice((0, 1, rng.gauss(0, scale))) for _ in range(n)))
    return rng.randbytes(n)


def shuffled(rng, argument):
    """One that matches it: the same elements in another order, if it is a blob of f32."""
    if not isinstance(argument, bytes) or len(argument) % 4:
        return argument
    elements = [argument[i : i + 4] for i in range(0, len(argument), 4)]
    return b"".join(rng.sample(elements, len(elements)))


def random_case(rng):
    """(SQL, arguments) of one call."""
    name = rng.choice((*ONE, *TWO, *TWO, "vec_slice", "vec_quantize_int8"))
    wrapper = rng.choice(WRAPPERS)
    first, second = wrapper.format("?1"), rng.choice((*3 * [wrapper], *WRAPPERS)).format("?2")
    arguments = [random_argument(rng), random_argument(rng)]
    if rng.random() < 0.8:
        arguments[1] = shuffled(rng, arguments[0])
    rest = {
        **dict.fromkeys(TWO, f", {second}"),
        "vec_slice": f", {rng.randint(-1, 17)}, {rng.randint(-1, 17)}",
        "vec_quantize_int8": ", " + rng.choice(("NULL", "1", "'max'", *5 * ["'unit'"])),
    }
    call = f"{name}({first}{rest.get(name, '')})"
    if name == "vec_each":
        return f"SELECT rowid, value FROM {call} WHERE ?2 IS ?2", arguments
    return f"SELECT {call}, subtype({call}), typeof({call}) WHERE ?2 IS ?2", arguments


def outcome(db, sql, arguments):
    try:
        return db.execute(sql, arguments).fetchall()
    except sqlite3.Error as error:
        return str(error)


def agree(a, b):
    """Whether two results are the same, distances to a few units of f32."""
    if a == b:
        return True
    if isinstance(a, str) or isinstance(b, str) or len(a) != len(b):
        return False
    return all(
        isinstance(x, float) and isinstance(y, float) and math.isclose(x, y, rel_tol=1e-5,
                                                                       abs_tol=1e-6)
        for row_a, row_b in zip(a, b) for x, y in zip(row_a, row_b) if x != y
    )


def squares_leave_f32(db, arguments):
    """Whether an argument, as f32, has an element whose square has no f32, or few digits."""
    for argument in arguments:
        blob = outcome(db, "SELECT vec_f32(?)", (argument,))
        if not isinstance(blob, str):
            elements = struct.unpack(f"<{len(blob[0][0]) // 4}f", blob[0][0])
            if any(x and not 1e-16 < abs(x) < 1e18 for x in elements):
                return True
    return False


def explanation(db, sql, arguments, ours, theirs):
    """Which of the differences in docs/VEC.md this is, or None."""
    if isinstance(ours, str) and ours.endswith((" is NaN", " is Inf")):
        return "NaN and infinity refused"
    if isinstance(ours, str) and theirs == "SQL logic error":
        return "vec_each says what is wrong"
    if "vec_distance" in sql and squares_leave_f32(db, arguments):
        return "squares that f32 does not have"
    return None


def load(path, entry_point):
    db = sqlite3.connect(":memory:")
    db.enable_load_extension(True)
    db.execute("SELECT load_extension(?, ?)", (str(path), entry_point)).fetchone()
    return db


def compare(library, peer, cases, seed):
    """Prints what was found; the exit status."""
    rng = random.Random(seed)
    ours, theirs = load(library, "sqlite3_annex_vec_init"), load(peer, "sqlite3_vec_init")
    counts = Counter()
    for _ in range(cases):
        sql, arguments = random_case(rng)
        a, b = outcome(ours, sql, arguments), outcome(theirs, sql, arguments)
        counts["refused" if isinstance(a, str) else "answered"] += 1
        if not agree(a, b):
            why = explanation(ours, sql, arguments, a, b)
            counts[why or "unexplained"] += 1
            if why is None and counts["unexplained"] <= 20:
                print(f"{sql}\n    {arguments}\n    Annex      {a}\n    sqlite-vec {b}")
    found = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
    print(f"{cases} calls compared with sqlite-vec {PACKAGE[-5:]}, seed {seed}: {found}")
    return 1 if counts["unexplained"] else 0


def main():
    if not hasattr(sqlite3.Connection, "enable_load_extension") and sys.executable != PYTHON:
        os.execv(PYTHON, [PYTHON, *sys.argv])
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", default="build", help="build directory (build)")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    build = Path(arguments.build).resolve()
    folder = build / "vec-compare"
    if not (folder / "complete").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, PACKAGE]
        subprocess.run(command, check=True)
        (folder / "complete").touch()
    peer = folder / "sqlite_vec" / "vec0"
    return compare(build / "annex.so", peer, arguments.cases, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
