"""Finding documents, and which of them may be seen. ITI-18 and ITI-43 both pass here, so both decide alike."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from ihe.find_documents import FindDocuments, GetDocuments
from profiles.identifiers import InvalidIdentifier, PatientIdentifier
from server.access.decisions import Decision, Interaction
from server.errors import MalformedQuery
from server.records import documents
from server.records.documents import StoredDocument

DOCUMENT_TYPE = "DocumentReference"
"""Documents are judged as the DocumentReference that is their other rendering."""

# Engines limit how many values one statement may carry.
_TOGETHER = 500


def patient_cx(given: str) -> str:
    """A patient id as the registry keeps it, whatever local name its authority has. Raises `MalformedQuery`."""
    try:
        return PatientIdentifier.from_cx(given).cx
    except InvalidIdentifier as error:
        raise MalformedQuery(str(error)) from None


def find(connection: Connection, decision: Decision, query: FindDocuments) -> list[StoredDocument]:
    """The documents that FindDocuments asks for and the caller may see, newest first. Raises `MalformedQuery`."""
    found = documents.of_patient(connection, patient_cx(query.patient_id), query.statuses)
    return [each for each in _seen(connection, decision, Interaction.SEARCH, found) if query.matches(each.entry)]


def get(connection: Connection, decision: Decision, query: GetDocuments) -> list[StoredDocument]:
    """The documents that GetDocuments names and the caller may see, whatever their status."""
    found = _each(connection, documents.by_uuid, query.entry_uuids) + _each(connection, documents.by_unique_id, query.unique_ids)
    return _seen(connection, decision, Interaction.SEARCH, found)


def retrievable(connection: Connection, decision: Decision, unique_ids: Sequence[str]) -> dict[str, StoredDocument]:
    """The documents among `unique_ids` that exist and may be read, by uniqueId; a deprecated one too."""
    found = _seen(connection, decision, Interaction.READ, _each(connection, documents.by_unique_id, unique_ids))
    return {each.entry.unique_id: each for each in found}


def _seen(
    connection: Connection, decision: Decision, interaction: Interaction, found: Sequence[StoredDocument]
) -> list[StoredDocument]:
    allowed = decision.some_of(DOCUMENT_TYPE, interaction)
    return [
        each
        for each in found
        if (allowed is None or each.patient in allowed)
        and decision.sees(connection, DOCUMENT_TYPE, interaction, each.entry.entry_uuid.removeprefix("urn:uuid:"))
    ]


def _each(
    connection: Connection, look: Callable[[Connection, Sequence[str]], list[StoredDocument]], ids: Sequence[str]
) -> list[StoredDocument]:
    wanted = list(dict.fromkeys(ids))
    return [each for start in range(0, len(wanted), _TOGETHER) for each in look(connection, wanted[start : start + _TOGETHER])]
