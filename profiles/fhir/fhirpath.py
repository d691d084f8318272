"""FHIRPath 2.0 over resources as plain JSON objects, for FHIR R4: invariants, patches, slices, search parameters of clients.

An expression is compiled once to closures. Work is counted, depth and length are limited (`fhirpath_syntax`), and regular expressions run in
linear time, because expressions come from clients too. docs/decisions/0016-fhirpath.md says why this is our own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from profiles.fhir import fhirpath_functions, fhirpath_text
from profiles.fhir.fhirpath_operators import DECIDED, LOGIC, OPERATORS
from profiles.fhir.fhirpath_run import (
    FUNCTIONS,
    Conforms,
    Evaluate,
    Frame,
    MemberOf,
    Resolve,
    Run,
    Work,
    number,
    said,
    single,
    truth,
    whole,
)
from profiles.fhir.fhirpath_syntax import (
    Binary,
    Call,
    Item,
    Literal,
    Member,
    Path,
    PathError,
    Sign,
    Tree,
    TypeTest,
    Variable,
    parse,
)
from profiles.fhir.fhirpath_values import Json, Node, is_of, known_type, members, root, system

__all__ = ["Expression", "Node", "PathError", "compile", "root"]

Nodes = list[Node]
_Step = Callable[[Frame, Nodes], Nodes]
_TABLES: Final = (fhirpath_functions, fhirpath_text)  # they enter their functions into `FUNCTIONS`
STEPS: Final = 1_000_000
_URLS: Final = {"%ucum": "http://unitsofmeasure.org", "%sct": "http://snomed.info/sct", "%loinc": "http://loinc.org"}


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; it may be evaluated by several threads at once."""

    text: str
    _evaluate: Evaluate

    def evaluate(
        self,
        resource: Json | Node,
        *,
        context: Node | None = None,
        root_resource: Node | None = None,
        resolve: Resolve | None = None,
        variables: Mapping[str, Any] | None = None,
        member_of: MemberOf | None = None,
        conforms: Conforms | None = None,
        now: str = "",
        steps: int | Work = STEPS,
    ) -> list[Node]:
        """What it yields. `resource` is `%resource`, `context` the element to begin with (the resource itself), `root_resource` the container of a contained one.

        `variables` are external constants by name without `%`: a value, or a list of nodes. `resolve` finds a resource by the text of a reference. `now`
        is a dateTime with zone. Raises `PathError` where the expression fails, or takes more than `steps` (a `Work` is shared with other evaluations).
        """
        whole_resource = resource if isinstance(resource, Node) else root(resource)
        beginning = context or whole_resource
        given = {name: value if isinstance(value, list) else [system(value)] for name, value in (variables or {}).items()}
        work = Work(steps) if isinstance(steps, int) else steps
        run = Run(whole_resource, root_resource or whole_resource, beginning, work, given, resolve, member_of, conforms, now)
        try:
            return self._evaluate(Frame(run, [beginning]))
        except (RecursionError, OverflowError) as error:
            raise PathError("the expression can't be evaluated on this resource") from error

    def holds(self, resource: Json | Node, **options: Any) -> bool | None:
        """What it says as a condition (FHIRPath section 4.5): None where it says nothing. Options as of `evaluate`."""
        return truth(self.evaluate(resource, **options))


@lru_cache(maxsize=4096)
def compile(expression: str) -> Expression:  # noqa: A001 (as `re.compile`)
    """HL7 FHIRPath Normative Release 1. Raises `PathError` for what can't be read, for unknown functions and types."""
    return Expression(expression, _compiled(parse(expression)))


def _compiled(tree: Tree) -> Evaluate:
    match tree:
        case Literal(value, type_):
            constant = [] if value is None else [Node(value, type_)]
            return lambda _: constant
        case Variable(name):
            return _variable(name)
        case Member(name):
            return _beginning(name)
        case Call():
            step = _call(tree)
            return lambda frame: step(frame, frame.this)
        case Path(head, steps):
            return _path(_compiled(head), [_step(step) for step in steps])
        case Binary(operator, left, right):
            return _binary(operator, _compiled(left), _compiled(right))
        case Sign(operator, operand):
            return _sign(operator, _compiled(operand))
        case TypeTest(operator, operand, type_):
            step = _type_test(operator, type_)
            inner = _compiled(operand)
            return lambda frame: step(frame, inner(frame))


def _path(head: Evaluate, steps: Sequence[_Step]) -> Evaluate:
    def evaluate(frame: Frame) -> Nodes:
        nodes = head(frame)
        for step in steps:
            nodes = step(frame, nodes)
        return nodes

    return evaluate


def _step(step: Member | Call | Item) -> _Step:
    match step:
        case Member(name):
            return lambda frame, nodes: _members(frame, nodes, name)
        case Call():
            return _call(step)
        case Item(index):
            place = _compiled(index)

            def item(frame: Frame, nodes: Nodes) -> Nodes:
                number = whole(place(frame))
                return nodes[number : number + 1] if number is not None and number >= 0 else []

            return item


def _members(frame: Frame, nodes: Nodes, name: str) -> Nodes:
    found = [child for node in nodes for child in members(node, name)]
    frame.run.spend(len(nodes) + len(found))
    return found


def _beginning(name: str) -> Evaluate:
    """A name at the beginning of a path is a child's, or the type of what the path starts from (FHIRPath section 3.2)."""
    if not name[:1].isupper():
        return lambda frame: _members(frame, frame.this, name)
    return lambda frame: [node for node in frame.this if is_of(node, name)] or _members(frame, frame.this, name)


def _variable(name: str) -> Evaluate:
    match name:
        case "$this":
            return lambda frame: frame.this
        case "$index":
            return lambda frame: said(frame.index) if frame.index >= 0 else []
        case "$total":
            return lambda frame: frame.total or []
        case "%resource":
            return lambda frame: [frame.run.resource]
        case "%rootResource":
            return lambda frame: [frame.run.root_resource]
        case "%context":
            return lambda frame: [frame.run.context]
    url = _URLS.get(name, "")
    if name.startswith("%vs-"):
        url = f"http://hl7.org/fhir/ValueSet/{name[4:]}"
    elif name.startswith("%ext-"):
        url = f"http://hl7.org/fhir/StructureDefinition/{name[5:]}"

    def external(frame: Frame) -> Nodes:
        if name[1:] in frame.run.variables:
            return frame.run.variables[name[1:]]
        if not url:
            raise PathError("the expression has an external constant that is not known here")
        return said(url)

    return external


def _call(call: Call) -> _Step:
    name = call.function
    if name in ("is", "as", "ofType"):
        if len(call.arguments) != 1:
            raise PathError(f"{name}() takes the name of a type")
        return _type_test(name, _type_name(call.arguments[0]))
    if name not in FUNCTIONS:
        raise PathError(f"there is no function {name[:100]!r}")
    function, least, most = FUNCTIONS[name]
    if not least <= len(call.arguments) <= most:
        raise PathError(f"{name}() takes {least if least == most else f'{least} to {most}'} arguments")
    arguments = tuple(_compiled(each) for each in call.arguments)

    def evaluate(frame: Frame, nodes: Nodes) -> Nodes:
        frame.run.spend(len(nodes))
        return function(frame, nodes, arguments)

    return evaluate


def _type_name(tree: Tree) -> str:
    match tree:
        case Member(name):
            return name
        case Path(Member(namespace), (Member(name),)):
            return f"{namespace}.{name}"
    raise PathError("the name of a type is expected")


def _type_test(operator: str, name: str) -> _Step:
    """FHIRPath section 6.3. `as` takes several items, as search parameters of FHIR R4 want it."""
    type_ = known_type(name)
    if operator == "is":

        def test(_: Frame, nodes: Nodes) -> Nodes:
            node = single(nodes)
            return said(None if node is None else is_of(node, type_))

        return test
    return lambda _, nodes: [node for node in nodes if is_of(node, type_)]


# --- FHIRPath section 6, operators


def _sign(operator: str, operand: Evaluate) -> Evaluate:
    def evaluate(frame: Frame) -> Nodes:
        nodes = operand(frame)
        node = single(nodes)
        if node is not None and node.type == "System.Quantity":
            return [Node(node.value | {"value": -node.value["value"] if operator == "-" else node.value["value"]}, node.type)]
        value = number(nodes)
        return said(value if value is None or operator == "+" else -value)

    return evaluate


def _binary(operator: str, left: Evaluate, right: Evaluate) -> Evaluate:
    if operator in LOGIC:
        return _logical(operator, left, right)
    apply = OPERATORS[operator]

    def evaluate(frame: Frame) -> Nodes:
        frame.run.spend(1)
        return apply(left(frame), right(frame))

    return evaluate


def _logical(operator: str, left: Evaluate, right: Evaluate) -> Evaluate:
    """FHIRPath section 6.5. The right side is not looked at where the left side decides."""
    apply = LOGIC[operator]
    decided = DECIDED.get(operator)

    def evaluate(frame: Frame) -> Nodes:
        one = truth(left(frame))
        if one is not None and one is decided:
            return said(apply(one, None))
        return said(apply(one, truth(right(frame))))

    return evaluate
