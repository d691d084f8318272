"""Which documents may be retrieved."""

from collections.abc import Sequence

from sqlalchemy import Connection

from server.access.decisions import Decision, Interaction
from server.records import repository
from server.records.repository import Entered

DOCUMENT_TYPE = "DocumentReference"
"""Documents are judged as the DocumentReference that is their other rendering."""


def retrievable(connection: Connection, decision: Decision, unique_ids: Sequence[str]) -> dict[str, Entered]:
    """The documents among `unique_ids` that are here and of which an entry may be read, a deprecated one too; by uniqueId."""
    allowed, by_patient = decision.some_of(DOCUMENT_TYPE, Interaction.READ), decision.is_by_patient(DOCUMENT_TYPE, Interaction.READ)
    return {
        each.unique_id: each
        for each in repository.entered(connection, unique_ids)
        if (allowed is None or each.patient in allowed)
        and (by_patient or decision.sees(connection, DOCUMENT_TYPE, Interaction.READ, each.entry_uuid.removeprefix("urn:uuid:")))
    }
