"""Provide Document Bundle, ITI-65 (IHE MHD 4.2, section 2:3.65), and Simplified Publish, ITI-105: FHIR resources to a Submission.

What is a resource of the Bundle has its fullUrl as its symbolic id in the Submission, unless the sender gave it an entryUUID.
"""

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from profiles.document import HAS_MEMBER, Association, DocumentEntry, Folder, Submission, SubmissionSet, is_uuid
from profiles.received_document import (
    Unreadable,
    document_entry,
    folder,
    list_kind,
    official,
    relations,
    submission_set,
    unique_id,
)

Json = dict[str, Any]
_MHD: Final = "https://profiles.ihe.net/ITI/MHD/StructureDefinition"
BUNDLES: Final[Mapping[str, bool]] = {
    f"{_MHD}/IHE.MHD.Comprehensive.ProvideBundle": False,
    f"{_MHD}/IHE.MHD.UnContained.Comprehensive.ProvideBundle": False,
    f"{_MHD}/IHE.MHD.Minimal.ProvideBundle": True,
}
"""Profiles of Bundles, and whether their metadata are limited (ITI TF-3 section 4.2.3.2, limitedMetadata)."""
SIMPLIFIED: Final = f"{_MHD}/IHE.MHD.SimplifiedPublish.DocumentReference"
PROFILES: Final = (*BUNDLES, SIMPLIFIED)

PatientId = Callable[[Json], str]
"""The CX of whom a subject (a Reference) is; empty for nobody who is known."""


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes of a document: the id of its entry, and the place of its Binary in the Bundle, None where they stand in the DocumentReference."""

    id: str
    content: bytes
    place: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a Bundle provides. `ids` are the ids of objects by the places of their entries."""

    submission: Submission
    documents: tuple[Document, ...]
    ids: Mapping[int, str]
    is_limited: bool
    is_bundle: bool = True

    def path(self, place: int) -> str:
        """FHIRPath of what has that place."""
        return f"Bundle.entry[{place}].resource" if self.is_bundle else "DocumentReference"


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading needs of the server: its base URL, who subjects are, resources that references lead to, and fresh ids (`urn:uuid:...`)."""

    base: str
    patient_id: PatientId
    find: Callable[[str], Json | None]
    new_uuid: Callable[[], str]


def is_request(bundle: Json) -> bool:
    """Whether a transaction is one of ITI-65: by its profile, or because it creates a Submission Set."""
    if bundle.get("type") != "transaction":
        return False
    named = set(bundle.get("meta", {}).get("profile", ())) & BUNDLES.keys()
    return bool(named) or any(
        each.get("request", {}).get("method") == "POST" and list_kind(each.get("resource") or {}) == "submissionset"
        for each in bundle.get("entry", ())
    )


def is_simplified(resource: Json) -> bool:
    """Whether the create of a resource is Simplified Publish, ITI-105: by its profile."""
    return resource.get("resourceType") == "DocumentReference" and SIMPLIFIED in resource.get("meta", {}).get("profile", ())


def parse_bundle(bundle: Json, reading: Reading) -> Request:
    """Section 2:3.65.4.1.2: the Submission of a valid Bundle of requests, with its documents. Raises `Unreadable`."""
    return _Bundle(bundle, reading).request()


class _Bundle:
    def __init__(self, bundle: Json, reading: Reading) -> None:
        self._entries: list[Json] = bundle.get("entry", [])
        profiles = set(bundle.get("meta", {}).get("profile", ()))
        self._limited = any(BUNDLES[each] for each in profiles & BUNDLES.keys())
        self._resources = {
            str(each["fullUrl"]): each["resource"] for each in self._entries if each.get("fullUrl") and each.get("resource")
        }
        self._reading = replace(reading, find=lambda text: self._resources.get(text) or reading.find(text))
        self._ids: dict[int, str] = {}
        self._by_url: dict[str, str] = {}

    def request(self) -> Request:
        for place, entry in enumerate(self._entries):
            self._name(place, entry)
        submitted: list[SubmissionSet] = []
        entries: list[DocumentEntry] = []
        folders: list[Folder] = []
        relating: list[Association] = []
        documents: list[Document] = []
        for place, id_ in self._ids.items():
            resource = self._entries[place]["resource"]
            with _At(f"Bundle.entry[{place}].resource"):
                patient = self._patient(resource)
                if resource["resourceType"] == "DocumentReference":
                    made = document_entry(resource, id=id_, patient_id=patient, find=self._reading.find, is_limited=self._limited)
                    entries.append(made)
                    documents.append(self._document(place, made, resource))
                    relating += (
                        Association(f"relates-{place}-{n}", type_, id_, self._id(to))
                        for n, (type_, to) in enumerate(relations(resource))
                    )
                elif list_kind(resource) == "submissionset":
                    submitted.append(
                        submission_set(resource, id=id_, patient_id=patient, find=self._reading.find, is_limited=self._limited)
                    )
                elif self._is_new(place):
                    folders.append(folder(resource, id=id_, patient_id=patient, is_limited=self._limited))
        if len(submitted) != 1:
            raise Unreadable(
                "Bundle.entry", "a Provide Document Bundle has exactly one SubmissionSet: a List with the code submissionset"
            )
        associations = (*relating, *self._memberships(submitted[0], entries, folders, relating))
        return Request(
            Submission(submitted[0], tuple(entries), tuple(folders), associations),
            tuple(documents),
            dict(self._ids),
            self._limited,
        )

    def _name(self, place: int, entry: Json) -> None:
        """What an entry is in the Submission: the documents' Binaries and the Patient are none of it."""
        resource, request = entry.get("resource") or {}, entry.get("request", {})
        type_, method, url = resource.get("resourceType"), request.get("method"), str(entry.get("fullUrl", ""))
        if method == "POST" and type_ in ("Binary", "Patient", "Practitioner", "PractitionerRole", "Organization", "Device"):
            return
        is_one = type_ == "DocumentReference" or (type_ == "List" and list_kind(resource))
        if not is_one or not (method == "POST" or (method == "PUT" and list_kind(resource) == "folder")):
            why = "a Provide Document Bundle creates Lists, DocumentReferences and Binaries, and updates Folders: send the rest in a transaction of its own"
            raise Unreadable(f"Bundle.entry[{place}].request", why)
        if method == "PUT":
            id_ = self._registered(str(request.get("url", "")))
        else:
            given = official(resource)
            id_ = given or f"entry-{place}"
        self._ids[place] = id_
        if url:
            self._by_url[url] = id_

    def _is_new(self, place: int) -> bool:
        return bool(self._entries[place]["request"]["method"] == "POST")

    def _registered(self, text: str) -> str:
        """The entryUUID of a resource of this server: its id."""
        local = text.removeprefix(f"{self._reading.base}/")
        return f"urn:uuid:{local.partition('/')[2].partition('/')[0]}"

    def _id(self, text: str) -> str:
        """Of what a reference leads to: an entry of the Bundle, or what is registered."""
        return self._by_url.get(text) or (text if is_uuid(text) else self._registered(text))

    def _patient(self, resource: Json) -> str:
        subject = resource.get("subject", {})
        named = self._resources.get(str(subject.get("reference", "")))
        if named is not None and named.get("resourceType") == "Patient":
            return next(
                filter(None, (self._reading.patient_id({"identifier": each}) for each in named.get("identifier", ()))), ""
            )
        return self._reading.patient_id(subject) if subject else ""

    def _document(self, place: int, entry: DocumentEntry, resource: Json) -> Document:
        attachment = resource["content"][0].get("attachment", {})
        if "data" in attachment:
            return Document(entry.entry_uuid, _decoded(attachment["data"], "content[0].attachment.data"))
        for number, each in enumerate(self._entries):
            if each.get("fullUrl") and each["fullUrl"] == attachment.get("url") and each["resource"]["resourceType"] == "Binary":
                with _At(""):
                    return Document(
                        entry.entry_uuid, _decoded(each["resource"].get("data", ""), "content[0].attachment.url"), number
                    )
        why = "the document has to be in the Bundle: url is the fullUrl of an entry with its Binary"
        raise Unreadable("content[0].attachment.url", why)

    def _memberships(
        self, submitted: SubmissionSet, entries: list[DocumentEntry], folders: list[Folder], relating: list[Association]
    ) -> Iterator[Association]:
        """Section 2:3.65.4.1.2.3: members of the Submission Set, also those that it does not list itself, and of Folders."""
        new = dict.fromkeys([*(each.entry_uuid for each in entries), *(each.entry_uuid for each in folders)])
        listed = [id_ for place, mine in self._ids.items() if mine == submitted.entry_uuid for id_ in self._listed(place)]
        of_folders = {id_ for place, id_ in self._ids.items() if not self._is_new(place)}
        for number, id_ in enumerate(dict.fromkeys((*listed, *new))):
            if id_ not in of_folders:
                is_folder = any(id_ == each.entry_uuid for each in folders)
                status = "" if is_folder else "Original" if id_ in new else "Reference"
                yield Association(f"has-{number}", HAS_MEMBER, submitted.entry_uuid, id_, status)
        for place, id_ in self._ids.items():
            if list_kind(self._entries[place]["resource"]) == "folder":
                for number, member in enumerate(self._listed(place)):
                    if self._is_new(place) or member in new:  # of one that is there the others are its members already
                        made = Association(f"in-{place}-{number}", HAS_MEMBER, id_, member)
                        yield made
                        yield Association(f"has-{made.entry_uuid}", HAS_MEMBER, submitted.entry_uuid, made.entry_uuid)

    def _listed(self, place: int) -> list[str]:
        items = (each.get("item", {}).get("reference", "") for each in self._entries[place]["resource"].get("entry", ()))
        return list(dict.fromkeys(self._id(each) for each in items if each))


def parse_document(resource: Json, reading: Reading, *, now: str) -> Request:
    """Section 2:3.105.4.1.2: the Submission of one DocumentReference that has its document in it, as of `now` (DTM). Raises `Unreadable`.

    The Submission Set is the recipient's to make: of the same patient, authors and title, its sourceId an OID of the recipient.
    """
    attachment = (resource.get("content") or [{}])[0].get("attachment", {})
    if "data" not in attachment:
        raise Unreadable("content[0].attachment.data", "Simplified Publish has the document in attachment.data")
    patient = reading.patient_id(resource.get("subject", {}))
    entry = document_entry(resource, id=official(resource) or "document", patient_id=patient, find=reading.find, is_limited=True)
    entry = replace(entry, unique_id=entry.unique_id or _fresh(reading))
    if "date" in resource and not entry.creation_time:
        entry = replace(entry, creation_time=now)
    submitted = SubmissionSet(
        "submission-set", _fresh(reading), patient, _fresh(reading), now, authors=entry.authors, is_limited=True
    )
    has = Association("has", HAS_MEMBER, submitted.entry_uuid, entry.entry_uuid, "Original")
    relating = [
        Association(f"relates-{n}", type_, entry.entry_uuid, _target(to, reading.base))
        for n, (type_, to) in enumerate(relations(resource))
    ]
    document = Document(entry.entry_uuid, _decoded(attachment["data"], "content[0].attachment.data"))
    return Request(Submission(submitted, (entry,), (), (has, *relating)), (document,), {0: entry.entry_uuid}, True, False)


def _target(text: str, base: str) -> str:
    return f"urn:uuid:{text.removeprefix(f'{base}/').partition('/')[2].partition('/')[0]}"


def _fresh(reading: Reading) -> str:
    return unique_id({"value": reading.new_uuid()})


def _decoded(data: Any, path: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise Unreadable(path, "the document is base64") from None


class _At:
    """Says of what cannot be read in which resource it is."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Unreadable) and self._path and not error.path.startswith("Bundle."):
            raise Unreadable(f"{self._path}.{error.path}", error.why) from None
