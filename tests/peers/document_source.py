"""A Document Source that speaks ITI-41 with our codecs, and can be made to speak it wrongly."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import httpx2
from peers import registry_objects as objects
from peers.xds import REPOSITORY, Archive, payload_of_mtom

from ihe import ebrs, iti41, mtom, soap
from ihe.ebrs import RegistryResponse
from ihe.iti41 import Provided
from ihe.mtom import Attachment
from profiles.document import DocumentEntry, Submission

BOUNDARY = "of-the-source"


def submitted(patient_id: str, *documents: DocumentEntry, number: int = 1, **of_set: object) -> Submission:
    """A Submission of `documents` alone, of one patient. `number` makes its ids unlike those of others."""
    entries = tuple(replace(each, patient_id=patient_id) for each in documents)
    members = tuple(
        objects.association(f"member{index}", "SubmissionSet01", each.entry_uuid, status="Original")
        for index, each in enumerate(entries, 1)
    )
    given = {"patient_id": patient_id, "unique_id": f"1.2.3.4.5.{number}", **of_set}
    return Submission(objects.submission_set(**given), entries, (), members)


def document(number: int = 1, **changed: object) -> DocumentEntry:
    """A Document Entry as a source sends it: hash, size and repositoryUniqueId are the repository's to say."""
    given = {"hash": "", "size": None, "repository_unique_id": "", "mime_type": "text/plain", **changed}
    return objects.entry(f"Document{number:02}", f"2.999.1.{number}", **given)


@dataclass
class Message:
    """One request: its payload, the parts by Content-ID, and how they are sent."""

    submission: Submission
    parts: Mapping[str, bytes]
    documents: Sequence[Provided] = ()
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, submission: Submission, contents: Mapping[str, bytes]) -> "Message":
        """With each of `contents`, by the id of its entry, in a part of its own."""
        provided = [Provided(id_, content_id=f"{id_}@source") for id_ in contents]
        return cls(submission, {f"{id_}@source": content for id_, content in contents.items()}, provided)

    @property
    def root(self) -> bytes:
        body = iti41.request(self.submission, self.documents)
        return soap.render_request(
            iti41.REQUEST_ACTION, body, "urn:uuid:0a0a0a0a-0000-4000-8000-000000000001", f"http://127.0.0.1:8080{REPOSITORY}"
        )

    def pieces(self, root: bytes | None = None) -> Iterator[bytes]:
        attachments = [Attachment(id_, "text/plain", len(content)) for id_, content in self.parts.items()]
        return mtom.chunks(root or self.root, attachments, lambda each: [self.parts[each.content_id]], BOUNDARY)

    def sent(self, archive: Archive, content: bytes | None = None) -> httpx2.Response:
        body = b"".join(self.pieces()) if content is None else content
        headers = {"Content-Type": mtom.content_type(BOUNDARY, iti41.REQUEST_ACTION), **self.headers}
        return archive.client().post(REPOSITORY, content=body, headers=headers)

    def answer(self, archive: Archive) -> RegistryResponse:
        return answered(self.sent(archive))


def answered(response: httpx2.Response) -> RegistryResponse:
    """The RegistryResponse of an answer in MTOM."""
    return ebrs.read(payload_of_mtom(response))


def codes(answer: RegistryResponse) -> list[tuple[str, str]]:
    """Code and location of each error."""
    return [(error.code, error.location) for error in answer.errors]
