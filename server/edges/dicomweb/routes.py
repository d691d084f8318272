"""PS3.18 sections 10.4 to 10.6: which resource is answered by which transaction."""

from typing import Final

from fastapi import FastAPI

from server.edges.dicomweb import (
    archive,
    bulkdata,
    capabilities,
    changes,
    correct,
    delete,
    fetches,
    metadata,
    rendered,
    retrieve,
    search,
    store,
    subscriptions,
    wado_uri,
    workitems,
)
from server.edges.dicomweb.answers import Handler
from server.work.pixels import pool
from server.work.render import Renderer

_STUDY: Final = "/dicomweb/studies/{study}"
_SERIES: Final = _STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"
_FRAMES: Final = _INSTANCE + "/frames/{frames}"
_CAPABILITY: Final = "/dicomweb/c/{capability}"
"""Before the path of a study: SMART Imaging Access, "Issuing capability URLs"."""
_WORKITEM: Final = "/dicomweb/workitems/{workitem}"
_SUBSCRIBER: Final = _WORKITEM + "/subscribers/{aet}"

_GET: Final[tuple[tuple[str, Handler], ...]] = (
    ("/dicomweb/studies", search.studies),
    ("/dicomweb/changefeed", changes.feed),
    ("/dicomweb/changefeed/latest", changes.latest),
    ("/dicomweb/fetches/{fetch}", fetches.status),
    ("/dicomweb/series", search.series),
    ("/dicomweb/instances", search.instances),
    (f"{_STUDY}/series", search.series),
    (f"{_STUDY}/instances", search.instances),
    (f"{_SERIES}/instances", search.instances),
    (_STUDY, archive.instances),
    (_SERIES, archive.instances),
    (_INSTANCE, retrieve.instances),
    (_FRAMES, retrieve.frames),
    (f"{_STUDY}/metadata", metadata.metadata),
    (f"{_SERIES}/metadata", metadata.metadata),
    (f"{_INSTANCE}/metadata", metadata.metadata),
    (f"{_INSTANCE}/bulkdata/{{path:path}}", bulkdata.bulkdata),
    (f"{_STUDY}/rendered", rendered.rendered),
    (f"{_SERIES}/rendered", rendered.rendered),
    (f"{_INSTANCE}/rendered", rendered.rendered),
    (f"{_FRAMES}/rendered", rendered.rendered),
    (f"{_STUDY}/thumbnail", rendered.thumbnail),
    (f"{_SERIES}/thumbnail", rendered.thumbnail),
    (f"{_INSTANCE}/thumbnail", rendered.thumbnail),
    (f"{_FRAMES}/thumbnail", rendered.thumbnail),
)


def install(app: FastAPI) -> None:
    app.state.renderer = Renderer(pool=pool.shared())
    app.state.channels = subscriptions.Channels(app.state.node.database, getattr(app.state, "first", None))
    add_routes(app)
    capabilities.install(app)  # the last: it tells of those before it


def add_routes(app: FastAPI) -> None:
    """Every route but those of capabilities, on an application that need not serve."""
    for path, handler in _GET:
        app.add_route(path, handler, methods=["GET"])
        if path.startswith(_STUDY):
            app.add_route(path.replace("/dicomweb", _CAPABILITY, 1), handler, methods=["GET"])
    for path in ("/dicomweb/studies", _STUDY):
        app.add_route(path, store.store, methods=["POST"])
    for path in (_STUDY, _SERIES, _INSTANCE):
        app.add_route(path, delete.delete, methods=["DELETE"])
        app.add_route(f"{path}/reject/{{code}}", delete.reject, methods=["POST"])
        app.add_route(f"{path}/restore", delete.restore, methods=["POST"])
    app.add_route(_STUDY, correct.correct, methods=["PATCH"])
    app.add_route("/dicomweb/fetches", fetches.begin, methods=["POST"])
    app.add_route("/wado", wado_uri.retrieve, methods=["GET"])
    _add_worklist(app)


def _add_worklist(app: FastAPI) -> None:
    """PS3.18 section 11, table 11.1.1-1, and the event channel."""
    app.add_route("/dicomweb/workitems", workitems.create, methods=["POST"])
    app.add_route("/dicomweb/workitems", workitems.search, methods=["GET"])
    app.add_route(_WORKITEM, workitems.retrieve, methods=["GET"])
    app.add_route(_WORKITEM, workitems.update, methods=["POST"])
    app.add_route(f"{_WORKITEM}/state", workitems.change_state, methods=["PUT"])
    app.add_route(f"{_WORKITEM}/cancelrequest", workitems.request_cancellation, methods=["POST"])
    app.add_route(_SUBSCRIBER, subscriptions.subscribe, methods=["POST"])
    app.add_route(_SUBSCRIBER, subscriptions.unsubscribe, methods=["DELETE"])
    app.add_route(f"{_SUBSCRIBER}/suspend", subscriptions.suspend, methods=["POST"])
    app.router.add_websocket_route(subscriptions.CHANNEL, subscriptions.channel)
