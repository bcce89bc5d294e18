"""What the tests of the Python package share. They run in a virtual environment that has the
package as pip installs it (tools/runtests.py makes it), and see it as its users do."""

import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy

import numpy  # noqa: E402
import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def private_home(tmp_path, monkeypatch):
    """Keeps caches and settings of all programs out of the user's folders."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))


@pytest.fixture
def rows():
    """[600, 24] float32, always the same."""
    return numpy.random.default_rng(7).standard_normal((600, 24), dtype=numpy.float32)


def nearest(rows, query, k):
    """The numbers of the k rows nearest to the query by Euclidean distance, and the distances."""
    distances = numpy.sqrt(((rows.astype("f8") - query.astype("f8")) ** 2).sum(axis=1))
    order = numpy.argsort(distances, kind="stable")[:k]
    return order.tolist(), distances[order]
