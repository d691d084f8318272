"""PS3.18 sections 10.4 to 10.6: which resource is answered by which transaction."""

from typing import Final

from fastapi import FastAPI

from server.edges.dicomweb import bulkdata, metadata, rendered, retrieve, search, store
from server.edges.dicomweb.answers import Handler
from server.work.render import Renderer

_STUDY: Final = "/dicomweb/studies/{study}"
_SERIES: Final = _STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"
_FRAMES: Final = _INSTANCE + "/frames/{frames}"

_GET: Final[tuple[tuple[str, Handler], ...]] = (
    ("/dicomweb/studies", search.studies),
    ("/dicomweb/series", search.series),
    ("/dicomweb/instances", search.instances),
    (f"{_STUDY}/series", search.series),
    (f"{_STUDY}/instances", search.instances),
    (f"{_SERIES}/instances", search.instances),
    (_STUDY, retrieve.instances),
    (_SERIES, retrieve.instances),
    (_INSTANCE, retrieve.instances),
    (_FRAMES, retrieve.frames),
    (f"{_STUDY}/metadata", metadata.metadata),
    (f"{_SERIES}/metadata", metadata.metadata),
    (f"{_INSTANCE}/metadata", metadata.metadata),
    (f"{_INSTANCE}/bulkdata/{{path:path}}", bulkdata.bulkdata),
    (f"{_INSTANCE}/rendered", rendered.rendered),
    (f"{_FRAMES}/rendered", rendered.rendered),
    (f"{_STUDY}/thumbnail", rendered.thumbnail),
    (f"{_SERIES}/thumbnail", rendered.thumbnail),
    (f"{_INSTANCE}/thumbnail", rendered.thumbnail),
    (f"{_FRAMES}/thumbnail", rendered.thumbnail),
)


def install(app: FastAPI) -> None:
    app.state.renderer = Renderer()
    for path, handler in _GET:
        app.add_route(path, handler, methods=["GET"])
    for path in ("/dicomweb/studies", _STUDY):
        app.add_route(path, store.store, methods=["POST"])
