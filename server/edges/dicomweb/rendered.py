"""WADO-RS rendered images (PS3.18 sections 10.4.1.1.3 and 10.4.1.1.4): one frame as JPEG or PNG."""

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import RAD_107
from profiles.frames import FrameTable
from server.edges import context
from server.edges.dicomweb import accept, targets
from server.edges.dicomweb.answers import answering
from server.edges.dicomweb.retrieve import frame_numbers
from server.edges.dicomweb.targets import Target
from server.errors import MalformedQuery, NotAcceptable, NotFound
from server.records import catalogue
from server.work.render import Renderer, Viewport, Window, Wish

_OFFERED: Final = ("image/jpeg", "image/png")
_KNOWN: Final = frozenset({"accept", "window", "viewport", "quality", "iccprofile"})
_NUMBER = r"-?\d{1,9}(?:\.\d{1,9})?"
_WINDOW = re.compile(rf"({_NUMBER}),({_NUMBER})(?:,([A-Za-z_-]+))?", re.ASCII)
_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "linear_exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_LARGEST = 8192
_THUMBNAIL = 128


@answering("read", RAD_107)
def rendered(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.3: an instance with one frame, or one frame, rendered with the parameters of section 8.3.5."""
    return _rendered(request, _wish(request))


@answering("read", RAD_107)
def thumbnail(request: Request) -> Response:
    """PS3.18 section 10.4.1.1.4: a small image for a study, series, instance or frame: the middle one that has pixels."""
    wish = _wish(request)
    return _rendered(
        request, Wish(wish.type, wish.window, wish.viewport or Viewport(_THUMBNAIL, _THUMBNAIL), wish.quality), middle=True
    )


def _rendered(request: Request, wish: Wish, *, middle: bool = False) -> Response:
    node = context.node(request)
    number = _number(request)
    with node.database.read() as connection:
        target = targets.located(request, connection)
        images = [instance for instance in target.instances if instance.frames]
        if not images:
            raise NotAcceptable("there are no pixels here that can be rendered")
        instance = images[len(images) // 2]
        stored = catalogue.frame_table(connection, instance.pk)
    if number is None:
        if instance.frames > 1 and not middle:
            raise NotAcceptable("this instance has several frames: one is rendered under frames/{number}/rendered")
        number = (instance.frames + 1) // 2
    if number > instance.frames:
        raise NotFound(f"this instance has frames 1 to {instance.frames}")
    targets.told(request, Target([instance], target.study_id))
    renderer: Renderer = request.app.state.renderer
    table = FrameTable.from_bytes(stored) if stored is not None else None
    with node.blobs.open(instance.blob_id) as file:
        image = renderer.render(file, wish, number, table)
    return Response(image, headers={"Vary": "Accept, Authorization"}, media_type=wish.type)


def _number(request: Request) -> int | None:
    if "frames" not in request.path_params:
        return None
    numbers = frame_numbers(request)
    if len(numbers) != 1:
        raise NotAcceptable("one frame is rendered at a time: frames/{number}/rendered")
    return numbers[0]


def _wish(request: Request) -> Wish:
    """PS3.18 section 8.3.5.1. Raises `MalformedQuery` for what is unknown or out of range."""
    parameters = request.query_params
    for name in parameters:
        if name not in _KNOWN:
            raise MalformedQuery(f"rendered images take the parameters {', '.join(sorted(_KNOWN))}")
    if parameters.get("iccprofile", "no") != "no":
        raise MalformedQuery("rendered images have no ICC profile here: iccprofile=no")
    quality = parameters.get("quality", "90")
    if not (quality.isascii() and quality.isdecimal() and len(quality) <= 3 and 1 <= int(quality) <= 100):
        raise MalformedQuery("quality is a number from 1 to 100 (PS3.18 section 8.3.5.1.2)")
    return Wish(
        accept.image(request, _OFFERED), _window(parameters.get("window")), _viewport(parameters.get("viewport")), int(quality)
    )


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
