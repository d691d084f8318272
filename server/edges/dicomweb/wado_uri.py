"""WADO-URI (PS3.18 section 9; IHE RAD-55): one instance by query parameters, as DICOM or as a picture.

What a parameter cannot be given here is refused with a reason, never left out in silence: a picture without the window, or with
the name that it was to be without, is another one than was asked for. Unknown parameters are ignored (PS3.18 section 8.3).
"""

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ihe.multipart import media_type
from profiles.audit_event import RAD_55, AuditedEntity
from profiles.frames import FrameTable
from profiles.identifiers import InvalidIdentifier, lenient_uid
from profiles.vocabulary import EXPLICIT_VR_LITTLE_ENDIAN
from server.access.decisions import Decision
from server.edges import context, systems
from server.edges.dicomweb import accept, targets
from server.edges.dicomweb.answers import answering
from server.edges.dicomweb.targets import Target
from server.errors import MalformedQuery, NotAcceptable, NotFound, NotSupported, TooLarge
from server.records import catalogue
from server.records.catalogue import StoredInstance
from server.work import transcode
from server.work.render import Viewport, Window, Wish

_UIDS: Final = {"studyUID": "study", "seriesUID": "series", "objectUID": "instance"}
_IMAGES: Final = ("image/jpeg", "image/png", "image/gif")
_RENDERING: Final = (
    "frameNumber", "rows", "columns", "region", "windowCenter", "windowWidth", "imageQuality", "annotation", "presentationUID",
    "presentationSeriesUID", "iccprofile",
)  # fmt: skip
_ANNOTATIONS: Final = frozenset({"patient", "technique"})
_WHOLE = re.compile(r"[1-9]\d{0,8}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d{1,9}(\.\d{0,9})?|\.\d{1,9})([Ee][+-]?\d{1,2})?", re.ASCII)
_LARGEST = 8192
_OF_BROWSERS: Final = ("sec-fetch-site", "sec-fetch-mode", "origin", "referer", "cookie")


def _admit(request: Request) -> Decision:
    """Who shows a token; else systems as at the SOAP addresses: few consumers of RAD-55 know tokens.

    Any page may have a browser ask for a picture, which would have the browser's place in the network: browsers need a token.
    """
    by_itself = not any(name in request.headers for name in ("authorization", *_OF_BROWSERS))
    known = systems.known(request) if by_itself else None
    return known if known is not None else context.decision(request)


@answering("read", RAD_55, _admit)
def retrieve(request: Request) -> Response:
    """PS3.18 sections 9.4 and 9.5: Retrieve DICOM Instance, Retrieve Rendered Instance."""
    parameters = request.query_params
    # What the query names stands where a path would name it, so that one decision and one trail serve both.
    request.scope["path_params"] = {name: parameters.get(key, "") for key, name in _UIDS.items()}
    _required(request)
    with context.reading(request) as connection:
        target = targets.located(request, connection)
        (instance,) = target.instances
        stored = catalogue.frame_table(connection, instance.pk)
    table = FrameTable.from_bytes(stored) if stored is not None else None
    type_ = _media_type(request, instance)
    if type_ == accept.DICOM:
        return _as_dicom(request, target)
    return _as_picture(request, target, type_, table)


def _required(request: Request) -> None:
    """PS3.18 section 9.1.2.1. Raises `MalformedQuery` or `NotSupported`."""
    if request.query_params.get("requestType") != "WADO":
        raise MalformedQuery("requestType=WADO is needed (PS3.18 section 9.1.2.1)")
    for key in _UIDS:
        try:
            lenient_uid(request.query_params.get(key, ""))
        except InvalidIdentifier as error:
            raise MalformedQuery(f"{key}: {error}") from None
    if "anonymize" in request.query_params:
        raise NotSupported("instances are not de-identified here: leave anonymize out (PS3.18 section 9.4.1.1)")


def _media_type(request: Request, instance: StoredInstance) -> str:
    """PS3.18 section 9.1.2.2: what `contentType` names, in its order, else Accept; by default an image is JPEG. Raises `NotAcceptable`."""
    named = request.query_params.get("contentType", "")
    wanted = [media_type(each).type for each in named.split(",")] if named else [each.type for each in accept.ranges(request)]
    one_frame = instance.frames == 1 or (instance.frames > 1 and "frameNumber" in request.query_params)
    for type_ in wanted:
        if type_ in ("*/*", "") and not one_frame:
            return accept.DICOM
        if type_ in (accept.DICOM, "application/*"):
            return accept.DICOM
        for image in _IMAGES if instance.frames else ():
            if type_ in (image, "image/*", "*/*", ""):
                return image
    raise NotAcceptable(f"this instance is offered as {', '.join((accept.DICOM, *(_IMAGES if instance.frames else ())))}")


def _as_dicom(request: Request, target: Target) -> Response:
    """PS3.18 section 9.4.2.4: in the transfer syntax that `transferSyntax` names, by default Explicit VR Little Endian.

    What cannot be had in the default is sent as stored, as by WADO-RS: its header says in which.
    """
    for key in _RENDERING:
        if key in request.query_params:
            raise MalformedQuery(f"{key} is a parameter of rendered images, not of {accept.DICOM} (PS3.18 section 9.4)")
    context.decision(request).require_taking()
    (instance,) = target.instances
    blobs, stored = context.node(request).blobs, instance.transfer_syntax
    named = request.query_params.get("transferSyntax")
    wanted = transcode.acceptable(stored, [named or EXPLICIT_VR_LITTLE_ENDIAN], pixels=instance.frames > 0)
    if wanted is None and named:
        raise NotAcceptable(f"this instance cannot be sent in that transferSyntax; it is stored in {stored}")
    wanted = wanted or stored
    try:
        length, pieces = transcode.transcoded(blobs, instance, wanted)
    except (NotAcceptable, TooLarge):
        if named:
            raise
        wanted = stored
        length, pieces = transcode.transcoded(blobs, instance, stored)
    _told(request, target)
    headers = {"Vary": "Accept, Authorization", **({} if length is None else {"Content-Length": str(length)})}
    return StreamingResponse(context.together(pieces), headers=headers, media_type=f"{accept.DICOM}; transfer-syntax={wanted}")


def _as_picture(request: Request, target: Target, type_: str, table: FrameTable | None) -> Response:
    """PS3.18 section 9.5: one frame, or all of several as GIF."""
    (instance,) = target.instances
    numbers = _frames(request, instance, type_)
    wish = _wish(request, type_, table)
    renderer = context.renderer(request)

    def made() -> bytes:
        with context.node(request).blobs.open(instance.blob_id) as file:
            return renderer.cine(file, wish, numbers, table, instance.blob_id)

    _told(request, target)
    return Response(
        renderer.kept(wish.key(instance.blob_id, numbers), made), headers={"Vary": "Accept, Authorization"}, media_type=type_
    )


def _told(request: Request, target: Target) -> None:
    """IHE RAD TF-2 section 4.55.5: the retrieval in the trail, before its first byte."""
    (instance,) = target.instances
    entity = AuditedEntity(reference=f"ImagingStudy/{target.study_id}", details=(("instance", instance.uid),))
    context.told(request, "read", RAD_55, patients=[instance.patient], entities=(entity,))


def _frames(request: Request, instance: StoredInstance, type_: str) -> list[int]:
    """PS3.18 section 9.1.2.2.3: `frameNumber`; without it the first frame, or all of a GIF."""
    number = _whole(request, "frameNumber")
    if number is not None and number > instance.frames:
        raise NotFound(f"this instance has frames 1 to {instance.frames}")
    if number is None and type_ == "image/gif":
        return list(range(1, instance.frames + 1))
    return [number or 1]


def _wish(request: Request, type_: str, table: FrameTable | None) -> Wish:
    parameters = request.query_params
    for key in ("presentationUID", "presentationSeriesUID"):
        if key in parameters:
            raise NotSupported(f"presentation states are not applied here: leave {key} out")
    annotation = tuple(word for word in parameters.get("annotation", "").split(",") if word)
    if not set(annotation) <= _ANNOTATIONS:
        raise MalformedQuery("annotation is patient, technique, or both with a comma (PS3.18 section 8.3.5.1.1)")
    quality = _whole(request, "imageQuality")
    if quality is not None and quality > 100:
        raise MalformedQuery("imageQuality is a number from 1 to 100 (PS3.18 section 8.3.5.1.2)")
    return Wish(type_, _window(request), _viewport(request, table), quality or 90, annotation)


def _window(request: Request) -> Window | None:
    center, width = (request.query_params.get(key) for key in ("windowCenter", "windowWidth"))
    if center is None and width is None:
        return None
    if not (center and width and _DECIMAL.fullmatch(center) and _DECIMAL.fullmatch(width) and float(width) >= 1):
        raise MalformedQuery(
            "windowCenter and windowWidth are two decimal numbers, the width at least 1 (PS3.18 section 9.5.1.2)"
        )
    return Window(float(center), float(width), "LINEAR")


def _viewport(request: Request, table: FrameTable | None) -> Viewport | None:
    """PS3.18 sections 9.5.1.1 and 9.5.1.3: the picture's largest size, and the part of the frame that it shows."""
    rows, columns = _whole(request, "rows"), _whole(request, "columns")
    region = request.query_params.get("region")
    if max(rows or 0, columns or 0) > _LARGEST:
        raise MalformedQuery(f"a picture has at most {_LARGEST} rows and columns")
    if region is None:
        return Viewport(columns or _LARGEST, rows or _LARGEST) if rows or columns else None
    parts = region.split(",")
    edges = [float(part) for part in parts if _DECIMAL.fullmatch(part)]
    if len(edges) != len(parts) or len(edges) != 4 or not (0 <= edges[0] < edges[2] <= 1 and 0 <= edges[1] < edges[3] <= 1):
        raise MalformedQuery("region is left,top,right,bottom, each from 0 to 1 (PS3.18 section 9.5.1.3)")
    if table is None:
        raise NotAcceptable("the size of this instance's frames is not known, so no region of one can be shown")
    left, top, right, bottom = edges
    x, y, width, height = left * table.columns, top * table.rows, (right - left) * table.columns, (bottom - top) * table.rows
    if not (rows or columns):
        rows, columns = max(1, min(_LARGEST, round(height))), max(1, min(_LARGEST, round(width)))
    return Viewport(columns or _LARGEST, rows or _LARGEST, x, y, width, height)


def _whole(request: Request, key: str) -> int | None:
    text = request.query_params.get(key)
    if text is None:
        return None
    if not _WHOLE.fullmatch(text):
        raise MalformedQuery(f"{key} is a whole number from 1")
    return int(text)
