"""`$validate`: whether a resource is right, and whether something could be done with it (OperationDefinition Resource-validate; FHIR R4 section 3.1.0.8)."""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, true

from profiles.fhir import profile_check, search_request
from profiles.fhir.issues import Issue
from profiles.fhir.json import parse
from profiles.fhir.search_values import escaped
from profiles.structure_definitions import find as ours
from server.access.decisions import Interaction
from server.errors import AccessError, ImageShareError, Invalid, NotFound
from server.records import fhir_search, resources
from server.records.resources import Stored
from server.store.db import instant, micros
from server.work.fhir import permission
from server.work.fhir.caller import Caller
from server.work.fhir.create import create
from server.work.fhir.delete import delete
from server.work.fhir.inputs import Inputs
from server.work.fhir.reading import require_no_binary
from server.work.fhir.refusals import ParameterError
from server.work.fhir.update import update
from server.work.fhir.writes import savepoint

PARAMETERS: Final = ("resource", "mode", "profile")
_MODES: Final = ("", "create", "update", "delete", "profile")
Json = dict[str, Any]


def validate(
    connection: Connection, caller: Caller, type_: str, id_: str, inputs: Inputs
) -> tuple[tuple[Issue, ...], Stored | None]:
    """OperationDefinition Resource-validate: what is wrong with `resource`, by R4 and by each `profile`; and what `mode` would be refused for.

    Without a resource in its call that of the URL is looked at; it is returned too, for the trail. A `mode` is tried out in the transaction, which
    has to be one for writing, and taken back. Raises `NotFound`, `Gone`, `Forbidden`, `ParameterError`.
    """
    inputs.only(PARAMETERS)
    mode, resource = inputs.text("mode"), inputs.part("resource")
    if mode not in _MODES:
        raise ParameterError("mode", "mode is create, update, delete or profile")
    if mode in ("update", "delete") and not id_:
        raise ParameterError("mode", f"mode {mode} is for a resource that is there: call it at [type]/[id]/$validate", "invalid")
    stored = _stored(connection, caller, type_, id_) if id_ else None
    if stored is None:
        _require_any(caller, type_)
    if mode == "delete":
        return _tried(connection, lambda: delete(connection, caller, type_, id_)), stored
    if resource is None:
        if stored is None:
            raise ParameterError(
                "resource", "there is no resource to validate: send one, or call this at [type]/[id]/$validate", "required"
            )
        resource = parse(stored.body, limit=len(stored.body))
    elif resource.get("resourceType") != type_:
        why = f"the resource is of another type than the URL says, which is {type_}"
        return (Issue("error", "invalid", "", why),), stored
    found = _checked(connection, caller, resource, inputs.texts("profile"))
    if mode == "create":
        found += _tried(connection, lambda: create(connection, caller, resource))
    elif mode == "update":
        found += _tried(connection, lambda: update(connection, caller, type_, id_, resource))
    return tuple(dict.fromkeys(found)), stored


def is_trying(inputs: Inputs) -> bool:
    """Whether something is to be tried out, which takes a transaction for writing."""
    return inputs.values.get("mode", ("",))[0] in ("create", "update", "delete")


def _stored(connection: Connection, caller: Caller, type_: str, id_: str) -> Stored:
    require_no_binary(type_)
    with permission.if_granted(caller.decision, type_):
        stored = resources.read(connection, type_, id_)
    permission.require_patient(caller.decision, type_, Interaction.READ, stored.patient)
    return stored


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

    return tuple(profile_check.validate(resource, profiles=profiles, find=find, now=instant(micros())))


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


def _tried(connection: Connection, interaction: Callable[[], object]) -> tuple[Issue, ...]:
    """What an interaction is refused for. It is taken back in any case."""
    try:
        with savepoint(connection):
            interaction()
            raise _Undone
    except _Undone:
        return ()
    except Invalid as error:
        return error.issues
    except (AccessError, NotFound):
        raise
    except ImageShareError as error:
        return (Issue("error", error.fhir_code, "", error.detail),)
