"""`$docref`: the documents of a patient (US Core and International Patient Access, OperationDefinition docref)."""

import uuid
from typing import Any, Final

from sqlalchemy import Connection

from profiles.fhir.search_values import escaped
from server.store.db import instant, micros
from server.work.fhir.caller import Caller
from server.work.fhir.inputs import Inputs
from server.work.fhir.listing import Listing
from server.work.fhir.refusals import ParameterError
from server.work.fhir.searching import Found, Place, address, search

PARAMETERS: Final = ("patient", "start", "end", "type", "on-demand", "profile", "_count")
_PATH: Final = "DocumentReference/$docref"


def docref(connection: Connection, caller: Caller, inputs: Inputs, *, key: bytes) -> Found:
    """OperationDefinition docref: the current DocumentReferences of `patient`, of care between `start` and `end`, of the types in `type`.

    Nothing is made on demand here: `on-demand=true`, which asks for that alone, finds nothing. Further pages are those of the search that this is.
    Raises `ParameterError`, `Forbidden`.
    """
    inputs.only(PARAMETERS)
    patient = inputs.text("patient").removeprefix("Patient/")
    if not patient:
        raise ParameterError("patient", "patient is missing: the id of the Patient", "required")
    pairs = [("patient", escaped(patient)), ("status", "current")]
    for name, prefix in (("start", "ge"), ("end", "le")):
        if inputs.moments(name):
            pairs.append(("period", f"{prefix}{inputs.text(name)}"))
    if types := [each for given in inputs.values.get("type", ()) for each in _types(given)]:
        pairs.append(("type", ",".join(types)))
    pairs += [("_profile", escaped(each)) for each in inputs.texts("profile")]
    pairs += [("_count", text) for text in inputs.texts("_count")]
    found = search(connection, caller, Place("DocumentReference"), pairs, key=key)
    if inputs.flag("on-demand"):
        links = (("self", address(caller.base, _PATH, [("patient", patient), ("on-demand", "true")])),)
        return Found(Listing(str(uuid.uuid4()), "searchset", instant(micros()), links, (), 0), found.patients & {patient})
    return found


def _types(given: Any) -> list[str]:
    """The values of a token parameter: as text, or a Coding or CodeableConcept of a Parameters resource."""
    if isinstance(given, str):
        return [given]
    codings = given.get("coding", [given]) if isinstance(given, dict) else []
    found = []
    for each in codings if isinstance(codings, list) else []:
        code, system = each.get("code"), each.get("system", "")
        if not isinstance(code, str) or not isinstance(system, str):
            raise ParameterError("type", "type is a code, or a CodeableConcept with one in each of its codings")
        found.append(f"{escaped(system)}|{escaped(code)}" if system else escaped(code))
    return found
