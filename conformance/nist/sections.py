"""One section run from its first step to its last; the first that does not pass ends it."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path

from lxml import etree
from lxml.etree import _Element

from conformance.nist.asserting import Asserting
from conformance.nist.expected import Check
from conformance.nist.patients import FeedError
from conformance.nist.plan import Need, Section, Step, Transaction
from conformance.nist.preparation import Preparation
from conformance.nist.preparing import PATIENT_REPORT
from conformance.nist.record import Record, add_reports, reported
from conformance.nist.results import NotRun, Outcome, SectionResult, StepResult
from conformance.nist.scene import Scene
from conformance.nist.steps import Transactions
from conformance.nist.testkit import Test
from conformance.nist.values import Values
from conformance.nist.vocabulary import Form
from conformance.nist.wire import NoAnswer


class SectionRun:
    """A run of one section. `records` are those of all that was run before."""

    def __init__(
        self,
        scene: Scene,
        test: Test,
        section: Section,
        records: dict[Need, Record],
        patient_of_test: Callable[[str], str],
    ) -> None:
        self._scene, self._test, self._section = scene, test, section
        self._record = records[Need(section.test, section.name)] = Record()
        values = Values(records, section, self._record)
        folder: Path = test.folder_of(section.name)
        self._preparation = Preparation(scene.target, scene.patients, section, folder, values, patient_of_test)
        self._transactions = Transactions(scene, test, self._preparation, values)
        self._asserting = Asserting(scene, self._preparation, values)

    @property
    def record(self) -> Record:
        """What it leaves behind."""
        return self._record

    def run(self) -> SectionResult:
        """Carries out its steps."""
        results: list[StepResult] = []
        blocked = "; ".join(self._section.reasons)
        for step in self._section.steps:
            if blocked:
                results.append(StepResult(step.id, Outcome.NOT_RUN, blocked, step.goals))
                continue
            result = self._step(step)
            results.append(result)
            fed_by_hand = result.outcome is Outcome.NOT_RUN and bool(self._record.report(step.id, PATIENT_REPORT))
            if result.outcome is not Outcome.PASS and not fed_by_hand:
                blocked = f"step {step.id} before it did not pass"
        if not results:
            results.append(StepResult("", Outcome.NOT_RUN, blocked or "the plan has no steps"))
        return SectionResult(self._section.test, self._section.name, tuple(results))

    def _step(self, step: Step) -> StepResult:
        self._scene.wire.drained()
        began, checks = time.perf_counter(), list[Check]()
        outcome, words = Outcome.PASS, ""
        try:
            self._carry_out(step, checks)
        except NotRun as reason:
            outcome, words = Outcome.NOT_RUN, str(reason)
        except FeedError as error:
            outcome, words = Outcome.FAIL, f"patient identity feed: {error}"
        except NoAnswer as error:
            outcome, words = Outcome.ERROR, f"no answer: {error}"
        except Exception as error:  # noqa: BLE001 - an answer that nothing expected must not end the run
            where = traceback.extract_tb(error.__traceback__)[-1]
            outcome, words = Outcome.ERROR, f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
        failed = [str(each) for each in checks if not each.passed]
        if failed:
            outcome, words = Outcome.FAIL, "\n".join(failed)
        exchanges = self._scene.wire.drained()
        return StepResult(step.id, outcome, words, step.goals, tuple(checks), exchanges, time.perf_counter() - began)

    def _carry_out(self, step: Step, checks: list[Check]) -> None:
        reasons = [*step.reasons, *(reason for each in step.transactions for reason in each.reasons)]
        if reasons:
            raise NotRun("; ".join(dict.fromkeys(reasons)))
        if step.new_patient:
            self._scene.patients.use(self._test.id, self._scene.patients.fresh())
        noted_step = self._record.step(step.id)
        for transaction in step.transactions:
            self._transaction(transaction, step, etree.SubElement(noted_step, transaction.name, step=step.id), checks)

    def _transaction(self, transaction: Transaction, step: Step, noted: _Element, checks: list[Check]) -> None:
        try:
            checks.extend(self._transactions.run(transaction, step, noted))
        except (NotRun, NoAnswer):
            if transaction.kind.form is not Form.FEED:
                parent = noted.getparent()
                if parent is not None:
                    parent.remove(noted)
                raise
            add_reports(noted, {PATIENT_REPORT: noted.get("patient", "")})
            raise
        # What was looked at before an exception stays in the list.
        if all(each.passed for each in checks):
            checks += self._report(transaction, step, noted)
        if all(each.passed for each in checks):
            checks.extend(self._asserting.run(transaction, step))

    def _report(self, transaction: Transaction, step: Step, noted: _Element) -> list[Check]:
        """Notes what later steps may use; an expression that finds nothing fails the step."""
        if "Fault" in step.status:
            return []
        values = {name: value for name, value in self._preparation.given().items() if value}
        patient = noted.get("patient") or self._scene.patients.used(self._test.id)
        if patient:
            values[PATIENT_REPORT] = patient
        for section, suffix in (("AssignedUids", "_uid"), ("AssignedUuids", "_uuid")):
            values |= {f"{each.get('symbol')}{suffix}": each.get("id", "") for each in noted.iterfind(f"{section}/Assign")}
        failed = []
        for each in transaction.all("Report"):
            name, expression = each.get("name", ""), each.text or ""
            try:
                value, problem = reported(noted, each.get("section", ""), expression), "nothing"
            except etree.XPathError as error:
                value, problem = "", f"an expression that is not XPath 1.0: {error}"
            if value:
                values[name] = value
            else:
                failed.append(Check(f"report {name}", " ".join(expression.split()), problem, False))
        add_reports(noted, values)
        return failed
