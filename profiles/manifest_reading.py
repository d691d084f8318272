"""Manifests of partners, with their small faults: `read(data)` gives what a Key Object Selection names, and in words what is wrong with it.

What cannot lead to an image is refused (`NotAManifest`): another SOP Class, a rejection note, bytes that are none, nothing that is named.
`ReadManifest.content` is as `profiles.manifest.read` gives it, with UIDs that are UIDs, each series and each instance once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final
from urllib.parse import urlsplit

from pydicom import Dataset
from pydicom.multival import MultiValue

from profiles import part10
from profiles.identifiers import InvalidIdentifier, lenient_uid
from profiles.manifest import ManifestContent, NotAManifest, ReferencedInstance, ReferencedSeries, sequence_items
from profiles.vocabulary import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, KEY_OBJECT_SELECTION, UNIVERSAL_ID_ISO

MOST_BYTES: Final = 64 << 20
"""A manifest of some hundred thousand instances."""
MOST_DEEP: Final = 16
"""Levels of content items that are looked into."""

# PS3.16 CID 7011: titles of notes that withdraw what they name
_REJECTIONS: Final = frozenset({"113001", "113037", "113038", "113039"})
_EVIDENCE: Final = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
_LINE_ENDS: Final = b"\r\n\x1a"
_PREAMBLE: Final = bytes(128)


@dataclass(frozen=True, slots=True)
class ReadManifest:
    """A partner's manifest. `faults` are sentences for who made it, without any value of it; empty where nothing is wrong.

    A series whose `series_instance_uid` is empty holds what content items name and no evidence says the series of.
    """

    content: ManifestContent
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class _Found:
    """What was found so far: series by their UIDs, instances of each by theirs, and sentences."""

    faults: dict[str, None] = field(default_factory=dict)
    series: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    places: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def fault(self, sentence: str) -> None:
        self.faults[sentence] = None

    def uid(self, value: str, name: str) -> str:
        """A UID as it should be; empty where it is none."""
        try:
            return lenient_uid(value)
        except InvalidIdentifier:
            self.fault(f"{name} is {'no UID' if value else 'missing'} (PS3.5 section 9.1)")
            return ""


def read(data: bytes) -> ReadManifest:
    """PS3.3 A.35.4: what a partner's manifest names. Raises `NotAManifest`, whose message says why and has no value of the file."""
    if len(data) > MOST_BYTES:
        raise NotAManifest(f"a manifest of more than {MOST_BYTES >> 20} MiB is not read")
    found = _Found()
    dataset = _parsed(data, found)
    try:
        return _read(dataset, found)
    except NotAManifest:
        raise
    except Exception as error:  # pydicom converts values late, and raises whatever it trips over: KeyError, struct.error ...
        raise NotAManifest("an element of the Key Object Selection cannot be read by its VR") from error


def _parsed(data: bytes, found: _Found) -> Dataset:
    """The data set of a Part 10 file, or of what is left of one where its beginning is missing."""
    whole = data
    if data[128:132] != b"DICM":
        if data[:4] == b"DICM" or data[:2] == b"\2\0":
            found.fault("the preamble of a DICOM file is missing (PS3.10 section 7.1)")
            whole = _PREAMBLE + (data if data[:4] == b"DICM" else b"DICM" + data)
        elif data[:1] in (b"\0", b"\x08"):
            found.fault("the File Meta Information is missing (PS3.10 section 7.1)")
            return _bare(data, EXPLICIT_VR_BIG_ENDIAN if data[:1] == b"\0" else EXPLICIT_VR_LITTLE_ENDIAN)
    try:
        return part10.parse(BytesIO(whole)).dataset
    except part10.HeaderError as error:
        first = error
    if (cut := whole.rstrip(_LINE_ENDS)) != whole:
        try:
            dataset = part10.parse(BytesIO(cut)).dataset
        except part10.HeaderError:
            pass
        else:
            found.fault("line ends follow the data set")
            return dataset
    if whole[128:132] != b"DICM":
        raise NotAManifest(str(first)) from first
    # Element by element in explicit or implicit VR, whatever the File Meta Information says, which is read with it
    dataset = _bare(whole[132:], EXPLICIT_VR_LITTLE_ENDIAN, first)
    found.fault("Transfer Syntax UID (0002,0010) is missing or is not that of the data set")
    return dataset


def _bare(data: bytes, syntax: str, first: part10.HeaderError | None = None) -> Dataset:
    try:
        return part10.data_set(data, syntax)
    except part10.HeaderError as error:
        raise NotAManifest(str(first or error)) from error


def _read(dataset: Dataset, found: _Found) -> ReadManifest:
    title = _title(dataset, found)
    for keyword in _EVIDENCE:
        for study in sequence_items(dataset, keyword):
            _study(dataset, study, found)
        if found.series:
            break
        if keyword == _EVIDENCE[0]:
            found.fault("Current Requested Procedure Evidence Sequence (0040,A375) names no instance")
    _content(dataset, found)
    series = tuple(_series(key, instances, found) for key, instances in found.series.items())
    if not series:
        raise NotAManifest("the Key Object Selection names no instance, in its evidence or in its content")
    qualifiers = sequence_items(dataset, "IssuerOfPatientIDQualifiersSequence")
    content = ManifestContent(
        sop_instance_uid=found.uid(_text(dataset, "SOPInstanceUID"), "SOP Instance UID (0008,0018)"),
        study_instance_uid=found.uid(_text(dataset, "StudyInstanceUID"), "Study Instance UID (0020,000D)"),
        patient_id=_text(dataset, "PatientID"),
        issuer=_issuer(qualifiers[0]) if qualifiers else "",
        accession_number=_text(dataset, "AccessionNumber"),
        title=title,
        series=series,
    )
    return ReadManifest(content, tuple(found.faults))


def _title(dataset: Dataset, found: _Found) -> str:
    """PS3.16 CID 7010: the code of the document title, of what is a Key Object Selection and no rejection note."""
    sop_class = _text(dataset, "SOPClassUID")
    if not sop_class:
        found.fault("SOP Class UID (0008,0016) is missing")
        meta = getattr(dataset, "file_meta", None) or dataset
        sop_class = _text(meta, "MediaStorageSOPClassUID")
    if sop_class != KEY_OBJECT_SELECTION:
        raise NotAManifest("SOP Class UID (0008,0016) is not Key Object Selection Document Storage")
    titles = sequence_items(dataset, "ConceptNameCodeSequence")
    title = _text(titles[0], "CodeValue") if titles else ""
    if title in _REJECTIONS:
        raise NotAManifest("the Key Object Selection is a rejection note: what it names is withdrawn (PS3.16 CID 7011)")
    if not title:
        found.fault("the document title (0040,A043) is missing (PS3.16 CID 7010)")
    return title


def _study(dataset: Dataset, study: Dataset, found: _Found) -> None:
    """PS3.3 C.17.2.1: one study of the evidence."""
    study_uid = found.uid(_text(study, "StudyInstanceUID"), "a Study Instance UID of the evidence")
    study_uid = study_uid or found.uid(_text(dataset, "StudyInstanceUID"), "Study Instance UID (0020,000D)")
    for item in sequence_items(study, "ReferencedSeriesSequence"):
        references = sequence_items(item, "ReferencedSOPSequence")
        key = (study_uid, found.uid(_text(item, "SeriesInstanceUID"), "a Series Instance UID of the evidence"))
        for reference in references:
            _instance(key, reference, found)
        if key in found.series:
            _place(key, (item, *references[:1], study, dataset), found)


def _instance(key: tuple[str, str], reference: Dataset, found: _Found) -> None:
    uid = found.uid(_text(reference, "ReferencedSOPInstanceUID"), "a Referenced SOP Instance UID (0008,1155)")
    sop_class = found.uid(_text(reference, "ReferencedSOPClassUID"), "a Referenced SOP Class UID (0008,1150)")
    if not uid:
        return
    instances = found.series.setdefault(key, {})
    if uid in instances:
        found.fault("an instance is named more than once in its series")
    instances[uid] = instances.get(uid) or sop_class


def _place(key: tuple[str, str], items: tuple[Dataset, ...], found: _Found) -> None:
    """Retrieve AE Title, Location UID and URL of a series, of wherever they stand: of the series, its first instance, study or document."""
    names = ("RetrieveAETitle", "RetrieveLocationUID", "RetrieveURL")
    said = [next(filter(None, (_text(item, name) for item in items)), "") for name in names]
    if said[1]:
        said[1] = found.uid(said[1], "a Retrieve Location UID (0040,E011)")
    if said[2] and not _is_web_address(said[2]):
        found.fault("a Retrieve URL (0008,1190) is no URL of http or https")
        said[2] = ""
    before = found.places.get(key)
    if before is not None:
        found.fault("a series stands in the evidence more than once")
        said = [one or other for one, other in zip(before, said, strict=True)]
    found.places[key] = said


def _content(dataset: Dataset, found: _Found) -> None:
    """PS3.16 TID 2010: what content items name beside the evidence."""
    known = {uid for instances in found.series.values() for uid in instances}
    study_uid, missed = _text(dataset, "StudyInstanceUID"), 0
    for reference in _references(dataset, 0):
        if _text(reference, "ReferencedSOPInstanceUID") not in known:
            missed += 1
            key = (found.uid(study_uid, "Study Instance UID (0020,000D)"), "")
            if _text(reference, "ReferencedSOPInstanceUID") not in found.series.get(key, {}):
                _instance(key, reference, found)
                found.places.setdefault(key, ["", "", ""])
    if missed:
        found.fault("content items name instances that the evidence does not say the series of (PS3.3 C.17.6.2.1)")


def _references(item: Dataset, level: int) -> Iterator[Dataset]:
    for child in sequence_items(item, "ContentSequence") if level < MOST_DEEP else ():
        yield from sequence_items(child, "ReferencedSOPSequence")
        yield from _references(child, level + 1)


def _series(key: tuple[str, str], instances: dict[str, str], found: _Found) -> ReferencedSeries:
    retrieve_ae_title, location, url = found.places[key]
    if not (location or url):
        found.fault("a series has neither Retrieve Location UID nor Retrieve URL (RAD TF-3 section 4.68.4.1.2)")
    named = tuple(ReferencedInstance(sop_class, uid) for uid, sop_class in instances.items())
    return ReferencedSeries(*key, named, retrieve_ae_title, location, url)


def _issuer(qualifier: Dataset) -> str:
    return _text(qualifier, "UniversalEntityID") if _text(qualifier, "UniversalEntityIDType") == UNIVERSAL_ID_ISO else ""


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _text(dataset: Dataset, keyword: str) -> str:
    """The first value of an element that has one, without padding."""
    value = dataset.get(keyword)
    values = value if isinstance(value, MultiValue) else (value,)
    return next(filter(None, (str(each).strip(" \0\t\r\n") for each in values if each is not None)), "")
