"""Read and vread: one version of one resource (FHIR R4 sections 3.1.0.2 and 3.1.0.3)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from profiles.audit_event import REST_READ, REST_VREAD
from server.access.decisions import Interaction
from server.errors import Gone, NotFound, NotSupported
from server.records import resources
from server.records.resources import Stored
from server.records.trail import Wanted, events, without_queries
from server.work.fhir import offered
from server.work.fhir.caller import Audited, Caller, Outcome
from server.work.fhir.permission import confined, if_granted, require_patient
from server.work.fhir.refusals import ParameterError
from server.work.fhir.shape import PARAMETERS, of_read

FHIR_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
FORMATS: Final = ("_format", "_pretty")
Parameters = Sequence[tuple[str, str]]


class Deleted(Gone):
    """What was deleted. `headers` say which version the deletion was (FHIR R4 section 3.1.0.7)."""

    def __init__(self, detail: str, headers: dict[str, str]) -> None:
        super().__init__(detail)
        self.headers = headers


def read(connection: Connection, caller: Caller, type_: str, id_: str, parameters: Parameters = ()) -> Outcome:
    """FHIR R4 section 3.1.0.2, read: the current version, whole or what `_summary` and `_elements` ask for.

    Raises `NotFound`, `Gone`, `Forbidden`, `NotOffered`, `ParameterError`.
    """
    offered.require(type_, "read")
    require_no_binary(type_)
    shape = of_read(type_, _asked(parameters))
    with if_granted(caller.decision, type_):
        stored = _event(connection, caller, id_) if type_ == "AuditEvent" else _current(connection, caller, type_, id_)
    require_patient(caller.decision, type_, Interaction.READ, stored.patient)
    stored = replace(stored, body=shape.of(stored.body, stored.summary))
    return Outcome(200, stored, audited=(Audited("read", REST_READ, f"{type_}/{id_}", stored.patient),))


def vread(connection: Connection, caller: Caller, type_: str, id_: str, version: str, parameters: Parameters = ()) -> Outcome:
    """FHIR R4 section 3.1.0.3, vread: one version. Whose it may be is decided by where the resource is now. Raises as `read`."""
    offered.require(type_, "vread")
    require_no_binary(type_)
    shape = of_read(type_, _asked(parameters))
    with if_granted(caller.decision, type_):
        # A version id is a string; ours are numbers without leading zeros, all others name nothing.
        if not (version.isascii() and version.isdigit() and str(int(version[:9])) == version and FHIR_ID.fullmatch(id_)):
            raise NotFound(f"there is no {type_} with this id and version")
        try:
            stored = resources.vread(connection, type_, id_, int(version))
        except Gone as gone:
            raise _deleted(connection, caller, type_, id_, gone) from None
    require_patient(caller.decision, type_, Interaction.READ, stored.patient)
    if not shape.is_whole:
        stored = replace(stored, body=shape.of(stored.body))
    audited = Audited("read", REST_VREAD, f"{type_}/{id_}/_history/{version}", stored.patient)
    return Outcome(200, stored, audited=(audited,))


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


def _current(connection: Connection, caller: Caller, type_: str, id_: str) -> Stored:
    if not FHIR_ID.fullmatch(id_):
        raise NotFound(f"there is no {type_} with this id")
    try:
        return resources.read(connection, type_, id_)
    except Gone as gone:
        raise _deleted(connection, caller, type_, id_, gone) from None


def _deleted(connection: Connection, caller: Caller, type_: str, id_: str, gone: Gone) -> Gone:
    """With the version that the deletion was. Who may not read it is not told that it was there: raises `Forbidden`."""
    last = resources.last(connection, type_, id_)
    if last is None:
        return gone
    require_patient(caller.decision, type_, Interaction.READ, last.patient)
    location = f"{caller.base}/{type_}/{id_}/_history/{last.version}"
    return Deleted(gone.detail, {"ETag": last.etag, "Location": location})


def _event(connection: Connection, caller: Caller, id_: str) -> Stored:
    """The trail has its own rows."""
    wanted = Wanted(ids=((id_,),))
    found = next(iter(events(connection, wanted=wanted, limit=1)), None) if FHIR_ID.fullmatch(id_) else None
    if found is None:
        raise NotFound("there is no AuditEvent with this id")
    body = found.body
    if confined(caller.decision, "AuditEvent", Interaction.READ) is not None:
        body = without_queries(body)
    return Stored("AuditEvent", found.id, 1, found.recorded, found.patient, body)
