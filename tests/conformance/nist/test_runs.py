"""Runs over real sockets against a small registry: what passes, what fails and is told, what is not run and why."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conformance.nist import feed
from conformance.nist.reports import as_html, as_junit, as_text, summary
from conformance.nist.results import Outcome, TestResult
from conformance.nist.running import Outputs, exit_code
from conformance.nist.target import TargetError, read_target, target_of
from peers.small_registry import SmallRegistry, unused_port


PLAIN = ["11990", "11991", "11992", "12021", "12370/rplc", "11966", "11979"]
FAULTS = [
    ("status", "11990", "status: expected Success"),
    ("action", "11990", "wsa:Action: expected"),
    ("relates", "11990", "wsa:RelatesTo: expected"),
    ("deprecates nothing", "11992", "status of documents"),
    ("bytes", "12021", "bytes of"),
    ("feed", "11990", "acknowledgment"),
]


def words(result: TestResult) -> str:
    return "\n".join(step.words for section in result.sections for step in section.steps)


@pytest.mark.parametrize("test", PLAIN)
def test_a_registry_that_does_it_passes(test: str, nist: Path, run: Run, registry: SmallRegistry) -> None:
    results = run(nist / "testkit", registry, test, outputs=Outputs(schemas=nist / "schema" / "v3"))
    assert {id_: (each.outcome, words(each)) for id_, each in results.items()} == dict.fromkeys(results, (Outcome.PASS, ""))
    assert exit_code(list(results.values())) == 0


@pytest.mark.parametrize(("fault", "test", "told"), FAULTS)
def test_one_that_does_it_wrong_fails(fault: str, test: str, told: str, nist: Path, run: Run, registry: SmallRegistry) -> None:
    registry.faults.add(fault)
    results = run(nist / "testkit", registry, test)
    assert told in "\n".join(map(words, results.values()))
    assert exit_code(list(results.values())) == 1


def test_a_stranger_is_refused(nist: Path, run: Run, registry: SmallRegistry) -> None:
    assert run(nist / "testkit", registry, "11996")["11996"].outcome is Outcome.PASS
