"""What a section's run left behind, as the toolkit's `log.xml` has it: reports, ids and assertions of later steps are found in it by XPath.

<TestResults><TestStep id><RegisterTransaction step><AssignedUids/><InputMetadata/><Result/><Reports/></...></TestStep></TestResults>
"""

from collections.abc import Mapping
from copy import deepcopy

from lxml import etree
from lxml.etree import _Element

from ihe import xml


class Record:
    """One section's results, as XML that grows step by step."""

    def __init__(self) -> None:
        self.root = etree.Element("TestResults")

    def step(self, id: str) -> _Element:
        """A new TestStep."""
        return etree.SubElement(self.root, "TestStep", id=id)

    def transaction(self, step: str) -> _Element | None:
        """The first transaction of a step; None if there is no such step or it did nothing."""
        for each in self.root.iterfind("TestStep"):
            if each.get("id") == step:
                return next((child for child in each if xml.local_name(child).endswith("Transaction")), None)
        return None

    def assigned(self, step: str, section: str, id: str) -> str:
        """What was assigned to `id` in a step; `section` is AssignedUids, AssignedUuids, AssignedPatientId. Empty if nothing was."""
        found = self.transaction(step)
        for each in [] if found is None else found.iterfind(f"{section}/Assign"):
            if each.get("symbol") == id:
                return each.get("id", "")
        return ""

    def report(self, step: str, name: str) -> str:
        """The value that a step reported under a name; empty if it did not."""
        for each in self.root.iterfind("TestStep"):
            if each.get("id") == step:
                for one in each.iterfind("*/Reports/Report"):
                    if one.get("name") == name:
                        return one.text or ""
        return ""

    def result(self, step: str) -> _Element | None:
        """The payload of the answer that a step got."""
        found = self.transaction(step)
        return None if found is None else found.find("Result/*")


def add_assigned(transaction: _Element, section: str, values: Mapping[str, str]) -> None:
    """Notes what was assigned to which id."""
    made = etree.SubElement(transaction, section)
    for symbol, value in values.items():
        etree.SubElement(made, "Assign", symbol=symbol, id=value)


def add_copy(transaction: _Element, name: str, element: _Element) -> None:
    """Notes a message under this name."""
    etree.SubElement(transaction, name).append(deepcopy(element))


def add_reports(transaction: _Element, values: Mapping[str, str]) -> None:
    """Notes reports: values by name."""
    made = etree.SubElement(transaction, "Reports")
    for name, value in values.items():
        etree.SubElement(made, "Report", name=name).text = xml.clean(value)


def evaluated(context: _Element, expression: str) -> str:
    """The string value of an XPath expression, as XPath's string() gives it. Raises `etree.XPathError`."""
    found = context.xpath(expression)
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, float):
        return f"{found:g}"
    if isinstance(found, list):
        if not found:
            return ""
        return "".join(map(str, found[0].itertext())) if isinstance(found[0], _Element) else str(found[0])
    return str(found)


def reported(transaction: _Element, section: str, expression: str) -> str:
    """The value of a Report: an expression seen from a part of the transaction's own record, and from nothing beyond that. Raises `etree.XPathError`."""
    alone = deepcopy(transaction)
    context = next((each for each in alone.iter() if xml.local_name(each) == section), alone)
    return evaluated(context, expression.strip()).strip()
