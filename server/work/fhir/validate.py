"""`$validate`: whether a resource is right, and whether something could be done with it (OperationDefinition Resource-validate; FHIR R4 section 3.1.0.8).

To look at a resource may take seconds, in which others should be able to write: only what is tried out is done in a transaction for writing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, true

from profiles.fhir import profile_check, search_request
from profiles.fhir.faults import MOST
from profiles.fhir.issues import Issue, a
from profiles.fhir.json import parse
from profiles.fhir.search_values import escaped
from profiles.structure_definitions import find as ours
from server.access.decisions import Interaction
from server.errors import AccessError, ImageShareError, Invalid, NotFound
from server.records import fhir_search, resources
from server.records.resources import Stored
from server.store.db import instant, micros
from server.work.fhir import binary, permission, storing
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.create import create
from server.work.fhir.delete import delete
from server.work.fhir.inputs import Inputs
from server.work.fhir.reading import current, require_no_binary
from server.work.fhir.refusals import ParameterError
from server.work.fhir.update import update
from server.work.fhir.writes import savepoint

PARAMETERS: Final = ("resource", "mode", "profile")
_MODES: Final = ("", "create", "update", "delete", "profile")
_ELSEWHERE: Final = ("AuditEvent", "Binary")
"""Types of which there are some that no resource is kept of."""
Json = dict[str, Any]


Trial = Callable[[Connection], tuple[Issue, ...]]
_TRIED: Final = {"create": Interaction.CREATE, "update": Interaction.UPDATE, "delete": Interaction.DELETE}


@dataclass(frozen=True, slots=True)
class Validated:
    """What is wrong. `stored` is what was looked at of the resources here, for the trail. `trial` says what else is, in a transaction for writing."""

    issues: tuple[Issue, ...]
    stored: Stored | None = None
    trial: Trial | None = None


def validate(connection: Connection, caller: Caller, type_: str, id_: str, inputs: Inputs) -> Validated:
    """OperationDefinition Resource-validate: what is wrong with `resource`, by R4 and by each `profile`; and what `mode` would be refused for.

    Without a resource in its call that of the URL is looked at. `connection` is for reading; what a `mode` takes is left to `trial`, which takes it
    back. Who may not do what is to be tried is told so before anything is looked at. Raises `NotFound`, `Gone`, `Forbidden`, `ParameterError`.
    """
    inputs.only(PARAMETERS)
    mode, resource = _mode(inputs, id_), inputs.part("resource")
    if mode in _TRIED:
        caller.require(type_, _TRIED[mode])
    stored = _stored(connection, caller, type_, id_) if id_ else None
    if stored is None:
        _require_any(caller, type_)
    elif mode in ("update", "delete"):
        caller.require_patient(type_, _TRIED[mode], stored.patient)
    if mode == "delete":
        return Validated((), stored, _trial(lambda writing: delete(writing, caller, type_, id_)))
    if resource is None:
        if stored is None:
            raise ParameterError(
                "resource", "there is no resource to validate: send one, or call this at [type]/[id]/$validate", "required"
            )
        resource = parse(stored.body, limit=len(stored.body))
    elif resource.get("resourceType") != type_:
        why = f"the resource is of another type than the URL says, which is {type_}"
        return Validated((Issue("error", "invalid", "", why),), stored)
    found = _checked(connection, caller, resource, inputs.texts("profile"))
    if mode not in _TRIED:
        return Validated(found, stored)
    try:
        storing.checked(resource, type_)
    except Invalid as error:
        return Validated(tuple(dict.fromkeys(found + error.issues)), stored)
    if mode == "create":
        return Validated(found, stored, _trial(lambda writing: _created(writing, caller, resource)))
    return Validated(found, stored, _trial(lambda writing: update(writing, caller, type_, id_, resource, is_checked=True)))


def _mode(inputs: Inputs, id_: str) -> str:
    mode = inputs.text("mode")
    if mode not in _MODES:
        raise ParameterError("mode", "mode is create, update, delete or profile")
    if mode in ("update", "delete") and not id_:
        raise ParameterError("mode", f"mode {mode} is for a resource that is there: call it at [type]/[id]/$validate", "invalid")
    return mode


def _stored(connection: Connection, caller: Caller, type_: str, id_: str) -> Stored:
    require_no_binary(type_)
    return current(connection, caller, type_, id_)


def _require_any(caller: Caller, type_: str) -> None:
    """Raises `Forbidden` for who may do nothing with resources of the type."""
    if not any(permission.is_granted(caller.decision, type_, each) for each in Interaction):
        permission.require(caller.decision, type_, Interaction.READ)


def _checked(connection: Connection, caller: Caller, resource: Json, profiles: tuple[str, ...]) -> tuple[Issue, ...]:
    known: dict[str, Json | None] = {}

    def find(url: str) -> Json | None:
        if url not in known:
            known[url] = ours(url) or _definition(connection, caller, url)
        return known[url]

    found = profile_check.validate(resource, profiles=profiles, find=find, now=instant(micros()))
    return (*found, *islice(_leading_nowhere(connection, caller, resource), MOST))


def _leading_nowhere(connection: Connection, caller: Caller, resource: Json) -> Iterator[Issue]:
    """What is not here may come; who may read whatever there is of its type is told of it.

    A Bundle's references may be to its entries, and a Binary's is judged where it is written.
    """
    if resource.get("resourceType") in ("Bundle", "Binary"):
        return
    made = caller.decision
    for path, type_ in storing.nowhere(connection, caller, resource):
        is_open = permission.is_granted(made, type_, Interaction.READ) and not permission.is_limited(
            made, type_, Interaction.READ
        )
        if is_open and type_ not in _ELSEWHERE:
            yield Issue("information", "not-found", path, f"the reference leads to {a(type_)} that is not here")


def _definition(connection: Connection, caller: Caller, url: str) -> Json | None:
    """The StructureDefinition with this URL among the resources here: it is nobody's data."""
    try:
        asked = search_request.read(("StructureDefinition",), [("url", escaped(url))], base=caller.base, now=micros())
    except search_request.SearchRefused:
        return None
    for id_ in fhir_search.ids(connection, asked, decision_where=lambda _type, _column: true(), limit=2):
        found = parse(resources.read(connection, "StructureDefinition", id_).body)
        if found.get("url") == url:
            return found
    return None


class _Undone(Exception):
    """Takes back what was tried out."""


def _created(connection: Connection, caller: Caller, resource: Json) -> Outcome:
    """A Binary is created by its own rules (FHIR R4 section 2.44)."""
    if resource.get("resourceType") == "Binary":
        return binary.write(connection, caller, "", resource)
    return create(connection, caller, resource, is_checked=True)


def _trial(interaction: Callable[[Connection], object]) -> Trial:
    """What an interaction is refused for. It is taken back in any case."""

    def tried(connection: Connection) -> tuple[Issue, ...]:
        try:
            with savepoint(connection):
                interaction(connection)
                raise _Undone
        except _Undone:
            return ()
        except Invalid as error:
            return error.issues
        except (AccessError, NotFound):
            raise
        except ImageShareError as error:
            return (Issue("error", error.fhir_code, "", error.detail),)

    return tried
