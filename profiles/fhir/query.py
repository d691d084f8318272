"""A search as a tree (FHIR R4 section 3.1.1): what `profiles.fhir.search_request` reads and `server.records` turns into SQL.

Every value is typed by its parameter. Dates are half-open ranges of microseconds since 1970; numbers are Decimal with the range that their
precision implies (section 3.1.1.4.6: `100` is [99.5, 100.5), `100.00` is [99.995, 100.005)).
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from profiles.r4.search import Parameter

Prefix = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]
Total = Literal["", "none", "estimate", "accurate"]
Summary = Literal["", "true", "text", "data", "count", "false"]


@dataclass(frozen=True, slots=True)
class TokenValue:
    """Section 3.1.1.4.10. None is any: `|code` has an empty system, `code` has None, `system|` has no code."""

    system: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class OfType:
    """Section 3.1.1.4.10, `:of-type`: an identifier by the coding of its type and its value."""

    system: str
    code: str
    value: str


@dataclass(frozen=True, slots=True)
class Text:
    """A string, URI, code system or value set as it was given, unescaped."""

    text: str


@dataclass(frozen=True, slots=True)
class DateValue:
    prefix: Prefix
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class NumberValue:
    """`low` and `high` are the implied range, `value` what was written."""

    prefix: Prefix
    value: Decimal
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class QuantityValue:
    """Section 3.1.1.4.11. `system` None and `code` None: any unit; `system` None: `code` is a code or a unit as people write it."""

    number: NumberValue
    system: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """Section 3.1.1.4.12. `type` is empty where only an id was given; `url` is an absolute URL of another server or a canonical, else empty."""

    type: str = ""
    id: str = ""
    version: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Near:
    """`near` of Location: within `meters` of a place in degrees of WGS84."""

    latitude: Decimal
    longitude: Decimal
    meters: Decimal


@dataclass(frozen=True, slots=True)
class Missing:
    """Section 3.1.1.4.4, `:missing`."""

    missing: bool


@dataclass(frozen=True, slots=True)
class CompositeValue:
    """Section 3.1.1.4.15: one value for each component, in their order."""

    parts: "tuple[Value, ...]"


Value = TokenValue | OfType | Text | DateValue | NumberValue | QuantityValue | ReferenceValue | Near | Missing | CompositeValue


@dataclass(frozen=True, slots=True)
class Criterion:
    """One parameter: any of `values` (joined by commas). `modifier` is without its colon; empty, or a type for references.

    `_filter` has two of its own, of strings: `equals` (the whole, without regard to case and accents) and `ends`; and of dates `overlaps`.
    """

    parameter: Parameter
    modifier: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """Section 3.1.1.4.13: the resource that `parameter` leads to is of one of `types` and meets `condition` for its type."""

    parameter: Parameter
    conditions: "tuple[tuple[str, Condition], ...]"
    """(target type, what it has to meet): one for each type that the chain can go through."""


@dataclass(frozen=True, slots=True)
class Reverse:
    """Section 3.1.1.4.14, `_has`: a resource of `type` leads here by `parameter` and meets `condition`."""

    type: str
    parameter: Parameter
    condition: "Condition"


@dataclass(frozen=True, slots=True)
class All:
    conditions: "tuple[Condition, ...]" = ()


@dataclass(frozen=True, slots=True)
class AnyOf:
    conditions: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """`not` in `_filter`, and its operator `ne`."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class InCompartment:
    """Section 2.17: a resource in the compartment of the resource `type`/`id`; `Index.compartments` says which those are."""

    type: str
    id: str


Condition = Criterion | Chain | Reverse | All | AnyOf | Not | InCompartment


@dataclass(frozen=True, slots=True)
class SortKey:
    """Section 3.1.1.5.2. `chain` leads through references to the resource that has `parameter`, with its type at each step."""

    parameter: Parameter
    descending: bool = False
    chain: tuple[tuple[Parameter, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Include:
    """Section 3.1.1.5.7. `parameter` None is `*`; `source` is `*` where any type is; `target` is empty for any type."""

    source: str
    parameter: str | None
    target: str = ""
    iterate: bool = False
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """All of one search. `types` is one type, or those of `_type` at system level. `understood` are the parameters for the self link."""

    types: tuple[str, ...]
    condition: All = All()
    sort: tuple[SortKey, ...] = ()
    includes: tuple[Include, ...] = ()
    count: int | None = None
    total: Total = ""
    summary: Summary = ""
    elements: frozenset[str] = frozenset()
    contained: Literal["", "false", "true", "both"] = ""
    contained_type: Literal["", "container", "contained"] = ""
    cursor: str = ""
    understood: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = field(default=())
    """Names of parameters that are not known and that a lenient client lets pass."""
