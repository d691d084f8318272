"""The IHE Integration Statement claims what tests show, and all that is answered."""

from pathlib import Path

from peers import ihe_document

ROOT = Path(__file__).resolve().parents[2]


def test_the_statement_is_what_the_tests_show() -> None:
    assert (ROOT / "docs" / "ihe-integration-statement.md").read_text() == ihe_document.document(), "run: make ihe-doc"


def test_each_role_is_shown_and_nothing_else_is() -> None:
    assert set(ihe_document.tests()) == set(ihe_document.roles())


def test_every_soap_transaction_is_claimed() -> None:
    assert set(ihe_document.answered()) <= {number for number, _ in ihe_document.roles()}


def test_the_tests_that_are_named_are_there() -> None:
    for found in ihe_document.tests().values():
        for path, test in found:
            assert f"def {test}(" in (ROOT / path).read_text()
