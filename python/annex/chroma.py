"""Collections of Chroma: `to_chroma` fills one from a database, `from_chroma` reads one back.

    python -m annex.chroma export docs.db chroma/ posts --index posts_idx
    python -m annex.chroma import docs.db chroma/ posts --table posts

Needs the package chromadb (`pip install 'annex[chroma]'`). Items pass through the command annex as
JSON lines, some hundred at a time, whatever their number.

What Chroma has a place for goes there: ids that are texts, vectors, documents, and members of
metadata that are texts, numbers or booleans. The rest, such as an integer key, a nested member or
bytes, is JSON text in one member of metadata, "annex", and comes back from it as it was.

Chroma scales the vectors of a collection whose space is cosine, and gives them back to within a
unit in the last place; in the spaces l2 and ip they come back bit by bit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from annex.__main__ import find_command
from annex.errors import AnnexError, ExistsError, InvalidError, NotFoundError

__all__ = ["from_chroma", "to_chroma"]

_MEMBER = "annex"
_BATCH = 500
_SPACES = {"l2": "l2", "cosine": "cosine", "ip": "ip"}

_Item = Dict[str, Any]


# ---- items of JSON lines and of Chroma -----------------------------------------------------------


def _fits(value: Any) -> bool:
    """Whether Chroma keeps a member of metadata as it is."""
    if isinstance(value, bool) or isinstance(value, str):
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _to_entry(item: _Item) -> Tuple[str, Optional[Dict[str, Any]], Optional[str]]:
    """The id, metadata and document that stand for an item."""
    rest: Dict[str, Any] = {}
    key = item["id"]
    if not isinstance(key, str):
        rest["id"] = key
        key = json.dumps(key)
    if key == "":
        raise InvalidError("Chroma has no empty ids: give the item another key")
    content = item.get("content")
    if content is not None and not isinstance(content, str):
        rest["content"] = content
        content = None
    if "content_hash" in item:
        rest["content_hash"] = item["content_hash"]
    metadata = item.get("metadata")
    members: Dict[str, Any] = {}
    if isinstance(metadata, dict):
        members = {k: v for k, v in metadata.items() if _fits(v) and k != _MEMBER and k}
    if metadata is not None and (not members or len(members) < len(metadata)):
        left = {k: v for k, v in metadata.items() if k not in members} if members else metadata
        rest["metadata"] = left
    if rest:
        members[_MEMBER] = json.dumps(rest)
    return key, members or None, content


def _rest_of(told: Any) -> Dict[str, Any]:
    """What `_to_entry` put into its member; nothing when the member is somebody else's."""
    try:
        rest = json.loads(told) if isinstance(told, str) else {}
    except ValueError:
        return {}
    known = isinstance(rest, dict) and rest.keys() <= {"id", "content", "content_hash", "metadata"}
    return rest if known else {}


def _to_item(
    key: str, vector: Iterable[float], metadata: Optional[Dict[str, Any]], document: Optional[str]
) -> _Item:
    """The reverse."""
    members = dict(metadata or {})
    rest = _rest_of(members.get(_MEMBER))
    if rest:
        del members[_MEMBER]
    left = rest.get("metadata")
    item: _Item = {"id": rest.get("id", key), "embedding": [float(x) for x in vector]}
    content = rest.get("content", document)
    if content is not None:
        item["content"] = content
    if "content_hash" in rest:
        item["content_hash"] = rest["content_hash"]
    if members and isinstance(left, dict):
        members.update(left)
    if members or left is not None:
        item["metadata"] = members or left
    return item


# ---- the command ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _annex(arguments: Sequence[str], **pipes: Any) -> Iterator[subprocess.Popen[str]]:
    """Runs the command beside the block; raises with its sentence when it fails."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [find_command(), *arguments], stderr=said, text=True, encoding="utf-8", **pipes
        )
        try:
            yield process
        except BrokenPipeError:
            pass  # the command has ended, and says why
        except BaseException:
            process.terminate()  # what it has begun is taken back
            process.wait()
            raise
        with contextlib.suppress(BrokenPipeError):
            if process.stdin:
                process.stdin.close()
        if process.stdout:
            process.stdout.close()
        if process.wait() != 0:
            said.seek(0)
            lines = said.read().strip().splitlines() or ["the command annex failed"]
            kind = NotFoundError if process.returncode == 3 else AnnexError
            raise kind(lines[-1].replace("annex: ", "", 1))


def _metric(database: str, index: Optional[str]) -> str:
    arguments = ["info", database, *([index] if index else []), "--json"]
    with _annex(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout
        text = process.stdout.read()
    return str(json.loads(text)["metric"])


def _options(**given: Optional[str]) -> List[str]:
    pairs = ((f"--{name.replace('_', '-')}", value) for name, value in given.items())
    return [word for name, value in pairs if value is not None for word in (name, value)]


# ---- Chroma --------------------------------------------------------------------------------------


def _client(path: Any) -> Any:
    if hasattr(path, "get_collection"):
        return path
    try:
        import chromadb
    except ImportError as error:
        raise ImportError("annex.chroma needs the package: pip install chromadb") from error
    return chromadb.PersistentClient(os.fspath(path))


def _names(client: Any) -> List[str]:
    return [collection.name for collection in client.list_collections()]


def _add(collection: Any, items: Sequence[_Item]) -> None:
    entries = [_to_entry(item) for item in items]
    collection.add(
        ids=[entry[0] for entry in entries],
        embeddings=[item["embedding"] for item in items],
        metadatas=[entry[1] for entry in entries],
        documents=[entry[2] for entry in entries],
    )


def _batches(lines: Iterable[str], size: int) -> Iterator[List[_Item]]:
    batch: List[_Item] = []
    for line in lines:
        batch.append(json.loads(line))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def to_chroma(
    database: str | os.PathLike[str],
    path: Any,
    collection: str,
    *,
    index: Optional[str] = None,
    llm_collection: Optional[str] = None,
    table: Optional[str] = None,
    vector: Optional[str] = None,
    key: Optional[str] = None,
    content: Optional[str] = None,
    metadata: Optional[str] = None,
    where: Optional[str] = None,
    space: Optional[str] = None,
    replace: bool = False,
) -> int:
    """Fills a collection of the Chroma database in the folder `path`; returns how many items.

    `path` may also be a client of chromadb, which needs to be given when one is open that has
    settings of its own.

    The items are those of an index (which need not be named when there is only one, or when
    `database` is an index file), of a collection of llm, or of a table with the columns `vector`,
    `key`, and if wanted `content` and `metadata` (JSON text); `where` is a condition in SQL.
    `space` is l2, cosine or ip: the metric of the index unless given, else cosine.

    The collection appears when it is complete. One that is there raises ExistsError; with
    `replace` it is deleted then.
    """
    database = os.fspath(database)
    if space is None:
        rows = llm_collection or table
        space = "cosine" if rows else _SPACES.get(_metric(database, index), "l2")
    if space not in _SPACES:
        raise InvalidError(f"the space is l2, cosine or ip, not {space!r}")
    client = _client(path)
    if collection in _names(client) and not replace:
        raise ExistsError(f"the collection {collection} exists; replace=True replaces it")
    arguments = ["export", database, *([index] if index else []), "-o", "-", "--quiet"]
    arguments += _options(
        llm_collection=llm_collection, table=table, vector=vector, key=key, content=content,
        metadata=metadata, where=where,
    )
    unfinished = f"annex-unfinished-{os.getpid()}"
    made = client.create_collection(
        unfinished, configuration={"hnsw": {"space": space}}, embedding_function=None
    )
    n = 0
    try:
        with _annex(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout
            for batch in _batches(process.stdout, min(_BATCH, client.get_max_batch_size())):
                _add(made, batch)
                n += len(batch)
        if collection in _names(client):
            client.delete_collection(collection)
        made.modify(name=collection)
    except BaseException:
        client.delete_collection(unfinished)
        raise
    return n


def _read(collection: Any) -> Iterator[_Item]:
    offset = 0
    while True:
        part = collection.get(
            limit=_BATCH, offset=offset, include=["embeddings", "metadatas", "documents"]
        )
        ids = part["ids"]
        if len(ids) == 0:
            return
        for i, key in enumerate(ids):
            yield _to_item(key, part["embeddings"][i], part["metadatas"][i], part["documents"][i])
        offset += len(ids)


def from_chroma(
    path: Any,
    collection: str,
    database: str | os.PathLike[str],
    *,
    table: Optional[str] = None,
    llm_collection: Optional[str] = None,
    model: Optional[str] = None,
    vector: Optional[str] = None,
    key: Optional[str] = None,
    content: Optional[str] = None,
    metadata: Optional[str] = None,
    existing: Optional[str] = None,
) -> int:
    """Puts the items of a Chroma collection into a table, or a collection of llm; returns how many.

    `path` is the folder of the Chroma database, or a client of chromadb.
    The table, or the collection (then of `model`), is made when there is none. `vector`, `key`,
    `content` and `metadata` name columns of the table. `existing` says what happens to an item
    whose key is there: "replace" or "ignore"; otherwise it raises. All is imported, or nothing.
    """
    if existing not in (None, "replace", "ignore"):
        raise InvalidError(f"existing is 'replace' or 'ignore', not {existing!r}")
    client = _client(path)
    if collection not in _names(client):
        raise NotFoundError(f"Chroma has no collection {collection} there")
    source = client.get_collection(collection, embedding_function=None)
    arguments = ["import", os.fspath(database), "-", "--quiet"]
    arguments += [f"--{existing}"] if existing else []
    arguments += _options(
        table=table, llm_collection=llm_collection, model=model, vector=vector, key=key,
        content=content, metadata=metadata,
    )
    n = 0
    with _annex(arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin
        for item in _read(source):
            process.stdin.write(json.dumps(item) + "\n")
            n += 1
    return n


# ---- python -m annex.chroma ----------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m annex.chroma", description="Items of a database to Chroma, and back."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="fill a collection of Chroma")
    back = commands.add_parser("import", help="read a collection of Chroma")
    for command in (export, back):
        command.add_argument("database", help="a SQLite database")
        command.add_argument("path", help="the folder of the Chroma database")
        command.add_argument("collection", help="its collection")
        for name in ("llm-collection", "table", "vector", "key", "content", "metadata"):
            command.add_argument(f"--{name}", help="as annex export and annex import have it")
    export.add_argument("--index", help="the index to export")
    export.add_argument("--where", help="only rows that fulfil this condition in SQL")
    export.add_argument("--space", choices=sorted(_SPACES), help="the metric of the collection")
    export.add_argument("--replace", action="store_true", help="replace the collection")
    back.add_argument("--model", help="that made the vectors, for a new collection of llm")
    back.add_argument("--existing", choices=("replace", "ignore"), help="what is there already")
    return parser


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code."""
    given = vars(_parser().parse_args(arguments))
    work = {"export": to_chroma, "import": from_chroma}[given.pop("command")]
    try:
        print(f"{work(**given)} items")  # type: ignore[operator]
    except (AnnexError, ImportError) as error:
        print(f"annex.chroma: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
