"""What is to be fetched from a community, and what came of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lxml.etree import _Element

from ihe import iti18
from ihe.find_documents import FindDocuments, GetDocuments
from profiles.document import DocumentEntry
from profiles.identifiers import InvalidIdentifier, PatientIdentifier
from profiles.manifest import ManifestContent
from profiles.vocabulary import DICOM, KEY_OBJECT_SELECTION, REFERENCE_ACCESSION, REFERENCE_STUDY_INSTANCE_UID
from server.settings import Community, Way

_MANIFESTS: Final = frozenset({DICOM, "application/dicom-kos"})
"""The media type of IHE, and the one of RSNA Image Share."""
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."


@dataclass(frozen=True, slots=True)
class Asked:
    """`patient` is the id that the community's affinity domain knows the patient by. What else is named has to hold as well.

    `accession` is an accession number, alone or as a CXi. With `documents`, what is no manifest is fetched too.
    """

    patient: PatientIdentifier
    accession: str = ""
    study: str = ""
    document: str = ""
    by: Way | None = None
    documents: bool = False

    def queries(self) -> Iterator[_Element]:
        """ITI TF-2 section 3.18.4.1.2.3.7: what the registry is asked; each next one where the one before finds nothing."""
        if self.document:
            yield iti18.request(GetDocuments(unique_ids=(self.document,)).query())
            return
        references = tuple((each,) for each in (self._study_reference, self.accession if "^" in self.accession else "") if each)
        if references:
            yield iti18.request(FindDocuments(self.patient.cx, reference_ids=references).query())
        yield iti18.request(FindDocuments(self.patient.cx).query())

    @property
    def _study_reference(self) -> str:
        return f"{self.study}^^^^{REFERENCE_STUDY_INSTANCE_UID}" if self.study else ""

    def may_be(self, entry: DocumentEntry) -> bool:
        """Whether the entry may be of the study and order that are asked for: reports and old manifests may name neither."""
        return all(
            not wanted or not (named := _referenced(entry, kind)) or wanted.partition("^")[0] in named
            for wanted, kind in ((self.study, REFERENCE_STUDY_INSTANCE_UID), (self.accession, REFERENCE_ACCESSION))
        )

    def has(self, manifest: ManifestContent, entry: DocumentEntry) -> bool:
        """Whether the manifest is of the order that is asked for. It says so itself where its entry does not."""
        number = self.accession.partition("^")[0]
        return not number or number in _referenced(entry, REFERENCE_ACCESSION) or number == manifest.accession_number


@dataclass(slots=True)
class Fetched:
    """What became of one document. Of a manifest `instances` are named, `known` of them were here before; `failed` says why others are not.

    `error` is why the document itself did not come, or its images broke off. `notes` are a manifest's faults.
    """

    unique_id: str
    title: str = ""
    is_manifest: bool = True
    studies: tuple[str, ...] = ()
    instances: int = 0
    new: int = 0
    known: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    error: str = ""

    @property
    def complete(self) -> bool:
        """Whether all that the document is or names is here."""
        return not self.error and not self.failed and self.new + self.known == (self.instances if self.is_manifest else 1)

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "document": self.unique_id, "title": self.title, "manifest": self.is_manifest, "studies": list(self.studies),
            "instances": self.instances, "new": self.new, "known": self.known, "failed": dict(self.failed),
            "notes": list(self.notes), "error": self.error, "complete": self.complete,
        }  # fmt: skip


def is_manifest(entry: DocumentEntry) -> bool:
    """RAD TF-3 section 4.68: a Key Object Selection, and no other DICOM object, which has its own SOP Class as its format."""
    code = entry.format_code.code if entry.format_code else ""
    return entry.mime_type in _MANIFESTS and (code == KEY_OBJECT_SELECTION or not code.startswith(_STORAGE))


def origin(community: Community, entry: DocumentEntry, sources: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """ITI TF-2 section 3.43.5.1.2, RAD TF-2 section 4.69.5: where a document comes from, and images of the `sources` that a manifest names.

    That is the provenance of what was fetched: the trail tells it of each study and document.
    """
    home = entry.home_community_id or community.home_community_id
    named = [("repositoryUniqueId", entry.repository_unique_id), ("homeCommunityId", home)]
    return tuple(pair for pair in (*named, *(("retrieveLocationUid", each) for each in sources)) if pair[1])


def is_patient(cx: str, patient: PatientIdentifier) -> bool:
    """Whether an id in an answer is that of the patient, whatever else stands in it."""
    try:
        found = PatientIdentifier.from_cx(cx)
    except InvalidIdentifier:
        return False
    return (found.value, found.authority.oid) == (patient.value, patient.authority.oid)


def mixed_up(entry: DocumentEntry, manifest: ManifestContent) -> bool:
    """Whether the manifest is of somebody else than its entry says, which tells the patient's id at the source (ITI TF-3 section 4.2.3.2.22)."""
    said = entry.source_patient_id.partition("^")[0]
    values: Sequence[str] = (said, entry.patient_id.partition("^")[0])
    return bool(said and manifest.patient_id) and manifest.patient_id not in values


def _referenced(entry: DocumentEntry, kind: str) -> list[str]:
    """ITI TF-3 table 4.2.3.1.7-2, CXi: the values of this kind in referenceIdList."""
    split = (each.split("^") for each in entry.reference_ids)
    return [parts[0] for parts in split if len(parts) > 4 and parts[4] == kind]
