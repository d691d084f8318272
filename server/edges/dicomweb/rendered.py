"""WADO-RS rendered images (PS3.18 sections 10.4.1.1.3 and 10.4.1.1.4): JPEG, PNG, and GIF for several frames in one image."""

import re
import secrets
from collections.abc import Callable, Iterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ihe import multipart
from profiles.audit_event import RAD_107
from profiles.frames import FrameTable
from server.edges import context
from server.edges.dicomweb import accept, targets
from server.edges.dicomweb.answers import answering
from server.edges.dicomweb.retrieve import frame_numbers
from server.edges.dicomweb.targets import Target
from server.errors import ImageShareError, MalformedQuery, NotAcceptable, NotFound
from server.records import catalogue
from server.records.catalogue import StoredInstance
from server.work.render import Viewport, Window, Wish

GIF: Final = "image/gif"
_OFFERED: Final = ("image/jpeg", "image/png", GIF)
_KNOWN: Final = frozenset({"accept", "annotation", "window", "viewport", "quality", "iccprofile"})
_PROFILES: Final = ("no", "yes", "srgb", "adobergb", "rommrgb", "displayp3")
_ANNOTATIONS: Final = frozenset({"patient", "technique"})
_NUMBER = r"-?\d{1,9}(?:\.\d{1,9})?"
_WINDOW = re.compile(rf"({_NUMBER}),({_NUMBER})(?:,([A-Za-z_-]+))?", re.ASCII)
_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "linear_exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_LARGEST = 8192
_THUMBNAIL = 128
_MOST_CINE: Final = 1000


@answering("read", RAD_107)
def rendered(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.3: what the URL names, rendered with the parameters of section 8.3.5.

    One image by itself, several frames as one GIF, or as multipart with one image each; a study or series is always multipart.
    """
    numbers = frame_numbers(request) if "frames" in request.path_params else None
    with context.reading(request) as connection:
        target = targets.located(request, connection)
        images = [instance for instance in target.instances if instance.frames]
        stored = catalogue.frame_table(connection, images[0].pk) if len(images) == 1 else None
    if not images:
        raise NotAcceptable("there are no pixels here that can be rendered")
    if "instance" not in request.path_params:
        form = accept.images(request, _OFFERED[:2], several=True)
        return _multipart(request, target, _wish(request, form.type), [(image, [1]) for image in images])
    (instance,) = images
    wanted = numbers or list(range(1, instance.frames + 1))
    if max(wanted) > instance.frames:
        raise NotFound(f"this instance has frames 1 to {instance.frames}")
    form = accept.images(request, _OFFERED if len(wanted) == 1 else (GIF, "image/jpeg", "image/png"))
    wish = _wish(request, form.type)
    if form.multipart:
        singly = [wanted] if wish.type == GIF else [[number] for number in wanted]
        return _multipart(request, target, wish, [(instance, each) for each in singly])
    if len(wanted) > (_MOST_CINE if wish.type == GIF else 1):
        raise NotAcceptable(
            f"several frames are rendered as {GIF} (at most {_MOST_CINE}) or as {accept.MULTIPART}, one by itself"
        )
    return _image(request, target, instance, wish, wanted, stored)


@answering("read", RAD_107)
def thumbnail(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.4: a small image for a study, series, instance or frame: the middle one that has pixels."""
    numbers = frame_numbers(request) if "frames" in request.path_params else None
    wish = _wish(request, accept.image(request, _OFFERED[:2]), Viewport(_THUMBNAIL, _THUMBNAIL))
    with context.reading(request) as connection:
        target = targets.located(request, connection)
        images = [instance for instance in target.instances if instance.frames]
        if not images:
            raise NotAcceptable("there are no pixels here that can be rendered")
        instance = images[len(images) // 2]
        stored = catalogue.frame_table(connection, instance.pk)
    numbers = numbers or [(instance.frames + 1) // 2]
    if max(numbers) > instance.frames:
        raise NotFound(f"this instance has frames 1 to {instance.frames}")
    return _image(request, Target([instance], target.study_id), instance, wish, numbers[:1], stored)


def _image(
    request: Request, target: Target, instance: StoredInstance, wish: Wish, numbers: list[int], stored: bytes | None
) -> Response:
    """One image, or 304 where the client has it: the ETag is of the content and all parameters."""
    key = wish.key(instance.blob_id, numbers)
    headers = {"ETag": f'"{key}"', "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    made = _made(request, instance, wish, numbers, stored, lambda: targets.told(request, target))
    return Response(made, headers=headers, media_type=wish.type)


def _made(
    request: Request,
    instance: StoredInstance,
    wish: Wish,
    numbers: list[int],
    stored: bytes | None,
    meanwhile: Callable[[], object] = lambda: None,
) -> bytes:
    """The image; `meanwhile` is done while it is made, such as putting the retrieval into the trail, and has to succeed."""
    renderer = context.renderer(request)
    key = wish.key(instance.blob_id, numbers)
    if (found := renderer.found(key)) is not None:
        meanwhile()
        return found
    table = FrameTable.from_bytes(stored) if stored is not None else None
    with (
        context.node(request).blobs.open(instance.blob_id) as file,
        renderer.rendering(file, wish, numbers, table, instance.blob_id) as image,
    ):
        meanwhile()
        return renderer.keep(key, image())


def _multipart(request: Request, target: Target, wish: Wish, wanted: list[tuple[StoredInstance, list[int]]]) -> Response:
    """PS3.18 section 8.7.4: an image a part. Raises as the first image does; others that cannot be rendered are left out."""
    boundary = secrets.token_hex(16)

    def part(instance: StoredInstance, numbers: list[int]) -> bytes:
        with context.node(request).database.read() as connection:
            stored = catalogue.frame_table(connection, instance.pk)
        image = _made(request, instance, wish, numbers, stored)
        url = targets.url(request, instance)
        if instance.frames > 1:
            url += f"/frames/{','.join(map(str, numbers))}"
        headers = {"Content-Type": wish.type, "Content-Location": f"{url}/rendered"}
        return multipart.opening(boundary, headers) + image + multipart.CRLF

    def parts(first: bytes) -> Iterator[bytes]:
        yield first
        for instance, numbers in wanted[1:]:
            try:
                yield part(instance, numbers)
            except ImageShareError:
                continue
        yield multipart.closing(boundary)

    first = part(*wanted[0])
    targets.told(request, target)
    headers = {"Content-Type": multipart.content_type(boundary, wish.type), "Vary": "Accept, Authorization"}
    return Response(headers=headers) if request.method == "HEAD" else StreamingResponse(parts(first), headers=headers)


def _wish(request: Request, type_: str, viewport: Viewport | None = None) -> Wish:
    """PS3.18 section 8.3.5.1. Raises `MalformedQuery` for what is unknown or out of range."""
    parameters = request.query_params
    for name in parameters:
        if name not in _KNOWN:
            raise MalformedQuery(f"rendered images take the parameters {', '.join(sorted(_KNOWN))}")
    profile = parameters.get("iccprofile", "no")
    if profile not in _PROFILES:
        raise MalformedQuery(f"iccprofile is one of {', '.join(_PROFILES)} (PS3.18 section 8.3.5.1.5)")
    quality = parameters.get("quality", "90")
    if not (quality.isascii() and quality.isdecimal() and len(quality) <= 3 and 1 <= int(quality) <= 100):
        raise MalformedQuery("quality is a number from 1 to 100 (PS3.18 section 8.3.5.1.2)")
    annotation = frozenset(parameters["annotation"].split(",")) if "annotation" in parameters else frozenset[str]()
    if not annotation <= _ANNOTATIONS:
        raise MalformedQuery("annotation is patient, technique, or both joined by a comma (PS3.18 section 8.3.5.1.1)")
    return Wish(
        type_, _window(parameters.get("window")), _viewport(parameters.get("viewport")) or viewport, int(quality),
        tuple(sorted(annotation)), profile,
    )  # fmt: skip


def _window(text: str | None) -> Window | None:
    if text is None:
        return None
    found = _WINDOW.fullmatch(text)
    function = _FUNCTIONS.get((found[3] or "linear").lower()) if found else None
    if not found or function is None:
        raise MalformedQuery("window is center,width,function with linear, linear-exact or sigmoid (PS3.18 section 8.3.5.1.4)")
    center, width = float(found[1]), float(found[2])
    if width <= 0 or (width < 1 and function == "LINEAR"):
        raise MalformedQuery("the width of a window is at least 1, and above 0 unless it is linear (PS3.3 section C.11.2.1.2)")
    return Window(center, width, function)


def _viewport(text: str | None) -> Viewport | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (2, 6) or not all(
        re.fullmatch(_NUMBER, part, re.ASCII) or (not part and at > 1) for at, part in enumerate(parts)
    ):
        raise MalformedQuery("viewport is width,height or width,height,x,y,width,height (PS3.18 section 8.3.5.1.3)")
    width, height = float(parts[0]), float(parts[1])
    if not (1 <= width <= _LARGEST and 1 <= height <= _LARGEST):
        raise MalformedQuery(f"a viewport is 1 to {_LARGEST} pixels wide and high")
    source = tuple(float(part) if part else None for part in parts[2:]) or (None, None, None, None)
    return Viewport(int(width), int(height), *source)
