"""Statements whose text is made once: for those that run for every instance, where to make the text costs more than to run it."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.sql.expression import ClauseElement


class Prepared:
    """A statement that `make` gives for an engine's name, with parameters called `names`.

    Values go to the driver as they are: plain text, numbers, bytes and None.
    """

    def __init__(self, make: Callable[[str], ClauseElement], names: tuple[str, ...]) -> None:
        self._make = make
        self._names = names
        self._made: dict[str, tuple[str, Mapping[str, Any], list[str] | None]] = {}

    def run(self, connection: Connection, values: Mapping[str, object]) -> CursorResult[Any]:
        """Executes it with `values` for its parameters."""
        name = connection.dialect.name
        text, defaults, order = self._made.get(name) or self._compiled(connection)
        given = {**defaults, **values}
        return connection.exec_driver_sql(text, tuple(given[each] for each in order) if order is not None else given)

    def _compiled(self, connection: Connection) -> tuple[str, Mapping[str, Any], list[str] | None]:
        compiled = self._make(connection.dialect.name).compile(dialect=connection.dialect, column_keys=list(self._names))
        order = getattr(compiled, "positiontup", None)
        made = str(compiled), {key: value for key, value in compiled.params.items() if key not in self._names}, order
        self._made[connection.dialect.name] = made
        return made
