"""What came of a run, as text, JUnit XML, HTML and JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from conformance.smart.kit import Outcome, Result
from conformance.smart.requirements import requirements
from conformance.smart.wire import masked

BAD = (Outcome.FAIL, Outcome.ERROR)


def summary(results: Sequence[Result]) -> str:
    """One line: how many of each."""
    counts = Counter(each.outcome for each in results)
    return ", ".join(f"{counts[outcome]} {words}" for outcome, words in _WORDS.items() if counts[outcome]) or "no cases"


_WORDS = {Outcome.PASS: "passed", Outcome.FAIL: "failed", Outcome.ERROR: "could not be carried out", Outcome.SKIP: "skipped"}


def as_text(results: Sequence[Result]) -> str:
    """What failed, with why; then what was skipped, by its reason; then the counts."""
    lines = []
    for each in results:
        if each.outcome in BAD:
            numbers = f" [{', '.join(map(str, each.case.requirements))}]" if each.case.requirements else ""
            lines += [f"{each.outcome.upper()} {each.case.id}{numbers}: {each.case.title}", f"    {masked(each.words)}"]
    reasons = Counter(masked(each.words) for each in results if each.outcome is Outcome.SKIP)
    lines += [f"skipped {count}: {reason}" for reason, count in reasons.most_common()]
    return "\n".join([*lines, summary(results), ""])


def as_json(results: Sequence[Result], target: str, when: str) -> str:
    """All of it, with the requests of each case."""
    cases = [
        {
            "id": each.case.id,
            "title": each.case.title,
            "area": each.case.area,
            "requirements": each.case.requirements,
            "source": each.case.source,
            "outcome": each.outcome,
            "words": masked(each.words),
            "seconds": round(each.seconds, 4),
            "exchanges": [str(one) for one in each.exchanges],
        }
        for each in results
    ]
    counts = Counter(each.outcome for each in results)
    return json.dumps({"target": target, "when": when, "counts": counts, "cases": cases}, indent=1)


def as_junit(results: Sequence[Result], target: str) -> str:
    """JUnit XML, a test suite for each area."""
    root = ET.Element("testsuites", name=f"SMART conformance of {target}")
    for area, found in _areas(results).items():
        counts = Counter(each.outcome for each in found)
        suite = ET.SubElement(
            root,
            "testsuite",
            name=area,
            tests=str(len(found)),
            failures=str(counts[Outcome.FAIL]),
            errors=str(counts[Outcome.ERROR]),
            skipped=str(counts[Outcome.SKIP]),
            time=f"{sum(each.seconds for each in found):.3f}",
        )
        for each in found:
            _junit_case(suite, each)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_case(suite: ET.Element, result: Result) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=result.case.area, name=f"{result.case.id}: {result.case.title}", time=f"{result.seconds:.3f}"
    )
    tag = {Outcome.FAIL: "failure", Outcome.ERROR: "error", Outcome.SKIP: "skipped"}.get(result.outcome)
    if tag:
        ET.SubElement(case, tag, message=_printable(masked(result.words)))
    if result.outcome in BAD:
        ET.SubElement(case, "system-out").text = _printable("\n\n".join(map(str, result.exchanges)))


def _printable(text: str) -> str:
    """Without characters that XML 1.0 does not have."""
    return "".join(each if each >= " " or each in "\t\n\r" else "?" for each in text)


def as_html(results: Sequence[Result], target: str, when: str) -> str:
    """A page to read; requests are with what failed."""
    from jinja2 import Environment, FileSystemLoader

    folder = Path(__file__).resolve().parent
    template = Environment(loader=FileSystemLoader(folder), autoescape=True).get_template("report.html.jinja")
    counts = Counter(each.outcome for each in results)
    return template.render(
        target=target, when=when, counts=dict(counts), areas=_areas(results), requirements=dict(requirements())
    )


def write(results: Sequence[Result], folder: Path, target: str, when: str) -> list[Path]:
    """All forms into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "report.txt": as_text(results),
        "report.json": as_json(results, target, when),
        "report.xml": as_junit(results, target),
        "report.html": as_html(results, target, when),
    }
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in contents]


def _areas(results: Sequence[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for each in results:
        found.setdefault(each.case.area, []).append(each)
    return found
