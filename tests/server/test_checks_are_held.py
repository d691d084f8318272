"""Whether the tests would notice: authorization checks of `server/access`, `server/edges` and what authorizes apps are taken out, one at a time, and a
test has to fail.

Another sample of them with each `make test-deep`; all with IMAGESHARE_TEST_EVERY_CHECK=1, which takes hours.
"""

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.taken_out import ROOT, VARIABLE, Check, checks, without

ALL = checks(
    "server/access", "server/edges", *(f"server/work/{name}.py" for name in ("authorizing", "asking", "choosing", "connected", "emergencies"))
)  # fmt: skip
SAMPLE = 24
TESTS = {
    "server/access/oauth/": ["tests/server/edges/smart", "tests/server/access/oauth"],
    "server/access/people/": ["tests/server/access/people", "tests/server/edges/pages"],
    "server/access/break_glass": ["tests/server/edges/pages/test_emergency.py"],
    "server/access/capabilities": ["tests/server/edges/test_dicomweb_capabilities.py", "tests/server/edges/test_imaging_access.py"],
    "server/access/consent": ["tests/server/access/test_consent_rules.py", "tests/server/access/test_pcf.py", "tests/server/edges/test_consents_enforced.py", "tests/server/edges/test_whose_it_is.py", "tests/server/edges/test_withheld_is_absent.py"],
    "server/access/rights": ["tests/server/access/test_rights.py", "tests/server/edges/smart/test_token.py", "tests/server/edges/smart/test_refresh.py"],
    "server/access/studies": ["tests/server/edges/test_one_study_alone.py", "tests/server/access/test_separate_servers.py", "tests/server/edges/test_imaging_access.py"],
    "server/access/decisions": ["tests/server/edges/test_who_says_who_may.py", "tests/server/edges/test_one_study_alone.py", "tests/server/edges/test_whose_it_is.py", "tests/server/access", "tests/server/edges/fhir/test_write_access.py"],
    "server/access/foreign": ["tests/server/access/test_foreign.py", "tests/server/access/test_separate_servers.py"],
    "server/access/grants": ["tests/server/test_cli.py"],
    "server/access/guesses": ["tests/server/access/test_foreign.py"],
    "server/access/tokens": ["tests/server/access/test_keys.py", "tests/server/access/test_decisions.py", "tests/server/access/test_rights.py"],
    "server/access/assertions": ["tests/server/access/test_assertions.py", "tests/server/edges/test_soap_xua.py"],
    "server/access/partners": ["tests/server/test_http_tls.py", "tests/server/edges/test_soap_xua.py"],
    "server/access/": ["tests/server/access/test_tokens.py", "tests/server/access/test_decisions.py", "tests/server/access/test_rights.py", "tests/server/edges/test_fhir.py"],
    "server/edges/pages/": ["tests/server/edges/pages"],
    "server/work/": ["tests/server/edges/smart", "tests/server/edges/pages"],
    "server/edges/smart/": ["tests/server/edges/smart"],
    "server/edges/soap/": ["tests/server/edges/test_soap_refusals.py", "tests/server/edges/test_soap_registry.py", "tests/server/edges/test_soap_retrieve.py", "tests/server/edges/test_soap_provide.py", "tests/server/edges/test_soap_remove.py", "tests/server/edges/test_soap_xua.py"],
    "server/edges/systems": ["tests/server/test_http_tls.py", "tests/server/edges/test_soap_refusals.py", "tests/server/edges/test_dicomweb_wado_uri.py"],
    "server/edges/mllp/": ["tests/server/edges/test_mllp.py", "tests/server/test_mllp_role.py"],
    "server/edges/fhir/provide_bundle": ["tests/server/edges/fhir/test_provide_bundle.py"],
    "server/edges/dimse/": ["tests/server/edges/test_dimse_query.py", "tests/server/edges/test_dimse_retrieve.py"],
    "server/edges/dicomweb/": ["tests/server/edges/test_dicomweb.py", "tests/server/edges/test_dicomweb_subscriptions.py", "tests/server/edges/test_dicomweb_workitems.py", "tests/server/edges/test_dicomweb_delete.py", "tests/server/edges/test_dicomweb_correct.py", "tests/server/edges/test_imaging_access.py", "tests/server/edges/test_one_study_alone.py", "tests/server/edges/test_withheld_is_absent.py", "tests/server/edges/test_consents_enforced.py"],
    "server/edges/": ["tests/server/edges/test_who_says_who_may.py", "tests/server/edges/test_fhir.py", "tests/server/edges/test_revocation.py", "tests/server/edges/fhir/test_write_access.py", "tests/server/edges/fhir/test_binary.py"],
}  # fmt: skip
"""What looks at a module after the tests that have its name, by how its path begins: the first that fits. Whatever that does not notice, the routes may."""
SECOND_LOOK = ["tests/server/test_every_route.py"]
LEFT_OUT = "not browser and not apps and not postgresql"
"""Slow ones, that look at the same."""
UNNOTICED: dict[tuple[str, str], str] = {
    (
        "server/access/consents.py",
        "RULE.c.patient.in_(sorted(patients))",
    ): "saves work: whether there is any Consent to look at, before each row is held against those that there are",
    (
        "server/access/consents.py",
        "RULE.c.patient.in_(sorted(set(patients) - own))",
    ): "saves work: whether there is any Consent to look at, before each row is held against those that there are",
    (
        "server/access/consents.py",
        "RULE.c.denies == 1",
    ): "saves work: whether there is any Consent to look at, before each row is held against those that there are",
    (
        "server/edges/pages/hospital.py",
        "if visit.session is None",
    ): "what was begun in a session is refused without it before that",
    (
        "server/edges/dimse/retrieval.py",
        "asked.decision.require(STUDY_TYPE, Interaction.READ)",
    ): "a peer that may ask at all may ask for everything; who may not has no presentation context",
    (
        "server/edges/fhir/binary.py",
        "work.require_write(connection, asking, request.path_params.get('id', ''), given)",
    ): "saves decoding the content: who may write it is judged again when it is there",
    ("server/edges/dicomweb/store.py", "decision.require(STUDY_TYPE, Interaction.CREATE)"): (
        "who has no scope for it does not reach every patient either: the next check refuses, in other words"
    ),
    ("server/edges/fhir/binary.py", "work.require_write(connection, asking, request.path_params.get('id', ''), _with_"): (
        "saves taking the content: who may write it is judged again when it is there"
    ),
    ("server/edges/dimse/find.py", "asked.decision.require(STUDY_TYPE, Interaction.SEARCH)"): (
        "a peer that may ask at all may ask for everything; who may not has no presentation context"
    ),
    ("server/edges/dicomweb/changes.py", "decision.require(STUDY_TYPE, interaction)"): (
        "who has no scope for it does not reach every patient either: the next check refuses, in other words"
    ),
    ("server/access/people/sign_in.py", "self.tries.require_room(address, browser)"): "saves work: the counter refuses too",
    ("server/access/people/tries.py", "if not browser.accounts and (wait := self._throttles.was_beyond(self.of_address,"): (
        "saves work: the counter refuses too"
    ),
    ("server/access/people/tries.py", "if of_address and self._throttles.is_spent(of_address[0][0], *of_address[0][1])"): (
        "saves counting the others: the counter refuses too"
    ),
    (
        "server/access/people/tries.py",
        "if of_address and (not taken[0])",
    ): "who comes too late by a race is not looked at, and told so in other words",
    ("server/access/people/recovery.py", "if known.id != account.id"): (
        "an address is one account's: another has it only if it was given to her between two statements"
    ),
    (
        "server/access/people/passkeys.py",
        "if not _ID.fullmatch(plain)",
    ): "PostgreSQL refuses such a text, SQLite finds no key of it",
    ("server/access/oauth/authorization_code.py", "if granted is None or not granted.holds(now)"): (
        "the check after it, whether it would open anything, finds that a grant has ended too"
    ),
    ("server/edges/dicomweb/delete.py", "decision.require(STUDY_TYPE, interaction)"): (
        "who has no scope for it reaches no patient, so that the next check refuses too, in other words"
    ),
    (
        "server/access/foreign_keys.py",
        "if key is None",
    ): "without a key nothing is verified either: joserfc refuses it, in other words",
}
"""Checks whose loss no test notices, each with the reason why that is right."""


def sample() -> list[Check]:
    """The same for every process of one run; none where it is not looked at."""
    if os.environ.get("IMAGESHARE_TEST_DEEP") != "1":
        return []
    if os.environ.get("IMAGESHARE_TEST_EVERY_CHECK") == "1":
        return ALL
    chance = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(time.time_ns()))
    return sorted(chance.sample(ALL, SAMPLE))


def looks(path: str) -> Iterator[list[str]]:
    if named := [str(each.relative_to(ROOT)) for each in sorted(ROOT.glob(f"tests/server/**/test_*{Path(path).stem}.py"))]:
        yield named
    yield next(tests for start, tests in TESTS.items() if path.startswith(start))
    yield SECOND_LOOK


def noticing(check: Check) -> str:
    """The first test that fails without it, and does not with it; empty where there is none."""
    for tests in looks(check.path):
        if failed := _failed(tests, check.place):
            assert not _failed([failed], ""), f"{failed} fails anyhow"
            return failed
    return ""


def _failed(tests: list[str], taken_out: str) -> str:
    environment = {**os.environ, VARIABLE: taken_out, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    environment.pop("IMAGESHARE_TEST_DEEP", None)
    command = [sys.executable, "-m", "pytest", "-p", "peers.taken_out", "-p", "no:cacheprovider", "-q", "-x", "-k", LEFT_OUT]
    run = subprocess.run([*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode in (0, 1), run.stdout + run.stderr  # passed or failed, and not: could not run
    found = re.search(r"^(?:FAILED|ERROR) (tests/\S+::.*?)(?: - .*)?$", run.stdout, re.MULTILINE)
    assert (found is None) == (run.returncode == 0), run.stdout
    return found[1] if found else ""


@pytest.mark.deep
@pytest.mark.parametrize("check", sample(), ids=str)
def test_a_check_that_is_taken_out_is_noticed(check: Check) -> None:
    failed = noticing(check)
    if (check.path, check.what) in UNNOTICED:
        assert failed == "", "this is noticed by now: take it off the list"
    else:
        assert failed != "", f"no test notices that {check} is gone"


def test_checks_are_found_and_can_be_taken_out() -> None:
    assert len(ALL) > 100
    for path in sorted({check.path for check in ALL}):
        source = (ROOT / path).read_text()
        for check in (each for each in ALL if each.path == path):
            compile(without(source, check.line, check.column), path, "exec")


def test_what_is_known_to_go_unnoticed_is_there() -> None:
    assert set(UNNOTICED) <= {(check.path, check.what) for check in ALL}
