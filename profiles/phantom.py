"""A generated CT study to look at: a thorax of ellipsoids in the manner of Shepp and Logan, in three series.

For demonstrations, tests and benchmarks, where real patients' images have no place. Everything is an argument or follows from
the seed: two calls with the same arguments give the same bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from profiles.vocabulary import IMPLEMENTATION_CLASS_UID

FIELD_OF_VIEW: Final = 400.0
HEIGHT: Final = 300.0
_PROTOCOL: Final = "THORAX PHANTOM"

# Hounsfield units
_AIR, _SKIN, _FAT, _MUSCLE, _LUNG, _BLOOD, _HEART, _LIVER, _SPLEEN, _CORTEX, _MARROW, _TABLE = (
    -1000, 20, -95, 55, -850, 230, 150, 115, 125, 650, 230, -350,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Ellipsoid:
    """Centre and half axes in mm: x to the patient's left, y to the back, z to the head; turned by `angle` degrees about z."""

    x: float
    y: float
    z: float
    a: float
    b: float
    c: float
    value: int
    angle: float = 0.0


_ORGANS: Final = (
    _Ellipsoid(-72, -4, 22, 60, 86, 120, _LUNG, 4),
    _Ellipsoid(74, -2, 22, 57, 84, 120, _LUNG, -4),
    _Ellipsoid(-64, -8, -112, 84, 82, 70, _LIVER, 6),
    _Ellipsoid(92, 34, -122, 34, 46, 44, _SPLEEN, -18),
    _Ellipsoid(40, -28, -126, 40, 44, 30, 35),
    _Ellipsoid(34, -30, -120, 26, 30, 18, -900),
    _Ellipsoid(26, -30, -22, 60, 50, 56, _HEART, -34),
    _Ellipsoid(38, -26, -24, 34, 22, 40, _BLOOD, -34),
    _Ellipsoid(2, -44, -16, 21, 18, 34, _BLOOD - 25, -20),
    _Ellipsoid(8, 6, -6, 26, 14, 22, _BLOOD - 10, 0),
    _Ellipsoid(-52, -12, 62, 8, 8, 8, 40),
)


def ct_volume(slices: int = 40, size: int = 512, seed: int = 7) -> NDArray[np.int16]:
    """Hounsfield units, shape `(slices, size, size)`: z from feet to head, y from front to back, x from right to left.

    400 mm square and 300 mm high, without noise. `seed` places the vessels and the nodules.
    """
    volume = np.full((slices, size, size), _AIR, dtype=np.int16)
    vessels = _Vessels(seed)
    heights = _heights(slices)
    axis = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32) * np.float32(FIELD_OF_VIEW)
    rows = _Plane.span(axis, 22.5, 142.5)
    plane = _Plane(axis, axis[rows])
    for index, z in enumerate(heights):
        _fill(volume[index, rows], plane, float(z), vessels)
    return volume


def phantom_study(
    slices: int = 40,
    size: int = 512,
    seed: int = 7,
    *,
    patient_name: str = "Phantom^Thea",
    patient_id: str = "PHANTOM-1",
    issuer: str = "",
    birth_date: str = "19600229",
    sex: str = "F",
    accession_number: str = "CT-2026-0001",
    uid_root: str = "2.25.314159265358979",
    date: str = "20260105",
    time: str = "093000",
    timezone: str = "+0000",
) -> Iterator[Dataset]:
    """PS3.3 section A.3: one CT study as data sets with File Meta Information, Explicit VR Little Endian, 16 bit.

    Three series: axial with a soft kernel (`slices` images), axial with a lung kernel, half as thick (`2 * slices`), and coronal
    (`slices` images), each `size` x `size`. UIDs are `uid_root`, the seed and counters: another study needs another root.
    `date` is DA, `time` is TM. Raises `ValueError` for a root that leaves no room for the counters.
    """
    if len(uid_root) > 40:
        raise ValueError("uid_root has at most 40 characters, so that its UIDs stay within 64 (PS3.5 section 9.1)")
    study = _Study(f"{uid_root}.{seed}", seed)
    common = _common(study, patient_name, patient_id, birth_date, sex, accession_number, date, time, timezone)
    if issuer:
        common.IssuerOfPatientID = issuer
    fine = ct_volume(2 * slices, size, seed)
    thickness = HEIGHT / slices
    spacing = FIELD_OF_VIEW / size
    soft = (fine[0::2].astype(np.int32) + fine[1::2]) // 2
    origin = -FIELD_OF_VIEW / 2 + spacing / 2
    for number, z in enumerate(_heights(slices)):
        image = _Image(1, number, "Axial 40 soft tissue", "B40f", "40", "400", thickness, (origin, origin, float(z)), _AXIAL)
        yield _dataset(study, common, image, _noisy(soft[number], 9.0, study.noise(1, number)), (spacing, spacing))
    for number, z in enumerate(_heights(2 * slices)):
        image = _Image(2, number, "Axial 70 lung", "B70f", "-600", "1500", thickness / 2, (origin, origin, float(z)), _AXIAL)
        yield _dataset(study, common, image, _noisy(fine[number], 22.0, study.noise(2, number)), (spacing, spacing))
    top = HEIGHT / 2
    for number in range(slices):
        middle = int((number + 0.5) * size / slices)
        plane = _resampled(fine[::-1, middle, :], size)
        position = (origin, (middle + 0.5) * spacing - FIELD_OF_VIEW / 2, top)
        image = _Image(3, number, "Coronal 40 soft tissue", "B40f", "40", "400", FIELD_OF_VIEW / slices, position, _CORONAL)
        yield _dataset(study, common, image, _noisy(plane, 8.0, study.noise(3, number)), (HEIGHT / size, spacing))


_AXIAL: Final = (1, 0, 0, 0, 1, 0)
_CORONAL: Final = (1, 0, 0, 0, 0, -1)


@dataclass(frozen=True, slots=True)
class _Study:
    root: str
    seed: int

    def uid(self, *numbers: int) -> str:
        return ".".join((self.root, *(str(number) for number in numbers)))

    def noise(self, series: int, number: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, series, number))


@dataclass(frozen=True, slots=True)
class _Image:
    series: int
    number: int
    description: str
    kernel: str
    window_centre: str
    window_width: str
    thickness: float
    position: tuple[float, float, float]
    orientation: tuple[int, ...]


def _heights(slices: int) -> NDArray[np.float64]:
    return (np.arange(slices) + 0.5) / slices * HEIGHT - HEIGHT / 2


def _paint(image: NDArray[np.int16], plane: "_Plane", z: float, shape: _Ellipsoid, allowed: NDArray[np.bool_]) -> None:
    """Fills an ellipsoid's cut at height `z` where `allowed`; touches only the square around it."""
    rest = 1 - ((z - shape.z) / shape.c) ** 2
    if rest <= 0:
        return
    reach = max(shape.a, shape.b) * rest**0.5
    rows, columns = plane.span(plane.y, shape.y, reach), plane.span(plane.x, shape.x, reach)
    x, y = plane.x[columns][None, :] - np.float32(shape.x), plane.y[rows][:, None] - np.float32(shape.y)
    cosine, sine = np.float32(np.cos(np.radians(shape.angle))), np.float32(np.sin(np.radians(shape.angle)))
    u, v = (x * cosine + y * sine) / np.float32(shape.a), (y * cosine - x * sine) / np.float32(shape.b)
    image[rows, columns][(u * u + v * v <= rest) & allowed[rows, columns]] = shape.value


@dataclass(frozen=True, slots=True)
class _Plane:
    """Pixel centres in mm along a row (`x`) and down a column (`y`), both ascending."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]

    @staticmethod
    def span(axis: NDArray[np.float32], centre: float, reach: float) -> slice:
        first, last = np.searchsorted(axis, (centre - reach, centre + reach))
        return slice(int(first), int(last))


def _oval(x: NDArray[np.float32], y: NDArray[np.float32], a: float, b: float, power: float = 2.3) -> NDArray[np.float32]:
    """Distance from the centre as a part of the way to an oval's edge: 1 on it."""
    return np.asarray((np.abs(x / a) ** power + np.abs(y / b) ** power) ** (1 / power), dtype=np.float32)


def _fill(image: NDArray[np.int16], plane: _Plane, z: float, vessels: "_Vessels") -> None:
    """One axial image: the body from outside to inside, later parts over earlier ones."""
    x, y = plane.x[None, :], plane.y[:, None]
    shoulder = float(np.clip((z - 90) / 75, 0, 1)) ** 2
    width, depth = 172 * (1 - 0.30 * shoulder), 116 * (1 - 0.12 * shoulder)
    body = _oval(x, y, width, depth)
    image[np.abs(y - 142 - 0.0006 * x**2) < np.where(np.abs(x) < 185, 3, 0)] = _TABLE
    image[body <= 1] = _SKIN
    image[body <= 0.985] = _FAT
    image[body <= 0.93] = _MUSCLE
    image[(body <= 0.875) & (body > 0.862)] = _FAT
    ring = _oval(x, y - 2, width, depth)
    cavity = ring <= 0.79
    image[cavity] = _FAT + 20
    above = cavity & (_dome(x, y, z) > 0)
    for organ in _ORGANS:
        _paint(image, plane, z, organ, above if organ.value == _LUNG else cavity)
    lung = image == _LUNG
    for vessel in vessels.at(z):
        _paint(image, plane, z, vessel, lung)
    _great_vessels(image, x, y, z)
    _bones(image, x, y, z, ring, depth)


def _dome(x: NDArray[np.float32], y: NDArray[np.float32], z: float) -> NDArray[np.float32]:
    """How far above the diaphragm, in mm: two domes, the right one higher."""
    side = np.where(x < 0, 66.0, 78.0)
    centre = np.where(x < 0, -70.0, 72.0)
    height = -side + 42 - ((x - centre) / 62) ** 2 * 34 - (y / 80) ** 2 * 40
    return np.asarray(z - height, dtype=np.float32)


def _disc(x: NDArray[np.float32], y: NDArray[np.float32], cx: float, cy: float, a: float, b: float) -> NDArray[np.float32]:
    return np.asarray(((x - cx) / a) ** 2 + ((y - cy) / b) ** 2, dtype=np.float32)


def _great_vessels(image: NDArray[np.int16], x: NDArray[np.float32], y: NDArray[np.float32], z: float) -> None:
    """Aorta down the spine, its arch, the vena cava, trachea and bronchi, oesophagus."""
    image[_disc(x, y, 10, 40, 7, 6) <= 1] = 40
    if z < 62:
        image[_disc(x, y, 22, 46, 12.5, 12.5) <= 1] = _BLOOD + 20
    if 40 <= z < 66:
        along = np.clip((y + 30) / 76, 0, 1)
        image[(np.abs(x - (-6 + 28 * along)) < 13) & (y > -36) & (y < 52)] = _BLOOD + 20
    if -6 <= z < 50:
        image[_disc(x, y, -8, -30, 16, 15) <= 1] = _BLOOD + 20
    if z > -10:
        image[_disc(x, y, -30, -16, 9, 10) <= 1] = _BLOOD - 20
    if z >= 66:
        for cx, cy in ((-20, -22), (2, -26), (22, -14)):
            image[_disc(x, y, cx, cy, 6, 6) <= 1] = _BLOOD
    if z > 24:
        image[_disc(x, y, 0, 18, 11.5, 10.5) <= 1] = 45
        image[_disc(x, y, 0, 18, 9, 8.5) <= 1] = -990
    elif z > -8:
        for side in (-1, 1):
            bronchus = side * (6 + (24 - z) * 1.1)
            image[_disc(x, y, bronchus, 18, 9, 8) <= 1] = 45
            image[_disc(x, y, bronchus, 18, 6.5, 6) <= 1] = -990


def _bones(
    image: NDArray[np.int16], x: NDArray[np.float32], y: NDArray[np.float32], z: float, ring: NDArray[np.float32], depth: float
) -> None:
    """Ribs that run downwards to the front, sternum, spine with discs and canal, shoulder blades."""
    slope = z + 0.34 * (-y) + 0.06 * np.abs(x)
    phase = np.abs((slope / 27) % 1 - 0.5) * 27
    ribs = np.hypot((ring / 0.835 - 1) * 118, phase * 0.72)
    ribs = np.where((np.abs(x) > 16) & (np.abs(y) < depth * 0.86), ribs, 99)
    image[ribs < 5.2] = _CORTEX
    image[ribs < 3.2] = _MARROW
    if z > -60:
        sternum = _disc(x, y, 0, -depth * 0.835, 17 - 4 * np.cos(z / 9), 6.5)
        image[sternum <= 1] = _CORTEX - 250
        image[sternum <= 0.62] = _MARROW - 60
    level = (z / 24) % 1
    vertebra = _disc(x, y, 0, 68, 21, 17)
    if level < 0.2:
        image[vertebra <= 1] = 85
    else:
        image[vertebra <= 1] = _CORTEX - 80
        image[vertebra <= 0.80] = _MARROW - 20
        if level < 0.26 or level > 0.94:
            image[vertebra <= 0.9] = _CORTEX - 180
    arch = _disc(x, y, 0, 92, 19, 14)
    if level > 0.3:
        image[(arch <= 1) & (vertebra > 1)] = _CORTEX - 60
        image[(np.abs(x) < 4) & (y > 100) & (y < 113 - 4 * abs(level - 0.6))] = _CORTEX - 150
        transverse = (np.abs(y - 90 + 0.12 * np.abs(x)) < 5) & (np.abs(x) > 14) & (np.abs(x) < 38) & (level < 0.7)
        image[transverse] = _CORTEX - 220
    image[_disc(x, y, 0, 91, 10, 8) <= 1] = 30
    if z > 18:
        for side in (-1, 1):
            along = x * side - 96
            reach = 34 * float(np.clip((z - 18) / 60, 0.2, 1))
            off = np.abs(y - 66 + 0.36 * along + 0.004 * along**2)
            image[(off < 2.9) & (np.abs(along) < reach)] = _CORTEX - 150
            image[(off < 1.2) & (np.abs(along) < reach - 2)] = _MARROW + 40


class _Vessels:
    """Vessels of the lungs, as beads along branching paths from each hilum, and two nodules."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        found: list[_Ellipsoid] = []
        for side in (-1.0, 1.0):
            for _ in range(22):
                _branch(found, generator, np.array([side * 32.0, 8.0, 4.0]), _direction(generator, side), 4.4, 0)
        for x, y, z, radius in ((-92.0, 30.0, 30.0, 6.0), (84.0, -34.0, 48.0, 4.5)):
            found.append(_Ellipsoid(x, y, z, radius, radius, radius, 45))
        self._all = found
        self._z, self._reach = np.array([one.z for one in found]), np.array([one.c for one in found])

    def at(self, z: float) -> Iterator[_Ellipsoid]:
        """Those that the plane at height `z` cuts."""
        return (self._all[index] for index in np.flatnonzero(np.abs(self._z - z) < self._reach))


def _direction(generator: np.random.Generator, side: float) -> NDArray[np.float64]:
    raw = generator.normal(0, 1, 3) * np.array([0.5, 1.0, 1.2]) + np.array([side * 0.7, 0, 0.15])
    return np.asarray(raw / np.linalg.norm(raw))


def _branch(
    found: list[_Ellipsoid],
    generator: np.random.Generator,
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    radius: float,
    depth: int,
) -> None:
    at = start
    for _ in range(int(generator.integers(6, 11))):
        at = at + direction * max(radius, 1.1) * 1.5
        stretch = radius * (1 + 0.9 * np.abs(direction))
        found.append(_Ellipsoid(at[0], at[1], at[2], stretch[0], stretch[1], stretch[2], 20 + int(90 * radius / 5)))
        radius *= 0.955
    if depth < 4 and radius > 0.7:
        for _ in range(2):
            turned = direction + generator.normal(0, 0.4, 3)
            _branch(found, generator, at, turned / np.linalg.norm(turned), radius * 0.85, depth + 1)


def _resampled(plane: NDArray[np.int16], size: int) -> NDArray[np.int32]:
    """`plane` stretched to `size` rows, linearly."""
    rows = plane.shape[0]
    at = np.clip((np.arange(size) + 0.5) * rows / size - 0.5, 0, rows - 1)
    lower = at.astype(int)
    upper = np.minimum(lower + 1, rows - 1)
    part = (at - lower)[:, None]
    return np.asarray(np.rint(plane[lower] * (1 - part) + plane[upper] * part), dtype=np.int32)


def _noisy(plane: NDArray[np.int32] | NDArray[np.int16], sigma: float, generator: np.random.Generator) -> NDArray[np.uint16]:
    """The image as a scanner stores it: edges blurred by a pixel, quantum noise, HU plus 1024, 12 bits."""
    smooth: NDArray[np.floating] = plane.astype(np.float32)
    for axis in (0, 1):
        smooth = (np.roll(smooth, 1, axis) + 2 * smooth + np.roll(smooth, -1, axis)) / 4
    noise: NDArray[np.floating] = generator.standard_normal(plane.shape, dtype=np.float32)
    noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) * np.float32(sigma / 1.732)
    return np.asarray(np.clip(np.rint(smooth + noise) + 1024, 0, 4095), dtype=np.uint16)


def _common(
    study: _Study,
    name: str,
    patient_id: str,
    birth_date: str,
    sex: str,
    accession_number: str,
    date: str,
    time: str,
    timezone: str,
) -> Dataset:
    """The modules that all images share: Patient, General Study, Frame of Reference, General Equipment."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.InstanceCreationDate = dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = date
    dataset.InstanceCreationTime = dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = time
    dataset.SOPClassUID = CTImageStorage
    dataset.AccessionNumber = accession_number
    dataset.Modality = "CT"
    dataset.Manufacturer = "imageshare"
    dataset.ManufacturerModelName = "generated phantom"
    dataset.InstitutionName = "Phantom Hospital"
    dataset.ReferringPhysicianName = "Referrer^Ada"
    dataset.StationName = "PHANTOM"
    dataset.StudyDescription = "CT THORAX WITH CONTRAST (GENERATED PHANTOM)"
    dataset.TimezoneOffsetFromUTC = timezone
    dataset.PatientName = name
    dataset.PatientID = patient_id
    dataset.PatientBirthDate = birth_date
    dataset.PatientSex = sex
    dataset.BodyPartExamined = "CHEST"
    dataset.KVP = "120"
    dataset.ProtocolName = _PROTOCOL
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = study.uid(1)
    dataset.StudyID = "1"
    dataset.FrameOfReferenceUID = study.uid(2)
    dataset.PositionReferenceIndicator = ""
    return dataset


def _dataset(study: _Study, common: Dataset, image: _Image, pixels: NDArray[np.uint16], spacing: tuple[float, float]) -> Dataset:
    """PS3.3 section A.3: one CT Image, ready for `save_as`."""
    dataset = Dataset()
    dataset.update(common)
    axial = image.orientation == _AXIAL
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if axial else ["DERIVED", "SECONDARY", "REFORMATTED"]
    dataset.SOPInstanceUID = study.uid(1, image.series, image.number + 1)
    dataset.SeriesInstanceUID = study.uid(1, image.series)
    dataset.SeriesDescription = image.description
    dataset.SliceThickness = f"{image.thickness:.6g}"
    dataset.ConvolutionKernel = image.kernel
    dataset.SeriesNumber = image.series
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = image.number + 1
    dataset.ImagePositionPatient = [f"{value:.6g}" for value in image.position]
    dataset.ImageOrientationPatient = [str(value) for value in image.orientation]
    dataset.SliceLocation = f"{image.position[2] if axial else image.position[1]:.6g}"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelSpacing = [f"{value:.6g}" for value in spacing]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = image.window_centre, image.window_width
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "-1024", "1", "HU"
    dataset.add_new(0x7FE00010, "OW", pixels.astype("<u2").tobytes())
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta = meta
    return dataset
