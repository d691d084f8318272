"""Which row of a table of interactions a request is for, by its method and the segments of its path (FHIR R4 section 3.1.0).

Starlette would try one pattern after the other, which for thirty of them takes longer than to read a resource.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Row(Generic[_T]):
    """`words` are the segments that are fixed, `names` those that a request fills in, each with what it begins with; by their places."""

    method: str
    words: tuple[tuple[int, str], ...]
    names: tuple[tuple[int, str, str], ...]
    what: _T
    no_names: frozenset[tuple[int, str]] = frozenset()
    """Words of other rows, by their places."""

    def parameters(self, segments: list[str]) -> dict[str, str] | None:
        """What the request fills in; None where the row is not its."""
        for place, word in self.words:
            if segments[place] != word:
                return None
        found = {}
        for place, name, start in self.names:
            text = segments[place]
            if len(text) <= len(start) or not text.startswith(start) or "\0" in text or (place, text) in self.no_names:
                return None
            found[name] = text[len(start) :]
        return found


class Dispatch(Generic[_T]):
    """Rows of (method, path, what). A path has fixed segments, `{name}` for any that is not empty, and `${name}` for one behind a dollar sign.

    The first row that has the path and the method counts, so that fixed words stand before names. A fixed word that no type or id can be, such as
    `metadata` or `_search`, is no name where it may stand, whatever the method. NUL is in no name: PostgreSQL takes no such text.
    """

    def __init__(self, rows: Iterable[tuple[str, str, _T]]) -> None:
        self._rows: dict[int, list[_Row[_T]]] = {}
        for method, path, what in rows:
            segments = _segments(path)
            self._rows.setdefault(len(segments), []).append(_row(method, segments, what))
        for length, alike in self._rows.items():
            words = {(place, word) for row in alike for place, word in row.words if not word[:1].isupper()}
            self._rows[length] = [replace(row, no_names=frozenset(words)) for row in alike]

    def find(self, method: str, path: str) -> tuple[_T, dict[str, str]] | None:
        """What takes the request, and what its path fills in. Who takes GET takes HEAD."""
        method = "GET" if method == "HEAD" else method
        segments = _segments(path)
        for row in self._rows.get(len(segments), ()):
            if row.method == method and (found := row.parameters(segments)) is not None:
                return row.what, found
        return None

    def methods(self, path: str) -> set[str]:
        """What may be asked of the path."""
        segments = _segments(path)
        found = {row.method for row in self._rows.get(len(segments), ()) if row.parameters(segments) is not None}
        return found | {"HEAD"} if "GET" in found else found


def _segments(path: str) -> list[str]:
    """`/Patient/7` are two; the base itself, with or without a slash at its end, has none."""
    return path.split("/")[1:] if path not in ("", "/") else []


def _row(method: str, segments: list[str], what: _T) -> _Row[_T]:
    words, names = [], []
    for place, segment in enumerate(segments):
        start, brace, name = segment.partition("{")
        if brace:
            names.append((place, name.removesuffix("}"), start))
        else:
            words.append((place, segment))
    return _Row(method, tuple(words), tuple(names), what)
