"""SMART App Launch 2.2, "EHR Launch": a trusted client (an EHR) puts a context down here and gets an opaque handle for the app's launch URL.

A handle is for one app, may be for one person, is good once and for five minutes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import orjson
from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Error, UnauthorizedClientError
from sqlalchemy import Connection, update

from server.access.oauth import clients
from server.access.oauth.clients import LAUNCH, hashed, new_secret
from server.access.oauth.granting import SECOND
from server.access.oauth.introspection import METHODS
from server.access.oauth.messages import Answer, Message, answer
from server.access.oauth.server import OAuthServer
from server.access.people import accounts
from server.store.db import micros
from server.store.tables import Launch as LaunchRow

_LAUNCH: Final = LaunchRow.__table__  # type: ignore[attr-defined]

SECONDS: Final = 300
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_REFERENCE: Final = re.compile(r"(?P<type>[A-Z][A-Za-z]+)/[A-Za-z0-9.-]{1,64}")
_MOST_CONTEXTS: Final = 50
_LONGEST: Final = 16_384


@dataclass(frozen=True, slots=True)
class Launch:
    """What a handle stood for. `account` is whom it is for; None: whoever signs in."""

    account: str | None = None
    patient: str | None = None
    encounter: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)


def launch(server: OAuthServer, message: Message) -> Answer:
    """`POST /oauth/launch` by a client that may `launch`, authenticated as at the token endpoint.

    `app` (a client id) is needed; `user` (account id), `patient` and `encounter` (resource ids) and `context` (JSON: fhirContext, intent,
    need_patient_banner, tenant) may be there. Gives `launch`, `expires_in` and, where the app has a launch URL, that with both parameters.
    """
    try:
        request, caller = server.authenticated(message, METHODS)
        if LAUNCH not in caller.may:
            raise UnauthorizedClientError("this client may not launch apps; imageshare client add --may launch")
        given = request.form
        context = _context(given.get("context", ""))
        patient, encounter = (_id(given, name) for name in ("patient", "encounter"))
        with server.database.write() as connection:
            app = clients.enabled(connection, given.get("app", ""))
            if app is None:
                raise InvalidRequestError("app has to be the client id of an app that is registered here")
            account = given.get("user") or None
            if account is not None and accounts.find(connection, account) is None:
                raise InvalidRequestError("user has to be the id of an account here")
            handle = put(connection, app.id, Launch(account, patient, encounter, context))
    except OAuth2Error as error:
        return server.refusal(error)
    query = urlencode({"iss": server.audience, "launch": handle})
    url = {"launch_url": f"{app.launch_uri}{'&' if '?' in app.launch_uri else '?'}{query}"} if app.launch_uri else {}
    return answer(201, {"launch": handle, "expires_in": SECONDS, **url})


def put(connection: Connection, app: str, made: Launch) -> str:
    """A handle for `made`, for the client `app`."""
    handle = new_secret()
    connection.execute(
        _LAUNCH.insert().values(
            hash=hashed(handle), client=app, account=made.account, patient=made.patient, encounter=made.encounter,
            context=dict(made.context), expires=micros() + SECONDS * SECOND,
        )
    )  # fmt: skip
    return handle


def take(connection: Connection, app: str, handle: str, now: int) -> Launch | None:
    """What the handle stands for, to the first of this app who asks in time; None to all others."""
    usable = _LAUNCH.c.hash == hashed(handle), _LAUNCH.c.client == app, _LAUNCH.c.used.is_(None), _LAUNCH.c.expires > now
    row = connection.execute(update(_LAUNCH).where(*usable).values(used=now).returning(_LAUNCH)).first()
    return None if row is None else Launch(row.account, row.patient, row.encounter, row.context)


def _id(given: Mapping[str, str], name: str) -> str | None:
    value = given.get(name)
    if value and not _ID.fullmatch(value):
        raise InvalidRequestError(f"{name} has to be the id of a resource")
    return value or None


def _context(text: str) -> dict[str, Any]:
    """SMART App Launch 2.2, launch context parameters: those that an EHR may set, each of its type."""
    if not text:
        return {}
    try:
        found = orjson.loads(text) if len(text) <= _LONGEST else None
    except orjson.JSONDecodeError:
        found = None
    types = {"fhirContext": list, "intent": str, "need_patient_banner": bool, "tenant": str}
    if not isinstance(found, dict) or any(name not in types or type(value) is not types[name] for name, value in found.items()):
        raise InvalidRequestError("context is a JSON object of fhirContext, intent, need_patient_banner and tenant")
    if len(found.get("fhirContext", ())) > _MOST_CONTEXTS or not all(map(_is_context, found.get("fhirContext", ()))):
        raise InvalidRequestError(
            "a fhirContext has a reference, canonical or identifier; of Patient and Encounter only with a role"
        )
    return found


def _is_context(item: object) -> bool:
    """SMART App Launch 2.2, fhirContext: relative references; Patient and Encounter only in another role than `launch`; roles never empty."""
    if not isinstance(item, dict) or not set(item) <= {"reference", "canonical", "identifier", "type", "role"}:
        return False
    if not any(name in item for name in ("reference", "canonical", "identifier")):
        return False
    role, reference = item.get("role", "launch"), item.get("reference", "ImagingStudy/x")
    if not isinstance(role, str) or not isinstance(reference, str) or not isinstance(item.get("canonical", ""), str):
        return False
    found = _REFERENCE.fullmatch(reference)
    if found is None or (role != "launch" and not urlsplit(role).scheme):
        return False
    kind = item.get("type", found["type"])
    return isinstance(item.get("identifier", {}), dict) and (
        role != "launch" or {kind, found["type"]}.isdisjoint({"Patient", "Encounter"})
    )
