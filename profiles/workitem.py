"""Unified Procedure Steps: which attribute a workitem must, may and must not have when, and how its state may change.

PS3.4 annex CC: table CC.2.5-3 and table CC.1.1-2 as data, and what follows from them. Items are in the DICOM JSON Model. The time is an
argument.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal

from profiles.dicom_json import Attributes
from profiles.model_item import Item, has_value, items, said, same, text
from profiles.part10 import keyword

State = Literal["SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"]

SCHEDULED: Final = "SCHEDULED"
IN_PROGRESS: Final = "IN PROGRESS"
COMPLETED: Final = "COMPLETED"
CANCELED: Final = "CANCELED"
FINAL: Final = frozenset({COMPLETED, CANCELED})

UPS_PUSH: Final = "1.2.840.10008.5.1.4.34.6.1"
GLOBAL: Final = "1.2.840.10008.5.1.4.34.5"
"""UPS Global Subscription SOP Instance (PS3.6 table A-1)."""
FILTERED: Final = "1.2.840.10008.5.1.4.34.5.1"
"""UPS Filtered Global Subscription SOP Instance."""

CHARACTER_SET: Final = "00080005"
SOP_CLASS: Final = "00080016"
SOP_INSTANCE: Final = "00080018"
TRANSACTION: Final = "00081195"
MODIFIED: Final = "00404010"
START: Final = "00404005"
STATIONS: Final = "00404025"
PERFORMERS: Final = "00404034"
READINESS: Final = "00404041"
STATE: Final = "00741000"
PROGRESS: Final = "00741002"
WORKLIST_LABEL: Final = "00741202"
PERFORMED: Final = "00741216"
CANCELLATION_TIME: Final = "00404052"
REASON: Final = "00741238"
REASON_CODES: Final = "0074100E"
REQUESTING_AE: Final = "00741236"
CONTACT_URI: Final = "0074100A"
CONTACT_NAME: Final = "0074100C"


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of table CC.2.5-3, as far as a provider checks it.

    `create` is the type at N-CREATE: 1, 2, 3; `empty` (type 2 without a value) or `-` (not allowed). `change` is that at N-SET, with `-` for
    what may not be set. `final` is R (in every final state), P (in COMPLETED), X (in CANCELED) or O. `returned` is the return key type.
    """

    create: str
    change: str
    final: str
    returned: str


# One row a line: depth, tag, N-CREATE, N-SET, final state, return key type. What the provider fills in itself is not demanded of the user.
# Rows of type 3 or O throughout are left out: they say nothing.
_ROWS: Final = """
0 00081195 empty - O -
0 00080005 3 3 O 1C
0 00080016 - - O 1
0 00080018 - - O 1
0 00741200 1 1 R 1
0 00404010 3 3 R 3
0 00741204 1 1 O 1
0 00741202 2 1 O 1
0 00741210 2 2 O 2
0 00404025 2 2 O 2
0 00404026 2 2 O 2
0 00404027 2 2 O 2
0 00404034 2 2 O 2
1 00404009 1 1 O 1
1 00404037 1 1 O 3
1 00404036 1 1 O 3
0 00404005 1 1 R 1
0 00404011 3 1 O 3
0 00404018 2 1 O 2
0 00400400 2 1 O 3
0 00404041 1 1 R 1
0 00404021 2 2 O 2
0 0020000D 2 2 O 2
0 00100010 2 - O 2
0 00100020 2 - O 2
0 00100021 2 - O 2
0 00100024 2 - O 2
0 00101002 2 3 O 2
1 00100020 1 1 O 1
0 00100030 2 - O 2
0 00100040 2 - O 2
0 00380010 2 - O 2
0 00380014 2 - O 2
0 00081080 2 - O 2
0 00081084 2 - O 2
0 0040A370 2 - O 2
1 0020000D 1 - O 1
0 00741224 3 - O 3
0 00102000 3 2 O 2C
0 001021C0 3 2 O 2C
0 00380050 3 2 O 2C
0 00741000 1 - R 1
0 00741002 empty 2 X 2
1 00741004 - 1 O -
1 00741006 - 1 O -
1 00741008 - 1 O -
2 0074100A - 1 O -
1 00404052 - 3 X -
1 00741238 - 3 O -
1 0074100E - 3 X -
0 00741216 empty 2 P -
1 00404028 - 2 P -
1 00404050 - 3 P -
1 00404019 - 3 P -
1 00404051 - 3 P -
1 00404033 - 2 O -
"""
_MAY_BE_LEFT_OUT: Final = frozenset({"00741004", "00741006", "00741008"})
"""Inside a sequence: of type 3 when set, of type 1 where they are there (3/1)."""

Path = tuple[str, ...]


@lru_cache(maxsize=1)
def rules() -> Mapping[Path, Rule]:
    """Table CC.2.5-3 by path: the tags of the sequences that an attribute is in, then its own."""
    found: dict[Path, Rule] = {}
    above: list[str] = []
    for line in _ROWS.strip().splitlines():
        depth, tag, create, change, final, returned = line.split()
        above[int(depth) :] = [tag]
        found[tuple(above)] = Rule(create, change, final, returned)
    return found


def returned() -> tuple[str, ...]:
    """Tags that each result of a search has: return key types 1 and 2."""
    return tuple(path[0] for path, rule in rules().items() if len(path) == 1 and rule.returned in ("1", "2"))


# --- the state machine

# What a request does, by what is asked and the state before: the state after, or a status of tables CC.2.1-2 and CC.2.2-2.
# Table CC.1.1-2 without its row for a wrong Transaction UID, which is 0xC301 in every state.
TRANSITIONS: Final[Mapping[tuple[str, str], str | int]] = {
    (IN_PROGRESS, SCHEDULED): IN_PROGRESS,
    (IN_PROGRESS, IN_PROGRESS): 0xC302,
    (IN_PROGRESS, COMPLETED): 0xC300,
    (IN_PROGRESS, CANCELED): 0xC300,
    **{(SCHEDULED, state): 0xC303 for state in (SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED)},
    (COMPLETED, SCHEDULED): 0xC310,
    (COMPLETED, IN_PROGRESS): COMPLETED,
    (COMPLETED, COMPLETED): 0xB306,
    (COMPLETED, CANCELED): 0xC300,
    (CANCELED, SCHEDULED): 0xC310,
    (CANCELED, IN_PROGRESS): CANCELED,
    (CANCELED, COMPLETED): 0xC300,
    (CANCELED, CANCELED): 0xB304,
}
CANCEL_REQUESTED: Final[Mapping[str, str | int]] = {
    SCHEDULED: CANCELED,
    IN_PROGRESS: IN_PROGRESS,
    COMPLETED: 0xC311,
    CANCELED: 0xB304,
}
"""Request UPS Cancel, by the state before: a step that is in progress stays so, and its performer is told."""


# --- requirements


@dataclass(frozen=True, slots=True)
class Violation:
    """An attribute at fault: `path` names it, `why` says what it lacks, in words without its value."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"{'.'.join(keyword(int(tag, 16)) or tag for tag in self.path)} {self.why}"


def creation_faults(item: Item) -> list[Violation]:
    """Table CC.2.5-3, N-CREATE: what a new workitem lacks or may not have.

    Attributes of type 2 may be absent: they are made empty.
    """
    found = list(_faults(item, (), creating=True))
    state = text(item, STATE)
    if state and state != SCHEDULED:
        found.append(Violation((STATE,), "of a new workitem is SCHEDULED (PS3.4 section CC.2.5.3)"))
    return found


def change_faults(changes: Item, before: Item) -> list[Violation]:
    """Table CC.2.5-3, N-SET. What may not be set may be there with the value that it has: users send back what they retrieved."""
    return list(_faults({tag: value for tag, value in changes.items() if not same(value, before.get(tag))}, (), creating=False))


def _faults(item: Item, above: Path, *, creating: bool) -> Iterator[Violation]:
    for path, rule in rules().items():
        if path[:-1] != above:
            continue
        tag, kind = path[-1], rule.create if creating else rule.change
        there, filled = tag in item, has_value(item, tag)
        if kind == "-" and there:
            yield Violation(path, "is not given by the user (PS3.4 table CC.2.5-3)")
        elif kind == "empty" and filled:
            yield Violation(path, "is empty at first (PS3.4 table CC.2.5-3)")
        elif kind == "1" and not filled and (there or creating or (above and tag not in _MAY_BE_LEFT_OUT)):
            yield Violation(path, "must have a value (PS3.4 table CC.2.5-3)")
        for inner in items(item, tag):
            yield from _faults(inner, path, creating=creating)


def unmet(item: Item, state: str) -> list[Violation]:
    """Section CC.2.5.1.1: what `item` lacks to be COMPLETED or CANCELED."""
    wanted = {COMPLETED: "RP", CANCELED: "RX"}[state]
    return list(_unmet(item, (), wanted))


def _unmet(item: Item, above: Path, wanted: str) -> Iterator[Violation]:
    for path, rule in rules().items():
        if path[:-1] == above:
            if rule.final in wanted and not has_value(item, path[-1]):
                yield Violation(path, "must have a value in the final state (PS3.4 table CC.2.5-3)")
            for inner in items(item, path[-1]):
                yield from _unmet(inner, path, wanted)


# --- items


def created(item: Item, uid: str, label: str, now: datetime) -> Attributes:
    """A new workitem as it is kept: with every attribute of type 2, the worklist's `label` where it has none, and its own identity."""
    made = {tag: value for tag, value in item.items() if tag not in (CHARACTER_SET, TRANSACTION)}
    for path, rule in rules().items():
        if len(path) == 1 and rule.create in ("2", "empty") and path[0] != TRANSACTION:
            made.setdefault(path[0], {"vr": _VRS.get(path[0], "SQ")})
    if not has_value(made, WORKLIST_LABEL):
        made[WORKLIST_LABEL] = said("LO", label)
    made |= {SOP_CLASS: said("UI", UPS_PUSH), SOP_INSTANCE: said("UI", uid), STATE: said("CS", SCHEDULED)}
    return stamped(made, now)


_VRS: Final = {
    "00741202": "LO",
    "00400400": "LT",
    "0020000D": "UI",
    "00100010": "PN",
    "00100020": "LO",
    "00100021": "LO",
    "00100030": "DA",
    "00100040": "CS",
    "00380010": "LO",
    "00081080": "LO",
}
"""VRs of the attributes of type 2 that are no sequences."""


def changed(item: Item, changes: Item, now: datetime) -> Attributes:
    """`item` with `changes`; a sequence is replaced whole (section CC.2.6.2)."""
    return stamped({**item, **{tag: value for tag, value in changes.items() if tag not in (CHARACTER_SET, TRANSACTION)}}, now)


def in_state(item: Item, state: str, now: datetime) -> Attributes:
    """`item` in another state. A canceled one has the time of it (table CC.2.5-3, Procedure Step Cancellation DateTime)."""
    made: Attributes = {**item, STATE: said("CS", state)}
    if state == CANCELED:
        made = with_progress(made, {CANCELLATION_TIME: said("DT", moment(now))}, keep=True)
    return stamped(made, now)


def cancelled_by_request(item: Item, request: Item, now: datetime) -> Attributes:
    """What a workitem that nobody has begun says when it is canceled for somebody: the request's reasons, or that none was given."""
    reasons = {tag: request[tag] for tag in (REASON, REASON_CODES) if has_value(request, tag)}
    contact = {tag: request[tag] for tag in (CONTACT_URI, CONTACT_NAME) if has_value(request, tag)}
    if CONTACT_URI in contact:
        reasons["00741008"] = said("SQ", contact)
    reasons.setdefault(REASON_CODES, said("SQ", _UNSPECIFIED))
    return in_state(with_progress(item, reasons), CANCELED, now)


def with_progress(item: Item, values: Item, *, keep: bool = False) -> Attributes:
    """`item` with `values` in its Procedure Step Progress Information; with `keep`, those that are there already stay."""
    progress = next(iter(items(item, PROGRESS)), {})
    both = {**values, **{t: v for t, v in progress.items() if has_value(progress, t)}} if keep else {**progress, **values}
    return {**item, PROGRESS: said("SQ", dict(sorted(both.items())))}


def stamped(item: Item, now: datetime) -> Attributes:
    """`item` with Scheduled Procedure Step Modification DateTime `now`, its attributes in ascending order."""
    return dict(sorted({**item, MODIFIED: said("DT", moment(now))}.items()))


def moment(now: datetime) -> str:
    """A DT with its offset from UTC. `now` is in UTC."""
    return f"{now:%Y%m%d%H%M%S}+0000"


# PS3.16 CID 9300
_UNSPECIFIED: Final[Attributes] = {
    "00080100": {"vr": "SH", "Value": ["110513"]},
    "00080102": {"vr": "SH", "Value": ["DCM"]},
    "00080104": {"vr": "LO", "Value": ["Discontinued for unspecified reason"]},
}
