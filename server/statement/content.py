"""What the statement tells of SOP Classes, transfer syntaxes, attributes, and of the objects that are made here."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from typing import Final

from pydicom import Dataset, dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.uid import UID

from profiles import correction, dicomdir, header, manifest
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.query_attributes import MORE, OPTIONAL, REQUIRED, Level
from profiles.study import Instance, Patient, Series, Study
from profiles.transfer_syntaxes import DECODED, ENCODED
from profiles.vocabulary import CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN, KEY_OBJECT_SELECTION
from server.edges.dimse.negotiation import is_known_transfer_syntax, is_storage
from server.records import conditions, item_matching, performed_steps, worklist
from server.statement.markdown import attribute, code, table, tagged, uid_name

_LEVELS: Final[tuple[Level, ...]] = ("study", "series", "instance")
_MATCHING: Final[Mapping[str, str]] = {
    "text": "single value, wildcard", "code": "single value, list, wildcard", "name": "person name", "date": "single value, range",
    "time": "single value, range", "uid": "single value, list", "integer": "single value",
}  # fmt: skip
# Of keys without an index, as `item_matching` does it
_OF_VR: Final[Mapping[str, str]] = {
    **dict.fromkeys(item_matching.WILD, "text"), "PN": "name", "DA": "date", "TM": "time", "UI": "uid",
}  # fmt: skip
# Misspellings that pydicom forgives, and so do we
_NO_TERMS: Final = frozenset({"ISO 2022 58", "ISO 2022 GBK"})
# Of a data set's text: what all of its instances share
_NO_MEANING: Final = frozenset({"00080005", "00080201"})


def _in_order(uids: Iterator[str]) -> list[str]:
    return sorted(uids, key=lambda uid: [int(part) for part in uid.split(".")])


def _storage_classes() -> list[str]:
    return _in_order(uid for uid in UID_dictionary if is_storage(uid))


def _transfer_syntaxes() -> list[str]:
    return _in_order(uid for uid in {*UID_dictionary, *DECODED} if is_known_transfer_syntax(uid))


def storage_count() -> str:
    """How many Storage SOP Classes are known by name."""
    return str(len(_storage_classes()))


def syntax_count() -> str:
    """How many transfer syntaxes are taken."""
    return str(len(_transfer_syntaxes()))


def storage_classes() -> str:
    """PS3.4 annex B.5: what is taken and given, by name."""
    return table(
        ("SOP Class", "UID", "Retired"),
        ((uid_name(uid).removesuffix(" (Retired)"), code(uid), "yes" if UID(uid).is_retired else "") for uid in _storage_classes()),
    )  # fmt: skip


def transfer_syntaxes() -> str:
    """PS3.6 table A-1: what is taken; what of it can be decoded, and what can be made of it."""
    return table(
        ("Transfer syntax", "UID", "Taken and sent as stored", "Decoded", "Made of what is decoded"),
        (
            (uid_name(uid).removesuffix(" (Retired)"), code(uid), "yes", "yes" if uid in DECODED else "", "yes" if uid in ENCODED else "")
            for uid in _transfer_syntaxes()
        ),
    )  # fmt: skip


def character_sets() -> str:
    """PS3.3 section C.12.1.1.2: Defined Terms of Specific Character Set that are decoded and encoded."""
    single = [term for term in python_encoding if term and not term.startswith("ISO 2022") and term not in _NO_TERMS]
    several = [term for term in python_encoding if term.startswith("ISO 2022") and term not in _NO_TERMS]
    return table(
        ("Kind", "Defined Terms"),
        (
            ("Without code extensions", ", ".join(map(code, ["(none)", *single]))),
            ("With code extensions, alone or joined", ", ".join(map(code, several))),
        ),
    )


# --- queries


def query_attributes() -> str:
    """PS3.18 tables 10.6.1-5 and 10.6.3-3 to -5, PS3.4 tables C.6-1 to C.6-5: keys and results of each level."""
    return table(
        ("Level", "Attribute", "Tag", "Returned", "Matching", "Index"),
        (row for level in _LEVELS for row in _keys(level)),
    )


def _keys(level: Level) -> Iterator[tuple[str, ...]]:
    returned = {
        "always": REQUIRED[level], "where it has a value": dict.fromkeys(OPTIONAL[level]), "on request": dict.fromkeys(MORE[level]),
    }  # fmt: skip
    told = {tag: words for words, tags in reversed(returned.items()) for tag in tags}
    told |= {tag: "always (computed)" for tag in conditions.KEYS[level] if tag not in told}
    told |= {tag: "always (computed)" for tag in conditions.TERMS if level == "study" and tag not in told}
    for tag in sorted(told):
        kind, indexed = _kind(level, tag)
        yield level, attribute(tag), tagged(tag), told[tag], kind, indexed


def _kind(level: Level, tag: str) -> tuple[str, str]:
    """How a key is matched, and whether an index helps."""
    if tag in _NO_MEANING - set(conditions.KEYS[level]):
        return "", ""
    if tag in conditions.KEYS[level]:
        return _MATCHING[conditions.KEYS[level][tag][0]], "yes"
    if level == "study" and tag in conditions.TERMS:
        return _MATCHING[conditions.TERMS[tag]], "yes"
    vr = dictionary_VR(int(tag, 16)).partition(" ")[0]
    return ("sequence: of its attributes" if vr == "SQ" else _MATCHING[_OF_VR.get(vr, "integer")]), ""


# --- objects


def read_attributes() -> str:
    """What is read of an instance before it is acknowledged."""
    demanded = {0x00080016, 0x00080018, 0x0020000D, 0x0020000E}
    return table(
        ("Attribute", "Tag", "Demanded"),
        (
            (attribute(f"{tag:08X}"), tagged(f"{tag:08X}"), "yes, a UID" if tag in demanded else "")
            for tag in header.TAGS
        ),
    )  # fmt: skip


def corrected_attributes() -> str:
    """PS3.4 section B.4.1.3: attributes that a correction replaces."""
    return table(("Attribute", "Tag", "VR"), ((attribute(tag), tagged(tag), vr) for tag, vr in correction.CORRECTABLE.items()))


def directory_records() -> str:
    """PS3.3 annex F: Directory Records and their keys."""
    return table(
        ("Directory Record", "Keys"),
        (
            (name, ", ".join(f"{attribute(tag)} {tagged(tag)}{' (1)' if demanded else ' (2)'}" for tag, _, demanded in keys))
            for name, keys in dicomdir.KEYS.items()
        ),
    )


def worklist_attributes() -> str:
    """PS3.4 table K.6-1: attributes that an entry must have."""
    return table(
        ("Attribute", "Tag", "Within"),
        (
            *((attribute(tag), tagged(tag), "") for tag in worklist.REQUIRED),
            *((attribute(tag), tagged(tag), attribute(worklist.STEP_SEQUENCE)) for tag in worklist.REQUIRED_OF_STEP),
        ),
    )


def performed_step_rules() -> str:
    """PS3.4 table F.7.2-1: attributes of a Modality Performed Procedure Step."""
    return table(
        ("Attribute", "Tag", "N-CREATE", "N-SET may change it", "Final state"),
        (row for tag, rule in performed_steps.RULES.items() for row in _rule(tag, rule)),
    )


def _rule(tag: str, rule: performed_steps.Rule) -> Iterator[tuple[str, ...]]:
    yield attribute(tag), tagged(tag), rule.create, "yes" if rule.may_set else "", rule.final
    for inner, kind in rule.inner:
        yield f"> {attribute(inner)}", tagged(inner), kind, "", ""


# --- the manifest


def _study(n: str) -> Study:
    """A study that has everything, every value with `n` in it."""
    instance = Instance(
        f"1.2.{n}.3",
        CT_IMAGE_STORAGE if n == "1" else KEY_OBJECT_SELECTION,
        EXPLICIT_VR_LITTLE_ENDIAN,
        rows=1,
        columns=1,
        frames=1,
    )
    series = (Series(f"1.2.{n}.2", "CT", instances=(instance,)),)
    patient = Patient(PatientIdentifier(n, AssigningAuthority(f"1.2.{n}", n)), n, f"190{n}0101", "M" if n == "1" else "F")
    return Study(
        f"1.2.{n}.1", patient, n, n, f"1.2.{n}", f"200{n}0101", f"0{n}0000", f"+0{n}00", n, n, n, series,
    )  # fmt: skip


def _manifest(study: Study, n: str) -> Dataset:
    made = manifest.build(
        study, sop_instance_uid=f"1.2.{n}.4", series_instance_uid=f"1.2.{n}.5", created=datetime(2000 + int(n), int(n), int(n), int(n), tzinfo=UTC), zone=UTC,
        retrieve_ae_title=n, retrieve_location_uid=f"1.2.{n}.6", retrieve_url=f"http://{n}", manufacturer="imageshare",
    )  # fmt: skip
    return dcmread(BytesIO(made))


@cache
def _manifests() -> tuple[Mapping[tuple[str, ...], str], ...]:
    """By path of the attribute, the values of three manifests: of two studies that have everything, and of one that has nothing."""
    bare = Study("1.2.3.1", Patient(PatientIdentifier("3", AssigningAuthority("1.2.3"))), series=_study("3").series)
    return tuple(dict(_elements(_manifest(study, n), ())) for study, n in ((_study("1"), "1"), (_study("2"), "2"), (bare, "3")))


def _elements(dataset: Dataset, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    for element in dataset:
        path = (*above, f"{element.tag:08X}")
        yield path, str(element.value) if element.VR != "SQ" else ""
        for item in element.value[:1] if element.VR == "SQ" else ():
            yield from _elements(item, path)


def manifest_attributes() -> str:
    """PS3.3 section A.35.4: every attribute of the Key Object Selection Documents that are made here."""
    one, other, bare = _manifests()
    return table(
        ("Attribute", "Tag", "Value"),
        (
            ("> " * (len(path) - 1) + attribute(path[-1]), tagged(path[-1]), _value(value, other[path], path in bare))
            for path, value in one.items()
        ),
    )  # fmt: skip


def _value(value: str, other: str, always: bool) -> str:
    said = "of the study, or made here" if value != other else code(value)
    return ", ".join(each for each in (said, "" if always else "where known") if each)
