"""A test plan (`testplan.xml`) as values. Bytes in, values out; what is not known is named, never passed over."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field

from lxml.etree import _Element

from conformance.nist.vocabulary import CANNOT, CANNOT_PART, KINDS, PLAN_PARTS, STEP_PARTS, Form, Kind, parts_of
from ihe import xml

LIMIT = 16_777_216


class PlanError(ValueError):
    """A test plan that cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a section needs that came of another: the test's id and the section's name."""

    test: str
    section: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction of a step with its instructions; `reasons` say why it cannot be carried out, if so."""

    name: str
    element: _Element = field(repr=False)
    reasons: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """Its row in the vocabulary."""
        return KINDS[self.name]

    def all(self, name: str) -> list[_Element]:
        """Its instructions with this name, in order."""
        return [each for each in self.element if xml.local_name(each) == name]

    def has(self, name: str) -> bool:
        return bool(self.all(name))

    def text(self, name: str) -> str:
        """The trimmed text of its first instruction with this name; empty if there is none."""
        return xml.text_of(self.element, name)


@dataclass(frozen=True, slots=True)
class Step:
    """A TestStep. `status` are the statuses that are accepted: Success, Failure, PartialSuccess, Fault."""

    id: str
    goals: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    error_code: str = ""
    error_message: str = ""
    new_patient: bool = False
    other_patient: bool = False
    standard: _Element | None = field(default=None, repr=False)
    transactions: tuple[Transaction, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """One `testplan.xml`. `needs` are other sections whose results it uses; `reasons` say why it cannot be run, if so."""

    test: str
    name: str
    steps: tuple[Step, ...]
    needs: frozenset[Need] = frozenset()
    patient: str = ""
    reasons: tuple[str, ...] = ()


def parse_plan(data: bytes, test: str, section: str) -> Section:
    """The section of a test plan's bytes. Raises `PlanError`."""
    try:
        root = xml.parse(data.lstrip(), LIMIT)
    except xml.XmlError as error:
        raise PlanError(f"{test}/{section}: {error}") from None
    if xml.local_name(root) != "TestPlan":
        raise PlanError(f"{test}/{section}: the root must be TestPlan")
    reasons = [f"unknown instruction {name}" for each in root if (name := xml.local_name(each)) not in PLAN_PARTS]
    endpoint = xml.text_of(root, "RegistryEndpoint")
    if endpoint:
        reasons.append("it sends to a simulator of the toolkit, not to the system under test")
    steps = tuple(_step(each) for each in root.iterfind("{*}TestStep"))
    needs = frozenset(_needs(root, test, section)) - {Need(test, section)}
    return Section(test, section, steps, needs, xml.text_of(root, "PatientId"), tuple(reasons))


def _step(element: _Element) -> Step:
    transactions, reasons = [], []
    for each in element:
        name = xml.local_name(each)
        if name in KINDS:
            transactions.append(Transaction(name, each, tuple(_why_not(each, KINDS[name].form))))
        elif name in CANNOT:
            reasons.append(f"{name}: {CANNOT[name]}")
        elif name not in STEP_PARTS:
            reasons.append(f"unknown instruction {name}")
        elif name == "RegistryEndpoint":
            reasons.append("it sends to a simulator of the toolkit, not to the system under test")
    return Step(
        id=element.get("id", ""),
        goals=tuple(" ".join((each.text or "").split()) for each in element.iterfind("{*}Goal")),
        status=tuple(filter(None, (part.strip() for part in xml.text_of(element, "ExpectedStatus").split(",")))),
        error_code=xml.text_of(element, "ExpectedErrorCode"),
        error_message=xml.text_of(element, "ExpectedErrorMessage"),
        new_patient=element.find("{*}NewPatientId") is not None,
        other_patient=element.find("{*}AltPatientId") is not None,
        standard=element.find("{*}Standard"),
        transactions=tuple(transactions),
        reasons=tuple(reasons),
    )


def _why_not(transaction: _Element, form: Form) -> Iterator[str]:
    known = parts_of(form)
    for each in transaction:
        name = xml.local_name(each)
        if name in CANNOT_PART:
            yield f"{name}: {CANNOT_PART[name]}"
        elif name not in known:
            yield f"unknown instruction {name} in {xml.local_name(transaction)}"


def _needs(root: _Element, test: str, section: str) -> Iterator[Need]:
    for each in root.iter():
        match xml.local_name(each):
            case "UseReport":
                if (named := each.get("section", "")) != "THIS":
                    yield Need(each.get("test") or test, named)
            case "UseId" | "UseObjectRef" | "UseXPath" | "UseRepositoryUniqueId" | "ReferenceMetadata":
                yield from _placed(each.get("testdir", ""), test, section)
            case "TestResponse" | "TestDir":
                yield from _placed(each.get("testDir", ""), test, section)
            case "DataRef" if each.get("file", "").endswith("/log.xml"):
                yield from _placed(posixpath.dirname(each.get("file", "")), test, section)


def _placed(folder: str, test: str, section: str) -> Iterator[Need]:
    if folder and folder != "THIS":
        yield place(folder, test, section)


def place(folder: str, test: str, section: str) -> Need:
    """The section that a relative folder means, seen from a section: `../submit`, `../../12346/single_doc`; a bare name is a sister."""
    parts = [each for each in posixpath.normpath(f"/{test}/{section}/{folder}").split("/") if each]
    if len(parts) == 1:  # a test without sections
        return Need(parts[0], "")
    return Need(*parts) if len(parts) == 2 else Need(test, parts[-1])
