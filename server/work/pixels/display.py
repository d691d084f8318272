"""From stored values to an image to look at (PS3.3 sections C.11.1, C.11.2, C.7.6.3.1). Runs in a process that may die.

Decoding, Modality LUT, VOI LUT or window, polarity, palettes to RGB, then viewport, annotation and colour space (PS3.18 section 8.3.5).
Grey values are looked up: what is displayed for each number is worked out once, not once a pixel. A viewport much smaller than the
image has every n-th pixel windowed only.
"""

import contextlib
import io
from typing import Any, BinaryIO, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.sequence import Sequence

from profiles import frames, part10, reencoding
from profiles.part10 import Part10
from profiles.pixel_description import PixelDescription, described
from profiles.vocabulary import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
from server.work.pixels import annotation, colour, decoding
from server.work.pixels.pool import LARGEST_FRAME

_TRANSFORMS: Final = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
_WINDOWS: Final = ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction")
_OTHERS: Final = ("PresentationLUTShape", "PixelPaddingValue", "BitsStored", "BitsAllocated", "PixelRepresentation")
_LONG: Final = (0x00281201, 0x00281202, 0x00281203, 0x00281221, 0x00281222, 0x00281223, 0x00282000, 0x00283006)
_LUTS: Final = (0x00283000, 0x00283010)
_LONGEST_LUT: Final = 4 << 20
_BAND: Final = 1 << 17
_MOST_CINE: Final = 64 << 20
Pixels = NDArray[Any]


class Oversized(Exception):
    """A frame, or a series of them, beyond the limit."""


def render(file: BinaryIO, job: dict[str, Any]) -> bytes:
    """PS3.18 section 8.7.4: frames as one JPEG, PNG or GIF. Raises `Oversized`, and what the decoders raise.

    The job has `numbers` and, for each, `pieces` (offset and length of its bytes in the file; none for all), and the fields of
    `server.work.render.Wish`.
    """
    parsed = part10.parse(file)
    if parsed.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        plain = io.BytesIO()
        reencoding.inflate(parsed, file, plain)
        file, parsed = plain, part10.parse(plain)
        table = frames.table(parsed, file)
        job["pieces"] = [table.ranges(number) if table else [] for number in job["numbers"]]
    _load(parsed.dataset, file)
    shape = described(parsed)  # before the first frame: display converts the raw elements that this looks at
    viewport = job["viewport"]
    if job["type"] == "image/jpeg" and not viewport and not job["annotation"] and job["iccprofile"] == "no":
        (number,), (pieces,) = job["numbers"], job["pieces"]
        pixels = display_values(file, parsed, shape, number, pieces, job["window"], None)
        return bytes(imagecodecs.jpeg8_encode(pixels, level=job["quality"]))
    images = []
    for number, pieces in zip(job["numbers"], job["pieces"], strict=True):
        pixels = display_values(file, parsed, shape, number, pieces, job["window"], viewport)
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
        return bytes(imagecodecs.jpeg8_encode(np.asarray(image), level=job["quality"]))
    return output.getvalue()


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
) -> NDArray[np.uint8]:
    """Frame `number` as 8-bit grey `(rows, columns)` or RGB `(rows, columns, 3)`; every n-th pixel where the viewport is small."""
    dataset = parsed.dataset
    values, photometric = _float(file, parsed, number) if shape is None else _stored(file, parsed, shape, number, pieces)
    step = _step(values, viewport)
    values = values[::step, ::step]
    if photometric == "PALETTE COLOR":
        return _colour(apply_color_lut(values, dataset))
    if values.ndim == 3:
        if photometric.startswith("YBR_FULL"):
            values = colour.from_ybr(values)
        return _colour(values, bits=int(dataset.get("BitsStored") or 8))
    return _grey(values, _of_frame(dataset, number), window, inverse=photometric == "MONOCHROME1")


def _stored(file: BinaryIO, parsed: Part10, shape: PixelDescription, number: int, pieces: list[list[int]]) -> tuple[Pixels, str]:
    if shape.frame_length > LARGEST_FRAME:
        raise Oversized
    syntax = parsed.transfer_syntax_uid
    if pieces:
        return decoding.decode(_joined([_at(file, offset, length) for offset, length in pieces]), syntax, shape)
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


def _joined(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


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


def _of_frame(dataset: Dataset, number: int) -> Dataset:
    """What one frame is displayed with: top-level attributes, over them those of the functional groups (PS3.3 section C.7.6.16)."""
    found = Dataset()
    for name in (*_TRANSFORMS, *_WINDOWS, *_OTHERS):
        if name in dataset:
            found[name] = dataset[name]
    groups = list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    groups += list(dataset.get("PerFrameFunctionalGroupsSequence") or [])[number - 1 : number]
    for group in groups:
        for macro, names in (("PixelValueTransformationSequence", _TRANSFORMS), ("FrameVOILUTSequence", _WINDOWS)):
            for item in list(group.get(macro) or [])[:1]:
                for name in names:
                    if name in item:
                        found[name] = item[name]
    return found


def _grey(stored: Pixels, attributes: Dataset, window: dict[str, Any] | None, *, inverse: bool) -> NDArray[np.uint8]:
    if stored.dtype.kind == "f" or not stored.size:
        return _shown(stored, stored, attributes, window, inverse=inverse)
    low, high = int(stored.min()), int(stored.max())
    if high - low >= 1 << 16:
        return _shown(stored, stored, attributes, window, inverse=inverse)
    steps = np.arange(low, high + 1).astype(stored.dtype)
    return _looked_up(stored, low, _shown(steps, stored, attributes, window, inverse=inverse))


def _looked_up(stored: Pixels, low: int, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`table[stored - low]`, some rows at a time: their indices stay in the processor's cache."""
    shown = np.empty(stored.shape, np.uint8)
    rows = max(1, _BAND // max(1, stored.shape[1]))
    for row in range(0, len(stored), rows):
        index = stored[row : row + rows]
        np.take(table, index if low == 0 else np.subtract(index, low, dtype=np.intp), out=shown[row : row + rows], mode="clip")
    return shown


def _shown(
    values: Pixels, stored: Pixels, attributes: Dataset, window: dict[str, Any] | None, *, inverse: bool
) -> NDArray[np.uint8]:
    """What is displayed for `values`, which are among `stored`, the whole frame."""
    rescaled = np.asarray(apply_modality_lut(values, attributes))
    if window is None and attributes.get("VOILUTSequence"):
        with contextlib.suppress(AttributeError, ValueError, NotImplementedError):
            top = (1 << int(attributes.VOILUTSequence[0].LUTDescriptor[2])) - 1
            return _polarity(np.asarray(apply_voi(rescaled, attributes), np.float32) * (255 / top), attributes, inverse=inverse)
    center, width, function = _window(stored, attributes, window)
    # double precision: some values are whole multiples of half a step
    rescaled = rescaled.astype(np.float32 if rescaled.size > _BAND else np.float64)
    if function == "SIGMOID":
        shown = 255 / (1 + np.exp(np.clip(-4 * (rescaled - center) / width, -80, 80)))
    elif function == "LINEAR_EXACT":
        shown = ((rescaled - center) / width + 0.5) * 255
    elif width <= 1:
        shown = np.where(rescaled > center - 0.5, 255.0, 0.0)
    else:
        shown = ((rescaled - (center - 0.5)) / (width - 1) + 0.5) * 255
    return _polarity(shown, attributes, inverse=inverse)


def _polarity(shown: Pixels, attributes: Dataset, *, inverse: bool) -> NDArray[np.uint8]:
    grey: NDArray[np.uint8] = np.clip(np.nan_to_num(np.rint(shown)), 0, 255).astype(np.uint8)
    if inverse or attributes.get("PresentationLUTShape") == "INVERSE":
        np.subtract(255, grey, out=grey)
    return grey


def _window(stored: Pixels, attributes: Dataset, window: dict[str, Any] | None) -> tuple[float, float, str]:
    """The window asked for, the first of the frame's own, or all values from the least to the greatest, padding aside."""
    if window is not None:
        return window["center"], window["width"], window["function"]
    with contextlib.suppress(AttributeError, ValueError, TypeError, IndexError):
        center, width = _first(attributes.WindowCenter), _first(attributes.WindowWidth) if "WindowWidth" in attributes else 0.0
        function = str(attributes.get("VOILUTFunction") or "LINEAR")
        if width >= 1 or (width > 0 and function != "LINEAR"):
            return center, width, function
    padding = attributes.get("PixelPaddingValue")
    seen = stored[stored != padding] if isinstance(padding, int) else stored
    seen = np.asarray(apply_modality_lut(seen, attributes))
    seen = seen[np.isfinite(seen)] if seen.dtype.kind == "f" else seen
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    return (low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT"


def _first(value: Any) -> float:
    return float(value if isinstance(value, int | float | str) else value[0])


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
