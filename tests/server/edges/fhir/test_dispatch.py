"""Requests find their row as patterns would, one after the other."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.edges.fhir.dispatch import Dispatch
from server.edges.fhir.routes import INTERACTIONS

_ROWS = [(each.method, each.path, number) for number, each in enumerate(INTERACTIONS)]
_DISPATCH = Dispatch(_ROWS)
_SEGMENTS = st.sampled_from(
    ["Patient", "Binary", "metadata", "_search", "_history", "$everything", "$", "a", "7", "", "*", "{x}"]
)
_PATHS = st.lists(_SEGMENTS, max_size=5).map(lambda each: "".join(f"/{segment}" for segment in each))


def _words(path: str, pattern: str) -> bool:
    """Whether a name would be filled in with a word that other patterns have in its place, and no type or id can be."""
    segments, names = path.split("/"), pattern.split("/")
    others = [each.split("/") for _, each, _ in _ROWS if each.count("/") == pattern.count("/")]
    return any(
        "{" in name and any(other[place] == segment for other in others) and segment != "Binary"
        for place, (segment, name) in enumerate(zip(segments, names, strict=True))
    )


def _as_patterns(method: str, path: str) -> tuple[int, dict[str, str]] | None:
    """What a list of regular expressions makes of it."""
    for row, pattern, number in _ROWS:
        expression = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(pattern))
        found = re.fullmatch(expression, path if path != "/" else "")
        if found and not _words(path, pattern) and row == ("GET" if method == "HEAD" else method):
            return number, found.groupdict()
    return None


@given(st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]), _PATHS)
def test_the_row_is_that_of_patterns(method: str, path: str) -> None:
    assert _DISPATCH.find(method, path) == _as_patterns(method, path)


@given(_PATHS)
def test_the_methods_of_a_path_are_those_that_find_a_row(path: str) -> None:
    found = {method for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") if _DISPATCH.find(method, path)}
    assert _DISPATCH.methods(path) == found


@pytest.mark.parametrize("path", ["", "/"])
def test_the_base_has_no_segments(path: str) -> None:
    assert _DISPATCH.find("GET", path) is not None
