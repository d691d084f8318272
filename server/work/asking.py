"""What an authorization request asks for, and what becomes of that: by the client's registration, and by what the person leaves of it."""

from collections.abc import Mapping, Sequence
from typing import Final

from authlib.oauth2.rfc6749 import OAuth2Error
from sqlalchemy import Connection

from profiles.smart.scopes import narrowed, of_studies, parse_scope, words_of
from server.access.oauth import launches
from server.access.oauth.clients import REFRESH_TOKEN, Client
from server.access.oauth.granting import SECOND
from server.access.oauth.launches import Launch
from server.access.people.accounts import Account
from server.errors import Forbidden, Refused
from server.store.db import micros

STAYING: Final = ("offline_access", "online_access")
_LONGEST_SCOPE: Final = 4096
"""Characters: the access token has them, and goes in a header."""


def wants_patient(word: str) -> bool:
    """Whether a word of a scope string is about one patient."""
    return word.startswith(("patient/", "launch/"))


def allowed(asked: str, client: Client) -> tuple[str, ...]:
    """Of what is asked what this client may ask a person for. Raises `OAuth2Error` where that is nothing."""
    unfit = ("system/",) if REFRESH_TOKEN in client.grant_types else ("system/", *STAYING)
    kept = tuple(word for word in words_of(narrowed(asked, client.scope)) if not word.startswith(unfit))
    if not kept:
        raise OAuth2Error(error="invalid_scope", description="none of these scopes is one that this app is registered for")
    return kept


def since_when(given: Mapping[str, str], now: int) -> int:
    """OpenID Connect Core section 3.1.2.1, `prompt` and `max_age`: when the person has to have signed in at the earliest. Raises `OAuth2Error`."""
    prompts, age = given.get("prompt", "").split(), given.get("max_age")
    if "none" in prompts:
        raise OAuth2Error(error="login_required", description="a person has to be asked here")
    if age and not (age.isascii() and age.isdigit() and len(age) <= 9):
        raise OAuth2Error(error="invalid_request", description="max_age is a number of seconds")
    if {"login", "select_account"} & set(prompts):
        return now
    return now - int(age) * SECOND if age else 0


def launched(connection: Connection, scope: Sequence[str], handle: str | None, client: Client) -> Launch:
    """SMART App Launch 2.2: the scope `launch` and the parameter `launch` go together. Raises `OAuth2Error`."""
    if ("launch" in scope) != bool(handle):
        raise OAuth2Error(error="invalid_request", description="the scope launch and the parameter launch need each other")
    if not handle:
        return Launch()
    found = launches.take(connection, client.id, handle, micros())
    if found is None:
        raise OAuth2Error(error="invalid_request", description="the launch is over or not for this app; open the app anew")
    return found


def for_studies(scopes: Sequence[str], uids: Sequence[str], patient: str | None) -> tuple[str, ...]:
    """The scopes for these studies alone, as the token, its response and its introspection tell them. Raises `Refused`."""
    kept = of_studies(scopes, uids, patient)
    if not any(map(parse_scope, kept)):
        raise Refused("what the app asks for is not about single studies; let it see all of them, or choose Don't allow")
    if sum(map(len, kept)) > _LONGEST_SCOPE:
        raise Refused("these are too many studies for one access; choose fewer, or let the app see all of them")
    return kept


def kept_scopes(asked: Sequence[str], account: Account, chosen: Sequence[str], *, offline: bool) -> tuple[str, ...]:
    """Of the scopes that were asked those that the person left. Raises `Refused` where none is left."""
    if not set(chosen) <= set(asked):
        raise Forbidden("this is not what the app asked for")
    kept = tuple(
        word for word in asked
        if word in chosen and (offline or word not in STAYING) and (word != "fhirUser" or account.fhir_user)
    )  # fmt: skip
    if not any(parse_scope(word) or word == "openid" for word in kept):
        raise Refused("nothing is left that the app may see; choose Don't allow instead")
    return kept
