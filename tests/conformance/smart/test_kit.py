"""The kit itself: it passes a server that is right, catches each fault of one that is wrong, and tells no secret."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from peers.faulty_smart.site import faulty
from peers.faulty_smart.state import FAULTS
from typer.testing import CliRunner

from conformance.command import app
from conformance.smart import reports
from conformance.smart.cases import all_cases
from conformance.smart.kit import Case, Outcome, Result, chosen, run
from conformance.smart.requirements import requirements, unseen
from conformance.smart.system import System
from conformance.smart.target import Target, TargetError, read_target, target_of
from conformance.smart.wire import Wire, masked

CAUGHT_BY = {
    "plain-pkce": "authorize/plain",
    "no-pkce": "authorize/no-challenge",
    "verifier-ignored": "token/other-verifier",
    "code-reuse": "token/once",
    "replay-keeps-tokens": "token/replay-revokes",
    "code-of-others": "token/other-client",
    "aud-ignored": "authorize/other-aud",
    "state-dropped": "authorize/state",
    "no-iss": "authorize/iss",
    "redirect-prefix": "authorize/redirect-longer",
    "open-redirect": "authorize/redirect-other",
    "scope-widened": "scopes/not-widened",
    "scope-unordered": "scopes/unordered",
    "cacheable": "token/headers",
    "refresh-stays": "refresh/rotates",
    "refresh-reuse": "refresh/reuse",
    "refresh-of-others": "refresh/other-client",
    "refresh-widens": "refresh/scope-more",
    "unsigned": "token/unsigned",
    "any-signature": "token/own-key",
    "id-token-opens": "token/id-token-is-none",
    "revocation-ignored": "token/revoked",
    "token-in-url": "token/no-bearer-in-query",
    "jti-reuse": "asymmetric/replayed",
    "assertion-audience": "asymmetric/other-aud",
    "long-assertions": "asymmetric/too-long",
    "secret-backend": "backend/secret",
    "long-backend": "backend/short",
    "introspection-open": "introspection/unauthenticated",
    "audience-ignored": "imaging_scopes/other-audience-retrieve",
    "no-patient-is-all": "imaging_scopes/no-patient-context",
    "capability-alone": "imaging_capability/bound",
    "capability-of-any-token": "imaging_capability/other-token",
    "capability-wide": "imaging_capability/own-study",
    "cors-anywhere": "cors/fhir-other",
    "empty-bundle": "imaging_decisions/wrong-patient",
    "patients-joined": "imaging_decisions/two-patients",
    "withheld-told": "imaging_withheld/proxy-omitted",
    "total-counts-withheld": "imaging_withheld/proxy-omitted",
    "trimmed": "imaging_withheld/proxy-partial",
    "wado-open": "imaging_decisions/wado-wrong-patient-instance",
    "metadata-open": "imaging_decisions/wado-wrong-patient-study-metadata",
    "rendered-open": "imaging_decisions/wado-wrong-patient-instance-rendered",
    "scope-ignored": "imaging_decisions/wado-other-scope-study",
    "batch-open": "scopes/batch",
    "no-endpoint": "imaging_search/include",
    "updated-ignored": "imaging_search/updated-in-future",
    "html-discovery": "discovery/whatever-accept",
    "launch-reuse": "authorize/ehr-launch-once",
}


def _results(target: Target, cases: list[Case]) -> list[Result]:
    with Wire() as wire:
        return run(cases, System(target, wire))


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "capability URLs"])
def right(request: pytest.FixtureRequest) -> Iterator[list[Result]]:
    with faulty(capabilities=request.param) as (target, _):
        yield _results(target, all_cases())


def test_a_right_server_passes_every_case(right: list[Result]) -> None:
    bad = [each for each in right if each.outcome in reports.BAD]
    assert not bad, reports.as_text(bad)


def test_few_cases_are_skipped_there(right: list[Result]) -> None:
    skipped = [each.case.id for each in right if each.outcome is Outcome.SKIP]
    assert len(skipped) <= 20, skipped


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_caught(fault: str) -> None:
    with faulty(fault, capabilities=fault.startswith("capability")) as (target, _):
        (result,) = _results(target, chosen(all_cases(), [CAUGHT_BY[fault]]))
    assert result.outcome is Outcome.FAIL, f"{FAULTS[fault]}: {result.outcome} {result.words}"


def test_it_has_eighty_cases_for_imaging_and_more() -> None:
    assert len([each for each in all_cases() if each.area.startswith("imaging")]) >= 80


def test_every_binding_requirement_has_a_case_or_a_reason() -> None:
    named = {id_ for each in all_cases() for id_ in each.requirements}
    left = {each.id for each in requirements().values() if each.binding} - named - {*unseen()}
    assert left == _SHOWN_BY_TESTS_ALONE


_SHOWN_BY_TESTS_ALONE = {341, 342}
"""How long a server keeps the keys of a client: seen by who serves the keys, with a clock."""


def test_no_report_has_a_secret(right: list[Result], tmp_path: Path) -> None:
    written = reports.write(right, tmp_path, "http://x", "today")
    whole = "".join(each.read_text() for each in written)
    assert len(written) == 4
    assert not re.search(r"\beyJ[\w-]+\.", whole), "a JWT"
    for secret in ("correct horse battery staple", "Y29uZmlkZW50aWFs", "password=kit", "may-register"):
        assert secret not in whole


def test_reports_agree(right: list[Result], tmp_path: Path) -> None:
    reports.write(right, tmp_path, "http://x", "today")
    told = json.loads((tmp_path / "report.json").read_text())
    root = ET.parse(tmp_path / "report.xml").getroot()
    assert told["counts"]["pass"] == sum(each.outcome is Outcome.PASS for each in right)
    assert len(told["cases"]) == len(right) == sum(int(each.attrib["tests"]) for each in root)
    assert (tmp_path / "report.html").read_text().count("<tr>") == len(right) + len({each.case.area for each in right})


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("https://x/cb?code=s3cret&state=1", "s3cret"),
        ('{"access_token": "s3cret", "scope": "x"}', "s3cret"),
        ("client_secret=s3cret&x=1", "s3cret"),
        ("grant_type=x&code_verifier=s3cret", "s3cret"),
        ("token eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2ln", "eyJ"),
        ('{"kty": "EC", "d": "s3cret-s3cret-s3cret-s3cret"}', "s3cret"),
        ('<input type="hidden" name="csrf" value="s3cret">', "s3cret"),
    ],
)
def test_secrets_are_masked(text: str, secret: str) -> None:
    assert secret not in masked(text)


def test_what_is_no_secret_stays() -> None:
    assert masked("response_type=code&state=abc&scope=patient/*.rs") == "response_type=code&state=abc&scope=patient/*.rs"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no FHIR base URL"),
        ({"fhir": "http://x", "patient": {}}, "patient is not known"),
        ({"fhir": "http://x", "clients": {"public": {"secrt": "x"}}}, "clients.public: secrt"),
        ({"fhir": "http://x", "studies": [{"name": "x"}]}, "studies"),
    ],
)
def test_a_wrong_target_file_is_told(given: dict[str, object], words: str) -> None:
    with pytest.raises(TargetError, match=words):
        target_of(given)


def test_the_example_can_be_read() -> None:
    root = Path(__file__).resolve().parents[3]
    found = read_target(root / "conformance" / "smart" / "example.toml", "")
    assert {"public", "secret", "asymmetric", "backend"} <= set(found.clients)
    assert found.studies


def test_the_command_lists_cases_and_says_what_is_wrong(tmp_path: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["smart", "--list", "--only", "brands", "--only", "31"])
    assert "brands/bundle" in listed.output
    assert "token/no-verifier" in listed.output
    assert "cors/" not in listed.output
    assert runner.invoke(app, ["smart", "http://x/fhir", "--only", "nothing"]).exit_code == 2
    assert runner.invoke(app, ["smart"]).exit_code == 2
    assert runner.invoke(app, ["smart", "no URL"]).exit_code == 2


def test_that_nobody_answers_is_said_once(free_port: int) -> None:
    found = CliRunner().invoke(app, ["smart", f"http://127.0.0.1:{free_port}/fhir"])
    assert found.exit_code == 2
    (said,) = found.output.splitlines()
    assert f"http://127.0.0.1:{free_port}/fhir/.well-known/smart-configuration" in said
    assert "check that the server runs" in said


def test_the_command_reports_and_exits_by_what_it_found(tmp_path: Path) -> None:
    runner = CliRunner()
    with faulty("html-discovery") as (target, _):
        only = ["--only", "discovery"]
        bad = runner.invoke(app, ["smart", target.fhir, *only, "--report", str(tmp_path)])
        good = runner.invoke(app, ["smart", target.fhir, "--only", "discovery/there"])
    assert (bad.exit_code, good.exit_code) == (1, 0)
    assert "FAIL discovery/whatever-accept" in bad.output
    assert (tmp_path / "report.html").is_file()
