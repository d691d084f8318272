"""What a token is to be issued for, checked beforehand: a scope or patient with a slip in it would grant nothing, silently."""

from sqlalchemy import select

from profiles.fhir import search_request
from profiles.r4.definitions import resource_types
from profiles.smart.scopes import Scope, is_resource_scope, parse_scope, parse_scopes, words_of
from server.errors import SettingsError
from server.records import resources
from server.records.catalogue import PATIENT
from server.store.db import Database


def check_scopes(text: str, *, bound: bool) -> None:
    """SMART App Launch 2.2, scopes: raises `SettingsError` unless every resource scope in `text` grants something, and one is there.

    `bound`: the token will name a patient. Words that are no resource scopes (`openid`, `launch` ...) pass. A constraint has to be a
    search parameter of the standard.
    """
    granted = parse_scopes(text)
    for word in words_of(text):
        scope = parse_scope(word)
        if scope is not None:
            _check_scope(word, scope)
        elif is_resource_scope(word):
            rule = (
                "what follows the ? are search parameters with values, and none that only say how a search answers"
                if "?" in word
                else ("take one like patient/ImagingStudy.rs or system/*.rs")
            )
            raise SettingsError(f"--scope: {word} is no SMART scope; {rule}")
    if not granted:
        raise SettingsError(
            "--scope: nothing in it grants anything; take SMART scopes like patient/ImagingStudy.rs or system/*.rs"
        )
    if not bound and any(scope.context == "patient" for scope in granted):
        raise SettingsError("--scope: patient/ scopes open one patient's data: name the patient with --patient")


def _check_scope(word: str, scope: Scope) -> None:
    """A scope for a type that there is not, or with a constraint that no search understands, would open nothing."""
    types = resource_types() if scope.type == "*" else (scope.type,)
    if not set(types) <= set(resource_types()):
        raise SettingsError(f"--scope: {word} is no SMART scope; FHIR R4 has no such type of resources")
    if not scope.query:
        return
    try:
        search_request.read(types, scope.query, base="", now=0)
    except search_request.SearchRefused as refused:
        raise SettingsError(f"--scope: {word}: {refused.errors[0].detail}") from None


def named_patient(database: Database, text: str, what: str = "--patient") -> str:
    """The resource id of the patient that a person names by it, by `OID|Patient ID` (also `urn:oid:OID|...`), or by Patient ID alone.

    `what` is what the person typed it as. Raises `SettingsError`, which repeats nothing of `text`, if there is none or a Patient ID alone means several.
    """
    authority, bar, value = text.strip().rpartition("|")
    same = PATIENT.c.value == value.strip()
    assigned = PATIENT.c.authority == authority.strip().removeprefix("urn:oid:")
    wanted = same & assigned if bar else same | (PATIENT.c.id == value)
    with database.read() as connection:
        found = connection.execute(select(PATIENT.c.id, PATIENT.c.authority).where(wanted).order_by(PATIENT.c.authority)).all()
        client = resources.last(connection, "Patient", value) if not bar and not found else None
    if client is not None and not client.deleted:  # of whom there are no images
        return client.id
    exact = [row for row in found if not bar and row.id == value] or found
    if not exact:
        raise SettingsError(f"{what}: no patient here has this id; give the resource id, or OID|Patient ID")
    if len(exact) > 1:
        authorities = ", ".join(row.authority for row in exact)
        raise SettingsError(f"{what}: several patients have this Patient ID; put one of these and a | before it: {authorities}")
    return str(exact[0].id)
