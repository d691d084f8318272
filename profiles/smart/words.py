"""SMART App Launch 2.2 best practices: what a scope opens, in plain words for whoever is asked to allow it, with what to think about first.

A `Phrase` is an English sentence with named places; a translator gets the sentence (gettext's message id) and puts its own in its place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from profiles.smart.scopes import Interaction, Scope, parse_scope
from profiles.vocabulary import DICOM_UID_SYSTEM

Translate = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Phrase:
    """`text` has places like `{what}`; what stands there is a phrase of its own or plain text that nobody translates."""

    text: str
    places: Mapping[str, "Phrase | str"] = field(default_factory=dict)

    def said(self, translate: Translate = str) -> str:
        """The sentence, through gettext's `_` where there is one. What stands in a place is never read for places again."""
        values = {name: value.said(translate) if isinstance(value, Phrase) else value for name, value in self.places.items()}
        return translate(self.text).format_map(values)


@dataclass(frozen=True, slots=True)
class Wish:
    """One word of a scope string as people read it. `warnings` are to be shown with it; empty where there is nothing special."""

    word: str
    sentence: Phrase
    warnings: tuple[Phrase, ...] = ()


EVERYTHING: Final = Phrase("This is everything in the record, also what is added later, not only images.")
WRITES: Final = Phrase("It can change what is in the record.")
DELETES: Final = Phrase("It can delete what is in the record.")
OFFLINE: Final = Phrase("It keeps this access when you have left, until you take it back under Connected apps.")
MANY: Final = Phrase("This is about every patient whom you may see, not about one.")
UNKNOWN: Final = Phrase("Something that this server does not know: {word}")

_OTHERS: Final = {
    "openid": Phrase("Know that it is you who signed in"),
    "fhirUser": Phrase("Know who you are in the record"),
    "profile": Phrase("See your name"),
    "launch": Phrase("Know what you have open just now"),
    "launch/patient": Phrase("Know which patient this is about"),
    "launch/encounter": Phrase("Know which visit this is about"),
    "launch/imagingstudy": Phrase("Know which imaging study this is about"),
    "online_access": Phrase("Keep access for as long as you are signed in"),
}

_TYPES: Final = {
    "AllergyIntolerance": "allergies", "Appointment": "appointments", "AuditEvent": "who has seen and changed the record",
    "Binary": "documents and files", "CarePlan": "care plans", "CareTeam": "care teams", "Condition": "diagnoses and health problems",
    "Consent": "consents", "Coverage": "insurance", "Device": "devices and implants", "DiagnosticReport": "reports of examinations",
    "DocumentReference": "documents", "Encounter": "visits", "Endpoint": "where images can be fetched",
    "FamilyMemberHistory": "diseases in the family", "Goal": "goals of care", "ImagingStudy": "imaging studies with their pictures",
    "Immunization": "vaccinations", "Location": "places of care", "Media": "photos and recordings", "Medication": "medicines",
    "MedicationRequest": "prescriptions", "MedicationStatement": "medicines that are taken",
    "Observation": "measurements and laboratory results", "Organization": "hospitals and practices", "Patient": "name, birth date and address",
    "Practitioner": "doctors and other staff", "PractitionerRole": "who works where", "Procedure": "operations and treatments",
    "Provenance": "where data come from", "QuestionnaireResponse": "answers to questionnaires", "RelatedPerson": "relatives and carers",
    "ServiceRequest": "orders and referrals", "Specimen": "samples", "Task": "tasks", "*": "everything in the record",
}  # fmt: skip

_DOES: Final = {
    "r": "See {what}", "c": "Add to {what}", "u": "Change {what}", "d": "Delete {what}",
    "rc": "See and add to {what}", "ru": "See and change {what}", "rd": "See and delete {what}",
    "cu": "Add to and change {what}", "cd": "Add to and delete {what}", "ud": "Change and delete {what}",
    "rcu": "See, add to and change {what}", "rcd": "See, add to and delete {what}", "rud": "See, change and delete {what}",
    "cud": "Add to, change and delete {what}", "rcud": "See, add to, change and delete {what}",
}  # fmt: skip
"""To read and to search is the same for people: to see."""


def wish(word: str) -> Wish:
    """What one word of a scope string asks for."""
    scope = parse_scope(word)
    if scope is not None:
        return Wish(word, _sentence(scope), tuple(_warnings(scope)))
    if word == "offline_access":
        return Wish(word, Phrase("Keep access when you are not there"), (OFFLINE,))
    return Wish(word, _OTHERS.get(word) or Phrase(UNKNOWN.text, {"word": word}))


def _sentence(scope: Scope) -> Phrase:
    letters = ("r" if scope.interactions & {Interaction.READ, Interaction.SEARCH} else "") + "".join(
        letter for letter in "cud" if letter in scope.interactions
    )
    named = _TYPES.get(scope.type)
    what = Phrase(named) if named else Phrase("data of the kind {kind}", {"kind": scope.type})
    if any(map(_is_of_studies, scope.query)):
        what = Phrase("{what}, but only single ones", {"what": what})
    if constraints := _constraints(scope):
        what = Phrase("{what}, but only those with {constraints}", {"what": what, "constraints": constraints})
    if scope.context == "user":
        what = Phrase("{what}, of all patients whom you may see", {"what": what})
    if scope.context == "system":
        what = Phrase("{what}, without anybody signed in", {"what": what})
    return Phrase(_DOES[letters], {"what": what})


def _is_of_studies(constraint: tuple[str, str]) -> bool:
    """Whether it names studies by their UIDs, which tell people nothing."""
    name, value = constraint
    return name == "identifier" and all(each.startswith(f"{DICOM_UID_SYSTEM}|") for each in value.split(","))


def _constraints(scope: Scope) -> str:
    """`category: laboratory, status: final`, without the systems of codes, which tell people nothing."""
    return ", ".join(
        f"{name}: {' / '.join(each.rpartition('|')[2] or each for each in value.split(','))}"
        for name, value in scope.query
        if not _is_of_studies((name, value))
    )


def _warnings(scope: Scope) -> list[Phrase]:
    found = [EVERYTHING] if scope.type == "*" and not scope.query else []
    if scope.context == "user":
        found.append(MANY)
    if Interaction.DELETE in scope.interactions:
        found.append(DELETES)
    elif scope.interactions & {Interaction.CREATE, Interaction.UPDATE}:
        found.append(WRITES)
    return found
