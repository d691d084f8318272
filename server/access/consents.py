"""What consents withhold from whom."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, true

from server.records.fhir_search.matches import ResourceRow


@dataclass(frozen=True, slots=True)
class Withheld:
    is_nothing: bool = True

    def told(self, type_: str, row: ResourceRow, series: ColumnElement[str] | None = None) -> ColumnElement[bool]:
        return true()

    def untouched(self, row: ResourceRow) -> ColumnElement[bool]:
        return true()


NOTHING: Final = Withheld()
