"""What came of a run, as text, JUnit XML and HTML."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from conformance.nist.results import BAD, Outcome, SectionResult, StepResult, TestResult, counted
from conformance.nist.wire import Exchange
from ihe import xml

_LONGEST = 20_000
_TAGS = {Outcome.FAIL: "failure", Outcome.ERROR: "error", Outcome.NOT_RUN: "skipped"}


def summary(results: Sequence[TestResult]) -> str:
    """One line: how many tests, and steps, ended how."""
    steps = Counter(step.outcome for _, _, step in each_step(results))
    return f"tests: {_told(counted(results))}; steps: {_told(steps)}"


def _told(counts: Counter[Outcome]) -> str:
    return ", ".join(f"{counts[outcome]} {words}" for outcome, words in _WORDS.items() if counts[outcome]) or "none"


_WORDS = {
    Outcome.PASS: "passed",
    Outcome.FAIL: "failed",
    Outcome.ERROR: "could not be carried out",
    Outcome.NOT_RUN: "not run",
}


def as_text(results: Sequence[TestResult]) -> str:
    """Each test with its outcome, and of those that did not pass each step with the reason; then the counts."""
    lines = []
    for test in results:
        aside = "" if test.asked else "  (needed by others)"
        lines.append(f"{_label(test):8} {test.id}  {test.title}{aside}")
        for section in test.sections:
            for step in section.steps:
                if step.outcome is not Outcome.PASS:
                    lines.append(f"    {step.outcome.upper()} {_name(section, step)}")
                    lines += [f"        {line}" for line in step.words.splitlines()]
    return "\n".join([*lines, summary(results), ""])


def _label(test: TestResult) -> str:
    """A test of which a part could not be run, and the rest passed, is not counted as passed; but it is said that it was run."""
    steps = {step.outcome for section in test.sections for step in section.steps}
    return "IN PART" if steps == {Outcome.PASS, Outcome.NOT_RUN} else test.outcome.upper()


def as_junit(results: Sequence[TestResult], target: str) -> str:
    """JUnit XML: a test suite for each test, a test case for each step."""
    root = ET.Element("testsuites", name=f"XDS Toolkit test plans against {target}")
    for test in results:
        steps = [step for section in test.sections for step in section.steps]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=test.id,
            tests=str(len(steps)),
            failures=str(sum(each.outcome is Outcome.FAIL for each in steps)),
            errors=str(sum(each.outcome is Outcome.ERROR for each in steps)),
            skipped=str(sum(each.outcome is Outcome.NOT_RUN for each in steps)),
            time=f"{sum(each.seconds for each in steps):.3f}",
        )
        for section in test.sections:
            for step in section.steps:
                _junit_case(suite, section, step)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_case(suite: ET.Element, section: SectionResult, step: StepResult) -> None:
    name = f"{section.test}.{section.name}" if section.name else section.test
    case = ET.SubElement(suite, "testcase", classname=name, name=step.id or "test", time=f"{step.seconds:.3f}")
    if tag := _TAGS.get(step.outcome):
        ET.SubElement(case, tag, message=xml.clean(step.words))
    if step.outcome in BAD and step.exchanges:
        ET.SubElement(case, "system-out").text = xml.clean("\n\n".join(map(shown, step.exchanges)))


def as_html(results: Sequence[TestResult], target: str, when: str) -> str:
    """A page to read; what went over the wire is with the steps that did not pass."""
    from jinja2 import Environment, FileSystemLoader

    folder = Path(__file__).resolve().parent
    template = Environment(loader=FileSystemLoader(folder), autoescape=True).get_template("report.html.jinja")
    return template.render(results=results, target=target, when=when, summary=summary(results), shown=shown, bad=BAD)


def each_step(results: Sequence[TestResult]) -> Iterator[tuple[TestResult, SectionResult, StepResult]]:
    """Every step with its section and test, in order."""
    for test in results:
        for section in test.sections:
            for step in section.steps:
                yield test, section, step


def shown(exchange: Exchange) -> str:
    """A request and its answer as text; what is long is cut."""
    return f"> {exchange.title}\n{_text(exchange.sent)}\n< after {exchange.seconds * 1000:.0f} ms\n{_text(exchange.received)}".rstrip()


def _text(data: bytes) -> str:
    text = data[:_LONGEST].decode("utf-8", "replace").replace("\r", "")
    return text if len(data) <= _LONGEST else f"{text} [... {len(data)} bytes]"


def _name(section: SectionResult, step: StepResult) -> str:
    return "/".join(filter(None, (section.test, section.name, step.id)))
