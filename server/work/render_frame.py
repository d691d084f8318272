"""The process that decodes: takes an open file and a job over its socket, answers with an image (see `server.work.render`).

From stored values to display values: decoding, Modality LUT, VOI LUT or window, polarity (PS3.3 sections C.11.1, C.11.2,
C.7.6.3.1.2), palettes to RGB (C.7.6.3.1.5).
"""

import contextlib
import io
import os
import resource
import socket
import sys
import warnings
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

from server.work import render_jpeg_extended
from server.work.render import ANSWER, DONE, LARGEST_FRAME, OVERSIZED, REQUEST, UNDECODABLE

_MEMORY = 4 << 30
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_TRANSFORMS = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
_WINDOWS = ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction")
Pixels = NDArray[Any]


class Oversized(Exception):
    """A frame beyond the limit."""


def main() -> None:
    """Serves jobs from the socket whose descriptor is the first argument, until it closes."""
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(limit, (value, value))
    warnings.simplefilter("ignore")
    config.settings.reading_validation_mode = config.IGNORE
    render_jpeg_extended.install()
    Image.MAX_IMAGE_PIXELS = None  # frames are measured before they are decoded
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        while True:
            head, descriptors, _, _ = socket.recv_fds(connection, REQUEST.size, 1, socket.MSG_WAITALL)
            if len(head) < REQUEST.size:
                return
            (length,) = REQUEST.unpack(head)
            job = orjson.loads(_exactly(connection, length))
            status, image = DONE, b""
            try:
                with os.fdopen(descriptors[0], "rb") as file:
                    image = render(file, job)
            except Oversized:
                status = OVERSIZED
            except Exception:  # noqa: BLE001 decoders raise anything; what they say may quote the file
                status = UNDECODABLE
            connection.sendall(ANSWER.pack(status, len(image)) + image)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise SystemExit
        data += piece
    return data


def render(file: BinaryIO, job: dict[str, Any]) -> bytes:
    """One frame as JPEG or PNG. Raises `Oversized`, or what the decoders raise."""
    pixels = display_values(file, job["number"], job["pieces"], encapsulated=job["encapsulated"], window=job["window"])
    image = Image.fromarray(pixels)
    if job["viewport"]:
        image = _fitted(image, job["viewport"])
    output = io.BytesIO()
    if job["type"] == "image/png":
        image.save(output, "PNG", compress_level=3)
    else:
        image.save(output, "JPEG", quality=job["quality"])
    return output.getvalue()


def display_values(
    file: BinaryIO, number: int, pieces: list[list[int]], *, encapsulated: bool, window: dict[str, Any] | None
) -> NDArray[np.uint8]:
    """Frame `number` as 8-bit grey `(rows, columns)` or RGB `(rows, columns, 3)`.

    `pieces` are offset and length of the frame's bytes in the file; none: the whole file is read.
    """
    file.seek(0)
    dataset = dcmread(file, stop_before_pixels=True)
    bits = int(dataset.get("BitsAllocated") or 64)
    _check_size(dataset, bits)
    if pieces and bits < 32 and dataset.file_meta.TransferSyntaxUID != _BIG_ENDIAN:
        data = b"".join(_read(file, offset, length) for offset, length in pieces)
        dataset.PixelData = encapsulate([data]) if encapsulated else data + b"\0" * (len(data) % 2)
        dataset["PixelData"].VR = "OB" if encapsulated or bits <= 8 else "OW"
        dataset["PixelData"].is_undefined_length = encapsulated
        dataset.NumberOfFrames = 1
        index = 0
    else:
        file.seek(0)
        dataset = dcmread(file)
        index = number - 1
    values, told = get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset, index=index)
    photometric = str(told["photometric_interpretation"])
    if photometric == "PALETTE COLOR":
        return _colour(apply_color_lut(values, dataset))
    if values.ndim == 3:
        return _colour(values, bits=int(dataset.get("BitsStored") or bits))
    return _grey(values, _of_frame(dataset, number), window, inverse=photometric == "MONOCHROME1")


def _check_size(dataset: Dataset, bits: int) -> None:
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if int(dataset.Rows) * int(dataset.Columns) * samples * max(1, bits // 8) > LARGEST_FRAME:
        raise Oversized


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _of_frame(dataset: Dataset, number: int) -> Dataset:
    """What one frame is displayed with: top-level attributes, over them those of the functional groups (PS3.3 section C.7.6.16)."""
    found = Dataset()
    for name in (
        *_TRANSFORMS,
        *_WINDOWS,
        "PresentationLUTShape",
        "PixelPaddingValue",
        "BitsStored",
        "BitsAllocated",
        "PixelRepresentation",
    ):
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
    values = np.asarray(apply_modality_lut(stored, attributes))
    if window is None and attributes.get("VOILUTSequence"):
        with contextlib.suppress(AttributeError, ValueError, NotImplementedError):
            top = (1 << int(attributes.VOILUTSequence[0].LUTDescriptor[2])) - 1
            return _polarity(np.asarray(apply_voi(values, attributes), np.float32) * (255 / top), attributes, inverse=inverse)
    center, width, function = _window(values, stored, attributes, window)
    values = values.astype(np.float32)
    if function == "SIGMOID":
        shown = 255 / (1 + np.exp(np.clip(-4 * (values - center) / width, -80, 80)))
    elif function == "LINEAR_EXACT":
        shown = ((values - center) / width + 0.5) * 255
    elif width <= 1:
        shown = np.where(values > center - 0.5, 255.0, 0.0)
    else:
        shown = ((values - (center - 0.5)) / (width - 1) + 0.5) * 255
    return _polarity(shown, attributes, inverse=inverse)


def _polarity(shown: Pixels, attributes: Dataset, *, inverse: bool) -> NDArray[np.uint8]:
    grey: NDArray[np.uint8] = np.clip(np.nan_to_num(np.rint(shown)), 0, 255).astype(np.uint8)
    if inverse or attributes.get("PresentationLUTShape") == "INVERSE":
        np.subtract(255, grey, out=grey)
    return grey


def _window(values: Pixels, stored: Pixels, attributes: Dataset, window: dict[str, Any] | None) -> tuple[float, float, str]:
    """The window asked for, the first of the frame's own, or all values from the least to the greatest, padding aside."""
    if window is not None:
        return window["center"], window["width"], window["function"]
    with contextlib.suppress(AttributeError, ValueError, TypeError, IndexError):
        center, width = _first(attributes.WindowCenter), _first(attributes.WindowWidth) if "WindowWidth" in attributes else 0.0
        function = str(attributes.get("VOILUTFunction") or "LINEAR")
        if width >= 1 or (width > 0 and function != "LINEAR"):
            return center, width, function
    padding = attributes.get("PixelPaddingValue")
    seen = values[stored != padding] if isinstance(padding, int) else values
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


def _fitted(image: Image.Image, viewport: dict[str, Any]) -> Image.Image:
    """PS3.18 section 8.3.5.1.3: the source region, scaled to fit the viewport with its aspect ratio kept."""
    left, top = viewport["source_x"] or 0, viewport["source_y"] or 0
    width, height = viewport["source_width"] or image.width - left, viewport["source_height"] or image.height - top
    box = tuple(
        round(part)
        for part in (max(0, left), max(0, top), min(image.width, left + abs(width)), min(image.height, top + abs(height)))
    )
    if box[2] > box[0] and box[3] > box[1]:
        image = image.crop((box[0], box[1], box[2], box[3]))
    if width < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if height < 0:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    scale = min(viewport["width"] / image.width, viewport["height"] / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
