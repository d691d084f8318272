"""Who may be told what by FHIR Consents, read as people read them: a slow oracle that knows no SQL, no rules and no rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]
LEVELS = "ULMNRV"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
_WRITERS = ("author", "performer", "recorder", "asserter", "requester", "resultsInterpreter", "interpreter")
Days = tuple[str, str]
"""First and last day."""


@dataclass(frozen=True)
class Entry:
    """A resource; whose it is, and the days that it is of."""

    json: Json
    patients: tuple[str, ...] = ()
    days: Days | None = None
    names: tuple[str, ...] = ()
    """Patients of whom it is too, but not in their compartments."""

    @property
    def name(self) -> str:
        return f"{self.json['resourceType']}/{self.json['id']}"


@dataclass(frozen=True)
class Caller:
    actors: frozenset[str]
    purposes: frozenset[str]
    permits: bool = True
    today: str = "2026-06-01"
    named: bool = False
    """A proxy: only denials that name an actor, around them or in them, are for her."""
    is_unknown: bool = False
    """Denials that name an actor may be for this one, permissions are not."""


def told(entry: Entry, world: Sequence[Entry], consents: Mapping[str, Sequence[Json]], caller: Caller) -> bool:
    """Whether each patient whose the resource is lets it be told; `consents` are by patient. All content has to be plain."""
    for patient in (*entry.patients, *entry.names):
        verdicts = [_verdict(each["provision"], entry, world, caller, is_root=True) for each in consents.get(patient, ())]
        if "deny" in verdicts or ("permit" not in verdicts and not caller.permits):
            return False
    return True


def _verdict(
    provision: Json,
    entry: Entry,
    world: Sequence[Entry],
    caller: Caller,
    *,
    is_root: bool = False,
    named: bool = False,
    sure: bool = True,
) -> str:
    """`deny`, `permit`, or nothing where the provision does not apply. `named`: one around it names an actor; `sure`: all that do name this one."""
    denies = provision["type"] == "deny"
    named, sure = named or bool(provision.get("actor")), sure and _names(provision, caller)
    denial = "deny" if named or not caller.named else ""
    if not _is_for(provision, caller) or not (sure or caller.is_unknown):
        return ""
    data = list(_data(provision, denies, entry, world))
    if is_root and not denies and data:  # IHE PCF: what is permitted, and nothing else
        below = {_verdict(each, entry, world, caller, named=named, sure=sure) for each in provision.get("provision", ())}
        if sure and (all(data) or entry.name.startswith("Patient/")):
            below.add("permit")
        return "deny" if "deny" in below else "permit" if "permit" in below else denial
    if not all(data):
        return ""
    below = {_verdict(each, entry, world, caller, named=named, sure=sure) for each in provision.get("provision", ())} - {""}
    if below:
        return "deny" if "deny" in below else "permit"
    return denial if denies else "permit" if sure else ""


def _names(provision: Json, caller: Caller) -> bool:
    actors = {each["reference"]["reference"] for each in provision.get("actor", ())}
    return not actors or bool(actors & caller.actors)


def _is_for(provision: Json, caller: Caller) -> bool:
    period = provision.get("period", {})
    if not period.get("start", "0000") <= caller.today <= period.get("end", "9999"):
        return False
    purposes = {each["code"] for each in provision.get("purpose", ())}
    return not purposes or bool(purposes & caller.purposes)


def _data(provision: Json, denies: bool, entry: Entry, world: Sequence[Entry]) -> Iterator[bool]:
    """Of each element that speaks of the data whether it is true."""
    if classes := provision.get("class"):
        yield entry.json["resourceType"] in {each["code"] for each in classes}
    if codes := provision.get("code"):
        wanted = {coding["code"] for each in codes for coding in each["coding"]}
        yield bool(wanted & set(_codes(entry.json)))
    if labels := provision.get("securityLabel"):
        yield from _labels(labels, denies, entry.json)
    if period := provision.get("dataPeriod"):
        first, last = period.get("start", "0000"), period.get("end", "9999")
        if entry.days is None:
            yield denies
        elif denies:
            yield entry.days[0] <= last and entry.days[1] >= first
        else:
            yield entry.days[0] >= first and entry.days[1] <= last
    if data := provision.get("data"):
        yield any(_is_of(each, denies, entry, world) for each in data)


def _labels(labels: Sequence[Json], denies: bool, resource: Json) -> Iterator[bool]:
    held = [(each["system"], each["code"]) for each in resource.get("meta", {}).get("security", ())]
    levels = [code for system, code in held if system == CONFIDENTIALITY]
    level = max(levels, key=LEVELS.index) if levels else "R" if any(system == ACT_CODE for system, _ in held) else "N"
    marks = [each["code"] for each in labels if each["system"] == CONFIDENTIALITY]
    tags = [(each["system"], each["code"]) for each in labels if each["system"] != CONFIDENTIALITY]
    tagged = any(each in held for each in tags)
    if denies:
        yield tagged or any(LEVELS.index(level) >= LEVELS.index(each) for each in marks)
        return
    if marks:
        yield any(LEVELS.index(level) <= LEVELS.index(each) for each in marks)
    if tags:
        yield tagged


def _is_of(data: Json, denies: bool, entry: Entry, world: Sequence[Entry]) -> bool:
    reference, meaning = data["reference"], data["meaning"]
    if "identifier" in reference:
        uid = reference["identifier"]["value"].removeprefix("urn:oid:")
        series = {each["uid"] for each in entry.json.get("series", ())}
        studies = {each["value"] for each in entry.json.get("identifier", ()) if each["system"] == "urn:dicom:uid"}
        return f"urn:oid:{uid}" in studies or (denies and uid in series)
    named = reference["reference"]
    if meaning == "authoredby":
        return any(each["reference"] == named for element in _WRITERS for each in _several(entry.json.get(element)))
    refers = named in set(_references(entry.json))
    if meaning == "instance" or entry.name == named:
        return bool(entry.name == named)
    if meaning == "dependents":
        return refers
    return refers or any(each.name == named and entry.name in set(_references(each.json)) for each in world)


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _codes(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("code"), str) and "system" in value:
            yield value["code"]
        for name, each in value.items():
            if name != "meta":
                yield from _codes(each)
    elif isinstance(value, list):
        for each in value:
            yield from _codes(each)
