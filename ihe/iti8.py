"""Patient Identity Feed [ITI-8], ITI TF-2 section 3.8: ADT messages A01, A04, A05, A08 and A40 of HL7 2.3.1, and of other versions 2.x.

Of a message PID and MRG count (tables 3.8-2 and 3.8-4). A Document Registry takes the patient identifiers of its affinity domain and ignores all
others (section 3.8.4.1.3); which these are is for whoever calls this.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ihe.hl7v2 import NULL, UTF8, Encoding, Message, MessageRefused, Segment, Value, written
from profiles import timestamps
from profiles.demographics import Address, Demographics, Telecom, person_name
from profiles.identifiers import AssigningAuthority, InvalidIdentifier, PatientIdentifier

Event = Literal["A01", "A04", "A05", "A08", "A40"]
EVENTS: Final[Mapping[str, tuple[str, str]]] = {
    "A01": ("Admission of an inpatient", "ADT_A01"),
    "A04": ("Registration of an outpatient", "ADT_A01"),
    "A05": ("Pre-admission of an inpatient", "ADT_A05"),
    "A08": ("Update of patient information", "ADT_A01"),
    "A40": ("Merge of patients", "ADT_A39"),
}
"""Sections 3.8.4.1.1 and 3.8.4.2.1: trigger events, and the message structure that MSH-9.3 names in HL7 2.5."""
_PROCESSING: Final = frozenset({"", "P", "T", "D"})
"""HL7 table 0103."""

_LONGEST, _MOST = 255, 20
"""Characters of an identifier or a part of an address, which is more than HL7 has for them, and repetitions of a field."""

# HL7 table 0200, name type: FHIR R4 name-use. The legal name and one without a type are the patient's name
_NAME_USES: Final = {"D": "usual", "N": "nickname", "A": "nickname", "M": "maiden", "B": "maiden", "S": "anonymous", "T": "temp"}
_NAME_TYPES: Final = {"usual": "D", "nickname": "N", "maiden": "M", "anonymous": "S", "temp": "T", "official": "L", "old": "A"}
# HL7 table 0465, name representation: in the order of the component groups of a DICOM PN
_REPRESENTATIONS: Final = {"": 0, "A": 0, "I": 1, "P": 2}
# HL7 table 0190, address type: FHIR R4 address-use
_ADDRESS_USES: Final = {"H": "home", "P": "home", "B": "work", "O": "work", "C": "temp", "V": "temp"}
_ADDRESS_TYPES: Final = {"home": "H", "work": "B", "temp": "C"}
# HL7 table 0202, telecommunication equipment type: FHIR R4 contact-point-system
_SYSTEMS: Final = {
    "PH": "phone",
    "CP": "phone",
    "SAT": "phone",
    "FX": "fax",
    "BP": "pager",
    "INTERNET": "email",
    "X.400": "email",
}
_EQUIPMENT: Final = {"phone": "PH", "fax": "FX", "pager": "BP", "email": "Internet"}


@dataclass(frozen=True, slots=True)
class Identifier:
    """A CX of PID-3 or MRG-1: the value, and who assigned it by OID, by name, or both; either may be empty."""

    value: str
    oid: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Feed:
    """One message. `patient` is PID-3, the surviving patient of a merge; `subsumed` is MRG-1. `source` and `destination` are application and facility."""

    event: Event
    control_id: str
    source: tuple[str, str]
    destination: tuple[str, str]
    patient: tuple[Identifier, ...]
    demographics: Demographics
    subsumed: tuple[Identifier, ...] = ()

    @property
    def is_merge(self) -> bool:
        return self.event == "A40"


# --- reading


def read(message: Message) -> Feed:
    """Sections 3.8.4.1.2 and 3.8.4.2.2. Raises `MessageRefused` with the field at fault."""
    event = _event(message)
    control_id, source, destination = envelope(message)
    pid = only(message, "PID")
    patient = identifiers(pid, 3)
    subsumed: tuple[Identifier, ...] = ()
    if event == "A40":
        subsumed = identifiers(only(message, "MRG"), 1)
    return Feed(
        event=event,
        control_id=control_id,
        source=source,
        destination=destination,
        patient=patient,
        demographics=_demographics(pid),
        subsumed=subsumed,
    )


def envelope(message: Message) -> tuple[str, tuple[str, str], tuple[str, str]]:
    """The message control id, and application and facility of sender and receiver. Raises `MessageRefused`."""
    header = message.header
    if not 0 < len(header.text(10)) <= _LONGEST:
        wrong = "is missing" if not header.text(10) else f"has at most {_LONGEST} characters"
        raise MessageRefused("101" if not header.text(10) else "102", f"MSH-10, the message control id, {wrong}", "MSH", 10)
    of = [header.text(number)[:_LONGEST] for number in (3, 4, 5, 6)]
    return header.text(10), (of[0], of[1]), (of[2], of[3])


def trigger(message: Message) -> str:
    """MSH-9, or EVN-1 where that has the type alone; MSH-11 and MSH-12 as well, which decide whether a message can be taken at all."""
    header = message.header
    if header.text(9) != "ADT":
        raise MessageRefused("200", "only ADT messages are taken here", "MSH", 9)
    if header.text(11) not in _PROCESSING:
        raise MessageRefused("202", "MSH-11 is P, T or D (HL7 table 0103)", "MSH", 11)
    if not re.fullmatch(r"(2(\.[0-9]+)*)?", header.text(12)):
        raise MessageRefused("203", "MSH-12 is a version 2.x of HL7", "MSH", 12)
    return header.text(9, 2) or next((each.text(1) for each in message.named("EVN")), "")


def _event(message: Message) -> Event:
    match named := trigger(message):
        case "A01" | "A04" | "A05" | "A08" | "A40":
            return named
    raise MessageRefused("201", f"the trigger event is none of {', '.join(EVENTS)}, and not A43", "MSH", 9)


def only(message: Message, name: str) -> Segment:
    """The one segment of that name. Raises `MessageRefused`."""
    found = message.named(name)
    if not found:
        raise MessageRefused("100", f"the segment {name} is missing", name)
    if len(found) > 1:
        raise MessageRefused("100", f"there is more than one {name}; send a message for each patient", name, sequence=2)
    return found[0]


def identifiers(segment: Segment, number: int) -> tuple[Identifier, ...]:
    """Patient identifiers of a field, at least one. Raises `MessageRefused`."""
    found = tuple(_identifier(each) for each in segment.values(number) if each.text(1) not in ("", NULL))
    if not found:
        raise MessageRefused("101", f"{segment.name}-{number} has no patient identifier", segment.name, number)
    if any(len(each.value) > _LONGEST or not each.value.isprintable() for each in found):
        raise MessageRefused(
            "102", f"an identifier has at most {_LONGEST} characters, which can be printed", segment.name, number
        )
    return found


def _identifier(value: Value) -> Identifier:
    """CX: of the assigning authority (HD) the universal id where it is an OID, else the name."""
    namespace, universal, kind = (value.text(4, number) for number in (1, 2, 3))
    return Identifier(value.text(1), universal if kind == "ISO" else "", namespace)


def identified(identifier: Identifier, authorities: Mapping[str, str]) -> PatientIdentifier | None:
    """Who it names; `authorities` are the OIDs of those that are known by a name alone. None where nobody assigned it."""
    try:
        return PatientIdentifier(
            identifier.value, AssigningAuthority(identifier.oid or authorities[identifier.namespace], identifier.namespace)
        )
    except (KeyError, InvalidIdentifier):
        return None


def _demographics(pid: Segment) -> Demographics:
    name, others = _names(pid)
    return Demographics(
        name=name,
        birth_date=_said(pid, 7, _date(pid)),
        sex=_said(pid, 8, pid.text(8).upper()[:1]),
        other_names=others,
        addresses=_addresses(pid),
        telecom=_telecoms(pid),
    )


def _said(pid: Segment, number: int, value: str) -> str | None:
    """None for an empty field, an empty value for HL7's null."""
    raw = pid.field(number)
    return "" if raw == NULL else value or None


def _date(pid: Segment) -> str:
    """PID-7 without time of day; empty for what is no date, as systems write it for one that they do not know."""
    text = re.match("[0-9]*", pid.text(7)).group()[:8]  # type: ignore[union-attr]
    return text if timestamps.fhir_date_time_of_dtm(text) else ""


def _names(pid: Segment) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """PID-5: the name as a PN, of which each representation is a component group, and the names of other types."""
    if pid.field(5) == NULL:
        return "", ()
    groups, others = ["", "", ""], list[tuple[str, str]]()
    for each in pid.values(5)[:_MOST]:
        name, use = _pn(each), _NAME_USES.get(each.text(7), "")
        place = _REPRESENTATIONS.get(each.text(8), 0)
        if name and use:
            others.append((use, name))
        elif name and not groups[place]:
            groups[place] = name
    if not any(groups) and others:
        groups[0] = others.pop(0)[1]
    return "=".join(groups).rstrip("=") or None, tuple(others)


def _pn(value: Value) -> str:
    family, given, second, suffix, prefix = (value.text(number) for number in range(1, 6))
    return person_name(*("" if part == NULL else part for part in (family, given, second, prefix, suffix)))


def _addresses(pid: Segment) -> tuple[Address, ...] | None:
    """PID-11."""
    if pid.field(11) == NULL:
        return ()
    found = []
    for each in pid.values(11)[:_MOST]:
        street, other, city, state, postal_code, country = (each.text(number)[:_LONGEST] for number in range(1, 7))
        made = Address(
            tuple(line for line in (street, other) if line),
            city,
            state,
            postal_code,
            country,
            _ADDRESS_USES.get(each.text(7), ""),
        )
        if made != Address(use=made.use):
            found.append(made)
    return tuple(found) or None


def _telecoms(pid: Segment) -> tuple[Telecom, ...] | None:
    """PID-13, at home, and PID-14, at work."""
    if pid.field(13) == NULL and pid.field(14) in ("", NULL):
        return ()
    found = []
    for number, use in ((13, "home"), (14, "work")):
        for each in pid.values(number)[:_MOST]:
            system = _SYSTEMS.get(each.text(3).upper(), "email" if "@" in each.text(1) or each.text(4) else "phone")
            value = (each.text(4) if system == "email" else "") or each.text(1)
            value = value or "".join(f"{sign}{part}" for sign, part in zip("+  ", map(each.text, (5, 6, 7)), strict=True) if part)
            if value and value != NULL:
                found.append(Telecom(system, value.strip()[:_LONGEST], "mobile" if each.text(3).upper() == "CP" else use))
    return tuple(found) or None


# --- writing


def message(feed: Feed, *, now: str, version: str = "2.3.1", encoding: Encoding = UTF8) -> bytes:
    """Sections 3.8.4.1.2 and 3.8.4.2.2: the message of a Patient Identity Source. `now` is a TS.

    What `encoding` has no character for is UnicodeEncodeError.
    """
    _, structure = EVENTS[feed.event]
    kind = ["ADT", feed.event, *([structure] if version >= "2.5" else [])]
    of = encoding.escaped
    head = [
        *map(of, (*feed.source, *feed.destination)),
        now,
        "",
        encoding.component.join(kind),
        of(feed.control_id),
        "P",
        version,
    ]
    charset = [""] * 5 + ["UNICODE UTF-8"] if encoding.codec == "utf-8" else []
    segments = [["MSH", *head, *charset], ["EVN", feed.event, now], ["PID", *_pid(feed, encoding)]]
    if feed.is_merge:
        segments.append(["MRG", _repeated((cx(each, encoding) for each in feed.subsumed), encoding)])
    if not feed.is_merge:
        segments.append(["PV1", "", "I" if feed.event in ("A01", "A05") else "O"])
    return written(segments, encoding)


def _pid(feed: Feed, encoding: Encoding) -> list[str]:
    said, fields = feed.demographics, [""] * 14
    fields[2] = _repeated((cx(each, encoding) for each in feed.patient), encoding)
    fields[4] = _repeated(_xpns(said, encoding), encoding) if said.name else _null(said.name)
    fields[6] = said.birth_date or _null(said.birth_date)
    fields[7] = said.sex or _null(said.sex)
    fields[10] = _repeated((_xad(each, encoding) for each in said.addresses or ()), encoding) or _null(said.addresses)
    reached = said.telecom or ()
    fields[12] = _repeated((_xtn(each, encoding) for each in reached if each.use != "work"), encoding) or _null(said.telecom)
    fields[13] = _repeated((_xtn(each, encoding) for each in reached if each.use == "work"), encoding)
    return fields


def _null(value: object) -> str:
    return "" if value is None else NULL


def _repeated(values: Iterable[str], encoding: Encoding) -> str:
    return encoding.repetition.join(values)


def _joined(parts: Iterable[str], encoding: Encoding) -> str:
    return encoding.component.join(map(encoding.escaped, parts)).rstrip(encoding.component)


def cx(identifier: Identifier, encoding: Encoding) -> str:
    """A CX with its assigning authority."""
    authority = encoding.subcomponent.join(
        map(encoding.escaped, (identifier.namespace, identifier.oid, "ISO" if identifier.oid else ""))
    )
    return encoding.component.join([encoding.escaped(identifier.value), "", "", authority.rstrip(encoding.subcomponent)])


def _xpns(said: Demographics, encoding: Encoding) -> Iterable[str]:
    groups = (said.name or "").split("=")
    for group, representation in zip(groups, "AIP", strict=False):
        if group:
            yield _xpn(group, "L", representation if len(groups) > 1 else "", encoding)
    for use, name in said.other_names:
        yield _xpn(name.partition("=")[0], _NAME_TYPES.get(use, "D"), "", encoding)


def _xpn(group: str, kind: str, representation: str, encoding: Encoding) -> str:
    family, given, middle, prefix, suffix = [*group.split("^"), *[""] * 5][:5]
    return _joined((family, given, middle, suffix, prefix, "", kind, representation), encoding)


def _xad(address: Address, encoding: Encoding) -> str:
    street, other = [*address.lines, "", ""][:2]
    place = (street, other, address.city, address.state, address.postal_code, address.country)
    return _joined((*place, _ADDRESS_TYPES.get(address.use, "")), encoding)


def _xtn(telecom: Telecom, encoding: Encoding) -> str:
    is_email = telecom.system == "email"
    equipment = "CP" if telecom.use == "mobile" else _EQUIPMENT.get(telecom.system, "PH")
    kind = "NET" if is_email else "WPN" if telecom.use == "work" else "PRN"
    return _joined(("" if is_email else telecom.value, kind, equipment, telecom.value if is_email else ""), encoding)
