from pathlib import Path

import pytest
from peers import smart_document
from peers.requires import required, requires

from conformance.smart.cases import all_cases
from conformance.smart.requirements import requirements, unseen

ROOT = Path(__file__).resolve().parents[3]


def test_the_document_is_what_the_tests_show() -> None:
    assert (ROOT / "docs" / "smart.md").read_text() == smart_document.document(), "run: make smart-doc"


def test_marks_are_found_in_the_source(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    (tests / "x").mkdir(parents=True)
    (tests / "x" / "test_x.py").write_text(
        "@requires(14, 15)\n@other(3)\ndef test_one() -> None: ...\n\n\ndef test_two() -> None: ...\n"
    )
    found = required(tests)
    assert [(each.id, each.test) for each in found] == [(14, "test_one"), (15, "test_one")]


@pytest.mark.parametrize("ids", [(), (9999,), (14, 3)])
def test_a_mark_that_names_no_requirement_is_an_error(ids: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="requires"):
        requires(*ids)


def test_a_mark_changes_nothing() -> None:
    assert requires(14)(test_a_mark_changes_nothing) is test_a_mark_changes_nothing


def test_the_list_is_whole() -> None:
    found = requirements().values()
    assert sum(each.level == "SHALL" for each in found) >= 160
    assert sum(each.level == "SHALL NOT" for each in found) == 5
    assert all(each.words and "#" in each.place for each in found)


def test_what_is_not_seen_is_in_no_case() -> None:
    assert not {id_ for each in all_cases() for id_ in each.requirements} & set(unseen())
