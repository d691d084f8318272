"""Storage commitment (PS3.4 annex J): its arguments and results, between what they mean and the DICOM JSON Model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from profiles.dicom_json import Attribute, Attributes
from profiles.identifiers import InvalidIdentifier, lenient_uid

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"

REQUEST_ACTION: Final = 1
ALL_COMMITTED: Final = 1
SOME_FAILED: Final = 2

# Failure Reason (0008,1197), PS3.3 section C.14.1.1
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
CLASS_NOT_SUPPORTED: Final = 0x0122
DUPLICATE_TRANSACTION: Final = 0x0131
RESOURCE_LIMITATION: Final = 0x0213
REASONS: Final[Mapping[int, str]] = {
    PROCESSING_FAILURE: "processing failure",
    NO_SUCH_INSTANCE: "no such object instance",
    CLASS_INSTANCE_CONFLICT: "SOP Class and SOP Instance do not belong together",
    CLASS_NOT_SUPPORTED: "SOP Class not supported",
    DUPLICATE_TRANSACTION: "duplicate transaction UID",
    RESOURCE_LIMITATION: "resource limitation",
}

_TRANSACTION_UID, _REFERENCED, _FAILED = "00081195", "00081199", "00081198"
_CLASS, _INSTANCE, _REASON, _RETRIEVE_AE_TITLE = "00081150", "00081155", "00081197", "00080054"


class CommitmentError(ValueError):
    """Arguments that PS3.4 annex J does not allow. The message names the rule, never a value."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance in a transaction; `reason` is its Failure Reason, 0 where there is none."""

    sop_class: str
    uid: str
    reason: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What an N-EVENT-REPORT says: which instances are committed and which are not."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[Reference, ...] = ()

    @property
    def event_type(self) -> int:
        """PS3.4 table J.3-2: 1 where all are committed, else 2."""
        return SOME_FAILED if self.failed else ALL_COMMITTED


def request_item(transaction_uid: str, references: Iterable[Reference]) -> Attributes:
    """PS3.4 table J.3-1: the Action Information of a request."""
    return {_TRANSACTION_UID: _of("UI", transaction_uid), _REFERENCED: _of("SQ", *map(_item, references))}


def read_request(item: Mapping[str, Attribute]) -> tuple[str, tuple[Reference, ...]]:
    """The transaction UID and the instances of a request, each once. Raises `CommitmentError`."""
    references = tuple(dict.fromkeys(_references(item, _REFERENCED)))
    if not references:
        raise CommitmentError("Referenced SOP Sequence has an item for each instance (PS3.4 table J.3-1)")
    return _transaction(item), references


def report_item(report: Report, retrieve_ae_title: str = "") -> Attributes:
    """PS3.4 table J.3-2: the Event Information of a report."""
    item: Attributes = {_TRANSACTION_UID: _of("UI", report.transaction_uid)}
    if retrieve_ae_title:
        item[_RETRIEVE_AE_TITLE] = _of("AE", retrieve_ae_title)
    if report.committed:
        item[_REFERENCED] = _of("SQ", *map(_item, report.committed))
    if report.failed:
        item[_FAILED] = _of("SQ", *({**_item(each), _REASON: _of("US", each.reason)} for each in report.failed))
    return item


def read_report(item: Mapping[str, Attribute]) -> Report:
    """What a report says. Raises `CommitmentError`."""
    return Report(_transaction(item), tuple(_references(item, _REFERENCED)), tuple(_references(item, _FAILED)))


def settled(requested: Sequence[Reference], report: Report) -> tuple[Reference, ...]:
    """Those of `requested` that a report does not commit to: what it calls failed, and what it does not speak of (0110H)."""
    failed = {each.uid: each for each in report.failed}
    committed = {(each.sop_class, each.uid) for each in report.committed}
    return tuple(
        Reference(each.sop_class, each.uid, (failed[each.uid].reason if each.uid in failed else 0) or PROCESSING_FAILURE)
        for each in requested
        if each.uid in failed or (each.sop_class, each.uid) not in committed
    )


def _transaction(item: Mapping[str, Attribute]) -> str:
    try:
        return lenient_uid(_text(item, _TRANSACTION_UID))
    except InvalidIdentifier as error:
        raise CommitmentError(f"Transaction UID: {error}") from None


def _references(item: Mapping[str, Attribute], tag: str) -> list[Reference]:
    found = item.get(tag, {}).get("Value")
    references = []
    for each in found if isinstance(found, list) else []:
        if not isinstance(each, dict):
            continue
        try:
            reason = _text(each, _REASON)
            references.append(
                Reference(lenient_uid(_text(each, _CLASS)), lenient_uid(_text(each, _INSTANCE)), int(reason) if reason else 0)
            )
        except (InvalidIdentifier, ValueError) as error:
            raise CommitmentError("an instance is referred to by SOP Class and SOP Instance UID (PS3.3 table 10-11)") from error
    return references


def _item(reference: Reference) -> Attributes:
    return {_CLASS: _of("UI", reference.sop_class), _INSTANCE: _of("UI", reference.uid)}


def _of(vr: str, *values: object) -> Attribute:
    return {"vr": vr, "Value": list(values)}


def _text(item: Mapping[str, Attribute], tag: str) -> str:
    found = item.get(tag, {}).get("Value")
    return str(found[0]).strip() if isinstance(found, list) and found and found[0] is not None else ""
