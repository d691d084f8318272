"""Provide and Register Imaging Document Set - MTOM/XOP, RAD-68 (RAD TF-2 section 4.68): what an Imaging Document Source submits.

On the wire it is ITI-41 (`ihe.iti41`). All ids of a submission follow from the entryUUID of its document, so that a repeat is the same message.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace

from profiles.document import (
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    RPLC,
    UPDATE_AVAILABILITY_STATUS,
    Association,
    Code,
    DocumentEntry,
    Submission,
    SubmissionSet,
)
from profiles.identifiers import uuid_oid
from profiles.manifest_entry import submission_set

Codes = Mapping[str, Code]
"""By names of attributes: of `DocumentEntry`, and `content_type` of the Submission Set."""


def entry_for(entry: DocumentEntry, *, entry_uuid: str, patient_id: str, codes: Codes) -> DocumentEntry:
    """RAD TF-2 section 4.68.4.1.2: our Document Entry as a Document Source submits it to another repository.

    `entry_uuid` is `urn:uuid:...`, `patient_id` a CX of the affinity domain; `codes` take the place of ours there.
    """
    changed = {name: (code,) if name == "confidentiality" else code for name, code in codes.items() if name != "content_type"}
    return replace(
        entry, entry_uuid=entry_uuid, patient_id=patient_id, repository_unique_id="", home_community_id="", status=APPROVED,
        availability="", logical_id="", version=1, **changed,  # type: ignore[arg-type]
    )  # fmt: skip


def provided(entry: DocumentEntry, *, source_id: str, submission_time: str, codes: Codes, replaces: str = "") -> Submission:
    """ITI TF-2 section 3.41.4.1.2: one document, in place of the one whose entryUUID is `replaces`. `submission_time` is DTM in UTC."""
    submitted = _set(entry, "provide", source_id, submission_time, codes)
    member = Association(
        _derived(entry, "member"), HAS_MEMBER, submitted.entry_uuid, entry.entry_uuid, submission_set_status="Original"
    )
    replacing = (Association(_derived(entry, "replaces"), RPLC, entry.entry_uuid, replaces),) if replaces else ()
    return Submission(submitted, (entry,), (), (member, *replacing))


def withdrawn(entry: DocumentEntry, *, source_id: str, submission_time: str, codes: Codes) -> Submission:
    """ITI TF-2 section 3.57.4.1.3.3.2: the registered entry is to be deprecated (ITI-57)."""
    submitted = _set(entry, "withdraw", source_id, submission_time, codes)
    change = Association(
        _derived(entry, "status"), UPDATE_AVAILABILITY_STATUS, submitted.entry_uuid, entry.entry_uuid,
        original_status=APPROVED, new_status=DEPRECATED,
    )  # fmt: skip
    return Submission(submitted, (), (), (change,))


def _set(entry: DocumentEntry, act: str, source_id: str, submission_time: str, codes: Codes) -> SubmissionSet:
    id_ = _derived(entry, act)
    made = submission_set(
        entry, entry_uuid=id_, unique_id=uuid_oid(uuid.UUID(id_)), source_id=source_id, submission_time=submission_time
    )
    return replace(made, content_type=codes.get("content_type", made.content_type))


def _derived(entry: DocumentEntry, what: str) -> str:
    """RFC 9562 section 5.5: a name-based UUID of what belongs to the entry."""
    return uuid.uuid5(uuid.UUID(entry.entry_uuid), what).urn
