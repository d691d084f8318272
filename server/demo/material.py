"""What the demo sends: the real files that pydicom ships, the reader's own, and a generated CT.

Of every file it is known where its dataset begins, so that what comes back can be compared with it byte by byte.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import pydicom.data

from profiles import header, part10
from profiles.identifiers import AssigningAuthority, InvalidIdentifier
from profiles.phantom import phantom_study

_CHUNK = 1 << 20
# Only to tell one patient's files from another's before they are sent; the server has OIDs of its own.
_DOMAINS = header.PatientDomains("2.25.1", AssigningAuthority("2.25.1.1"), AssigningAuthority("2.25.1.2"))


@dataclass(frozen=True, slots=True)
class Image:
    """One file to send: what it is, and where its dataset begins after the File Meta Information."""

    path: Path
    patient: str = field(repr=False)
    study: str
    series: str
    sop_instance_uid: str
    transfer_syntax: str
    modality: str
    number: int
    has_pixels: bool
    size: int
    offset: int

    def same(self, received: BinaryIO) -> bool:
        """Whether `received`, a Part 10 file, has the same transfer syntax and the very same dataset bytes.

        Over an association a data set of odd length has a NUL at its end (PS3.5 section A.5, PS3.8 section 9.3.5.1).
        """
        theirs = part10.parse(received)
        if theirs.transfer_syntax_uid != self.transfer_syntax:
            return False
        received.seek(theirs.dataset_offset)
        with self.path.open("rb") as ours:
            ours.seek(self.offset)
            padding = b"\0" * ((self.size - self.offset) % 2)
            return all(one in (other, other.removesuffix(padding)) for one, other in _pairs(ours, received))


@dataclass(frozen=True, slots=True)
class Material:
    """What will be sent, and what will not: `twins` have a UID of `images` but other bytes, `unfit` are no complete DICOM."""

    images: tuple[Image, ...]
    twins: tuple[Image, ...]
    unfit: int

    @property
    def modalities(self) -> list[str]:
        return sorted({image.modality for image in self.images})

    @property
    def studies(self) -> int:
        return len({image.study for image in self.images})


def shipped() -> Material:
    """The DICOM files that pydicom's wheel brings along: real CT, MR, US, NM, RT and others, in many transfer syntaxes."""
    return files_in(Path(pydicom.data.__file__).parent / "test_files")


def files_in(folder: Path) -> Material:
    """The complete DICOM files under `folder`; of those with the same SOP Instance UID the first."""
    images: dict[str, Image] = {}
    owners: dict[str, tuple[str, str]] = {}
    twins, unfit = [], 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or not _has_preamble(path):
            continue
        image = _image(path)
        if image is None:
            unfit += 1
        elif (known := images.get(image.sop_instance_uid)) is not None:
            with path.open("rb") as file:
                if not known.same(file):
                    twins.append(image)
        elif owners.setdefault(image.study, (image.patient, "")) != (image.patient, "") or owners.setdefault(
            f"{image.series} ", (image.patient, image.study)
        ) != (image.patient, image.study):
            unfit += 1  # a study of two patients, a series of two studies: refused by any store
        else:
            images[image.sop_instance_uid] = image
    return Material(tuple(images.values()), tuple(twins), unfit)


def phantom(folder: Path, *, slices: int, seed: int, patient_id: str, accession_number: str) -> tuple[Image, ...]:
    """A generated CT in three series, `4 * slices` files of half a megabyte, written into `folder`."""
    folder.mkdir(parents=True)
    images = []
    study = phantom_study(slices, 512, seed, patient_id=patient_id, accession_number=accession_number)
    for number, dataset in enumerate(study):
        path = folder / f"{number:04}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        image = _image(path)
        assert image, "the phantom is complete DICOM"
        images.append(image)
    return tuple(images)


def largest_study(images: Iterable[Image]) -> tuple[Image, ...]:
    """The images of the study with the most images."""
    ordered = sorted(images, key=lambda image: image.study)
    return max((tuple(group) for _, group in groupby(ordered, key=lambda image: image.study)), key=len)


def middles(images: Iterable[Image]) -> list[Image]:
    """The middle image of each series that has pixels, series in order of their first image."""
    series: dict[str, list[Image]] = {}
    for image in images:
        if image.has_pixels:
            series.setdefault(image.series, []).append(image)
    return [sorted(group, key=lambda image: image.number)[len(group) // 2] for group in series.values()]


def sop_instance_uid(file: BinaryIO) -> str:
    """The SOP Instance UID of a Part 10 file."""
    return str(part10.parse(file).dataset.SOPInstanceUID)


def _image(path: Path) -> Image | None:
    """The file's image; None for what is not complete DICOM, or is called something else outside than inside."""
    try:
        with path.open("rb") as file:
            dataset, transfer_syntax, offset = header.read(file)
        study = header.extract(dataset, transfer_syntax, _DOMAINS)
    except (header.HeaderError, InvalidIdentifier):
        return None
    (series,) = study.series
    (instance,) = series.instances
    if dataset.file_meta.get("MediaStorageSOPInstanceUID") != instance.sop_instance_uid:
        return None
    return Image(
        path=path,
        patient=study.patient.identifier.cx,
        study=study.study_instance_uid,
        series=series.series_instance_uid,
        sop_instance_uid=instance.sop_instance_uid,
        transfer_syntax=transfer_syntax,
        modality=series.modality,
        number=instance.number or 0,
        has_pixels=instance.rows > 0 and instance.columns > 0,
        size=path.stat().st_size,
        offset=offset,
    )


def _has_preamble(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _pairs(one: BinaryIO, other: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while True:
        a, b = one.read(_CHUNK), other.read(_CHUNK)
        if not a and not b:
            return
        yield a, b
