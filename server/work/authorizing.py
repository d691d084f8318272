"""One authorization request, from its arrival to the redirect back to the app: what the pages ask for, and nothing else of OAuth.

`begin` keeps what the app asks for; a page shows it (`asked`, `choices`) to the person who signed in, who answers (`approve`, `deny`).
What was shown is what is approved: its `digest` goes through the page's form and is compared.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749 import OAuth2Error
from sqlalchemy import Connection, Row, delete, select, update

from profiles.smart.configuration import style_path
from profiles.smart.scopes import words_of
from server.access import rights
from server.access.consents import NOTHING, Withheld
from server.access.oauth import clients, granting
from server.access.oauth.authorization_code import CODE_SECONDS, CodeGrant, new_code
from server.access.oauth.clients import Client, hashed, new_secret
from server.access.oauth.granting import SECOND, Granted
from server.access.oauth.messages import Message, Pairs, Request
from server.access.oauth.pkce import S256
from server.access.oauth.server import OAuthServer
from server.access.people import accounts, passkeys, sessions
from server.access.people.accounts import Account
from server.access.people.sessions import Session
from server.errors import Forbidden, NotFound, Refused
from server.store.db import micros
from server.store.tables import AuthorizationRequest
from server.work import emergencies
from server.work.asking import STAYING, allowed, for_studies, kept_scopes, launched, since_when, wants_patient
from server.work.choosing import Choices, choices, encounter_of, is_patient, uids_of
from server.work.connected import Connected, connected

_REQUEST: Final = AuthorizationRequest.__table__  # type: ignore[attr-defined]

REQUEST_SECONDS: Final = 600
_OVER: Final = "this request is over; go back to the app and begin anew"


@dataclass(frozen=True, slots=True)
class Begun:
    """What becomes of an authorization request: it waits under `request_id`, or goes back to the app at once (`redirect`, with an error),

    or is told to the person as an `error`, because nothing is known of where to send them.
    """

    request_id: str = ""
    redirect: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that waits. `scopes` are single words; `patient` and `encounter` are resource ids that the launch fixed.

    `account` is whom the launch is for, if it is for one person. `expires` is in microseconds.
    """

    request_id: str
    client: Client
    redirect_uri: str
    scopes: tuple[str, ...]
    expires: int
    patient: str | None = None
    encounter: str | None = None
    account: str | None = None
    since: int = 0
    """When the person has to have signed in at the earliest, in microseconds."""
    context: Mapping[str, Any] = field(default_factory=dict)
    state: str = field(default="", repr=False)
    challenge: str = field(default="", repr=False)
    nonce: str = field(default="", repr=False)

    @property
    def needs_patient(self) -> bool:
        """SMART App Launch 2.2: whether one patient has to be in context and none is yet."""
        return self.patient is None and any(wants_patient(word) for word in self.scopes)

    @property
    def needs_study(self) -> bool:
        """Whether the app asks which study, and the launch does not say."""
        return "launch/imagingstudy" in self.scopes and not self.context.get("fhirContext")

    @property
    def is_of_one(self) -> bool:
        """Whether the app will have one patient in context."""
        return self.patient is not None or self.needs_patient

    @property
    def wants_to_stay(self) -> bool:
        """Whether the app asks for access beyond this hour."""
        return any(word in STAYING for word in self.scopes)


class Authorizing:
    """Over one authorization server."""

    def __init__(self, server: OAuthServer) -> None:
        self._server = server

    def begin(self, parameters: Pairs) -> Begun:
        """RFC 6749 section 4.1.1 and SMART App Launch 2.2 "Obtain authorization code": names and values, decoded, in their order."""
        request = Request(Message(method="GET", query=parameters))
        try:
            request.refuse_repeated()
            grant = CodeGrant(request, self._server)
            S256(required=True)(grant)
            grant.validate_consent_request()
        except OAuth2Error as error:
            return self._refused(error, request)
        with self._server.database.write() as connection:
            try:
                return Begun(self._kept(connection, request))
            except OAuth2Error as error:
                error.redirect_uri = request.payload.redirect_uri
                return self._refused(error, request)

    def asked(self, request_id: str) -> Asked | None:
        """What waits under this id; None where nothing does any more."""
        with self._server.database.read() as connection:
            return self._asked(connection, request_id)

    def choices(
        self, asked: Asked, account: Account, *, patient: str | None = None, search: str = "", emergency: str = "", address: str = "",
        trace: str = "",
    ) -> Choices:  # fmt: skip
        """Whom this person may choose, and of `patient` (a resource id), if it is one of them, which studies.

        Of many patients those whose name begins with `search`, or whose patient id it is. They are told to the person, so the trail has it.
        With `emergency`, the reason of a practitioner, nothing is withheld. Raises `Forbidden`.
        """
        told, named = self._server.told, asked.patient or patient
        if emergency:
            emergencies.require(told, account, asked.client.id, named, address=address, trace=trace)
        with self._server.database.read() as connection:
            reach, _ = accounts.reach(connection, account, micros())
            kept = NOTHING if emergency else self._kept_from(connection, account)
            found = choices(connection, reach, patient=named, search=search, kept=kept)
        names = [each.id for each in found.patients]
        if emergency and names:
            with self._server.database.write() as connection:
                emergencies.shown(connection, asked.request_id, named)
        told.chosen_from(account, asked.client.id, names, emergency, emergencies.name_of(asked.request_id))
        return found

    def digest(
        self, asked: Asked, session: Session, *, patient: str | None, studies: Sequence[str] = (), emergency: str = ""
    ) -> str:
        """What stands in the form of the consent page: bound to the session, the request, the patient, the studies and the reason that it shows."""
        shown = [
            asked.request_id,
            asked.client.id,
            asked.client.name,
            asked.redirect_uri,
            *asked.scopes,
            "",
            patient or "",
            emergency,
            *sorted(studies),
        ]
        return hmac.digest(session.csrf.encode(), orjson.dumps([session.id, *shown]), "sha256").hex()

    def approve(
        self,
        request_id: str,
        session: Session,
        *,
        scopes: Sequence[str],
        patient: str | None,
        shown: str,
        studies: Sequence[str] = (),
        offline: bool = False,
        only_these: bool = False,
        emergency: str = "",
        address: str = "",
        trace: str = "",
    ) -> str:
        """Gives the app what the person left checked. Returns the URL to send the browser to, with code, state and iss.

        `shown` is the `digest` of the page; `studies` are ImagingStudy ids, and with `only_these` all that the app will see of studies.
        With `emergency`, a practitioner's reason, what is withheld of the patient is open to the app until its access token ends.
        `address` and `trace` (the request id) are for the trail. Raises `NotFound`, `Forbidden`, `Refused` or `StepUpNeeded`.
        """
        told = self._server.told
        if emergency and (waiting := self.asked(request_id)) is not None:
            emergencies.require(told, session.account, waiting.client.id, patient, address=address, trace=trace)
        with self._server.database.write() as connection:
            asked = self._answered(connection, request_id, session)
            if not hmac.compare_digest(shown, self.digest(asked, session, patient=patient, studies=studies, emergency=emergency)):
                raise Forbidden("this is not what the page showed; go back to the app and begin anew")
            passkeys.require_key(connection, session)
            kept = kept_scopes(asked.scopes, session.account, scopes, offline=offline and not emergency)
            patient = self._patient(connection, asked, session.account, patient, kept)
            kept_from = NOTHING if emergency else self._kept_from(connection, session.account)
            only = tuple(studies) if only_these else None
            granted = self._granted(connection, asked, session, kept, patient, only, studies, kept_from)
            granted = granting.begin(connection, granted)
            told.began(connection, granted, address, trace)
            if emergency:
                emergencies.begin(connection, told, granted, request_id, emergency, address=address, trace=trace)
            code = new_code(connection, granted, redirect_uri=asked.redirect_uri, challenge=asked.challenge, nonce=asked.nonce)
        return self._back(asked.redirect_uri, asked.state, code=code)

    def deny(self, request_id: str, session: Session) -> str:
        """RFC 6749 section 4.1.2.1: the person does not agree. Returns the URL to send the browser to."""
        with self._server.database.write() as connection:
            asked = self._answered(connection, request_id, session)
        said = "the person did not allow it"
        return self._back(asked.redirect_uri, asked.state, error="access_denied", error_description=said)

    def connected(self, account: Account) -> tuple[Connected, ...]:
        """The apps that have access just now, the newest first."""
        return connected(self._server, account)

    def disconnect(self, account: Account, grant: str, *, address: str = "", trace: str = "") -> None:
        """Ends what an app was given, from the next request on. Of what is not this person's nothing happens."""
        with self._server.database.write() as connection:
            granted = granting.find(connection, grant)
            if granted is not None and granted.account == account.id and granting.end(connection, grant, "ended by the person"):
                self._server.told.ended(connection, granted, address, trace)

    # --- beginning

    def _refused(self, error: OAuth2Error, request: Request) -> Begun:
        """RFC 6749 section 4.1.2.1: told to the app where its redirect URI is known to be its own, else to the person.

        To the person also where anybody may have registered that URI (RFC 9700 section 4.11.2): nobody is sent to strangers by a mere link.
        """
        said, client = error.description or error.error, self._server.query_client(request.payload.client_id or "")
        if not error.redirect_uri or client is None or client.registered_itself:
            return Begun(error=said)
        state = request.payload.state or ""
        return Begun(redirect=self._back(error.redirect_uri, state, error=error.error, error_description=said))

    def _back(self, redirect_uri: str, state: str, **parameters: str) -> str:
        """RFC 6749 section 4.1.2, and RFC 9207 section 2: `iss` in every answer."""
        pairs = [*parameters.items(), *([("state", state)] if state else []), ("iss", self._server.issuer)]
        url: str = add_params_to_uri(redirect_uri, pairs)
        return url

    def _kept(self, connection: Connection, request: Request) -> str:
        given, client = request.payload.data, request.client
        scope = allowed(given.get("scope", ""), client)
        now = micros()
        since = since_when(given, now)
        launch = launched(connection, scope, given.get("launch"), client)
        connection.execute(delete(_REQUEST).where(_REQUEST.c.expires <= now))  # anybody may make them: none is kept for longer
        request_id = new_secret()
        connection.execute(
            _REQUEST.insert().values(
                id=hashed(request_id), client=client.id, redirect_uri=request.payload.redirect_uri, scope=" ".join(scope),
                state=given["state"], challenge=given["code_challenge"], nonce=given.get("nonce", ""),
                since=since, patient=launch.patient, encounter=launch.encounter, account=launch.account, context=dict(launch.context),
                expires=now + REQUEST_SECONDS * SECOND,
            )
        )  # fmt: skip
        return request_id

    # --- answering

    def _asked(self, connection: Connection, request_id: str) -> Asked | None:
        waiting = _REQUEST.c.answered.is_(None), _REQUEST.c.expires > micros()
        row = connection.execute(select(_REQUEST).where(_REQUEST.c.id == hashed(request_id), *waiting)).first()
        client = clients.enabled(connection, row.client) if row is not None else None
        # The address may have been taken back meanwhile.
        if row is None or client is None or not client.check_redirect_uri(row.redirect_uri):
            return None
        return _of(request_id, client, row)

    def _answered(self, connection: Connection, request_id: str, session: Session) -> Asked:
        """The request, which from now on waits no more: whoever answers it again is too late."""
        asked = self._asked(connection, request_id)
        if asked is None:
            raise NotFound(_OVER)
        if asked.account is not None and asked.account != session.account.id:
            raise Forbidden("the app was opened for somebody else; sign in as that person")
        if not sessions.is_open(connection, session, micros()) or session.authenticated < asked.since:
            raise Forbidden("you are signed out, or have to sign in anew; sign in, then go back to the app and begin anew")
        claimed = update(_REQUEST).where(_REQUEST.c.id == hashed(request_id), _REQUEST.c.answered.is_(None))
        if connection.execute(claimed.values(answered=micros()).returning(_REQUEST.c.id)).first() is None:
            raise NotFound(_OVER)
        return asked

    def _patient(
        self, connection: Connection, asked: Asked, account: Account, chosen: str | None, scopes: tuple[str, ...]
    ) -> str | None:
        """The patient in context: the launch's, or the one chosen, where the person may see that one. Raises `Forbidden` or `Refused`."""
        if not any(wants_patient(word) or word == "launch" for word in scopes):
            return None
        if asked.patient is not None and chosen not in (None, asked.patient):
            raise Forbidden("the app was opened for another patient")
        patient = asked.patient or chosen
        if patient is None:
            if any(wants_patient(word) for word in scopes):
                raise Refused("choose whose records the app may see")
            return None
        reach, _ = accounts.reach(connection, account, micros())
        if (reach is not None and patient not in reach) or not is_patient(connection, patient):
            raise Forbidden("you may not see the records of this patient", frozenset([patient]))
        return patient

    def _kept_from(self, connection: Connection, account: Account) -> Withheld:
        return rights.kept_from(connection, account, micros(), permits=self._server.settings.consent_default == "permit")

    def _granted(
        self, connection: Connection, asked: Asked, session: Session, scopes: tuple[str, ...], patient: str | None,
        only: tuple[str, ...] | None, studies: Sequence[str], kept_from: Withheld,
    ) -> Granted:  # fmt: skip
        uids = uids_of(connection, patient, studies)
        if len(uids) < len(set(studies)):
            raise Forbidden("one of these studies is not this patient's")
        if only is not None:
            scopes = for_studies(scopes, uids, patient)
        context = dict(asked.context)
        if studies:
            context["fhirContext"] = [
                *context.get("fhirContext", []),
                *({"reference": f"ImagingStudy/{each}"} for each in studies),
            ]
        if any(word.startswith("launch") for word in scopes):
            context.setdefault("need_patient_banner", True)
            context["smart_style_url"] = self._server.issuer + style_path()
        encounter = asked.encounter
        if encounter is None and patient is not None and "launch/encounter" in scopes:
            encounter = encounter_of(connection, patient, kept_from)
        return Granted(
            "", asked.client.id, " ".join(scopes), session.account.id, patient=patient, encounter=encounter, context=context,
            studies=None if only is None else tuple(uids), offline="offline_access" in scopes,
            expires=micros() + (CODE_SECONDS + self._server.access_seconds) * SECOND,
            session=session.id if "online_access" in scopes and "offline_access" not in scopes else None,
            authenticated=session.authenticated, methods=session.methods,
        )  # fmt: skip


def _of(request_id: str, client: Client, row: Row[Any]) -> Asked:
    return Asked(
        request_id, client, row.redirect_uri, words_of(row.scope), row.expires, patient=row.patient, encounter=row.encounter,
        account=row.account, since=row.since, context=row.context, state=row.state, challenge=row.challenge, nonce=row.nonce,
    )  # fmt: skip
