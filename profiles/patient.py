"""The patient as FHIR R4 says it, and DICOM person names (PN) as FHIR and HL7 v2 names."""

from dataclasses import dataclass
from typing import TypeAlias

from profiles import timestamps
from profiles.study import Patient
from profiles.vocabulary import NAME_REPRESENTATION

Json: TypeAlias = dict[str, object]

# Administrative gender: PS3.3 C.7.1.1 Patient's Sex to FHIR R4 administrative-gender
_GENDERS = {"M": "male", "F": "female", "O": "other"}

# PN component groups in their order (PS3.5 section 6.2.1.1) and what iso21090-EN-representation calls them
_REPRESENTATIONS = ("ABC", "IDE", "SYL")


@dataclass(frozen=True, slots=True)
class PersonName:
    """One component group of a PN (PS3.5 section 6.2.1.1): alphabetic, ideographic or phonetic."""

    family: str = ""
    given: str = ""
    middle: str = ""
    prefix: str = ""
    suffix: str = ""

    @property
    def text(self) -> str:
        """As people write it: prefix, given, middle, family, suffix."""
        return " ".join(part for part in (self.prefix, self.given, self.middle, self.family, self.suffix) if part)


def person_names(pn: str) -> tuple[PersonName | None, PersonName | None, PersonName | None]:
    """PS3.5 section 6.2.1.1: the alphabetic, ideographic and phonetic group of a PN, each None where it is empty."""
    groups = [_group(text) for text in pn.split("=")[:3]]
    groups += [None] * (3 - len(groups))
    return groups[0], groups[1], groups[2]


def display_name(pn: str) -> str:
    """A PN as one line of text for people: the first group that has anything in it, or an empty string."""
    return next((name.text for name in person_names(pn) if name), "")


def fhir_names(pn: str) -> list[Json]:
    """FHIR R4 HumanName of every group of a PN; where there are several, each says its alphabet by extension."""
    names = [(kind, name) for kind, name in zip(_REPRESENTATIONS, person_names(pn), strict=True) if name]
    several = len(names) > 1 or bool(names and names[0][0] != "ABC")
    return [_human_name(name, kind if several else "") for kind, name in names]


def fhir_patient(patient: Patient) -> Json:
    """FHIR R4 section 8.1, Patient: what PS3.3 C.7.1.1 says of a patient.

    `gender` is left out where DICOM says nothing, `unknown` where it says something that is no defined term.
    A birth date that is not a date is left out.
    """
    identifier: Json = dict(patient.identifier.fhir())
    if patient.identifier.authority.namespace:
        identifier["assigner"] = {"display": patient.identifier.authority.namespace}
    resource: Json = {"resourceType": "Patient"}
    if patient.id:
        resource["id"] = patient.id
    resource["identifier"] = [identifier]
    if names := fhir_names(patient.name):
        resource["name"] = names
    if sex := patient.sex.strip().upper():
        resource["gender"] = _GENDERS.get(sex, "unknown")
    if born := timestamps.fhir_date(patient.birth_date):
        resource["birthDate"] = born
    return resource


def _group(text: str) -> PersonName | None:
    parts = [" ".join(part.split()) for part in text.split("^")[:5]]
    return PersonName(*parts) if any(parts) else None


def _human_name(name: PersonName, representation: str) -> Json:
    human: Json = {}
    if representation:
        human["extension"] = [{"url": NAME_REPRESENTATION, "valueCode": representation}]
    human["text"] = name.text
    if name.family:
        human["family"] = name.family
    if given := [part for part in (name.given, name.middle) if part]:
        human["given"] = given
    if name.prefix:
        human["prefix"] = [name.prefix]
    if name.suffix:
        human["suffix"] = [name.suffix]
    return human
