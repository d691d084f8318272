"""The tree of errors: one number each, as the docstring draws it, and a code for every protocol."""

import re
from collections.abc import Iterator

from fhir.resources.R4B.operationoutcome import OperationOutcome

from server import errors


def _tree(root: type[errors.ImageShareError]) -> Iterator[type[errors.ImageShareError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)


EVERY = list(_tree(errors.ImageShareError))


def test_the_docstring_draws_the_tree() -> None:
    assert errors.__doc__
    drawn = {name: int(number) for name, number in re.findall(r"(\w+) (\d{4})", errors.__doc__)}
    assert drawn == {error.__name__: error.number for error in EVERY}


def test_numbers_are_unique() -> None:
    assert len({error.number for error in EVERY}) == len(EVERY)


def test_every_protocol_can_say_it() -> None:
    for error in EVERY:
        assert 400 <= error.http_status <= 599
        # PS3.7 annex C, PS3.4 table B.2-1: failures of C-STORE, as status and as Failure Reason
        for status in (error.dimse_status, error.stow_reason):
            assert status in range(0x0100, 0x0200) or status & 0xFF00 in {0xA700, 0xA900} or status & 0xF000 == 0xC000
        OperationOutcome.model_validate({"issue": [{"severity": "error", "code": error.fhir_code}]})


def test_what_the_client_is_told_is_the_message() -> None:
    assert errors.Busy("later").detail == str(errors.Busy("later")) == "later"
