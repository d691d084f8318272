"""Test plans as values: everything in them is known, or named."""

from pathlib import Path

import pytest

from conformance.nist.plan import Need, PlanError, parse_plan, place
from conformance.nist.testkit import Testkit, ordered


def plan(step: str) -> bytes:
    return f"<TestPlan><Test>t/s</Test><TestStep id='one'>{step}</TestStep></TestPlan>".encode()


def reasons(data: bytes) -> list[str]:
    section = parse_plan(data, "t", "s")
    steps = [reason for step in section.steps for reason in step.reasons]
    return [
        *section.reasons,
        *steps,
        *(reason for step in section.steps for each in step.transactions for reason in each.reasons),
    ]


def test_every_plan_of_the_toolkit_is_read_and_nothing_in_it_is_unknown(nist: Path) -> None:
    kit = Testkit(nist / "testkit")
    count = 0
    for area in ("tests", "testdata", "testdata-registry", "testdata-repository"):
        for path in sorted((nist / "testkit" / area).rglob("testplan.xml")):
            found = reasons(path.read_bytes())
            assert not [each for each in found if "unknown" in each], path
            count += 1
    assert count == 330
    sections = sum(len(found.sections) for each in kit.ids() if (found := kit.test(each)))
    assert sections == len(list((nist / "testkit" / "tests").rglob("testplan.xml")))


def test_sections_come_after_what_they_need(nist: Path) -> None:
    kit = Testkit(nist / "testkit")
    for each in kit.ids():
        test = kit.test(each)
        assert test
        names = [section.name for section in test.sections]
        for section in test.sections:
            earlier = names[: names.index(section.name)]
            missing = {need.section for need in section.needs if need.test == each} - {*earlier}
            assert not missing & {*names}, f"{each}/{section.name}"


def test_submissions_come_first_and_queries_last() -> None:
    names = ["validate", "eval", "submit", "rplc", "pif"]
    sections = [parse_plan(plan(""), "t", name) for name in names]
    assert [each.name for each in ordered(sections)] == ["pif", "submit", "rplc", "eval", "validate"]
    assert [each.name for each in ordered(sections, ["eval", "pif"])][:2] == ["eval", "pif"]


def test_an_index_says_the_order(tmp_path: Path) -> None:
    for name in ("submit", "eval"):
        (tmp_path / "tests" / "1" / name).mkdir(parents=True)
        (tmp_path / "tests" / "1" / name / "testplan.xml").write_bytes(plan(""))
    (tmp_path / "tests" / "1" / "index.idx").write_text("eval\nsubmit\n")
    test = Testkit(tmp_path).test("1")
    assert test
    assert [each.name for each in test.sections] == ["eval", "submit"]
    assert test.left_out == frozenset()
    (tmp_path / "tests" / "1" / "index.idx").write_text("submit\n")
    shorter = Testkit(tmp_path).test("1")
    assert shorter
    assert shorter.left_out == {"eval"}


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("<TeleportTransaction/>", "unknown instruction TeleportTransaction"),
        ("<RegisterTransaction><Fly/></RegisterTransaction>", "unknown instruction Fly in RegisterTransaction"),
        ("<FhirReadTransaction/>", "FhirReadTransaction: it is of FHIR"),
        ("<RegisterTransaction><XDSa/></RegisterTransaction>", "XDSa: XDS.a is no longer"),
        ("<RegistryEndpoint>http://x</RegistryEndpoint>", "a simulator of the toolkit"),
    ],
)
def test_what_cannot_be_run_is_named(step: str, words: str) -> None:
    assert words in "; ".join(reasons(plan(step)))


def test_an_unknown_part_of_a_plan_is_named() -> None:
    assert reasons(b"<TestPlan><Dance/></TestPlan>") == ["unknown instruction Dance"]


@pytest.mark.parametrize("data", [b"", b"<TestPlan>", b"<Other/>", b'<!DOCTYPE a [<!ENTITY b "c">]><TestPlan>&b;</TestPlan>'])
def test_a_plan_that_is_none(data: bytes) -> None:
    with pytest.raises(PlanError, match="t/s"):
        parse_plan(data, "t", "s")


def test_what_a_step_expects() -> None:
    section = parse_plan(
        plan(
            "<Goal>a\n  b</Goal><ExpectedStatus>Success, PartialSuccess</ExpectedStatus><ExpectedErrorCode>X</ExpectedErrorCode>"
            "<ExpectedErrorMessage>Y</ExpectedErrorMessage><NewPatientId/><AltPatientId/>"
        ),
        "t",
        "s",
    )
    [step] = section.steps
    assert (step.id, step.goals, step.status) == ("one", ("a b",), ("Success", "PartialSuccess"))
    assert (step.error_code, step.error_message, step.new_patient, step.other_patient) == ("X", "Y", True, True)


def test_what_a_section_needs() -> None:
    data = plan(
        "<NullTransaction><UseId testdir='../submit'/><UseId testdir='../../12346/doc'/><UseReport test='15817' section='pif'/>"
        "<UseReport section='THIS'/><Assertions><DataRef file='../other/log.xml'/><Assert><TestResponse testDir='../got'/></Assert>"
        "</Assertions></NullTransaction>"
    )
    needs = {("t", "submit"), ("12346", "doc"), ("15817", "pif"), ("t", "other"), ("t", "got")}
    assert parse_plan(data, "t", "s").needs == {Need(*each) for each in needs}


@pytest.mark.parametrize(
    ("folder", "need"),
    [("../submit", ("t", "submit")), ("../../u/v", ("u", "v")), ("../../u", ("u", "")), ("submit", ("t", "submit"))],
)
def test_folders_seen_from_a_section(folder: str, need: tuple[str, str]) -> None:
    assert place(folder, "t", "s") == Need(*need)


def test_tests_are_chosen_by_id_wildcard_and_section(tmp_path: Path) -> None:
    for name in ("1/a", "2/a", "2/b", "10/a"):
        (tmp_path / "tests" / name).mkdir(parents=True)
        (tmp_path / "tests" / name / "testplan.xml").write_bytes(plan(""))
    kit = Testkit(tmp_path)
    assert kit.ids() == ["1", "2", "10"]
    assert kit.chosen([]) == []
    (tmp_path / "tests" / "2" / "collections.txt").write_text("reg\n")
    assert Testkit(tmp_path).chosen([]) == [("2", "")]
    assert kit.chosen(["1*"]) == [("1", ""), ("10", "")]
    assert kit.chosen(["2/b", "nowhere"]) == [("2", "b"), ("nowhere", "")]
    assert kit.listing([("2", ""), ("nowhere", "")]) == ["2\ta b\t", "nowhere\t-\tnot in the testkit"]
    assert Testkit(tmp_path / "tests").ids() == ["1", "2", "10"]


def test_an_id_is_no_way_out_of_the_testkit(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "secret").mkdir()
    assert Testkit(tmp_path).test("../secret") is None


def test_a_test_that_is_not_here_may_have_a_stand_in(nist: Path, tmp_path: Path) -> None:
    there = Testkit(nist / "testkit").test("12346")
    assert there
    assert [each.name for each in there.sections] == ["single_doc", "doc_w_fol", "two_doc_w_fol", "doc_for_rplc", "rplc"]
    assert there.title.startswith("12374 stands in for it: ")
    assert there.folder_of("single_doc").name == "submit_doc"
    assert there.sections[-1].needs == {Need("12346", "doc_for_rplc")}
    (tmp_path / "tests" / "12346" / "single_doc").mkdir(parents=True)
    (tmp_path / "tests" / "12346" / "single_doc" / "testplan.xml").write_bytes(plan(""))
    own = Testkit(tmp_path).test("12346")
    assert own
    assert (own.folder.name, len(own.sections), own.title) == ("12346", 1, "")
    assert Testkit(tmp_path / "tests" / "12346").test("12346") is None
