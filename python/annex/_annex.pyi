"""The C module. Its only caller is this package, which has the documentation."""

from typing import Any, Callable, Dict, List, Optional, Tuple, Union

_Keys = Any  # None, a buffer of int64, or bytes with the buffer of uint64 that says where each ends
_Progress = Optional[Callable[[str, int, int], object]]
# effort, recall, threads, max_scan, timeout in seconds, keys and their ends, mask
_Request = Tuple[int, float, int, int, float, _Keys, Any, Any]
_Stats = Tuple[int, int, int, int, int]
_Names = Optional[List[Optional[bytes]]]

def version() -> str:
    """The version of the library, "0.1.0"."""

def isa() -> str:
    """The kernels in use: "ref", "avx2", "avx512", "avx512vnni" or "neon"."""

def distances(metric: str, dimension: int, query: Any, rows: Any, room: Any, /) -> None: ...

class Index:
    @classmethod
    def build(
        cls,
        vectors: Any,
        keys: _Keys,
        key_ends: Any,
        dimension: int,
        metric: str,
        path: Optional[str],
        family: str,
        raw: str,
        codes: str,
        degree: int,
        effort: int,
        threads: int,
        max_memory_bytes: int,
        seed: int,
        progress: _Progress,
        /,
    ) -> Index: ...
    @classmethod
    def open(cls, path: str, flags: int, /) -> Index: ...
    def info(self) -> Dict[str, Any]: ...
    def close(self) -> None: ...
    def search(
        self, queries: Any, k: int, keys: Any, distances: Any, found: Any, request: _Request, /
    ) -> Tuple[_Names, _Stats]: ...
    def within(
        self, query: Any, distance: float, request: _Request, /
    ) -> Tuple[Union[bytearray, _Names], bytearray, _Stats]: ...
    def insert(self, vectors: Any, keys: _Keys, key_ends: Any, /) -> None: ...
    def update(self, vectors: Any, keys: _Keys, key_ends: Any, /) -> None: ...
    def delete(self, keys: _Keys, key_ends: Any, /) -> None: ...
    def save(self, path: str, /) -> None: ...
    def check(self) -> None: ...
    def vector(self, key: Union[int, bytes], room: Any, /) -> None: ...
    def contains(self, key: Union[int, bytes], /) -> bool: ...
