"""What a check finds below an element: the fault, and the way to it from there, which grows outwards as the check returns."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

MOST: Final = 100
"""No more faults are looked for: a body of millions must not make millions."""


@dataclass(slots=True)
class Fault:
    """One fault. `code` is of issue-type; `path` has the steps from the outside last, so that no path is made where all is well."""

    code: str
    text: str
    path: list[str] = field(default_factory=list)
    is_null: bool = False
    """It is a null in an array, which an id or extension beside it would allow."""

    def expression(self, root: str) -> str:
        """FHIRPath from the resource of type `root`."""
        return root + "".join(reversed(self.path))


@dataclass(slots=True)
class Around:
    """What a check has to know of the resource that an element is in, and learns of it.

    `contained` are the types of contained resources by id; `links` all local links (`#id`) that were met. `upward` says of each contained
    resource whether it refers to the one that contains it (`#`).
    """

    contained: dict[str, str] = field(default_factory=dict)
    links: set[str] = field(default_factory=set)
    upward: list[bool] = field(default_factory=list)
    is_transaction: bool = False
    """It is a Bundle of type transaction or batch, or in one: references may be searches (FHIR R4 section 3.1.0.11.4)."""


Found = list[Fault] | None
"""None or nothing: all is well."""
Check = Callable[[Any, Around], Found]


def one(code: str, text: str, *path: str) -> list[Fault]:
    """A single fault, at the element itself or at `path` below it."""
    return [Fault(code, text, list(reversed(path)))]


def below(step: str, faults: Iterable[Fault], found: Found) -> list[Fault]:
    """`found` with the faults of what lies at `step` (`.name`, `[3]`)."""
    found = [] if found is None else found
    for fault in faults:
        fault.path.append(step)
        found.append(fault)
    return found


def mistyped(value: Any, wanted: str) -> list[Fault]:
    """Of a value that is not what JSON should have here; `wanted` as in "an object"."""
    if value is None:
        return one("structure", "null stands only in an array of primitive values, for one that has an id or extension")
    if value == "":
        return one("structure", "an empty string is no value: leave the element out")
    if isinstance(value, list):
        return one("structure", f"the element does not repeat: {wanted} is wanted, not an array")
    return one("structure", f"{wanted} is wanted, not {_KINDS.get(type(value), 'a number')}")


_KINDS: Final = {dict: "an object", str: "a string", bool: "true or false"}
