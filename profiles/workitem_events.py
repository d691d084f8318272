"""UPS Event Reports in the DICOM JSON Model: PS3.4 table CC.2.4-1, with the command elements of PS3.7 table 10.3-1.

A report is what PS3.18 section 8.10.5 sends as one text frame. Its Message ID is the subscriber's, given when it is sent.
"""

from collections.abc import Iterator
from typing import Final

from profiles.dicom_json import Attributes
from profiles.model_item import Item, has_value, items, said, same, text
from profiles.workitem import (
    CONTACT_NAME,
    CONTACT_URI,
    PERFORMERS,
    PROGRESS,
    READINESS,
    REASON,
    REASON_CODES,
    REQUESTING_AE,
    STATE,
    STATIONS,
    UPS_PUSH,
)

STATE_REPORT: Final = 1
CANCEL_REQUESTED: Final = 2
PROGRESS_REPORT: Final = 3
SCP_STATUS_CHANGE: Final = 4
ASSIGNED: Final = 5

_N_EVENT_REPORT: Final = 0x0100
_HAS_DATA_SET: Final = 1


def state_report(item: Item) -> Attributes:
    """Event 1: the state, whether the inputs are ready, and of a canceled step why."""
    progress = next(iter(items(item, PROGRESS)), {})
    why = {tag: progress[tag] for tag in (REASON, REASON_CODES) if has_value(progress, tag)}
    return report(STATE_REPORT, item, {STATE: item[STATE], READINESS: item.get(READINESS, {"vr": "CS"}), **why})


def cancel_requested(item: Item, request: Item, requesting_ae: str) -> Attributes:
    """Event 2: who wants the step canceled, and why."""
    told = {tag: request[tag] for tag in (REASON, REASON_CODES, CONTACT_URI, CONTACT_NAME) if has_value(request, tag)}
    return report(CANCEL_REQUESTED, item, {REQUESTING_AE: said("AE", requesting_ae), **told})


def progress_report(item: Item) -> Attributes:
    """Event 3: how far the step is."""
    return report(PROGRESS_REPORT, item, {PROGRESS: item[PROGRESS]})


def assigned(item: Item) -> Attributes:
    """Event 5: which station or persons shall do it."""
    told = {STATIONS: item[STATIONS]} if has_value(item, STATIONS) else {}
    for person in items(item, PERFORMERS)[:1]:
        told |= {tag: person[tag] for tag in ("00404009", "00404036") if has_value(person, tag)}
    return report(ASSIGNED, item, told)


def scp_status(status: str) -> Attributes:
    """Event 4: this provider is `RESTARTED` or `GOING DOWN`. Worklist and subscriptions outlive it, hence a warm start."""
    told = {"00741242": said("CS", status), "00741244": said("CS", "WARM START"), "00741246": said("CS", "WARM START")}
    return _numbered(SCP_STATUS_CHANGE, "1.2.840.10008.5.1.4.34.5", told)


def of_creation(item: Item) -> Iterator[Attributes]:
    """What is told of a new workitem (section CC.2.4.3)."""
    yield state_report(item)
    if has_value(item, STATIONS) or has_value(item, PERFORMERS):
        yield assigned(item)


def of_change(before: Item, after: Item) -> Iterator[Attributes]:
    """What is told when attributes were set (section CC.2.4.3)."""
    if text(before, READINESS) != text(after, READINESS):
        yield state_report(after)
    if not same(before.get(PROGRESS), after.get(PROGRESS)):
        yield progress_report(after)
    if any(not same(before.get(tag), after.get(tag)) for tag in (STATIONS, PERFORMERS)):
        yield assigned(after)


def report(kind: int, item: Item, told: Attributes) -> Attributes:
    """An Event Report of type `kind` of a workitem."""
    return _numbered(kind, text(item, "00080018"), told)


def _numbered(kind: int, uid: str, told: Attributes) -> Attributes:
    command = {
        "00000002": said("UI", UPS_PUSH),
        "00000100": said("US", _N_EVENT_REPORT),
        "00000800": said("US", _HAS_DATA_SET),
        "00001000": said("UI", uid),
        "00001002": said("US", kind),
    }
    return dict(sorted({**command, **told}.items()))
