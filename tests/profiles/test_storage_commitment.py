"""Storage commitment's arguments and results: there and back, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.storage_commitment import (
    ALL_COMMITTED,
    PROCESSING_FAILURE,
    REASONS,
    SOME_FAILED,
    CommitmentError,
    Reference,
    Report,
    read_report,
    read_request,
    report_item,
    request_item,
    settled,
)

_UIDS = st.from_regex(r"1(\.[1-9][0-9]{0,3}){1,4}", fullmatch=True)
_ASKED = st.lists(st.builds(Reference, _UIDS, _UIDS), min_size=1, max_size=5, unique_by=lambda each: each.uid)


@given(_UIDS, _ASKED)
def test_a_request_there_and_back(transaction: str, references: list[Reference]) -> None:
    assert read_request(request_item(transaction, references)) == (transaction, tuple(references))


@given(_UIDS, _ASKED, st.data())
def test_a_report_there_and_back(transaction: str, references: list[Reference], data: st.DataObject) -> None:
    reasons = data.draw(st.lists(st.sampled_from([0, *REASONS]), min_size=len(references), max_size=len(references)))
    judged = [Reference(each.sop_class, each.uid, reason) for each, reason in zip(references, reasons, strict=True)]
    report = Report(transaction, tuple(each for each in judged if not each.reason), tuple(each for each in judged if each.reason))
    assert read_report(report_item(report, "US")) == report
    assert report.event_type == (SOME_FAILED if any(reasons) else ALL_COMMITTED)
    assert settled(references, report) == report.failed


@given(_ASKED)
def test_what_a_report_does_not_speak_of_is_not_committed(references: list[Reference]) -> None:
    report = Report("1.2.3", tuple(references[1:]))
    assert settled(references, report) == (Reference(references[0].sop_class, references[0].uid, PROCESSING_FAILURE),)


def test_an_instance_under_another_sop_class_is_not_committed() -> None:
    asked = Reference("1.2.3", "1.2.3.4")
    assert settled([asked], Report("1.2", (Reference("1.2.9", "1.2.3.4"),)))[0].reason == PROCESSING_FAILURE


@pytest.mark.parametrize("wrong", [Reference("", "1.2.3"), Reference("1.2.3", "../1"), Reference("1.2.3", "")])
def test_what_is_no_reference_is_refused(wrong: Reference) -> None:
    with pytest.raises(CommitmentError, match="10-11"):
        read_request(request_item("1.2.3", [wrong]))


def test_a_request_needs_a_transaction_and_an_instance() -> None:
    with pytest.raises(CommitmentError, match="Transaction UID"):
        read_request(request_item("", [Reference("1.2.3", "1.2.4")]))
    with pytest.raises(CommitmentError, match=r"J\.3-1"):
        read_request(request_item("1.2.3", []))
