"""What the numbers of an image mean (PS3.3 section C.7.6.3, Image Pixel), read from a parsed file."""

from dataclasses import dataclass, replace
from typing import Final

from profiles import frames, part10
from profiles.part10 import Part10
from profiles.vocabulary import EXPLICIT_VR_BIG_ENDIAN

PIXEL_DATA: Final = 0x7FE00010


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """One image's pixels: sizes in pixels and bits; `planar` is True where the samples of a colour are planes of their own."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    planar: bool
    photometric: str
    frames: int
    word: int = 1
    """Bytes of the numbers whose order must be turned around to have little endian; 1 where none are."""

    @property
    def frame_length(self) -> int:
        """Bytes of one native frame of whole bytes; of one of single bits, rounded up."""
        return (self.rows * self.columns * self.samples * self.allocated + 7) // 8

    @property
    def is_integer(self) -> bool:
        """Whether the pixels are whole numbers in whole bytes: what compression takes."""
        return self.allocated in (8, 16, 32) and self.rows > 0 and self.columns > 0 and self.samples in (1, 3)

    def interleaved(self, photometric: str) -> "PixelDescription":
        """The same image colour by pixel, in another photometric interpretation."""
        return replace(self, planar=False, photometric=photometric)


def described(parsed: Part10) -> PixelDescription | None:
    """PS3.3 section C.7.6.3: the description of a file's pixels; None where it has none or they are floating point numbers."""
    if parsed.pixels is None or parsed.pixels.tag != PIXEL_DATA:
        return None
    allocated = frames.number(parsed, 0x00280100)
    element = part10.stored(parsed.dataset, PIXEL_DATA)
    big = parsed.transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN
    word = max(2 if element is not None and element.VR == "OW" else 1, allocated // 8)
    return PixelDescription(
        rows=frames.number(parsed, 0x00280010),
        columns=frames.number(parsed, 0x00280011),
        samples=frames.number(parsed, 0x00280002) or 1,
        allocated=allocated,
        stored=frames.number(parsed, 0x00280101) or allocated,
        signed=frames.number(parsed, 0x00280103) == 1,
        planar=frames.number(parsed, 0x00280006) == 1,
        photometric=frames.text(parsed, 0x00280004),
        frames=max(1, frames.number(parsed, 0x00280008) or 1),
        word=word if big and word in (2, 4, 8) else 1,
    )
