"""Its WADO-RS and QIDO-RS."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from peers.faulty_smart.callers import READ, SEARCH, Caller, Refusal, answered, caller, refused
from peers.faulty_smart.state import PATIENTS, WADO, Images, State, dicom
from peers.faulty_smart.tokens import preflight
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_PICTURE: Final = b"\xff\xd8\xff\xd9"


async def wado(request: Request) -> Response:
    if request.method == "OPTIONS":
        return preflight(request)
    try:
        if "capability" in request.path_params:
            return _by_capability(request)
        return _images(request, caller(request))
    except Refusal as refusal:
        return refused(request, refusal)


def _by_capability(request: Request) -> Response:
    """A capability opens its study to the grant that it was made for."""
    state: State = request.app.state.smart
    uid, grant = state.capabilities.get(request.path_params["capability"], ("", None))
    if grant is None:
        raise Refusal(403)
    if state.wrong("capability-alone"):
        return _images(request, Caller(state, grant, grant.scope))
    who = caller(request)
    if who.grant is not grant and not state.wrong("capability-of-any-token"):
        raise Refusal(403)
    if request.path_params["path"].partition("/")[0] != uid and not state.wrong("capability-wide"):
        raise Refusal(403)
    whole = state.wrong("capability-wide") or state.wrong("capability-of-any-token")
    return _images(request, who, checked=whole)


def _images(request: Request, who: Caller, *, checked: bool = False) -> Response:
    state, path = who.state, request.path_params["path"]
    uid, _, rest = path.partition("/")
    study = next((each for each in state.studies if each.uid == uid), None)
    last = rest.rpartition("/")[2]
    open_ = (
        checked
        or state.wrong("wado-open")
        or (state.wrong("metadata-open") and last == "metadata")
        or (state.wrong("rendered-open") and last in ("rendered", "thumbnail"))
    )
    if study is None:
        raise Refusal(404)
    if not open_:
        _permitted(who, study)
    if study.pending:
        raise Refusal(503, Retry_After="2")
    chosen = list(_chosen(who, study, rest))
    accept = request.headers.get("accept", "")
    if last in ("rendered", "thumbnail"):
        return answered(request, _PICTURE, kind="image/png" if "png" in accept else "image/jpeg")
    if last == "metadata":
        return answered(request, [_header(study, *each) for each in chosen], kind="application/dicom+json")
    if "frames" in rest.split("/") or last == "bulkdata":
        if last not in ("1", "bulkdata"):
            raise Refusal(404)
        return _multipart(request, [bytes(64)], "application/octet-stream")
    if "application/dicom" not in accept:
        raise Refusal(406)
    return _multipart(request, [dicom(study, *each) for each in chosen], "application/dicom")


def _permitted(who: Caller, study: Images) -> None:
    if who.state.wrong("scope-ignored"):
        if PATIENTS[study.patient] not in {who.grant.patient, *who.state.reach(who.grant)}:
            raise Refusal(403)
        return
    who.require("ImagingStudy", READ, PATIENTS[study.patient])
    if not who.sees(study, READ):
        raise Refusal(403)


def _chosen(who: Caller, study: Images, rest: str) -> Iterator[tuple[str, str]]:
    """Series and instance UIDs of what is asked for."""
    pieces = rest.split("/") if rest else []
    if pieces and pieces[0] not in ("series", "metadata", "rendered", "thumbnail"):
        raise Refusal(404)
    wanted = pieces[1] if pieces[:1] == ["series"] else ""
    instance = pieces[3] if len(pieces) > 3 and pieces[2] == "instances" else ""
    if wanted and (wanted not in study.series or (instance and instance not in study.series[wanted])):
        raise Refusal(404)
    for series, instances in study.series.items():
        if wanted in ("", series):
            if not who.sees_series(study, series):
                if wanted or not (who.state.wrong("trimmed") or rest == "metadata"):
                    raise Refusal(403)
                continue
            yield from ((series, each) for each in instances if instance in ("", each))


def _header(study: Images, series: str, instance: str) -> dict[str, Any]:
    values = {"00080018": instance, "0020000D": study.uid, "0020000E": series}
    bulk = {"vr": "OB", "BulkDataURI": f"{WADO}/studies/{study.uid}/series/{series}/instances/{instance}/bulkdata"}
    return {"7FE00010": bulk, **{tag: {"vr": "UI", "Value": [value]} for tag, value in values.items()}}


def _multipart(request: Request, parts: list[bytes], kind: str) -> Response:
    body = b"".join(b"--kit\r\nContent-Type: %s\r\n\r\n%s\r\n" % (kind.encode(), each) for each in parts) + b"--kit--\r\n"
    return answered(request, body, kind=f'multipart/related; type="{kind}"; boundary={quote("kit")}')


async def qido(request: Request) -> Response:
    try:
        who = caller(request)
    except Refusal as refusal:
        return refused(request, refusal)
    seen = [
        each
        for each in who.state.studies
        if PATIENTS[each.patient] in who.patients("ImagingStudy", SEARCH) and who.sees(each, SEARCH) and not each.pending
    ]
    return answered(request, [{"0020000D": {"vr": "UI", "Value": [each.uid]}} for each in seen], kind="application/dicom+json")


ROUTES: Final = [
    Route(f"{WADO}/studies", qido),
    Route(WADO + "/studies/{path:path}", wado, methods=["GET", "OPTIONS"]),
    Route(WADO + "/c/{capability}/studies/{path:path}", wado, methods=["GET", "OPTIONS"]),
]
