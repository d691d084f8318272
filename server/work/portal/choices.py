"""What patients close of their own records, as FHIR Consents: one study with all that belongs to it, or everything, to everybody but themselves.

Each choice is one Consent with an id of its own, so that to close again what was opened is another version of it. It is written as any client's is, and so holds
at every door from the next request on (decision 25).
"""

import uuid
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection

from profiles.fhir.json import parse
from server.access.decisions import Decision, parse_scopes
from server.access.people import accounts
from server.access.people.accounts import Account
from server.access.rights import PORTAL
from server.errors import NotFound
from server.records import resources
from server.work.fhir.caller import Caller
from server.work.fhir.delete import delete
from server.work.fhir.update import update
from server.work.fhir.writes import Writes
from server.work.portal.studies import NO_STUDY

Also = Callable[[Connection, str], None]
EVERYTHING: Final = ""
_NAMES: Final = uuid.UUID("5a3e2c64-0d5e-4f0b-9d7a-3a8f1f0a2b9c")
_CODES: Final = "http://terminology.hl7.org/CodeSystem"


def closed(connection: Connection, patients: Collection[str], studies: Collection[str]) -> frozenset[str]:
    """Which of these studies (ids of ImagingStudies; `EVERYTHING`) of these patients are closed by a choice."""
    wanted = {_id(patient, study): study for patient in patients for study in (EVERYTHING, *studies)}
    return frozenset(study for id_, study in wanted.items() if _is_active(connection, id_))


class Choices:
    """The choices of one node. `base` is our FHIR base URL."""

    def __init__(self, writes: Writes, base: str) -> None:
        self._writes, self._base = writes, base

    def close(self, account: Account, patient: str, study: str, also: Also) -> None:
        """Nobody but the patient sees it from the next request on. `also` is told of the Consent in the same transaction. Raises `NotFound`."""

        def write(connection: Connection) -> None:
            id_ = _id(patient, study)
            update(connection, self._caller(connection, account, patient), "Consent", id_, _consent(id_, patient, study))
            also(connection, f"Consent/{id_}")

        self._writes.run(write)

    def open(self, account: Account, patient: str, study: str, also: Also) -> None:
        """As it was before. Raises `NotFound`."""

        def write(connection: Connection) -> None:
            id_ = _id(patient, study)
            delete(connection, self._caller(connection, account, patient), "Consent", id_)
            also(connection, f"Consent/{id_}")

        self._writes.run(write)

    def _caller(self, connection: Connection, account: Account, patient: str) -> Caller:
        """The patient, who may write her own Consents and nothing else here."""
        own = accounts.own_patients(connection, account.id)
        if patient not in own:
            raise NotFound(NO_STUDY)
        decision = Decision(
            PORTAL, parse_scopes("user/Consent.cruds"), user=account.fhir_user, account=account.id, reach=frozenset([patient]),
            writes=frozenset({"Consent"}),
        )  # fmt: skip
        return Caller(decision, self._base)


def _id(patient: str, study: str) -> str:
    return str(uuid.uuid5(_NAMES, f"{patient}/{study}"))


def _is_active(connection: Connection, id_: str) -> bool:
    stored = resources.last(connection, "Consent", id_)
    return stored is not None and not stored.deleted and parse(stored.body).get("status") == "active"


def _consent(id_: str, patient: str, study: str) -> dict[str, Any]:
    """FHIR R4 Consent: a denial for everybody, of a study and what is related to it (`meaning`), or of all."""
    provision: dict[str, Any] = {"type": "deny"}
    if study:
        provision["data"] = [{"meaning": "related", "reference": {"reference": f"ImagingStudy/{study}"}}]
    return {
        "resourceType": "Consent", "id": id_, "status": "active",
        "scope": {"coding": [{"system": f"{_CODES}/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"}, "dateTime": datetime.now(UTC).isoformat(timespec="seconds"),
        "policyRule": {"coding": [{"system": f"{_CODES}/v3-ActCode", "code": "OPTOUT"}]}, "provision": provision,
    }  # fmt: skip
