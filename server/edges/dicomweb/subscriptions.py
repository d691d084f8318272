"""UPS-RS: subscriptions (PS3.18 sections 11.10 to 11.12) and the event channel, a WebSocket (sections 8.10.4 and 8.10.5).

Events are rows: whichever process changed a workitem, the one that holds the channel finds them. One task in each process looks for news as
long as channels are open. A channel's token is looked at again before each delivery.
"""

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from profiles.audit_event import REST_READ, REST_UPDATE, dicom_objects
from profiles.workitem import FILTERED, GLOBAL
from profiles.workitem_events import scp_status
from server.access.decisions import Decision, Interaction
from server.edges import context
from server.edges.dicomweb import workitem_query
from server.edges.dicomweb.answers import answering, problem
from server.edges.dicomweb.workitems import actor, subscriber, target, worklist
from server.errors import AccessError, Busy, ImageShareError, MalformedQuery, NotFound, Unauthenticated
from server.records import workitem_subscribers as subscribers
from server.records import workitems
from server.records.workitem_subscribers import Event
from server.store.db import Database
from server.telemetry import failure, log
from server.work.workitems import TASK

CHANNEL: Final = "/ws/subscribers/{aet}"
_LOOK_EVERY: Final = 0.2
_CHECK_EVERY: Final = 5.0
"""Seconds after which the token of a silent channel is looked at again."""
_MOST_CHANNELS: Final = 200
_MOST_OF_ONE: Final = 20
"""Channels of one client."""
_POLICY_VIOLATION: Final = 1008  # RFC 6455 section 7.4.1
_INTERNAL_ERROR: Final = 1011


# --- subscribing


@answering("update", REST_UPDATE)
def subscribe(request: Request) -> Response:
    """PS3.18 section 11.10: Subscribe."""
    uid, title = target(request), subscriber(request.path_params["aet"])
    known = {name: value for name, value in request.query_params.multi_items() if name in ("deletionlock", "filter")}
    lock = workitem_query.flag("deletionlock", known.get("deletionlock", "false"))
    keys = workitem_query.filtered(known["filter"]) if known.get("filter") else ()
    if (uid == FILTERED) != bool(keys):
        raise MalformedQuery(f"a filter goes with a subscription to {FILTERED}, and only with that (PS3.18 section 11.10.1.2)")
    worklist(request).subscribe(context.decision(request), actor(request), uid, title, lock=lock, keys=keys)
    return Response(status_code=201, headers={"Content-Location": _channel(request, title)})


@answering("update", REST_UPDATE)
def unsubscribe(request: Request) -> Response:
    """PS3.18 section 11.11: Unsubscribe."""
    title = subscriber(request.path_params["aet"])
    worklist(request).unsubscribe(context.decision(request), actor(request), target(request), title)
    return Response(status_code=200)


@answering("update", REST_UPDATE)
def suspend(request: Request) -> Response:
    """PS3.18 section 11.12: Suspend Worklist Subscription."""
    uid = target(request)
    if uid not in (GLOBAL, FILTERED):
        raise MalformedQuery("only a subscription to the worklist can be suspended; DELETE ends one to a workitem")
    worklist(request).suspend(context.decision(request), actor(request), uid, subscriber(request.path_params["aet"]))
    return Response(status_code=200)


def _channel(request: Request, title: str) -> str:
    """The URL of the event channel: `wss:` where this server is called by `https:`."""
    base = context.node(request).settings.base_url
    return f"ws{base.removeprefix('http')}{CHANNEL.format(aet=quote(title, safe=''))}"


# --- the event channel


@dataclass(eq=False, slots=True)
class _Channel:
    """One open channel: which events it had, and what wakes it."""

    ae_title: str
    client: str
    seen: int
    news: asyncio.Event = field(default_factory=asyncio.Event)


class First(Protocol):
    """A semaphore, of threads or of processes."""

    def acquire(self, block: bool, /) -> bool: ...
    def release(self) -> None: ...


class Channels:
    """The open channels of one process, and the task that looks for their news."""

    def __init__(self, database: Database, first: First | None) -> None:
        self._database = database
        self._first: First = first or threading.Semaphore(1)
        self._open: set[_Channel] = set()
        self._watching: asyncio.Task[None] | None = None
        self._announcing = threading.Lock()

    def start(self, ae_title: str, client: str) -> _Channel:
        """Reads where the channel begins: after what earlier ones of this AE title had. Not for the event loop's thread."""
        with self._announcing:
            if self._first.acquire(False):  # of all processes of this server
                try:
                    with self._database.write() as connection:
                        subscribers.announce(connection, scp_status("RESTARTED"))
                except BaseException:
                    self._first.release()
                    raise
        with self._database.read() as connection:
            return _Channel(ae_title, client, subscribers.delivered(connection, ae_title))

    def add(self, channel: _Channel) -> None:
        """Raises `Busy`."""
        if len(self._open) >= _MOST_CHANNELS:
            raise Busy("too many event channels are open; try again")
        if sum(other.client == channel.client for other in self._open) >= _MOST_OF_ONE:
            raise Busy("this client has too many event channels open; close one")
        self._open.add(channel)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    def remove(self, channel: _Channel) -> None:
        self._open.discard(channel)

    async def _watch(self) -> None:
        while self._open:
            try:
                newest = await run_in_threadpool(self._newest, {channel.ae_title for channel in self._open})
            except Exception as error:  # noqa: BLE001 a database that is away for a while closes no channel
                log().warning("event channels", **failure(error))
                newest = {}
            for channel in self._open:
                if newest.get(channel.ae_title, 0) > channel.seen:
                    channel.news.set()
            await asyncio.sleep(_LOOK_EVERY)

    def _newest(self, titles: set[str]) -> Mapping[str, int]:
        with self._database.read() as connection:
            return subscribers.newest(connection, titles)


async def channel(websocket: WebSocket) -> None:
    """PS3.18 section 8.10.4: Open Notification Connection. The token comes as a header field; one in the URL is not looked at."""
    channels: Channels = websocket.app.state.channels
    opened: _Channel | None = None
    try:
        decision = await run_in_threadpool(context.decision, websocket)
        title = subscriber(websocket.path_params["aet"])
        await run_in_threadpool(_permitted, websocket, title)
        opened = await run_in_threadpool(channels.start, title, decision.subject)
        channels.add(opened)  # counted from now on: those that open at the same time are not too many together
        await run_in_threadpool(context.told, websocket, "read", REST_READ, patients=())
        await websocket.accept()
        await _serve(websocket, opened)
    except ImageShareError as error:
        await _denied(websocket, error)
    finally:
        if opened is not None:
            channels.remove(opened)


async def _serve(websocket: WebSocket, opened: _Channel) -> None:
    """Sends until the client leaves, its token ends, or its AE title is another's."""
    gone = asyncio.create_task(_left(websocket))
    code = _POLICY_VIOLATION
    try:
        while not gone.done():
            opened.news.clear()
            await _deliver(websocket, opened)
            news = asyncio.create_task(opened.news.wait())
            await asyncio.wait((gone, news), timeout=_CHECK_EVERY, return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
    except WebSocketDisconnect:
        return
    except AccessError as error:
        await run_in_threadpool(context.refused, websocket, error, "read", REST_READ)
        reason = error.short
    except Exception as error:  # noqa: BLE001 whatever happens, the client is told that the channel ends
        log().error("event channel failed", request_id=context.request_id(websocket), **failure(error))
        code, reason = _INTERNAL_ERROR, "the server failed; open the channel again"
    else:
        return
    finally:
        gone.cancel()
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await websocket.close(code, reason)


async def _left(websocket: WebSocket) -> None:
    """Returns when the client has closed. What it sends is not looked at: the channel goes one way."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def _deliver(websocket: WebSocket, opened: _Channel) -> None:
    """PS3.18 section 8.10.5: each event is one text frame. The trail has it first; what was sent is not sent again."""
    while events := await run_in_threadpool(_events, websocket, opened):
        for event in events:
            await websocket.send_text(event.body.decode("utf-8"))
            opened.seen = event.sequence
        await run_in_threadpool(_mark, websocket, opened)


def _events(websocket: WebSocket, opened: _Channel) -> list[Event]:
    decision = _permitted(websocket, opened.ae_title)
    allowed = decision.where(TASK, Interaction.READ, workitems.PATIENT_OF)
    with context.node(websocket).database.read() as connection:
        newest = subscribers.newest(connection, [opened.ae_title]).get(opened.ae_title, 0)
        found = subscribers.waiting(connection, opened.ae_title, opened.client, opened.seen, allowed)
    if not found:
        opened.seen = max(opened.seen, newest)  # the rest is for other eyes
        return []
    for uid, patient in sorted({(event.uid, event.patient) for event in found}):
        context.told(websocket, "read", REST_READ, patients=[patient], entities=dicom_objects(instance=uid))
    return found


def _mark(websocket: WebSocket, opened: _Channel) -> None:
    with context.node(websocket).database.write() as connection:
        subscribers.mark(connection, opened.ae_title, opened.seen)


def _permitted(websocket: WebSocket, title: str) -> Decision:
    """The Decision of the token as it is now. Raises `Unauthenticated` and `Forbidden`."""
    node = context.node(websocket)
    token = websocket.headers["authorization"].partition(" ")[2].strip()
    decision = context.trusted(websocket, node.tokens.decide(token))
    decision.require(TASK, Interaction.READ)
    with node.database.read() as connection, contextlib.suppress(NotFound):
        subscribers.require_owner(connection, title, decision.subject)
    return decision


async def _denied(websocket: WebSocket, error: ImageShareError) -> None:
    """An HTTP answer instead of the upgrade (RFC 6455 section 4.2.2)."""
    if isinstance(error, AccessError):
        await run_in_threadpool(context.refused, websocket, error, "read", REST_READ)
    response = problem(websocket, error.http_status, error.detail, error.number)
    response.headers["X-Request-Id"] = context.request_id(websocket)
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = 'Bearer realm="imageshare"'
    await websocket.send_denial_response(response)
