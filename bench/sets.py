"""Which data sets are measured: HDF5 files that are named, or those beside the repository."""

import pathlib

DEFAULT = pathlib.Path(__file__).resolve().parent.parent.parent / "shared" / "data"
NONE = f"no data set: name HDF5 files, or put some into {DEFAULT}"


def find(named):
    for path in named:
        if not path.is_file():
            raise SystemExit(f"there is no file {path}")
    return named or sorted(DEFAULT.glob("*.hdf5"))


def need(named):
    """The same where there is nothing to do without any."""
    paths = find(named)
    if not paths:
        raise SystemExit(NONE)
    return paths
