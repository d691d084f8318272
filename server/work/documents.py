"""Which documents may be retrieved."""

from collections.abc import Sequence

from sqlalchemy import Connection

from server.access.decisions import Decision, Interaction
from server.records import repository
from server.records.repository import Entered

DOCUMENT_TYPE = "DocumentReference"
"""Documents are judged as the DocumentReference that is their other rendering."""


def retrievable(connection: Connection, decision: Decision, unique_ids: Sequence[str]) -> dict[str, Entered]:
    """The documents among `unique_ids` that are here and of which an entry may be read, a deprecated one too; by uniqueId.

    Of one whose entries are at a foreign registry, only the patient is known here: it is not for whom more than that decides.
    """
    allowed = decision.some_of(DOCUMENT_TYPE, Interaction.READ)
    by_patient = decision.is_by_patient(DOCUMENT_TYPE, Interaction.READ)

    def sees(entry_uuid: str) -> bool:
        id_ = entry_uuid.removeprefix("urn:uuid:")
        return bool(id_) and decision.sees(connection, DOCUMENT_TYPE, Interaction.READ, id_)

    return {
        each.unique_id: each
        for each in repository.entered(connection, unique_ids)
        if (allowed is None or each.patient in allowed) and (by_patient or sees(each.entry_uuid))
    }


def withheld(connection: Connection, unique_ids: Sequence[str]) -> frozenset[str]:
    """The patients (resource ids) of those of these documents that are here: for the trail, where somebody was not told of them."""
    return frozenset(each.patient for each in repository.entered(connection, unique_ids)) if unique_ids else frozenset()
