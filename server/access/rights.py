"""From the claims of a token to its Decision: what the grant gives, as far as the client and the person may do it themselves.

SMART App Launch 2.2, "Scopes are used to delegate access": a scope never opens more than the person, or the client by itself, may see. A grant
that has ended, a client or an account that is disabled, and a session that is over (`online_access`) leave nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, literal, select

from profiles.smart.scopes import Scope, narrowed, parse_scopes
from server.access import roles
from server.access.consents import NOTHING, Withheld, withheld, withheld_from_proxy
from server.access.decisions import RESERVED, Decision
from server.access.people import accounts
from server.errors import Unauthenticated
from server.records.fhir_search.matches import Whose
from server.store.tables import AccessGrant, OAuthClient, Session

_GRANT = AccessGrant.__table__  # type: ignore[attr-defined]
_CLIENT = OAuthClient.__table__  # type: ignore[attr-defined]
_SESSION = Session.__table__  # type: ignore[attr-defined]
FOREVER: Final = accounts.FOREVER
PORTAL: Final = "imageshare-portal"
"""The client that our own pages are."""
SHARED: Final = "imageshare-share"
"""The client that opened shares are. Disabled, it closes all of them."""
LAUNCHED: Final = "imageshare-viewer"
"""The client that viewers are which an EHR has launched. Disabled, it closes all of them."""
SHARE: Final = "share"
CODE: Final = "access_code"
LAUNCH: Final = "ehr"
"""By what a grant's context names the share, the access code, or the EHR, that it is of."""
TAKING: Final = "download"
"""In the context of a share's grant: whether images may be taken away as well as looked at."""
_ENDED: Final = "the access that this token stands for has ended; ask for it anew"


def decision(connection: Connection, *, claims: Mapping[str, Any], now: int, permits: bool = True) -> tuple[Decision, int]:
    """The Decision of a verified token, and until when (microseconds, as `now`) it holds as long as the epoch stays the same.

    `permits` is the setting `consent_default`. Raises `Unauthenticated` where the grant has ended, or its client or account is disabled.
    """
    if not claims.get("grant"):  # `imageshare token`: its administrator answers for it
        return _of_claims(connection, claims, permits=permits), FOREVER
    grant = _grant(connection, str(claims["grant"]), now)
    client = connection.execute(
        select(_CLIENT.c.reach, _CLIENT.c.device, _CLIENT.c.scope).where(_CLIENT.c.id == grant.client, _CLIENT.c.disabled == 0)
    ).first()
    if client is None or grant.client != claims.get("client_id"):
        raise Unauthenticated(_ENDED)
    if _is_held(grant):
        return _of_holder(
            grant,
            _scopes(str(claims.get("scope", "")), grant, client.scope),
            str(claims.get("jti", "")),
            connection,
            permits=permits,
        )
    kind, user, own, until = _person(connection, grant.account, now)
    if grant.session is not None:
        until = min(until, _session_ends(connection, grant.session, now))
    actors, looked = roles.actors(connection, user, now)
    actors |= {client.device} if client.device else set()
    reach, purposes = _common(own, _set(grant.reach), _set(client.reach)), frozenset(grant.purposes)
    scopes = _scopes(str(claims.get("scope", "")), grant, client.scope)
    whose = _whose(scopes, grant.patient, reach)
    if own is None:
        kept = withheld(
            connection, user=user, actors=actors, purposes=purposes, patients=whose, patient=grant.patient, permits=permits,
            is_unknown=grant.account is not None and not user,
        )  # fmt: skip
    else:
        kept = withheld_from_proxy(
            connection, user=user, patients=whose or (), own=accounts.own_patients(connection, grant.account)
        )
    return Decision(
        subject=grant.client,
        scopes=scopes,
        patient=grant.patient,
        token_id=str(claims.get("jti", "")),
        user=user,
        account=grant.account or "",
        reach=reach,
        studies=_set(grant.studies),
        actors=actors,
        purposes=purposes,
        grant=grant.id,
        withheld=kept,
        writes=_reserved(kind, kept),
    ), min(until, grant.expires, looked)


def of_person(connection: Connection, account: accounts.Account, now: int, *, permits: bool) -> Decision:
    """The Decision of somebody who is signed in and looks at our own pages: all that they may read by own right."""
    reach, _ = accounts.reach(connection, account, now)
    actors, _ = roles.actors(connection, account.fhir_user, now)
    return Decision(
        subject=PORTAL, scopes=parse_scopes("user/*.rs"), user=account.fhir_user, account=account.id, reach=reach, actors=actors,
        withheld=kept_from(connection, account, now, permits=permits), writes=frozenset(),
    )  # fmt: skip


def _is_held(grant: "Row[Any]") -> bool:
    """Whether it opens what it names to whoever holds it: a share's, that of an access code, or of a launch."""
    return (
        grant.client in (PORTAL, SHARED, LAUNCHED) and bool(grant.studies) and bool({SHARE, CODE, LAUNCH} & grant.context.keys())
    )


def _of_holder(
    grant: "Row[Any]", scopes: tuple[Scope, ...], token: str, connection: Connection, *, permits: bool
) -> tuple[Decision, int]:
    """Who has claimed an access code is the patient. Who opens a share is somebody whom the patient knows and Consents may not: what they keep
    from anybody stays closed, and nothing beyond them is asked for. Who comes out of an EHR is not known here either, and no patient has let them.
    """
    kept, user, share = NOTHING, f"Patient/{grant.patient}", str(grant.context.get(SHARE, ""))
    launch = LAUNCH in grant.context
    if share or launch:
        user = ""
        kept = withheld(
            connection,
            user="",
            actors=frozenset(),
            purposes=frozenset(),
            patients=frozenset([grant.patient]),
            permits=permits or not launch,
            is_unknown=True,
        )
    return Decision(
        subject=grant.client, scopes=scopes, patient=grant.patient, token_id=token, user=user, account=grant.account or "",
        studies=_set(grant.studies), grant=grant.id, withheld=kept, writes=frozenset(), share=share,
        only_looks=bool(share) and not grant.context.get(TAKING),
    ), grant.expires  # fmt: skip


def kept_from(connection: Connection, account: accounts.Account, now: int, *, permits: bool) -> Withheld:
    """What consents keep from a person who is to choose a patient or study for an app."""
    reach = accounts.reach(connection, account, now)[0]
    if reach is not None:
        own = accounts.own_patients(connection, account.id)
        return withheld_from_proxy(connection, user=account.fhir_user, patients=reach, own=own)
    actors, _ = roles.actors(connection, account.fhir_user, now)
    return withheld(
        connection, user=account.fhir_user, actors=actors, purposes=frozenset(), patients=None, permits=permits, is_unknown=not account.fhir_user
    )  # fmt: skip


def whole_records(connection: Connection, account: accounts.Account, now: int) -> frozenset[str]:
    """The patients whom somebody reaches by own right, and of whose records no Consent keeps anything from them. Not for who reaches everybody."""
    reach = accounts.reach(connection, account, now)[0] or frozenset()
    kept = kept_from(connection, account, now, permits=True)
    if kept.is_nothing:
        return reach
    tests = {patient: kept.untouched("AuditEvent", Whose(literal(patient))) for patient in reach}
    return frozenset(each for each, test in tests.items() if connection.execute(select(1).where(test)).first() is not None)


def _scopes(asked: str, grant: "Row[Any]", most: str) -> tuple[Scope, ...]:
    """Those that token, grant and client have in common, as far as there is a user for `user/`, and none for `system/`."""
    others = "user" if grant.account is None else "system"
    return tuple(scope for scope in parse_scopes(narrowed(narrowed(asked, grant.scope), most)) if scope.context != others)


def _of_claims(connection: Connection, claims: Mapping[str, Any], *, permits: bool) -> Decision:
    """A `user/` scope stands for a practitioner who is not named; `system/` for the administrator, `patient/` for the patient."""
    scopes = parse_scopes(str(claims.get("scope", "")))
    kept, is_unnamed = NOTHING, {scope.context for scope in scopes} - {"patient"} == {"user"}
    if is_unnamed:
        kept = withheld(
            connection, user="", actors=frozenset(), purposes=frozenset(), patients=None, permits=permits, is_unknown=True
        )
    return Decision(
        subject=str(claims.get("client_id", "")),
        scopes=scopes,
        patient=str(claims["patient"]) if claims.get("patient") else None,
        token_id=str(claims.get("jti", "")),
        withheld=kept,
        writes=frozenset() if is_unnamed else RESERVED,
    )


def _whose(scopes: Sequence[Scope], patient: str | None, reach: frozenset[str] | None) -> frozenset[str] | None:
    """The patients whose records these scopes can open; None: every one's."""
    if all(scope.context == "patient" for scope in scopes):
        return frozenset([patient] if patient else ())
    return reach


def _grant(connection: Connection, id_: str, now: int) -> "Row[Any]":
    found = connection.execute(select(_GRANT).where(_GRANT.c.id == id_)).first()
    if found is None or found.ended is not None or found.expires <= now:
        raise Unauthenticated(_ENDED)
    return found


def _reserved(kind: str, kept: Withheld) -> frozenset[str]:
    """What of `RESERVED` a person of this kind writes, or a client by itself: nobody what binds them.

    Patients and their proxies consent, but for a proxy from whom a patient keeps something; staff records what they signed. Who has which role
    administrators say, and services of the site.
    """
    if kind in ("", "administrator"):
        return RESERVED
    consents = kind == "staff" or (kind in ("patient", "proxy") and kept.is_nothing)
    return frozenset({"Consent"}) if consents else frozenset()


def _person(connection: Connection, id_: str | None, now: int) -> tuple[str, str, frozenset[str] | None, int]:
    """Of what kind they are, who, whom they reach, and until when by the clock; a client by itself is nobody and reaches what it may."""
    if id_ is None:
        return "", "", None, FOREVER
    account = accounts.find(connection, id_)
    if account is None or account.disabled:
        raise Unauthenticated(_ENDED)
    reached, until = accounts.reach(connection, account, now)
    return account.kind, account.fhir_user, reached, until


def _session_ends(connection: Connection, id_: str, now: int) -> int:
    """SMART App Launch 2.2, `online_access`: for as long as the person remains signed in, so by idleness too. Raises `Unauthenticated`."""
    row = connection.execute(select(_SESSION.c.expires, _SESSION.c.idle).where(_SESSION.c.id == id_)).first()
    if row is None or min(row) <= now:
        raise Unauthenticated(_ENDED)
    ends: int = min(row)
    return ends


def _set(found: list[str] | None) -> frozenset[str] | None:
    return None if found is None else frozenset(found)


def _common(*reaches: frozenset[str] | None) -> frozenset[str] | None:
    """What is in all of them; None is everything."""
    named = [each for each in reaches if each is not None]
    return frozenset.intersection(*named) if named else None
