"""Submission Set and Folder to FHIR R4 List (IHE MHD 4.2, profiles SubmissionSet and Folder)."""

from collections.abc import Sequence
from typing import Final

from profiles import timestamps
from profiles.document import APPROVED, Folder, SubmissionSet
from profiles.document_reference import author_reference, concept, identifiers, urn
from profiles.patient import Json
from profiles.vocabulary import URI_SYSTEM

_MHD: Final = "https://profiles.ihe.net/ITI/MHD"
LIST_TYPES: Final = f"{_MHD}/CodeSystem/MHDlistTypes"
DESIGNATION_TYPE: Final = f"{_MHD}/StructureDefinition/ihe-designationType"
SOURCE_ID: Final = f"{_MHD}/StructureDefinition/ihe-sourceId"
INTENDED_RECIPIENT: Final = f"{_MHD}/StructureDefinition/ihe-intendedRecipient"
_DISPLAYS: Final = {"submissionset": "SubmissionSet as a FHIR List", "folder": "Folder as a FHIR List"}


def submission_set_list(submission: SubmissionSet, *, id: str, subject_id: str, entries: Sequence[str]) -> Json:
    """MHD SubmissionSet: `subject_id` is the Patient's id, `entries` are references such as `DocumentReference/7` or `List/8`."""
    extensions: list[Json] = []
    if submission.content_type is not None:
        extensions.append({"url": DESIGNATION_TYPE, "valueCodeableConcept": concept(submission.content_type)})
    source = {"system": URI_SYSTEM, "value": urn(submission.source_id)}
    extensions.append({"url": SOURCE_ID, "valueIdentifier": source})
    extensions += ({"url": INTENDED_RECIPIENT, "valueReference": {"display": each}} for each in submission.intended_recipients)
    made = {"extension": extensions, **_list(submission, "submissionset", id, subject_id, submission.submission_time)}
    for author in submission.authors[:1]:
        if reference := author_reference(author):
            made["source"] = reference
    return _with_rest(made, submission, entries)


def folder_list(folder: Folder, *, id: str, subject_id: str, entries: Sequence[str]) -> Json:
    """MHD Folder: `subject_id` is the Patient's id, `entries` are references such as `DocumentReference/7`."""
    made = _list(folder, "folder", id, subject_id, folder.last_update)
    if folder.codes:
        coded = [{"url": DESIGNATION_TYPE, "valueCodeableConcept": concept(code)} for code in folder.codes]
        made = {"extension": coded, **made}
    return _with_rest(made, folder, entries)


def _list(value: SubmissionSet | Folder, kind: str, id: str, subject_id: str, time: str) -> Json:
    known: list[Json] = (
        identifiers(value)
        if isinstance(value, Folder)
        else [{"use": "official", "system": URI_SYSTEM, "value": value.entry_uuid}]
    )
    made: Json = {
        "resourceType": "List",
        "id": id,
        "identifier": [{"use": "usual", "system": URI_SYSTEM, "value": urn(value.unique_id)}, *known],
        "status": "current" if value.status == APPROVED else "retired",
        "mode": "working",
        "code": {"coding": [{"system": LIST_TYPES, "code": kind, "display": _DISPLAYS[kind]}]},
        "subject": {"reference": f"Patient/{subject_id}"},
    }
    if value.title:
        made["title"] = value.title
    if at := timestamps.fhir_date_time_of_dtm(time):
        made["date"] = at
    return made


def _with_rest(made: Json, value: SubmissionSet | Folder, entries: Sequence[str]) -> Json:
    if value.comments:
        made["note"] = [{"text": value.comments}]
    if entries:
        made["entry"] = [{"item": {"reference": reference}} for reference in entries]
    return made
