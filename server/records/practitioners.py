"""Practitioners by their business identifiers, as the index of searches has them."""

from typing import Final

from sqlalchemy import Connection, or_, select

from server.records.fhir_search.terms import RESOURCE, TOKEN
from server.records.fhir_search.tokens import exact_keys

NPI: Final = "http://hl7.org/fhir/sid/us-npi"


def identified(connection: Connection, system: str, value: str) -> frozenset[str]:
    """The ids of the Practitioners who have this identifier. Nobody keeps two from having it."""
    hash_, one, other = exact_keys("Practitioner", "identifier", system, value)
    found = (
        select(RESOURCE.c.id)
        .join(TOKEN, TOKEN.c.resource_pk == RESOURCE.c.pk)
        .where(TOKEN.c.hash == hash_, or_(TOKEN.c.exact == one, TOKEN.c.exact == other))
        .where(RESOURCE.c.type == "Practitioner", RESOURCE.c.deleted == 0)
    )
    return frozenset(connection.execute(found).scalars())
