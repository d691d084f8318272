"""FHIR search in SQL (FHIR R4 section 3.1.1): a `profiles.fhir.query.Search` against the rows that an index has.

Entrances: `page`, `total`, `included`, `ids`, each within a limit of time, which `limited` makes one for all that a request asks. What one parameter means as SQL is in `tokens`, `texts`, `ordered`, `references`, `composites` and
`catalogued`; `conditions` puts a tree of them together, `order` sorts, `walks` chooses the way to walk.
"""

from server.records.fhir_search.including import MOST_INCLUDED, Included, included
from server.records.fhir_search.limits import limited, spent
from server.records.fhir_search.matches import Allowed, Match, Page, Position, ResourceRow, TooCostly, Whose, whose
from server.records.fhir_search.searching import ids, page, total

__all__ = [
    "MOST_INCLUDED", "Allowed", "Included", "Match", "Page", "Position", "ResourceRow", "TooCostly", "Whose", "ids", "included", "limited", "page", "spent", "total", "whose",
]  # fmt: skip
