"""Assertions in XPath over what a section's run left behind."""

import re
from collections.abc import Iterator
from copy import deepcopy

from lxml import etree
from lxml.etree import _Element

from conformance.nist.expected import Check
from conformance.nist.record import Record, evaluated

_LONGEST = 300


def data_of(sources: dict[str, Record | _Element]) -> _Element:
    """What expressions see: `Data`, with a copy of each source below an element of its name."""
    data = etree.Element("Data")
    for name, source in sources.items():
        etree.SubElement(data, name).append(deepcopy(source.root if isinstance(source, Record) else source))
    return data


def check_xpath(data: _Element, name: str, expression: str, description: str = "") -> Check:
    """Whether an expression is true of the data."""
    expression = " ".join(expression.split())
    what = f"assertion {name}" + (f" ({description})" if description else "")
    try:
        value = evaluated(data, expression)
    except etree.XPathError as error:
        return Check(what, expression, f"an expression that is not XPath 1.0: {error}", False)
    passed = value.lower() == "true"
    return Check(what, expression, "true" if passed else _told(data, expression, value), passed)


def _told(data: _Element, expression: str, value: str) -> str:
    sides = list(_sides(expression))
    if len(sides) != 2:
        return value or "nothing"
    values = []
    for side in sides:
        try:
            values.append(evaluated(data, side) or "nothing")
        except etree.XPathError:
            return value
    return " on the left, ".join(each[:_LONGEST] for each in values) + " on the right"


def _sides(expression: str) -> Iterator[str]:
    """The two sides of the comparison that is not within brackets or quotes."""
    depth, start = 0, 0
    for found in re.finditer(r"'[^']*'|\"[^\"]*\"|[\[(]|[\])]|!?=|<=|>=", expression):
        token = found[0]
        if token in "[(":
            depth += 1
        elif token in "])":
            depth -= 1
        elif token in ("=", "!=", "<=", ">=") and depth == 0:
            yield expression[start : found.start()].strip()
            start = found.end()
    yield expression[start:].strip()
