"""FHIRPath 2.0 (HL7 FHIRPath Normative Release 1, used by FHIR R4) as a tree: tokens, and a parser by precedence.

Expressions come from clients too (patches, search parameters, profiles), so that length and depth are limited here, before anything is evaluated.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

LONGEST: Final = 16_000
"""Characters of an expression: the longest of FHIR R4's own, of its search parameters, has 1,900."""
_DEEPEST: Final = 60


class PathError(ValueError):
    """An expression that cannot be read, or that fails on what it is evaluated on. The text may be shown to a client: it holds no content of resources."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A value of FHIRPath's own types: `type` is `System.Integer` and the like; None is the empty collection `{}`."""

    value: object
    type: str


@dataclass(frozen=True, slots=True)
class Variable:
    """`$this`, `$index` and `$total`, or an external constant as `%resource`."""

    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """The children of that name; at the beginning of a path also the type of what it starts from."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: "tuple[Tree, ...]"


@dataclass(frozen=True, slots=True)
class Item:
    """`[n]`"""

    index: "Tree"


@dataclass(frozen=True, slots=True)
class Path:
    """What `head` yields, through each of `steps`."""

    head: "Tree"
    steps: "tuple[Member | Call | Item, ...]"


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: "Tree"
    right: "Tree"


@dataclass(frozen=True, slots=True)
class Sign:
    """`-` before an expression; `+` says nothing but that it is a number."""

    operator: str
    operand: "Tree"


@dataclass(frozen=True, slots=True)
class TypeTest:
    """`is` and `as` as operators. `type` may have its namespace before it: `System.String`."""

    operator: str
    operand: "Tree"
    type: str


Tree = Literal | Variable | Member | Call | Path | Binary | Sign | TypeTest

# FHIRPath section 6.8: from loose to tight
_PRECEDENCE: Final = {
    operator: place
    for place, operators in enumerate(
        (("implies",), ("or", "xor"), ("and",), ("in", "contains"), ("=", "~", "!=", "!~"), ("<=", "<", ">", ">="), ("|",), ("is", "as"),
         ("+", "-", "&"), ("*", "/", "div", "mod")), start=1
    )
    for operator in operators
}  # fmt: skip
UNITS: Final = frozenset(
    f"{unit}{plural}"
    for unit in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
    for plural in ("", "s")
)
_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)
    |(?P<time>@T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?)
    |(?P<date>@\d{4}(?:-\d\d(?:-\d\d)?)?(?P<rest>T(?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d)?)?)?)
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<string>'(?:[^'\\]|\\.)*')
    |(?P<variable>\$(?:this|index|total)|%(?:[A-Za-z_][\w\-]*|`[^`]*`|'(?:[^'\\]|\\.)*'))
    |(?P<quoted>`(?:[^`\\]|\\.)*`)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<sign><=|>=|!=|!~|[-+*/&|=~<>.,()\[\]{}])""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    place: int


def parse(expression: str) -> Tree:
    """FHIRPath sections 2 to 6 and the grammar of its appendix A. Raises `PathError`, which says where."""
    if len(expression) > LONGEST:
        raise PathError(f"an expression has at most {LONGEST:,} characters")
    return _Parser(_tokens(expression)).whole()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise PathError(f"character {place + 1} begins nothing that FHIRPath knows")
        kind = "date" if match.lastgroup == "rest" else str(match.lastgroup)
        if kind != "space":
            found.append(_Token(kind, match[0], place))
        place = match.end()
    found.append(_Token("end", "", place))
    return found


def unescaped(text: str) -> str:
    """FHIRPath section 4.1.1: what stands between quotes, with its escapes resolved."""

    def one(match: re.Match[str]) -> str:
        each = match[1]
        if each == "u":
            raise PathError("\\u in a text takes four hexadecimal digits")
        return chr(int(each[1:], 16)) if len(each) == 5 else _ESCAPES.get(each, each)

    return _ESCAPE.sub(one, text)


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> Tree:
        tree = self._expression(0)
        if self._next.kind != "end":
            raise self._error("an operator or the end")
        return tree

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at += token.kind != "end"
        return token

    def _takes(self, *texts: str) -> bool:
        """Takes the next token where it is one of these signs or words."""
        if self._next.text in texts and self._next.kind in ("sign", "name"):
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._takes(text):
            raise self._error(f"{text!r}")

    def _error(self, wanted: str) -> PathError:
        return PathError(f"at character {self._next.place + 1}, {wanted} is expected")

    def _expression(self, loosest: int) -> Tree:
        """As much as binds tighter than `loosest`. A run of operators nests to the left, which counts as depth."""
        before = self._depth
        self._deeper()
        left = self._signed()
        while True:
            token = self._next
            place = _PRECEDENCE.get(token.text, 0) if token.kind in ("sign", "name") else 0
            if place <= loosest:
                self._depth = before
                return left
            self._at += 1
            self._deeper()
            if token.text in ("is", "as"):
                left = TypeTest(token.text, left, self._type())
            else:
                left = Binary(token.text, left, self._expression(place))

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise PathError(f"an expression is nested or chained in at most {_DEEPEST} operators")

    def _signed(self) -> Tree:
        if self._next.kind == "sign" and self._next.text in ("+", "-"):
            operator = self._take().text
            self._deeper()
            operand = self._signed()
            self._depth -= 1
            return Sign(operator, operand)
        return self._path()

    def _path(self) -> Tree:
        head = self._term()
        steps: list[Member | Call | Item] = []
        while self._next.kind == "sign":
            if self._takes("."):
                step = self._invocation()
                steps.append(step)
            elif self._takes("["):
                steps.append(Item(self._expression(0)))
                self._expect("]")
            else:
                break
        return Path(head, tuple(steps)) if steps else head

    def _term(self) -> Tree:
        token = self._next
        if token.kind == "sign":
            return self._enclosed()
        if token.kind in ("name", "quoted"):
            if token.text in ("true", "false") and token.kind == "name":
                self._take()
                return Literal(token.text == "true", "System.Boolean")
            return self._invocation()
        self._take()
        match token.kind:
            case "string":
                return Literal(unescaped(token.text[1:-1]), "System.String")
            case "number":
                return self._number(token.text)
            case "date":
                text = token.text[1:]
                return Literal(text.removesuffix("T"), "System.DateTime" if "T" in text else "System.Date")
            case "time":
                return Literal(token.text[2:], "System.Time")
            case "variable":
                return Variable(token.text[0] + unescaped(token.text[1:].strip("`'")))
        self._at -= token.kind != "end"
        raise self._error("a value or a path")

    def _enclosed(self) -> Tree:
        if self._takes("("):
            tree = self._expression(0)
            self._expect(")")
            return tree
        if self._takes("{"):
            self._expect("}")
            return Literal(None, "")
        raise self._error("a value or a path")

    def _number(self, text: str) -> Literal:
        value = Decimal(text)
        if self._next.kind == "string":
            return Literal({"value": value, "unit": unescaped(self._take().text[1:-1])}, "System.Quantity")
        if self._next.kind == "name" and self._next.text in UNITS:
            return Literal({"value": value, "unit": self._take().text.removesuffix("s")}, "System.Quantity")
        return Literal(value, "System.Decimal") if "." in text else Literal(int(text), "System.Integer")

    def _invocation(self) -> Member | Call:
        token = self._take()
        if token.kind == "variable" and token.text.startswith("$"):
            raise PathError(f"at character {token.place + 1}, {token.text} stands at the beginning of a path only")
        if token.kind not in ("name", "quoted"):
            self._at -= token.kind != "end"
            raise self._error("a name")
        name = token.text if token.kind == "name" else unescaped(token.text[1:-1])
        if not (self._next.kind == "sign" and self._takes("(")):
            return Member(name)
        arguments: list[Tree] = []
        if not self._takes(")"):
            arguments.append(self._expression(0))
            while self._takes(","):
                arguments.append(self._expression(0))
            self._expect(")")
        return Call(name, tuple(arguments))

    def _type(self) -> str:
        enclosed = self._takes("(")
        names = [self._name()]
        if self._takes("."):
            names.append(self._name())
        if enclosed:
            self._expect(")")
        return ".".join(names)

    def _name(self) -> str:
        token = self._take()
        if token.kind not in ("name", "quoted"):
            raise self._error("the name of a type")
        return token.text.strip("`")
