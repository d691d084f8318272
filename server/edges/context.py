"""What every HTTP edge begins and ends with: who asks, under which request id, what goes into the trail.

The order is always the same: `decision` (401), the edge's own reading and its check against the Decision (403), `told` in
the trail, then the first byte.
"""

import asyncio
import ipaddress
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from profiles.audit_event import FAILED, REFUSED, SUCCESS, Agent, AuditedEntity, Kind, Outcome, Subtype
from server.access import epoch
from server.access.assertions import Assertions
from server.access.decisions import Decision
from server.access.ehr_launch import EhrLaunches
from server.access.oauth.server import OAuthServer
from server.access.partners import Partners
from server.access.people.hospital import Hospital
from server.access.people.people import People
from server.access.tokens import Tokens
from server.access.viewing import Viewing
from server.edges.forwarding import caller
from server.edges.turns import Turns, leave, turn_of
from server.errors import ImageShareError, TooSlow, Unauthenticated, Unavailable
from server.outbound.logos import Logos
from server.records.installation import Installation
from server.records.peers import Peers
from server.records.strangers import Strangers
from server.records.trail import Audited, Trail
from server.settings import Settings
from server.store.blobs import BlobStore
from server.store.db import Database
from server.work.authorizing import Authorizing
from server.work.bringing.bringing import BringingIn
from server.work.fhir.writes import Writes
from server.work.ingest import Ingest
from server.work.portal.claiming import Claiming
from server.work.portal.desk import Desk
from server.work.portal.health_links import HealthLinks
from server.work.portal.sharing import Sharing
from server.work.registry.domain import Domain
from server.work.render import Renderer

_TOGETHER = 1 << 20
_PIECES = 256
_PATIENCE = 30.0
"""Seconds without anything of a body, and what it may take beside its bytes."""
_SLOWEST = 1024
"""Bytes a second."""
_TOO_SLOW = "the body of the request did not arrive in time: send it faster, or in smaller pieces"
"""After so many a body's pieces are joined, however small: each takes some memory beside its bytes."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Node:
    """What one process has in hand. Made by `server.composition.open_node`, kept at `app.state.node`."""

    settings: Settings
    database: Database
    blobs: BlobStore
    installation: Installation
    tokens: Tokens
    assertions: Assertions
    partners: Partners
    trail: Trail
    ingest: Ingest
    domain: Domain
    peers: Peers
    strangers: Strangers
    writes: Writes
    turns: Turns
    people: People
    hospital: Hospital
    oauth: OAuthServer
    authorizing: Authorizing
    logos: Logos
    viewing: Viewing
    claiming: Claiming
    ehr_launches: EhrLaunches
    sharing: Sharing
    health_links: HealthLinks
    desk: Desk
    bringing_in: BringingIn


def node(request: HTTPConnection) -> Node:
    found: Node = request.app.state.node
    return found


def renderer(request: HTTPConnection) -> Renderer:
    """What makes pictures of pixels in this process: one for all edges, so that they share the pictures that were made lately."""
    made: Renderer = request.app.state.renderer
    return made


def problem_page(request: Request, error: ImageShareError, title: str = "") -> Response:
    """What a person in a browser sees of an error, at whichever edge: the page is made by `server.edges.pages`. Takes a moment: no event loop."""
    made: Callable[[Request, ImageShareError, str], Response] = request.app.state.problem_page
    return made(request, error, title)


def request_id(request: HTTPConnection) -> str:
    """The request's id: the client's `X-Request-Id` if it is a plain one, else a new one; the same for the whole request."""
    known: str | None = getattr(request.state, "request_id", None)
    if known is None:
        given = request.headers.get("x-request-id", "")
        known = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        request.state.request_id = known
    return known


def peer(request: HTTPConnection) -> str:
    """The address at the other end of the socket, which may be a proxy's."""
    return request.client.host if request.client else ""


def address(request: HTTPConnection) -> str:
    """The address of who asks: the peer's or, where that is one of `trusted_proxies`, the one that it names."""
    return caller(peer(request), request.headers.getlist("x-forwarded-for"), node(request).settings.trusted_proxies)


def is_loopback(request: HTTPConnection) -> bool:
    """Whether the peer is on this machine, whoever it speaks for."""
    try:
        return ipaddress.ip_address(peer(request)).is_loopback
    except ValueError:
        return False


def decision(request: HTTPConnection) -> Decision:
    """The Decision behind the request's bearer token (RFC 6750 section 2.1). Raises `Unauthenticated`.

    A token in the query string is not looked at: URLs are logged. It is made once a request.
    """
    if (known := _made(request)) is not None:
        return known
    token, turn = _bearer(request), turn_of(request)
    if turn is None:
        made, number = node(request).tokens.decide_at(token)
    else:
        if node(request).tokens.waits(token):
            leave(request)
        if turn.epoch is None:
            turn.epoch = epoch.current(turn.connection)
        made, number = node(request).tokens.decide_at(token, turn.connection, turn.epoch)
    request.state.epoch = number
    return trusted(request, made)


def waits(request: HTTPConnection) -> bool:
    """Whether somebody else has to be asked about the request's token, so that it is not quick."""
    token = request.headers.get("authorization", "").partition(" ")[2].strip()
    return bool(token) and node(request).tokens.waits(token)


def _bearer(request: HTTPConnection) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not token:
        raise Unauthenticated("an access token is needed: Authorization: Bearer ...")
    if scheme.lower() != "bearer":
        raise Unauthenticated("only bearer tokens are taken: Authorization: Bearer ...")
    return token.strip()


@contextmanager
def reading(request: HTTPConnection) -> Iterator[Connection]:
    """A consistent view of the database, in which the request's Decision holds as well: both are of one moment.

    What somebody may do can change between the two. Raises `Unavailable` if it did for this token, `Unauthenticated` if nothing is left.
    """
    with node(request).database.read() as connection:
        made, before = _made(request), getattr(request.state, "epoch", None)
        if made is not None and before is not None and (number := epoch.current(connection)) != before:
            if node(request).tokens.decide(_bearer(request), connection, number) != made:
                raise Unavailable("what this token opens has changed just now; send the request again")
            request.state.epoch = number
        yield connection


def decide_again(request: HTTPConnection) -> None:
    """Forgets the request's Decision, so that the next one who asks gets that of now: for when its body took long to arrive."""
    request.state.decision = None


def trusted(request: HTTPConnection, made: Decision) -> Decision:
    """Notes `made` as the request's Decision, so that the trail names its subject."""
    request.state.decision = made
    return made


def told(
    request: HTTPConnection,
    kind: Kind,
    subtype: Subtype,
    *,
    patients: Iterable[str],
    entities: tuple[AuditedEntity, ...] = (),
    rest: bool = True,
) -> None:
    """Puts a disclosure into the trail before the answer: one event per patient, or one without if there is none.

    `patients` are resource ids. A search is one entity with `query`, the raw query string or request body. `rest` is False for SOAP.
    """
    trail, named = node(request).trail, sorted(set(patients))
    action = trail.action(
        kind, subtype, client(request), rest=rest, patient_id=named[0] if len(named) == 1 else "", entities=entities,
        request_id=request_id(request), token_id=_token_id(request),
    )  # fmt: skip
    told = () if len(named) == 1 else named
    if (turn := turn_of(request)) is not None:
        turn.noted.append((action, told))
    else:
        trail.write(action, patients=told)


def recorded(request: HTTPConnection, connection: Connection, events: Iterable[Audited]) -> None:
    """Puts what a transaction did into the trail, within it."""
    trail, agent, number, token = node(request).trail, client(request), request_id(request), _token_id(request)
    trail.record(
        connection,
        *(
            trail.action(
                each.kind, each.subtype, agent, patient_id=each.patient,
                outcome=_outcome(each.error), outcome_desc=each.error.detail if each.error else "",
                entities=(AuditedEntity(reference=each.reference, query=each.query),), request_id=number, token_id=token,
            )
            for each in events
        ),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Note:
    """What was done or told within a request that asks for many things; with an `error` what was refused, and why."""

    kind: Kind
    subtype: Subtype
    entities: tuple[AuditedEntity, ...] = ()
    patients: frozenset[str] = frozenset()
    error: ImageShareError | None = None


def noted(request: HTTPConnection, notes: Iterable[Note], connection: Connection | None = None, *, rest: bool = True) -> None:
    """Puts all of them into the trail with one commit: `told` and `refused` of many. With `connection` it is part of its transaction."""
    trail, agent, number, token = node(request).trail, client(request), request_id(request), _token_id(request)
    trail.note(
        (
            (
                trail.action(
                    each.kind, each.subtype, agent, rest=rest, outcome=_outcome(each.error),
                    outcome_desc=each.error.detail if each.error else "", entities=each.entities, request_id=number, token_id=token,
                ),
                sorted(each.patients),
            )
            for each in notes
        ),
        connection,
    )  # fmt: skip


def _outcome(error: ImageShareError | None) -> Outcome:
    if error is None:
        return SUCCESS
    return FAILED if error.http_status >= 500 else REFUSED


def refused(
    request: HTTPConnection,
    error: ImageShareError,
    kind: Kind,
    subtype: Subtype,
    *,
    entities: tuple[AuditedEntity, ...] = (),
    rest: bool = True,
) -> None:
    """Puts a refusal or failure into the trail: who asked, from where, for what, and why not, in the error's own words.

    One event per patient whose data were refused, where that is known, so that the patient's own trail has it; else one.
    Strangers are counted (`records.strangers`): they could fill the trail.
    """
    trail = node(request).trail
    patients: frozenset[str] = getattr(error, "patients", frozenset())
    actions = [
        trail.action(
            kind, subtype, client(request), rest=rest, outcome=_outcome(error),
            outcome_desc=error.detail, patient_id=patient, entities=entities, request_id=request_id(request),
            token_id=_token_id(request),
        )
        for patient in (sorted(patients) or [""])
    ]  # fmt: skip
    if _made(request) is None:
        node(request).strangers.refused(actions[0])
    elif (turn := turn_of(request)) is not None:
        turn.noted.extend((action, ()) for action in actions)
    else:
        trail.write(*actions)


def together(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of 1 MiB or more: each piece that is sent costs a change of thread."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _TOGETHER:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield b"".join(waiting)


async def _next(arriving: AsyncIterator[bytes]) -> bytes | None:
    """What arrives next of a body; None at its end. Raises `TooSlow`."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await anext(arriving, None)
    except TimeoutError:
        raise TooSlow(_TOO_SLOW) from None


async def fed(request: Request, feed: Callable[[bytes], object], finish: Callable[[bytes], T]) -> T:
    """Gives a request's body to `feed` in pieces of about 1 MiB and its last one to `finish`, whose result is returned; both may block.

    While a piece is looked at in a worker thread the next one arrives, and no more than that. Raises `ClientDisconnect`, and `TooSlow` for a body of
    which nothing comes for half a minute, or less than 1 KiB a second: connections are few, and whoever comes may hold one.
    """
    waiting, size, whole, began = list[bytes](), 0, 0, time.monotonic()
    feeding: asyncio.Task[object] | None = None
    arriving = aiter(request.stream())
    try:
        while (data := await _next(arriving)) is not None:
            whole += len(data)
            if time.monotonic() - began > _PATIENCE + whole / _SLOWEST:
                raise TooSlow(_TOO_SLOW)
            waiting.append(data)
            size += len(data)
            if len(waiting) >= _PIECES:
                waiting = [b"".join(waiting)]
            if size >= _TOGETHER:
                if feeding is not None:
                    await feeding
                feeding = asyncio.create_task(run_in_threadpool(feed, b"".join(waiting)))
                waiting, size = [], 0
    finally:
        if feeding is not None:
            await feeding
    return await run_in_threadpool(finish, b"".join(waiting))


def client(request: HTTPConnection) -> Agent:
    """Who asks, as the trail names them: the client, on whose behalf and what for."""
    made = _made(request)
    if made is None:
        return Agent(identifier="anonymous", address=address(request))
    user = None
    if made.account or made.user:
        system = node(request).installation.issuer if made.account else ""
        user = Agent(identifier=made.account, system=system, reference=made.user)
    if made.share:
        user = Agent(identifier=made.share, system=node(request).installation.issuer)
    if made.asserted is not None:
        named = made.asserted
        user = Agent(identifier=named.identifier, system=named.issuer, reference=made.user, name=named.user_name)
    return Agent(identifier=made.subject, address=address(request), user=user, purposes=tuple(sorted(made.purposes)))


def _token_id(request: HTTPConnection) -> str:
    made = _made(request)
    return made.token_id if made else ""


def _made(request: HTTPConnection) -> Decision | None:
    found: Decision | None = getattr(request.state, "decision", None)
    return found
