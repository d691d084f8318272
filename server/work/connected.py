"""The apps that a person has given access, with whose records each may see and when it last did: for the page on which it is taken back."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from profiles.smart.scopes import parse_scope, words_of
from server.access import rights
from server.access.consents import Withheld
from server.access.oauth import clients, granting
from server.access.oauth.clients import Client
from server.access.oauth.granting import Granted
from server.access.oauth.server import OAuthServer
from server.access.people import accounts
from server.access.people.accounts import Account
from server.records import belonging
from server.store.db import micros
from server.work.choosing import PatientChoice, choice


@dataclass(frozen=True, slots=True)
class Connected:
    """An app that a person has given access. Moments are microseconds; `patient` is a resource id or None.

    `whose` is that patient as far as the person may still be told of it, `is_own` whether it is the person; `of_all`: it may see all whom the
    person may see. `used` is when it last got a token, and so not more than a token's life before it last saw anything. `studies` is to how many
    it is confined, None where it is not.
    """

    grant: str
    client: Client
    scopes: tuple[str, ...]
    patient: str | None
    since: int
    expires: int
    stays: bool
    used: int = 0
    whose: PatientChoice | None = None
    is_own: bool = False
    of_all: bool = False
    studies: int | None = None


def connected(server: OAuthServer, account: Account) -> tuple[Connected, ...]:
    """Those that have access just now, the newest first. Whose names are told the trail has."""
    now, permits = micros(), server.settings.consent_default == "permit"
    with server.database.read() as connection:
        held = granting.of_account(connection, account.id, now)
        known = {each.id: each for each in clients.every(connection)}
        reach, _ = accounts.reach(connection, account, now)
        kept = rights.kept_from(connection, account, now, permits=permits)
        own = accounts.own_patients(connection, account.id)
        found = tuple(_connected(connection, each, known[each.client], reach, kept, own) for each in held if each.client in known)
    _tell(server, account, found)
    return found


def _connected(
    connection: Connection, granted: Granted, client: Client, reach: frozenset[str] | None, kept: Withheld, own: frozenset[str]
) -> Connected:  # fmt: skip
    words, patient = words_of(granted.scope), granted.patient
    now_is = None if patient is None else belonging.replaced_by(connection, patient) or patient
    return Connected(
        granted.id, client, words, patient, granted.created, granted.expires, granted.offline, used=granted.used,
        whose=None if now_is is None else choice(connection, now_is, reach, kept),
        is_own=patient in own or now_is in own,
        of_all=any(scope.context == "user" for scope in map(parse_scope, words) if scope is not None),
        studies=None if granted.studies is None else len(granted.studies),
    )  # fmt: skip


def _tell(server: OAuthServer, account: Account, found: Sequence[Connected]) -> None:
    named = dict.fromkeys(each.whose.id for each in found if each.whose is not None)
    server.told.shown_connected(account, [*named])
