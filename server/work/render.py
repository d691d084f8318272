"""Rendering frames (PS3.3 section C.11.2, PS3.18 section 8.3.5): what is wanted, and the images that were made lately.

The work is done in processes that may die (`server.work.pixels`). An image is kept under its content and all parameters, so it
can be sent again as long as the access decision allows, which is made anew for each request.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import BinaryIO, Final

import orjson

from profiles.frames import FrameTable
from server.errors import TooLarge
from server.work.pixels.pool import LARGEST_FRAME, Pool

_MOST_FRAGMENTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Window:
    """PS3.3 section C.11.2.1.2: `function` is LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str


@dataclass(frozen=True, slots=True)
class Viewport:
    """PS3.18 section 8.3.5.1.3, in pixels: the image is scaled to fit; the source region may be flipped by negative sizes."""

    width: int
    height: int
    source_x: float | None = None
    source_y: float | None = None
    source_width: float | None = None
    source_height: float | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client wants: `type` is image/jpeg, image/png or image/gif, `quality` 1 to 100 for JPEG.

    `annotation` holds `patient` and `technique`; `iccprofile` is no, yes, srgb, adobergb, rommrgb or displayp3.
    """

    type: str
    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = 90
    annotation: tuple[str, ...] = ()
    iccprofile: str = "no"

    def key(self, blob_id: str, numbers: Sequence[int]) -> str:
        """32 hexadecimal digits that stand for this image of these frames of these bytes: blobs are written once."""
        named = orjson.dumps([blob_id, list(numbers), self])
        return hashlib.sha256(named).hexdigest()[:32]


_WISHED: Final = tuple(field.name for field in fields(Wish))


class Renderer:
    """Renders, and keeps at most `kept` bytes of images. Safe for threads."""

    def __init__(self, processes: int = 2, *, seconds: float = 20.0, kept: int = 16 << 20, pool: Pool | None = None) -> None:
        self.pool = pool or Pool(processes, seconds=seconds)
        self._images: OrderedDict[str, bytes] = OrderedDict()
        self._left = self._room = kept
        self._lock = threading.Lock()

    def close(self) -> None:
        """Ends the processes."""
        self.pool.close()

    def render(self, file: BinaryIO, wish: Wish, number: int, table: FrameTable | None) -> bytes:
        """As `cine`, for one frame."""
        return self.cine(file, wish, [number], table)

    def cine(self, file: BinaryIO, wish: Wish, numbers: Sequence[int], table: FrameTable | None, name: str = "") -> bytes:
        """PS3.18 section 8.7.4: frames `numbers` (from 1) of a Part 10 file as one image. `table` says where its frames are, if known.

        `name` stands for the file's bytes, if they never change: what was found in the header is remembered under it.
        Raises `NotAcceptable` for pixels that cannot be decoded, `TooLarge`, `Busy`, and `Unavailable` when decoding takes too long.
        """
        with self.rendering(file, wish, numbers, table, name) as image:
            return image()

    def rendering(
        self, file: BinaryIO, wish: Wish, numbers: Sequence[int], table: FrameTable | None, name: str = ""
    ) -> AbstractContextManager[Callable[[], bytes]]:
        """As `cine`, for who has something else to do meanwhile: what is given waits for the image, and is called once."""
        pieces = [table.ranges(number) if table is not None else [] for number in numbers]
        if (table is not None and _frame_length(table) > LARGEST_FRAME) or any(
            len(each) > _MOST_FRAGMENTS or sum(length for _, length in each) > LARGEST_FRAME for each in pieces
        ):
            raise TooLarge(f"a frame of more than {LARGEST_FRAME >> 20} MiB is not rendered")
        wanted = {field: getattr(wish, field) for field in _WISHED}
        return self.pool.asked(file, {"do": "render", "name": name, "numbers": list(numbers), "pieces": pieces, **wanted})

    def found(self, key: str) -> bytes | None:
        """The image that is kept under `key` (`Wish.key`)."""
        with self._lock:
            if (found := self._images.get(key)) is not None:
                self._images.move_to_end(key)
            return found

    def keep(self, key: str, made: bytes) -> bytes:
        """Keeps an image under `key`, and gives it back."""
        with self._lock:
            if key not in self._images and len(made) <= self._room // 4:
                self._images[key] = made
                self._left -= len(made)
                while self._left < 0:
                    _, dropped = self._images.popitem(last=False)
                    self._left += len(dropped)
        return made

    def kept(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The image under `key`, made where there is none."""
        found = self.found(key)
        return found if found is not None else self.keep(key, make())


def _frame_length(table: FrameTable) -> int:
    return table.rows * table.columns * table.samples_per_pixel * max(1, table.bits_allocated // 8)
