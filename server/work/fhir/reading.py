"""Read and vread: one version of one resource (FHIR R4 sections 3.1.0.2 and 3.1.0.3)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from profiles.audit_event import REST_READ, REST_VREAD
from server.access.decisions import Interaction
from server.errors import Gone, NotFound, NotSupported
from server.records import history, resources
from server.records.resources import Stored
from server.records.trail import Audited, Wanted, as_patients_see, events
from server.work.fhir import offered, permission
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.permission import if_granted, is_limited, require_patients, require_resource
from server.work.fhir.refusals import ParameterError
from server.work.fhir.shape import PARAMETERS, of_read

FHIR_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
FORMATS: Final = ("_format", "_pretty")
Parameters = Sequence[tuple[str, str]]


class Deleted(Gone):
    """What was deleted. `headers` say which version the deletion was (FHIR R4 section 3.1.0.7); `patients` are whose it was, for the trail."""

    def __init__(self, detail: str, headers: dict[str, str], patients: frozenset[str]) -> None:
        super().__init__(detail)
        self.headers = headers
        self.patients = patients


def read(connection: Connection, caller: Caller, type_: str, id_: str, parameters: Parameters = ()) -> Outcome:
    """FHIR R4 section 3.1.0.2, read: the current version, whole or what `_summary` and `_elements` ask for.

    Raises `NotFound`, `Gone`, `Forbidden`, `NotOffered`, `ParameterError`.
    """
    offered.require(type_, "read")
    require_no_binary(type_)
    shape = of_read(type_, _asked(parameters))
    stored = _event(connection, caller, id_) if type_ == "AuditEvent" else current(connection, caller, type_, id_)
    if not shape.is_whole:
        stored = replace(stored, body=shape.of(stored.body, stored.summary))
    return Outcome(200, stored, audited=(Audited("read", REST_READ, f"{type_}/{id_}", stored.patient),))


def vread(connection: Connection, caller: Caller, type_: str, id_: str, version: str, parameters: Parameters = ()) -> Outcome:
    """FHIR R4 section 3.1.0.3, vread: one version. It is for those who may read what it was, and whose the resource is now. Raises as `read`.

    A patient/ scope does not open what a study was before images of it were withdrawn, which lists them. FHIR R4 leaves to the server which
    versions it keeps.
    """
    offered.require(type_, "vread")
    require_no_binary(type_)
    shape = of_read(type_, _asked(parameters))
    made = caller.decision
    # A version id is a string; ours are numbers without leading zeros, all others name nothing.
    is_one = version.isascii() and version.isdigit() and str(int(version[:9])) == version and FHIR_ID.fullmatch(id_)
    stored = resources.past(connection, type_, id_, int(version)) if is_one else None
    if stored is not None:
        require_patients(made, type_, stored.patients, Interaction.READ)
        _require_version(connection, caller, stored)
    is_confined = is_limited(made, type_, Interaction.READ)
    if stored is None or (is_confined and resources.is_withheld(connection, type_, id_, stored.version)):
        with if_granted(made, type_):
            raise NotFound(f"there is no {type_} with this id and version")
    if stored.deleted:
        raise _deleted(caller, stored, f"with this version the {type_} was deleted")
    if not shape.is_whole:
        stored = replace(stored, body=shape.of(stored.body))
    name = f"{type_}/{id_}/_history/{version}"
    audited = tuple(Audited("read", REST_VREAD, name, each) for each in sorted(stored.patients - {""}) or [""])
    return Outcome(200, stored, audited=audited)


def _require_version(connection: Connection, caller: Caller, stored: Stored) -> None:
    """Raises `Forbidden`, or `NotFound`, unless the caller may read this version, whose patients are his."""
    made, type_ = caller.decision, stored.type
    if not permission.is_by_patient(made, type_, Interaction.READ):
        allowed = permission.versions(made, (type_,), Interaction.READ)
        if not history.told(connection, type_, stored.id, stored.version, allowed):
            raise made.unseen(type_, Interaction.READ, stored.patient, f"there is no {type_} with this id and version")


def require_no_binary(type_: str) -> None:
    """FHIR R4 section 2.44.2: a Binary is judged by its security context (`work.fhir.binary`), and not as other resources are."""
    if type_ == "Binary":
        raise NotSupported("a Binary is read by itself, by GET [base]/Binary/[id]")


def _asked(parameters: Parameters) -> list[tuple[str, str]]:
    """Those of the resource's shape. Raises `ParameterError` for others than these and those of the format."""
    for name, _ in parameters:
        if name not in PARAMETERS + FORMATS:
            known = ", ".join(sorted(PARAMETERS + FORMATS))
            raise ParameterError("", f"a read takes no parameters but {known}", "not-supported")
    return [each for each in parameters if each[0] in PARAMETERS]


def current(connection: Connection, caller: Caller, type_: str, id_: str, interaction: Interaction = Interaction.READ) -> Stored:
    """What is there now, for who may do this to it. Raises as `judged`."""
    return judged(
        connection, caller, type_, resources.last(connection, type_, id_) if FHIR_ID.fullmatch(id_) else None, interaction
    )


def judged(
    connection: Connection, caller: Caller, type_: str, found: Stored | None, interaction: Interaction = Interaction.READ
) -> Stored:
    """What was found under an id, deleted or not, for who may do this to it. Raises `NotFound`, `Deleted`, `Forbidden`.

    Who may not is not told that it was there, nor whether it is.
    """
    if found is None:
        with if_granted(caller.decision, type_, interaction):
            raise NotFound(f"there is no {type_} with this id")
    require_resource(connection, caller.decision, type_, interaction, found.id, found.patient, now=not found.deleted)
    if found.deleted:
        raise _deleted(caller, found, f"this {type_} was deleted")
    return found


def _deleted(caller: Caller, found: Stored, detail: str) -> Deleted:
    """With the version that the deletion was."""
    location = f"{caller.base}/{found.type}/{found.id}/_history/{found.version}"
    return Deleted(detail, {"ETag": found.etag, "Location": location}, found.patients - {""})


def _event(connection: Connection, caller: Caller, id_: str) -> Stored:
    """The trail has its own rows."""
    wanted = Wanted(ids=((id_,),))
    found = next(iter(events(connection, wanted=wanted, limit=1)), None) if FHIR_ID.fullmatch(id_) else None
    if found is None:
        with if_granted(caller.decision, "AuditEvent"):
            raise NotFound("there is no AuditEvent with this id")
    made = caller.decision
    require_patients(made, "AuditEvent", frozenset([found.patient]), Interaction.READ)
    if not made.sees_whose(connection, "AuditEvent", Interaction.READ, found.patient):
        raise made.unseen("AuditEvent", Interaction.READ, found.patient, "there is no AuditEvent with this id")
    body = found.body
    if is_limited(made, "AuditEvent", Interaction.READ):
        body = as_patients_see(body, found.patient)
    return Stored("AuditEvent", found.id, 1, found.recorded, found.patient, body)
