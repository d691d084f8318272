"""Grey frames as they are displayed (PS3.3 sections C.11.1 and C.11.2): Modality LUT, VOI LUT or window, polarity.

Values are looked up: what is displayed for each number is worked out once, not once a pixel. Runs in a process that may die.
"""

import contextlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi

_TRANSFORMS: Final = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
_WINDOWS: Final = ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction")
_OTHERS: Final = ("PresentationLUTShape", "PixelPaddingValue", "BitsStored", "BitsAllocated", "PixelRepresentation")
_BAND: Final = 1 << 17
Pixels = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Greys:
    """What one grey frame is displayed with. `attributes` has the tables of those that have some (PS3.3 sections C.11.1 and C.11.2)."""

    rescale: tuple[float, float] | None
    """Slope and intercept."""
    window: tuple[float, float, str] | None
    """Center, width and function of the frame's own first window."""
    padding: int | None
    inverse: bool
    attributes: Dataset | None

    def rescaled(self, values: Pixels) -> Pixels:
        """PS3.3 section C.11.1: stored values after the Modality LUT."""
        if self.attributes is not None:
            return np.asarray(apply_modality_lut(values, self.attributes))
        if self.rescale is None:
            return values
        slope, intercept = self.rescale
        found = values.astype(np.float64) * slope
        found += intercept
        return found


def of_frame(dataset: Dataset, number: int, photometric: str) -> Greys:
    """What frame `number` (from 1) of a parsed header is displayed with."""
    attributes = _attributes(dataset, number)
    rescale = None
    if not attributes.get("ModalityLUTSequence") and "RescaleSlope" in attributes and "RescaleIntercept" in attributes:
        rescale = float(attributes.RescaleSlope), float(attributes.RescaleIntercept)
    padding = attributes.get("PixelPaddingValue")
    return Greys(
        rescale=rescale,
        window=_own_window(attributes),
        padding=padding if isinstance(padding, int) else None,
        inverse=photometric == "MONOCHROME1" or attributes.get("PresentationLUTShape") == "INVERSE",
        attributes=attributes if attributes.get("ModalityLUTSequence") or attributes.get("VOILUTSequence") else None,
    )


def shown(stored: Pixels, greys: Greys, window: dict[str, Any] | None) -> NDArray[np.uint8]:
    """A frame's stored values as 8-bit grey. `window` has `center`, `width` and `function`; without it the frame's own is taken."""
    if stored.dtype.kind == "f" or not stored.size:
        return _shown(stored, stored, greys, window)
    low, high = int(stored.min()), int(stored.max())
    if high - low >= 1 << 16:
        return _shown(stored, stored, greys, window)
    steps = np.arange(low, high + 1).astype(stored.dtype)
    return _looked_up(stored, low, _shown(steps, stored, greys, window))


def _attributes(dataset: Dataset, number: int) -> Dataset:
    """What one frame is displayed with: top-level attributes, over them those of the functional groups (PS3.3 section C.7.6.16)."""
    found = Dataset()
    is_little = dataset.original_encoding[1]
    found.set_original_encoding(False, is_little is not False)  # of the entries of tables (OW)
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


def _own_window(attributes: Dataset) -> tuple[float, float, str] | None:
    with contextlib.suppress(AttributeError, ValueError, TypeError, IndexError):
        center, width = _first(attributes.WindowCenter), _first(attributes.WindowWidth) if "WindowWidth" in attributes else 0.0
        function = str(attributes.get("VOILUTFunction") or "LINEAR")
        if width >= 1 or (width > 0 and function != "LINEAR"):
            return center, width, function
    return None


def _looked_up(stored: Pixels, low: int, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`table[stored - low]`, some rows at a time: their indices stay in the processor's cache."""
    shown = np.empty(stored.shape, np.uint8)
    rows = max(1, _BAND // max(1, stored.shape[1]))
    for row in range(0, len(stored), rows):
        index = stored[row : row + rows]
        np.take(table, index if low == 0 else np.subtract(index, low, dtype=np.intp), out=shown[row : row + rows], mode="clip")
    return shown


def _shown(values: Pixels, stored: Pixels, greys: Greys, window: dict[str, Any] | None) -> NDArray[np.uint8]:
    """What is displayed for `values`, which are among `stored`, the whole frame."""
    rescaled = greys.rescaled(values)
    attributes = greys.attributes
    if window is None and attributes is not None and attributes.get("VOILUTSequence"):
        with contextlib.suppress(AttributeError, ValueError, NotImplementedError):
            top = (1 << int(attributes.VOILUTSequence[0].LUTDescriptor[2])) - 1
            return _polarity(np.asarray(apply_voi(rescaled, attributes), np.float32) * (255 / top), greys)
    center, width, function = _window(stored, greys, window)
    # double precision: some values are whole multiples of half a step
    rescaled = rescaled.astype(np.float32 if rescaled.size > _BAND else np.float64)
    if function == "SIGMOID":
        levels = 255 / (1 + np.exp(np.clip(-4 * (rescaled - center) / width, -80, 80)))
    elif function == "LINEAR_EXACT":
        levels = ((rescaled - center) / width + 0.5) * 255
    elif width <= 1:
        levels = np.where(rescaled > center - 0.5, 255.0, 0.0)
    else:
        levels = ((rescaled - (center - 0.5)) / (width - 1) + 0.5) * 255
    return _polarity(levels, greys)


def _polarity(levels: Pixels, greys: Greys) -> NDArray[np.uint8]:
    grey: NDArray[np.uint8] = np.clip(np.nan_to_num(np.rint(levels)), 0, 255).astype(np.uint8)
    if greys.inverse:
        np.subtract(255, grey, out=grey)
    return grey


def _window(stored: Pixels, greys: Greys, window: dict[str, Any] | None) -> tuple[float, float, str]:
    """The window asked for, the first of the frame's own, or all values from the least to the greatest, padding aside."""
    if window is not None:
        return window["center"], window["width"], window["function"]
    if greys.window is not None:
        return greys.window
    seen = greys.rescaled(stored if greys.padding is None else stored[stored != greys.padding])
    seen = seen[np.isfinite(seen)] if seen.dtype.kind == "f" else seen
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    return (low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT"


def _first(value: Any) -> float:
    return float(value if isinstance(value, int | float | str) else value[0])
