"""What a resource yields for the search parameters of its type (FHIR R4 section 3.1.1): typed values, to be stored and walked."""

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Token:
    """A code with its system, empty where it has none. `of_type` are the (system, code) of an Identifier's type."""

    system: str
    code: str
    of_type: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DateRange:
    """Half-open, in microseconds since 1970; an open end is the least or greatest 64-bit number."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Number:
    """A number with the range that its precision implies (`Decimal` as it was written)."""

    value: Decimal
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class Quantity:
    """`system` and `code` are of the coded unit, `unit` as people read it; each empty where it is absent."""

    number: Number
    system: str = ""
    code: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """`type` and `id` of a resource here; `url` of one elsewhere, of a canonical (without version) or of a `urn:`; `identifier` of a logical reference."""

    type: str = ""
    id: str = ""
    version: str = ""
    url: str = ""
    identifier: Token | None = None


Indexed = Token | DateRange | Number | Quantity | Reference | str
"""A `str` is the value of a string or uri parameter."""


@dataclass(frozen=True, slots=True)
class Index:
    """All that one resource yields, by parameter code. `texts` of token parameters are what `:text` looks at (displays and texts)."""

    values: dict[str, tuple[Indexed, ...]] = field(default_factory=dict)
    """A code with nothing behind it: the element is there (for `:missing`), but has nothing to compare, such as a reference with only a display."""
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    composites: dict[str, tuple[tuple[tuple[Indexed, ...], ...], ...]] = field(default_factory=dict)
    """Of a composite parameter: for each element that it selects, the values of each component."""
    compartments: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids of the resources whose compartments it is in: `Patient` -> ids, `Encounter` -> ids ..."""
