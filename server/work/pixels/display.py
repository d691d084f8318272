"""From stored values to an image to look at (PS3.3 sections C.11.1, C.11.2, C.7.6.3.1). Runs in a process that may die.

Decoding, Modality LUT, VOI LUT or window, polarity, palettes to RGB, then viewport, annotation and colour space (PS3.18 section 8.3.5).
A viewport much smaller than the image has every n-th pixel windowed only.
"""

import contextlib
import io
import mmap
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.sequence import Sequence

from profiles import frames, part10, reencoding
from profiles.part10 import Part10
from profiles.pixel_description import PixelDescription, described
from profiles.transfer_syntaxes import NATIVE
from profiles.vocabulary import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN
from server.work.pixels import annotation, colour, decoding, greys
from server.work.pixels.greys import Greys
from server.work.pixels.pool import LARGEST_FRAME

_LONG: Final = (0x00281201, 0x00281202, 0x00281203, 0x00281221, 0x00281222, 0x00281223, 0x00282000, 0x00283006)
_LUTS: Final = (0x00283000, 0x00283010)
_LONGEST_LUT: Final = 4 << 20
_MOST_CINE: Final = 64 << 20
_MAPPED: Final = 1 << 20
_LITTLE: Final = frozenset(NATIVE) - {EXPLICIT_VR_BIG_ENDIAN}
_MOST_KNOWN: Final = 512
Pixels = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Known:
    """All that is needed of the header of a grey frame without tables: a few hundred bytes."""

    syntax: str
    shape: PixelDescription
    greys: Greys


_known: OrderedDict[tuple[str, int], _Known] = OrderedDict()
"""The frames shown last, by the name of the bytes and the frame's number: who moves the window asks for one frame again and again,
and to read its header takes longer than to show it.
"""


class Oversized(Exception):
    """A frame, or a series of them, beyond the limit."""


def render(file: BinaryIO, job: dict[str, Any]) -> bytes:
    """PS3.18 section 8.7.4: frames as one JPEG, PNG or GIF. Raises `Oversized`, and what the decoders raise.

    The job has `numbers` and, for each, `pieces` (offset and length of its bytes in the file; none for all), the `name` of the bytes
    (empty for none), and the fields of `server.work.render.Wish`.
    """
    as_it_is = job["type"] == "image/jpeg" and not job["viewport"] and not job["annotation"] and job["iccprofile"] == "no"
    if as_it_is and (known := _known.get(_name(job))) is not None:
        _known.move_to_end(_name(job))
        values, _ = _decoded(file, known.syntax, known.shape, job["pieces"][0])
        return _jpeg(greys.shown(values, known.greys, job["window"]), job)
    parsed = part10.parse(file)
    if parsed.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        plain = io.BytesIO()
        reencoding.inflate(parsed, file, plain)
        file, parsed = plain, part10.parse(plain)
        table = frames.table(parsed, file)
        job["pieces"], job["name"] = [table.ranges(number) if table else [] for number in job["numbers"]], ""
    _load(parsed.dataset, file)
    shape = described(parsed)  # before the first frame: display converts the raw elements that this looks at
    viewport = job["viewport"]
    if as_it_is:
        (number,), (pieces,) = job["numbers"], job["pieces"]
        pixels, grey = display_values(file, parsed, shape, number, pieces, job["window"], None)
        if grey is not None and grey.attributes is None and shape is not None and pieces and job["name"]:
            _remember(_name(job), _Known(parsed.transfer_syntax_uid, shape, grey))
        return _jpeg(pixels, job)
    images = []
    for number, pieces in zip(job["numbers"], job["pieces"], strict=True):
        pixels, _ = display_values(file, parsed, shape, number, pieces, job["window"], viewport)
        image = Image.fromarray(pixels)
        if viewport:
            image = _fitted(image, viewport, int(parsed.dataset.Columns), int(parsed.dataset.Rows))
        if job["annotation"]:
            image = annotation.burnt_in(image, parsed.dataset, job["annotation"], number)
        images.append(image)
        if len(images) * image.width * image.height * len(image.getbands()) > _MOST_CINE and len(job["numbers"]) > 1:
            raise Oversized
    return _encoded(images, parsed.dataset, job)


def _encoded(images: list[Image.Image], dataset: Dataset, job: dict[str, Any]) -> bytes:
    output = io.BytesIO()
    if job["type"] == "image/gif":
        images[0].save(output, "GIF", save_all=True, append_images=images[1:], duration=_duration(dataset), loop=0)
        return output.getvalue()
    image, profile = colour.profiled(images[0], dataset, job["iccprofile"])
    if job["type"] == "image/png":
        image.save(output, "PNG", compress_level=3, icc_profile=profile)
    elif profile is not None:
        image.save(output, "JPEG", quality=job["quality"], icc_profile=profile)
    else:
        return _jpeg(np.asarray(image), job)
    return output.getvalue()


def _jpeg(pixels: NDArray[np.uint8], job: dict[str, Any]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, level=job["quality"]))


def _duration(dataset: Dataset) -> int:
    """Milliseconds that a frame is shown (PS3.3 section C.7.6.5); ten frames a second where nothing is said. GIF counts in hundredths."""
    with contextlib.suppress(AttributeError, ValueError, TypeError, ZeroDivisionError):
        if "FrameTime" in dataset:
            return max(20, round(float(dataset.FrameTime)))
        return max(20, round(1000 / float(dataset.get("RecommendedDisplayFrameRate") or dataset.CineRate)))
    return 100


def display_values(
    file: BinaryIO,
    parsed: Part10,
    shape: PixelDescription | None,
    number: int,
    pieces: list[list[int]],
    window: dict[str, Any] | None,
    viewport: dict[str, Any] | None,
) -> tuple[NDArray[np.uint8], Greys | None]:
    """Frame `number` as 8-bit grey `(rows, columns)` or RGB `(rows, columns, 3)`; every n-th pixel where the viewport is small.

    Of grey ones, what it is displayed with beside.
    """
    dataset = parsed.dataset
    values, photometric = _float(file, parsed, number) if shape is None else _stored(file, parsed, shape, number, pieces)
    step = _step(values, viewport)
    values = values[::step, ::step]
    if photometric == "PALETTE COLOR":
        return _colour(apply_color_lut(values, dataset)), None
    if values.ndim == 3:
        if photometric.startswith("YBR_FULL"):
            values = colour.from_ybr(values)
        return _colour(values, bits=int(dataset.get("BitsStored") or 8)), None
    grey = greys.of_frame(dataset, number, photometric)
    return greys.shown(values, grey, window), grey


def _stored(file: BinaryIO, parsed: Part10, shape: PixelDescription, number: int, pieces: list[list[int]]) -> tuple[Pixels, str]:
    if shape.frame_length > LARGEST_FRAME:
        raise Oversized
    syntax = parsed.transfer_syntax_uid
    if pieces:
        return _decoded(file, syntax, shape, pieces)
    if shape.allocated != 1 or parsed.pixels is None or parsed.pixels.fragments is not None:
        raise decoding.Undecodable
    count = shape.rows * shape.columns  # frames of single bits follow each other without gaps (PS3.5 section 8.1.1)
    first, last = (number - 1) * count, number * count
    data = _at(file, parsed.pixels.offset + first // 8, (last + 7) // 8 - first // 8)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[first % 8 :][:count]
    return bits.reshape(shape.rows, shape.columns), shape.photometric


def _float(file: BinaryIO, parsed: Part10, number: int) -> tuple[Pixels, str]:
    """PS3.3 section C.7.6.24: Float or Double Float Pixel Data, native always."""
    dataset, pixels = parsed.dataset, parsed.pixels
    if pixels is None or pixels.fragments is not None:
        raise decoding.Undecodable
    width = 4 if pixels.tag == 0x7FE00008 else 8
    length = int(dataset.Rows) * int(dataset.Columns) * width
    if length > LARGEST_FRAME:
        raise Oversized
    data = _at(file, pixels.offset + (number - 1) * length, length)
    little = parsed.transfer_syntax_uid != "1.2.840.10008.1.2.2"
    values = np.frombuffer(data, f"{'<' if little else '>'}f{width}").reshape(int(dataset.Rows), int(dataset.Columns))
    return values, str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _decoded(file: BinaryIO, syntax: str, shape: PixelDescription, pieces: list[list[int]]) -> tuple[Pixels, str]:
    """As `decoding.decode`. A large frame that needs no decoder is mapped: it costs this process no memory of its own."""
    offset, length = pieces[0]
    plain = syntax in _LITTLE and shape.samples == 1 and len(pieces) == 1
    if not plain or length < _MAPPED or not isinstance(file, io.BufferedReader):
        return decoding.decode(b"".join(_at(file, *piece) for piece in pieces), syntax, shape)
    before = offset % mmap.ALLOCATIONGRANULARITY
    mapped = mmap.mmap(file.fileno(), before + length, prot=mmap.PROT_READ, offset=offset - before)
    return decoding.native(memoryview(mapped)[before:], shape), shape.photometric


def _name(job: dict[str, Any]) -> tuple[str, int]:
    return job["name"], job["numbers"][0]


def _remember(name: tuple[str, int], known: _Known) -> None:
    if len(_known) >= _MOST_KNOWN:
        _known.popitem(last=False)
    _known[name] = known


def _load(dataset: Dataset, file: BinaryIO) -> None:
    """Reads what `part10.parse` leaves in the file and display needs: palettes, tables, a colour profile."""
    for tag in _LONG:
        element = part10.stored(dataset, tag)
        if isinstance(element, RawDataElement) and element.value is None and 0 < element.length <= _LONGEST_LUT:
            file.seek(element.value_tell)
            dataset._dict[element.tag] = element._replace(value=file.read(element.length))
    for tag in _LUTS:
        element = part10.stored(dataset, tag)
        if element is not None and isinstance(element.value, Sequence):
            for item in element.value:
                _load(item, file)


def _step(values: Pixels, viewport: dict[str, Any] | None) -> int:
    """How many pixels may be taken as one: two and more are left for each pixel of the viewport."""
    if not viewport:
        return 1
    width, height = abs(viewport["source_width"] or values.shape[1]), abs(viewport["source_height"] or values.shape[0])
    return max(1, int(min(width / viewport["width"], height / viewport["height"]) / 2))


def _colour(values: Pixels, bits: int = 16) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values[..., :3])
    # Palettes of 16 bits that hold 8-bit values are common.
    shift = max(0, bits - 8) if values.max(initial=0) > 255 else 0
    return np.ascontiguousarray((values[..., :3] >> shift).astype(np.uint8))


def _fitted(image: Image.Image, viewport: dict[str, Any], columns: int, rows: int) -> Image.Image:
    """PS3.18 section 8.3.5.1.3: the source region, scaled to fit the viewport with its aspect ratio kept.

    The region is in pixels of the frame, `columns` by `rows`; `image` may have fewer.
    """
    left, top = viewport["source_x"] or 0, viewport["source_y"] or 0
    width, height = viewport["source_width"] or columns - left, viewport["source_height"] or rows - top
    across, down = image.width / columns, image.height / rows
    box = (
        round(max(0, left) * across),
        round(max(0, top) * down),
        round(min(columns, left + abs(width)) * across),
        round(min(rows, top + abs(height)) * down),
    )
    if box[2] > box[0] and box[3] > box[1]:
        image = image.crop(box)
    if width < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if height < 0:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    scale = min(viewport["width"] / image.width, viewport["height"] / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
