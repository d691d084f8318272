"""Colour spaces of rendered images (PS3.18 section 8.3.5.1.5, PS3.3 section C.11.15). Runs in a process that may die.

Profiles other than sRGB are built here from their published primaries, white point and gamma (ICC.1:2001 sections 6.4.1 and 6.4.20): a
matrix and a curve. Grey images have no profile: a display function is not a colour space.
"""

import io
import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from pydicom.dataset import Dataset

# Red, green and blue in XYZ relative to D50 (adapted by Bradford), and gamma.
_PRIMARIES: Final = {
    "adobergb": (((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 563 / 256),
    "rommrgb": (((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)), 1.8),
    "displayp3": (((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)), 2.2),
}
_D50: Final = (0.9642, 1.0, 0.8249)
_ICC_PROFILE: Final = 0x00282000


def profiled(image: Image.Image, dataset: Dataset, wanted: str) -> tuple[Image.Image, bytes | None]:
    """The image in the colour space asked for (no, yes, srgb, adobergb, rommrgb, displayp3) and the profile to embed."""
    if wanted == "no" or image.mode != "RGB":
        return image, None
    own = _own(dataset)
    if wanted == "yes":
        return image, own or _profile("srgb")
    goal = _profile(wanted)
    source = own or _profile("srgb")
    if source == goal:
        return image, goal
    converted = ImageCms.profileToProfile(
        image, io.BytesIO(source), io.BytesIO(goal), renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC
    )
    return converted or image, goal


def from_ybr(values: NDArray[Any]) -> NDArray[np.uint8]:
    """PS3.3 section C.7.6.3.1.2: YBR_FULL of 8 bits to RGB."""
    image = Image.frombytes("YCbCr", (values.shape[1], values.shape[0]), np.ascontiguousarray(values, np.uint8).tobytes())
    return np.asarray(image.convert("RGB"))


def _own(dataset: Dataset) -> bytes | None:
    """The instance's own profile, where it is one of RGB that can be read."""
    element: Any = dataset.get(_ICC_PROFILE)
    value = element.value if element is not None else None
    if not isinstance(value, bytes):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(value)).profile
    except (OSError, ImageCms.PyCMSError):
        return None
    return value if profile.xcolor_space.strip() == "RGB" else None


def _profile(name: str) -> bytes:
    if name == "srgb":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    primaries, gamma = _PRIMARIES[name]
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = name.encode("ascii") + b"\0"
    # textDescriptionType: the name, then empty Unicode and ScriptCode parts.
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    tags = {
        b"desc": described + bytes(-len(described) % 4),
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": _xyz(_D50),
        **dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, primaries), strict=True)),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for signature, data in tags.items():
        table += signature + struct.pack(">II", at + len(body), len(data))
        body += data
    head = bytearray(128)
    struct.pack_into(">I4sI4s4s4s", head, 0, at + len(body), b"\0" * 4, 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    struct.pack_into(">6H4s", head, 24, 2026, 1, 1, 0, 0, 0, b"acsp")
    head[68:80] = _xyz(_D50)[8:]
    return bytes(head) + table + body


def _xyz(value: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(part * 65536) for part in value))
