"""A run: the chosen tests, and before each what it needs of others."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from lxml import etree

from conformance.nist.patients import FeedError
from conformance.nist.plan import Need, Section
from conformance.nist.preparing import LOADED_BEFORE, PATIENT_REPORT, PATIENT_SECTION, UNLIKE_STAND_INS, patient_of
from conformance.nist.record import Record, add_reports
from conformance.nist.results import Outcome, SectionResult, StepResult, TestResult
from conformance.nist.scene import Scene
from conformance.nist.sections import SectionRun
from conformance.nist.testkit import Test, Testkit
from conformance.nist.wire import Exchange


class Session:
    """Runs tests of a testkit; each section once. `told` hears of every section as it ends."""

    def __init__(
        self, kit: Testkit, scene: Scene, told: Callable[[SectionResult], None] = lambda _: None, log: Path | None = None
    ) -> None:
        """`log` is a folder for requests, answers and records; nothing is written without it."""
        self._kit, self._scene, self._told, self._log = kit, scene, told, log
        self._records: dict[Need, Record] = {}
        self._results: dict[str, TestResult] = {}
        self._begun: set[Need] = set()

    def run(self, chosen: Sequence[tuple[str, str]]) -> list[TestResult]:
        """Runs tests, each an id with a section's name or an empty string for all. Returns all that was run, needed ones first."""
        for test, section in chosen:
            self._run(test, section, asked=True)
        return list(self._results.values())

    def _run(self, id_: str, only: str = "", *, asked: bool = False) -> None:
        test = self._kit.test(id_)
        if test is None:
            self._missing(id_, only, asked=asked)
            return
        self._before(test, only)
        result = self._result(id_, test.title, asked=asked)
        if not test.sections:
            words = "the test has no test plan: it is told to a person, who does it"
            result.sections = [SectionResult(id_, "", (StepResult("", Outcome.NOT_RUN, words),))]
        for section in test.sections:
            if not only or section.name == only:
                left_out = section.name in test.left_out and not only
                self._section(test, section, result, "the toolkit's index of the test leaves it out" if left_out else "")

    def _before(self, test: Test, only: str) -> None:
        needed = [Need(each, "") for each in LOADED_BEFORE.get(test.id, ())]
        for section in test.sections:
            if not only or section.name == only:
                if other := patient_of(test.id, section.name):
                    needed.append(Need(other, PATIENT_SECTION))
                needed += sorted(section.needs, key=lambda each: (each.test, each.section))
        for need in needed:
            if need.test != test.id and need not in self._begun:
                self._begun.add(need)
                self._run(need.test)
            elif need.test == test.id and only:
                self._own(test, need)

    def _own(self, test: Test, need: Need) -> None:
        """A section of the same test that a chosen one needs."""
        if need not in self._begun and any(each.name == need.section for each in test.sections):
            self._begun.add(need)
            self._run(test.id, need.section)

    def _section(self, test: Test, section: Section, result: TestResult, left_out: str) -> None:
        need = Need(test.id, section.name)
        if need in self._records or any(each.name == section.name for each in result.sections):
            return
        reason = left_out or self._skipped(test.id, section.name) or self._unlike(test.id, section.name)
        if reason:
            found = SectionResult(
                test.id, section.name, tuple(StepResult(each.id, Outcome.NOT_RUN, reason) for each in section.steps)
            )
        else:
            run = SectionRun(self._scene, test, section, self._records, self._patient)
            found = run.run()
            self._write(found, run.record)
        result.sections.append(found)
        self._told(found)

    def _skipped(self, test: str, section: str) -> str:
        skip = self._scene.target.skip
        return next(
            (reason for word, reason in skip.items() if fnmatchcase(test, word) or fnmatchcase(f"{test}/{section}", word)), ""
        )

    def _unlike(self, test: str, section: str) -> str:
        needed = self._kit.test(UNLIKE_STAND_INS.get(f"{test}/{section}", ""))
        stands_in = needed is not None and needed.original
        return f"it needs the data of {needed.id}, which {needed.folder.name} does not have" if needed and stands_in else ""

    def _result(self, id_: str, title: str, *, asked: bool) -> TestResult:
        result = self._results.setdefault(id_, TestResult(id_, title, asked))
        result.asked = result.asked or asked
        return result

    def _patient(self, test: str) -> str:
        """The patient that a test makes known."""
        found = self._records.get(Need(test, PATIENT_SECTION))
        patient = found.report("step", PATIENT_REPORT) if found else ""
        return patient or self._scene.patients.current(test)

    def _missing(self, id_: str, only: str, *, asked: bool) -> None:
        """A test that the testkit does not have. Those that only make a patient known (`pif`) are done without it."""
        wanted = any(need.test == id_ and need.section == PATIENT_SECTION for need in self._begun)
        if not wanted or asked:
            result = self._result(id_, "", asked=asked)
            if not result.sections:
                result.sections.append(
                    SectionResult(id_, only, (StepResult("", Outcome.NOT_RUN, "the testkit has no such test"),))
                )
            return
        outcome, words = Outcome.PASS, ""
        try:
            patient = self._scene.patients.current(id_)
        except FeedError as error:
            outcome, words, patient = Outcome.FAIL, f"patient identity feed: {error}", ""
        if outcome is Outcome.PASS and not self._scene.patients.fed:
            outcome, words = Outcome.NOT_RUN, "the endpoints file has no [feed]; the patient is used as if it were known"
        record = self._records[Need(id_, PATIENT_SECTION)] = Record()
        noted = etree.SubElement(record.step("step"), "PatientIdentityFeedTransaction", step="step")
        add_reports(noted, {PATIENT_REPORT: patient} if patient else {})
        result = self._result(id_, "Patient identity feed, which the testkit does not have", asked=False)
        found = SectionResult(id_, PATIENT_SECTION, (StepResult("step", outcome, words, exchanges=self._scene.wire.drained()),))
        result.sections.append(found)
        self._write(found, record)

    def _write(self, found: SectionResult, record: Record) -> None:
        if self._log is None:
            return
        folder = self._log / found.test / found.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.xml").write_bytes(etree.tostring(record.root, pretty_print=True, encoding="UTF-8"))
        for step in found.steps:
            for number, exchange in enumerate(step.exchanges, 1):
                _write_exchange(folder, f"{step.id}.{number}".replace("/", "_"), exchange)


def _write_exchange(folder: Path, name: str, exchange: Exchange) -> None:
    (folder / f"{name}.request").write_bytes(exchange.sent)
    (folder / f"{name}.response").write_bytes(exchange.received)
