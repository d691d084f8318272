"""Runs over real sockets against a small registry: what passes, what fails and is told, what is not run and why."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from peers.small_registry import SmallRegistry, unused_port

from conformance.nist import feed
from conformance.nist.reports import as_html, as_junit, as_text, summary
from conformance.nist.results import Outcome, TestResult
from conformance.nist.running import Outputs, exit_code
from conformance.nist.target import TargetError, read_target, target_of

Run = Callable[..., dict[str, TestResult]]


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
    return "\n".join(step.words for section in result.sections for step in section.steps if step.words)


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


def test_what_others_need_is_run_before_and_a_missing_feed_test_is_done_without_it(
    nist: Path, run: Run, registry: SmallRegistry
) -> None:
    results = run(nist / "testkit", registry, "12318")
    assert [(each.id, each.asked, each.outcome) for each in results.values()] == [
        ("15823", False, Outcome.PASS),
        ("12318", True, Outcome.PASS),
    ]
    assert len(registry.patients) == 1


def test_what_an_absent_test_would_give_is_not_run(tmp_path: Path, run: Run, registry: SmallRegistry) -> None:
    use = "<UseId testdir='../../gone/submit' id='Document01' step='submit' section='AssignedUids' symbol='$uid$'/>"
    kit = made(tmp_path, a=f"<StoredQueryTransaction>{use}<MetadataFile>q.xml</MetadataFile></StoredQueryTransaction>")
    (tmp_path / "tests" / "own" / "a" / "q.xml").write_text("<AdhocQueryRequest>$uid$</AdhocQueryRequest>")
    results = run(kit, registry, "own")
    assert results["own"].outcome is Outcome.NOT_RUN
    assert "it needs what gone/submit gives" in words(results["own"])
    assert "the testkit has no such test" in words(results["gone"])
    assert exit_code(list(results.values())) == 2
    assert not registry.bodies


def test_without_a_feed_the_patient_is_used_and_it_is_said(nist: Path, run: Run, registry: SmallRegistry) -> None:
    registry.patients = {"K1^^^&1.2.3&ISO"}
    results = run(nist / "testkit", registry, "11990", feed=None, patients={"known": ["K1^^^&1.2.3&ISO"]})
    assert results["11990"].outcome is Outcome.PASS
    assert "the endpoints file has no [feed]" in words(results["15817"])


@pytest.mark.parametrize(
    ("test", "told"),
    [
        ("40001/author", "the endpoints file has no restricted_update in [registry]"),
        ("ids_4810", "no retrieve in [imaging_source]"),
        ("11897/refid", "it needs the data of 12346, which 12374 does not have"),
        ("ids_4801/ValidateKOS", "the system under test is the one that sends, to a simulator"),
        ("ids_4801/SelftestPnR", "it sends to a simulator of the toolkit"),
        ("idc_4830", "the test has no test plan"),
        ("11966_unsigned/submit", "no source of SAML assertions"),
        ("nowhere", "the testkit has no such test"),
    ],
)
def test_what_cannot_be_run_says_why(test: str, told: str, nist: Path, run: Run, registry: SmallRegistry) -> None:
    url = f"{registry.url}/registry"
    results = run(nist / "testkit", registry, test, registry={"register": url, "stored_query": url})
    found = results[test.partition("/")[0]]
    assert found.outcome is Outcome.NOT_RUN
    assert told in words(found)


def test_nobody_answers(nist: Path, run: Run, registry: SmallRegistry) -> None:
    results = run(nist / "testkit", registry, "11990", registry={"url": f"http://127.0.0.1:{unused_port()}/"})
    assert results["11990"].outcome is Outcome.ERROR
    assert "no answer" in words(results["11990"])
    assert exit_code(list(results.values())) == 1


def made(folder: Path, **sections: str) -> Path:
    """A testkit with one test, `own`; each section is what stands in its one step."""
    for name, step in sections.items():
        (folder / "tests" / "own" / name).mkdir(parents=True)
        plan = f"<TestPlan><Test>own/{name}</Test><TestStep id='one'>{step}</TestStep></TestPlan>"
        (folder / "tests" / "own" / name / "testplan.xml").write_text(plan)
    return folder


def test_an_unknown_instruction_is_no_pass(tmp_path: Path, run: Run, registry: SmallRegistry) -> None:
    asserted = "<Assertions><Assert id='a'>1 = 1</Assert></Assertions>"
    kit = made(
        tmp_path,
        a=f"<NullTransaction>{asserted}<Fly/></NullTransaction>",
        b=f"<NullTransaction>{asserted}</NullTransaction><TeleportTransaction/>",
        c="<XmlDetailTransaction><Assertions><Assert id='x' process='magic'/></Assertions></XmlDetailTransaction>",
        d=f"<NullTransaction>{asserted}</NullTransaction>",
    )
    sections = {each.name: each for each in run(kit, registry, "own")["own"].sections}
    assert {name: each.outcome for name, each in sections.items()} == {
        "a": Outcome.NOT_RUN, "b": Outcome.NOT_RUN, "c": Outcome.NOT_RUN, "d": Outcome.PASS,
    }  # fmt: skip
    assert "unknown instruction Fly" in sections["a"].steps[0].words
    assert "unknown instruction TeleportTransaction" in sections["b"].steps[0].words
    assert "unknown process magic" in sections["c"].steps[0].words


def test_assertions_that_cannot_be_looked_at_do_not_hide_those_that_fail(
    tmp_path: Path, run: Run, registry: SmallRegistry
) -> None:
    asserted = "<Assert id='x' process='magic'/><Assert id='y'>1 = 2</Assert>"
    kit = made(tmp_path, a=f"<NullTransaction><Assertions>{asserted}</Assertions></NullTransaction>")
    result = run(kit, registry, "own")["own"]
    assert (result.outcome, "assertion y" in words(result)) == (Outcome.FAIL, True)


def test_a_test_that_is_skipped_says_why(tmp_path: Path, run: Run, registry: SmallRegistry) -> None:
    kit = made(tmp_path, a="<NullTransaction/>", b="<NullTransaction/>")
    result = run(kit, registry, "own", skip={"own/b": "not ours"})["own"]
    assert [(each.name, each.outcome, each.steps[0].words) for each in result.sections] == [
        ("a", Outcome.PASS, ""),
        ("b", Outcome.NOT_RUN, "not ours"),
    ]


def test_the_log_has_what_was_sent_without_assertions(nist: Path, run: Run, registry: SmallRegistry, tmp_path: Path) -> None:
    secret = '<saml2:Assertion xmlns:saml2="urn:oasis:names:tc:SAML:2.0:assertion"><a>very secret</a></saml2:Assertion>'
    (tmp_path / "valid.xml").write_text(f'<?xml version="1.0"?>{secret}')
    saml = {"files": {"valid": str(tmp_path / "valid.xml")}, "always": True}
    run(nist / "testkit", registry, "11990", outputs=Outputs(log=tmp_path / "log"), saml=saml)
    assert any(secret.encode() in body for body in registry.bodies)
    logged = {
        each.relative_to(tmp_path / "log").as_posix(): each.read_bytes()
        for each in (tmp_path / "log").rglob("*")
        if each.is_file()
    }
    assert {"11990/submit/log.xml", "11990/submit/submit.1.request", "11990/submit/submit.1.response"} <= logged.keys()
    assert b"[masked]</saml2:Assertion>" in logged["11990/submit/submit.1.request"]
    assert not [name for name, data in logged.items() if b"very secret" in data]


def test_a_command_makes_assertions_by_name(nist: Path, run: Run, registry: SmallRegistry) -> None:
    saml = {"command": f"{sys.executable} -c \"import sys; print('<A>' + sys.argv[1] + '</A>')\" {{name}}"}
    run(nist / "testkit", registry, "11966_unsigned/submit", saml=saml)
    assert any(b"<A>unsigned</A>" in body for body in registry.bodies)


def test_reports(nist: Path, run: Run, registry: SmallRegistry) -> None:
    registry.faults.add("deprecates nothing")
    results = list(run(nist / "testkit", registry, "11992", "ids_4810").values())
    text = as_text(results)
    assert "FAIL     11992  Document Replace" in text
    assert "NOT RUN ids_4810/Rad69RetrieveRequest/retrieve" in text
    assert summary(results).startswith("tests: 1 passed, 1 failed, 1 not run; steps: ")
    suites = {each.get("name"): each for each in ET.fromstring(as_junit(results, "here"))}
    assert suites["11992"].get("failures") == "1"
    assert suites["ids_4810"].get("skipped") == "3"
    assert suites["11992"].find("testcase/system-out") is not None
    page = as_html(results, "here <b>", "now")
    assert "here &lt;b&gt;" in page
    assert "expected Deprecated" in page or "Deprecated" in page


def test_what_was_run_in_part_is_said_to_be(nist: Path, run: Run, registry: SmallRegistry, tmp_path: Path) -> None:
    kit = made(
        tmp_path,
        a="<NullTransaction><Assertions><Assert id='x'>1 = 1</Assert></Assertions></NullTransaction>",
        b="<NullTransaction/>",
    )
    results = list(run(kit, registry, "own", skip={"own/b": "not ours"}).values())
    assert "IN PART  own" in as_text(results)
    assert "1 not run" in summary(results)


def test_the_command(nist: Path, registry: SmallRegistry, tmp_path: Path) -> None:
    (tmp_path / "endpoints.toml").write_text(
        f'[registry]\nurl = "{registry.url}"\n[feed]\nhost = "127.0.0.1"\nport = {registry.feed_port}\n'
    )
    command = [sys.executable, "-m", "server.cli", "check", "nist", "--testkit", str(nist / "testkit"), "--endpoints"]
    good = subprocess.run(
        [*command, str(tmp_path / "endpoints.toml"), "--junit", str(tmp_path / "r" / "j.xml"), "--html", str(tmp_path / "r.html"), "11990"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert good.returncode == 0, good.stdout + good.stderr
    assert "tests: 2 passed" in good.stdout
    assert (tmp_path / "r" / "j.xml").exists()
    assert (tmp_path / "r.html").exists()
    wrong = subprocess.run([*command, str(tmp_path / "none.toml")], capture_output=True, text=True, check=False)
    assert (wrong.returncode, "none.toml" in wrong.stderr) == (2, True)


def test_the_example_is_a_target() -> None:
    target = read_target(Path(feed.__file__).parent / "example.toml")
    assert target.endpoint("registry.multi_patient_query") == "https://registry.example/xds/registry"
    assert target.endpoint("imaging_source.wado") == "https://registry.example/wado"
    assert (target.feed.port, target.tls.check_host) == (2575, True)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"registrar": {}}, "registrar"),
        ({"registry": {"fly": "x"}}, "registry: fly"),
        ({"registry": "x"}, "registry: must be a table"),
        ({"feed": {"port": "2575"}}, "feed: port must be int"),
        ({"feed": {"tls": 1}}, "feed: tls must be bool"),
        ({"tls": "x"}, "tls: must be a table"),
        ({"timeout": "x"}, "timeout must be float"),
    ],
)
def test_a_target_that_is_wrong(found: dict[str, object], told: str) -> None:
    with pytest.raises(TargetError, match=told):
        target_of(found)


def test_adt_messages() -> None:
    header = feed.Header("APP|FAC", "REG", "20260101120000", "1")
    assert feed.admitted(header, "P^^^&1.2&ISO").split(b"\r")[:3] == [
        b"MSH|^~\\&|APP|FAC|REG||20260101120000||ADT^A01^ADT_A01|1|P|2.3.1",
        b"EVN|A01|20260101120000",
        b"PID|||P^^^&1.2&ISO||TESTPATIENT^NIST||19700101|O|||1 CALIBRATION ST^^METROPOLIS^IL^44130^USA",
    ]
    assert b"\rMRG|old\r" in feed.merged(header, "new", "old")
    assert feed.moved(header, "new", "old", "local").split(b"\r")[2:4] == [b"PID|||new~local||TESTPATIENT^NIST", b"MRG|old~local"]
    assert feed.acknowledged(b"MSH|x\rMSA|AA|1\r") == (True, "AA")
    assert feed.acknowledged(b"MSH|x\nMSA|AE|1|no such thing\n") == (False, "AE no such thing")
    assert feed.acknowledged(b"MSH|x\r")[0] is False


def test_what_the_index_leaves_out_is_run_when_it_is_named(tmp_path: Path, run: Run, registry: SmallRegistry) -> None:
    kit = made(tmp_path, a="<NullTransaction/>", b="<NullTransaction/>")
    (tmp_path / "tests" / "own" / "index.idx").write_text("a\n")
    result = run(kit, registry, "own")["own"]
    assert [(each.name, each.outcome) for each in result.sections] == [("a", Outcome.PASS), ("b", Outcome.NOT_RUN)]
    assert "index of the test leaves it out" in words(result)
    assert run(kit, registry, "own/b")["own"].outcome is Outcome.PASS
