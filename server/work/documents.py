"""Which documents may be retrieved."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from server.access.decisions import Decision, Interaction
from server.records import documents
from server.records.documents import StoredDocument

DOCUMENT_TYPE = "DocumentReference"
"""Documents are judged as the DocumentReference that is their other rendering."""

# Engines limit how many values one statement may carry.
_TOGETHER = 500


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
