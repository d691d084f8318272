"""One evaluation of a FHIRPath expression: what it may see, how much it may still do, and the functions it can call."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from profiles.fhir.fhirpath_comparing import is_number
from profiles.fhir.fhirpath_syntax import PathError
from profiles.fhir.fhirpath_values import Json, Node, system

Resolve = Callable[[str], Json | None]
MemberOf = Callable[[Node, str], bool | None]
Conforms = Callable[[Node, str], bool | None]
LONGEST_TEXT: Final = 1_000_000


@dataclass(slots=True)
class Work:
    """What may still be done: `left` counts down with every element that is looked at. Several evaluations can share one."""

    left: int


@dataclass(slots=True)
class Run:
    """What an expression can see and ask. `now` is a dateTime with seconds and zone, empty where none was given."""

    resource: Node
    root_resource: Node
    context: Node
    work: Work
    variables: Mapping[str, list[Node]] = field(default_factory=dict)
    resolve: Resolve | None = None
    member_of: MemberOf | None = None
    conforms: Conforms | None = None
    now: str = ""

    def spend(self, amount: int) -> None:
        """Counts work. Raises `PathError` where there was too much of it."""
        self.work.left -= amount + 1
        if self.work.left < 0:
            raise PathError("the expression takes too many steps on this resource")


@dataclass(slots=True)
class Frame:
    """Where a part of the expression is evaluated: `$this`, `$index` and `$total`."""

    run: Run
    this: list[Node]
    index: int = -1
    total: list[Node] | None = None

    def on(self, node: Node, index: int) -> "Frame":
        """The frame of one item of a collection."""
        self.run.spend(1)
        return Frame(self.run, [node], index, self.total)


Evaluate = Callable[[Frame], list[Node]]
Function = Callable[[Frame, list[Node], tuple[Evaluate, ...]], list[Node]]
FUNCTIONS: Final[dict[str, tuple[Function, int, int]]] = {}
"""By name: the function, and how many arguments it takes at least and at most."""


def function(name: str, least: int = 0, most: int | None = None) -> Callable[[Function], Function]:
    """Enters a function of FHIRPath into the table."""

    def enter(one: Function) -> Function:
        FUNCTIONS[name] = (one, least, least if most is None else most)
        return one

    return enter


def single(nodes: list[Node]) -> Node | None:
    """FHIRPath section 4.5: the one item, None for none. Raises `PathError` for several."""
    if len(nodes) > 1:
        raise PathError("one value is expected where there are several")
    return nodes[0] if nodes else None


def truth(nodes: list[Node]) -> bool | None:
    """FHIRPath section 4.5: a boolean; one item of any other kind is true, none is unknown."""
    node = single(nodes)
    if node is None:
        return None
    return node.value if isinstance(node.value, bool) else True


def said(value: "bool | int | Decimal | str | None") -> list[Node]:
    """A computed value as a collection; None is the empty one. Integers have 32 bits, text a length: what is beyond is empty or an error."""
    if value is None:
        return []
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise PathError("the expression makes a text that is too long")
    if isinstance(value, int) and not -(2**31) <= value < 2**31:
        return []
    if isinstance(value, Decimal) and (not value.is_finite() or value.adjusted() > 40):
        return []
    return [system(value)]


def text(nodes: list[Node]) -> str | None:
    """One text. Raises `PathError` for what is none."""
    node = single(nodes)
    if node is None or node.value is None:
        return None
    if not isinstance(node.value, str):
        raise PathError("a text is expected")
    return node.value


def number(nodes: list[Node]) -> "int | Decimal | None":
    """One number. Raises `PathError` for what is none."""
    node = single(nodes)
    if node is None or node.value is None:
        return None
    if not is_number(node.value):
        raise PathError("a number is expected")
    return Decimal(str(node.value)) if isinstance(node.value, float) else node.value


def whole(nodes: list[Node]) -> int | None:
    """One integer. Raises `PathError` for what is none."""
    found = number(nodes)
    if found is not None and not isinstance(found, int):
        raise PathError("an integer is expected")
    return found


def each(frame: Frame, nodes: Iterable[Node], criterion: Evaluate) -> Iterable[tuple[Node, bool | None]]:
    """Every item with what the criterion says of it."""
    for index, node in enumerate(nodes):
        yield node, truth(criterion(frame.on(node, index)))
