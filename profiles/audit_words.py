"""An AuditEvent in plain words: what was done, what for and what came of it, for the patient whose data it was about."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from profiles.r4.definitions import resource_types
from profiles.smart.words import Phrase

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Words:
    """`phrase` is like "looked at imaging studies", `purposes` are empty where none was said, `outcome` is allowed, refused or failed."""

    phrase: Phrase
    purposes: tuple[str, ...]
    outcome: str

    @property
    def what(self) -> str:
        """The phrase in English."""
        return self.phrase.said()

    @property
    def purpose(self) -> str:
        return ", ".join(self.purposes)


_INTERACTIONS: Final[Mapping[str, str]] = {
    "read": "looked at {what}",
    "vread": "looked at an earlier version of {what}",
    "search": "searched for {what}",
    "search-type": "searched for {what}",
    "search-system": "searched for anything",
    "history-instance": "looked at what {what} were before",
    "history-type": "looked at what {what} were before",
    "history-system": "looked at what anything was before",
    "create": "added {what}",
    "update": "changed {what}",
    "patch": "changed {what}",
    "delete": "removed {what}",
    "transaction": "sent several requests",
    "batch": "sent several requests",
    "operation": "asked about {what}",
}
_TRANSACTIONS: Final[Mapping[str, str]] = {
    "ITI-8": "sent personal details",
    "ITI-18": "searched for documents",
    "ITI-51": "searched for documents",
    "ITI-41": "added documents",
    "ITI-42": "added documents",
    "ITI-43": "fetched documents",
    "ITI-57": "changed what is said of documents",
    "ITI-92": "changed what is said of documents",
    "ITI-61": "added documents",
    "ITI-62": "removed documents",
    "ITI-64": "said that documents are another patient’s",
    "ITI-86": "removed documents",
    "ITI-65": "added documents",
    "ITI-105": "added documents",
    "ITI-106": "added documents",
    "ITI-67": "searched for documents",
    "ITI-68": "fetched documents",
    "ITI-71": "an app got access",
    "ITI-102": "asked what an app may do",
    "RAD-5": "looked at the examinations that are planned",
    "RAD-6": "began an examination",
    "RAD-7": "finished an examination",
    "RAD-10": "asked whether images are kept safely",
    "RAD-14": "searched for images",
    "RAD-55": "looked at images",
    "RAD-68": "added images",
    "RAD-69": "fetched images",
    "RAD-107": "looked at images",
    "RAD-108": "added images",
    "RAD-129": "searched for images",
    "110112": "saw names to choose from",
    "110120": "started the server",
    "110121": "stopped the server",
    "110122": "signed in",
    "110123": "signed out",
    "110127": "began emergency access",
    "110138": "ended emergency access",
    "110137": "changed who has access",
    "AuthZ-Consent": "a consent was applied",
    "disclose": "passed records on",
    "destroy": "erased old entries of this list",
}
_SENT: Final[Mapping[str, str]] = {
    "ITI-42": "was told of documents",
    "ITI-57": "was told that documents are withdrawn",
    "RAD-68": "was told of images",
}
"""What this server tells partners of itself."""
_OPERATIONS: Final[Mapping[str, str]] = {
    "everything": "asked for everything in the record",
    "docref": "asked for documents",
    "access-history": "looked at this list",
    "meta": "looked at labels",
}
_TYPES: Final[Mapping[str, str]] = {
    "AllergyIntolerance": "allergies",
    "AuditEvent": "this list",
    "Binary": "documents",
    "Condition": "diagnoses",
    "DiagnosticReport": "reports",
    "DocumentReference": "documents",
    "Encounter": "visits",
    "Endpoint": "where images are",
    "ImagingStudy": "imaging studies",
    "Immunization": "vaccinations",
    "MedicationRequest": "prescriptions",
    "Observation": "measurements and results",
    "Patient": "personal details",
    "ServiceRequest": "orders",
}
_PURPOSES: Final[Mapping[str, str]] = {
    "TREAT": "treatment",
    "ETREAT": "emergency treatment",
    "BTG": "emergency access",
    "HPAYMT": "payment",
    "HOPERAT": "running the hospital",
    "HRESCH": "research",
    "PATRQT": "at the patient's request",
    "FAMRQT": "at the family's request",
    "PWATRNY": "on the patient's behalf",
    "PUBHLTH": "public health",
}
_ARRIVED: Final = "sent images here"
_LEFT: Final = "fetched images"
_USED: Final = "used {what}"
_RECORDS: Final = "records"
_OTHERS: Final = "{kind} records"
_NAME: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CALLED: Final = re.compile(r"(?:([A-Z][A-Za-z]+)/)?(?:[A-Za-z0-9.-]{1,64}/)?\$([a-z-]+)")


def words(event: Json) -> Words:
    """Of an event as this server writes them (`profiles.audit_event`)."""
    outcome = {"0": "allowed", "4": "refused"}.get(str(event.get("outcome")), "failed")
    return Words(_what(event), tuple(_PURPOSES.get(code, code) for code in _purposes(event)), outcome)


def _what(event: Json) -> Phrase:
    codes = [str(each.get("code")) for each in event.get("subtype", ())]
    if "110104" in codes:  # instances are transferred: whither says the action
        return Phrase(_ARRIVED if event.get("action") == "C" else _LEFT)
    if event.get("action") == "R" and (told := next((_SENT[code] for code in codes if code in _SENT), "")):
        return Phrase(told)
    known = next((_TRANSACTIONS[code] for code in reversed(codes) if code in _TRANSACTIONS), None)
    if known is not None:
        return Phrase(known)
    asked = _asked(event)
    if called := _CALLED.match(asked):
        if operation := _OPERATIONS.get(called[2]):
            return Phrase(operation)
        return Phrase(_INTERACTIONS["operation"], {"what": _of_type(called[1] or "")})
    said = next((_INTERACTIONS[code] for code in codes if code in _INTERACTIONS), _USED)
    return Phrase(said, {"what": _of_type(asked.partition("/")[0].partition("?")[0])})


def _asked(event: Json) -> str:
    """The reference of what was read, or the query as the client wrote it."""
    for entity in event.get("entity", ()):
        reference = str(entity.get("what", {}).get("reference", ""))
        if query := entity.get("query"):
            try:
                return base64.b64decode(query).decode("utf-8", "replace")
            except (binascii.Error, ValueError):
                return ""
        if reference and entity.get("type", {}).get("code") != "1":
            return reference
    return ""


def _of_type(name: str) -> Phrase:
    if name not in resource_types():
        return Phrase(_RECORDS)
    return Phrase(_TYPES[name]) if name in _TYPES else Phrase(_OTHERS, {"kind": _NAME.sub(" ", name).lower()})


def _purposes(event: Json) -> list[str]:
    return [
        str(coding.get("code"))
        for agent in event.get("agent", ())
        for purpose in agent.get("purposeOfUse", ())
        for coding in purpose.get("coding", ())
    ]
