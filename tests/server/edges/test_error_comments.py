"""Error Comment (0000,0902): what of an error fits into a Long String, at every place from which a C-STORE can be refused."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiles import byte_source, header, part10
from profiles.byte_source import HeaderError
from profiles.identifiers import InvalidIdentifier, lenient_uid
from server import errors
from server.edges.dimse import reception
from server.errors import ImageShareError, Invalid, MalformedInstance, WorkitemConflict
from server.records import catalogue, placing
from server.store import blobs, db, group_commit
from server.work import ingest

ROOT = Path(__file__).resolve().parents[3]
CLASSES: dict[str, type[ImageShareError]] = {
    name: found for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, ImageShareError)
}
REACHED = (reception, ingest, group_commit, catalogue, placing, blobs, db)
"""Modules whose errors can become the answer to a C-STORE; and those whose `HeaderError` becomes a `MalformedInstance`."""
PARSERS = (byte_source, part10, header)
# The longest that is ever put into a message: "Transfer Syntax UID", or 2 to the power of 63.
FILLER = "x" * 19


def _calls(modules: tuple[object, ...], names: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """Where, which class, and the text, of every error made with a literal text; what is formatted in is as long as it can be."""
    for module in modules:
        path = Path(str(vars(module)["__file__"]))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names and node.args:
                text = _text(node.args[0])
                if text is not None:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.func.id, text


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return None
    names_error = any(isinstance(part, ast.Name) and part.id == "error" for part in ast.walk(node))
    if names_error:
        return None  # a UID that is none: see the test of its own
    return "".join(str(part.value) if isinstance(part, ast.Constant) else FILLER for part in node.values)


RAISED = [*_calls(REACHED, frozenset(CLASSES) - {"SettingsError"})]
PARSED = [(where, "MalformedInstance", text) for where, _, text in _calls(PARSERS, frozenset({"HeaderError"}))]


def test_the_places_are_found() -> None:
    assert {"StorageFull", "TooLarge", "ContentConflict", "PatientConflict", "InstanceMismatch", "Busy"} <= {
        name for _, name, _ in RAISED
    }
    assert len(PARSED) > 10


@pytest.mark.parametrize(("where", "name", "text"), [*RAISED, *PARSED], ids=lambda value: value if ":" in value[:60] else "")
def test_what_refuses_a_c_store_fits_into_an_error_comment_whole(where: str, name: str, text: str) -> None:
    short = CLASSES[name](text).short
    assert 0 < len(short) <= 64, where
    left_out = text.removeprefix(short)
    assert short == CLASSES[name].summary or left_out == "" or left_out.startswith((";", " (PS3.")), where


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_every_class_has_a_line_of_its_own(kind: type[ImageShareError]) -> None:
    assert 0 < len(kind.summary) <= 64
    assert "summary" in vars(kind)
    assert "\\" not in kind.summary  # would be two values of a Long String
    if kind is not WorkitemConflict and not issubclass(kind, Invalid):  # which no C-STORE meets
        assert kind("x" * 65).short == kind.summary


def test_a_paragraph_and_a_remedy_are_what_is_left_out() -> None:
    assert MalformedInstance("StudyInstanceUID is missing; it is required (PS3.3 section C.7.2.1)").short == (
        "StudyInstanceUID is missing; it is required"
    )
    long = "StudyInstanceUID is missing or empty; it is required (PS3.3 section C.7.2.1, type 1), and there is no way around it"
    assert MalformedInstance(long).short == "StudyInstanceUID is missing or empty"
    assert MalformedInstance(long, "say this").short == "say this"
    assert MalformedInstance(long, "say this").detail == long


@pytest.mark.parametrize("tag", [0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00020010])
def test_a_uid_that_is_none_is_named(tag: int) -> None:
    with pytest.raises(InvalidIdentifier) as refused:
        lenient_uid("1..2")
    error = HeaderError(f"{part10.keyword(tag)}: {refused.value}", tag)
    error.__cause__ = refused.value
    assert ingest._malformed(error).short == f"{part10.keyword(tag)} is not a UID (PS3.5 section 9.1)"
    assert len(ingest._malformed(error).short) <= 64
