"""The rules against the submissions of NIST's XDS Toolkit: what its tests want accepted passes, what they want refused is refused."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from lxml import etree
from lxml.etree import _Element

from conformance.nist import ebrim2
from ihe import ebxml, xml
from ihe.ebxml import Reading
from ihe.metadata import By
from ihe.metadata_rules import Actor, check
from profiles.document import Submission

TESTKIT = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata" / "nist" / "testkit"

pytestmark = pytest.mark.skipif(not TESTKIT.exists(), reason="../shared/testdata is not here")

TRANSACTIONS: Final[dict[str, tuple[By, Actor]]] = {
    "RegisterTransaction": (By.REGISTER, "Registry"),
    "ProvideAndRegisterTransaction": (By.PROVIDE, "Repository"),
    "MuTransaction": (By.UPDATE, "Registry"),
}
# The other tests that want a failure break what only a registry knows.
REFUSED: Final = {
    ("tests/12084/submit", "submit"): ("XDSRegistryMetadataError", "repositoryUniqueId is missing"),
    ("tests/12369/hash", "submit"): ("XDSRepositoryMetadataError", "hash has to be"),
    ("tests/12370/not_configured", "submit"): ("XDSRegistryMetadataError", "documentation is not allowed"),
    ("tests/20001/submit_invalid_assoc", "submit"): ("XDSRegistryMetadataError", "associationType is none"),
}
_PATIENT_SCHEMES: Final = (
    "58a6f841-87b3-4a3e-92fd-a8ffeff98427",
    "6b5aea1a-874d-4603-a4bc-96a0a7b38446",
    "f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a",
)
_UNIQUE_SCHEMES: Final = (
    "2e82c1f6-a085-4c72-9da3-8640a32e42ab",
    "96fdda7c-d067-4183-912e-bf5ee74998a8",
    "75df8f67-9973-4fbe-a900-df66cefecc5a",
)
_SYMBOL: Final = re.compile(r"\$[^$]*\$")


@dataclass(frozen=True)
class Step:
    """One step of a test plan that submits."""

    section: str
    id: str
    succeeds: bool
    by: By
    actor: Actor
    path: Path


def steps() -> Iterator[Step]:
    for plan in sorted(TESTKIT.rglob("testplan.xml")):
        for step in etree.parse(plan).iter("TestStep"):
            for name, (by, actor) in TRANSACTIONS.items():
                for transaction in step.iterfind(name):
                    path = plan.parent / transaction.findtext("MetadataFile", "").strip()
                    status = step.findtext("ExpectedStatus", "")
                    yield Step(str(plan.parent.relative_to(TESTKIT)), step.get("id", ""), status == "Success", by, actor, path)


def filled(listed: _Element) -> _Element:
    """With the patient and the unique ids that the toolkit puts in before it sends, and a UUID for each of its symbols."""
    numbers = count(1)
    for identifier in listed.iter(f"{{{xml.RIM}}}ExternalIdentifier"):
        scheme = identifier.get("identificationScheme", "").removeprefix("urn:uuid:")
        if scheme in _PATIENT_SCHEMES:
            identifier.set("value", "p^^^&1.2.3&ISO")
        elif scheme in _UNIQUE_SCHEMES:
            identifier.set("value", f"1.2.3.{next(numbers)}")
    uuids: dict[str, str] = {}
    for element in listed.iter():
        element.text = re.sub(r"L\$[^$]*\$", "p^^^&1.2.3&ISO", element.text or "")
        for name, value in element.items():
            for symbol in _SYMBOL.findall(str(value)):
                uuids.setdefault(symbol, f"urn:uuid:00000000-0000-4000-8000-{len(uuids):012d}")
                element.set(name, uuids[symbol] if name != "home" else "urn:oid:1.2.3")
    return listed


def read(path: Path) -> tuple[Submission, Reading]:
    root = xml.parse(path.read_bytes(), 10_000_000)
    whole = ebrim2.submit_objects_request(root) if ebrim2.is_old(root) else root
    listed = next(whole.iter(f"{{{xml.RIM}}}RegistryObjectList"))
    reading = Reading()
    return ebxml.submission(filled(listed), reading), reading


SUBMITTING = [step for step in steps() if step.path.is_file()] if TESTKIT.exists() else []


def test_there_are_many() -> None:
    assert len(SUBMITTING) > 60
    assert {(step.section, step.id) for step in SUBMITTING if not step.succeeds} >= REFUSED.keys()


@pytest.mark.parametrize("step", SUBMITTING, ids=[f"{step.section}/{step.id}" for step in SUBMITTING])
def test_a_step_is_answered_as_its_plan_wants_it(step: Step) -> None:
    submission, reading = read(step.path)
    errors = check(submission, step.by, reading, step.actor)
    if (refused := REFUSED.get((step.section, step.id))) is None:
        assert errors == ()
    else:
        assert {error.code for error in errors} == {refused[0]}
        assert any(refused[1] in error.context for error in errors)


def test_the_codes_are_those_that_the_transactions_may_send() -> None:
    rows = (TESTKIT.parent / "TransactionDefinedErrorCodes.txt").read_text().splitlines()
    allowed = {(row.split(",")[0].strip(), row.split(",")[1].strip()) for row in rows if row.count(",") > 1}
    for transaction, actor in (("R", "Registry"), ("P", "Repository")):
        for code in ("XDSPatientIdDoesNotMatch", f"XDS{actor}MetadataError", f"XDS{actor}DuplicateUniqueIdInMessage"):
            assert (transaction, code) in allowed


def test_every_submission_is_read_without_an_exception() -> None:
    seen = 0
    for path in sorted(TESTKIT.rglob("*.xml")):
        data = path.read_bytes()
        if b"RegistryObjectList" not in data:
            continue
        root = xml.parse(data, 10_000_000)
        for listed in root.iter(f"{{{xml.RIM}}}RegistryObjectList"):
            reading = Reading()
            for by in By:
                check(ebxml.submission(listed, reading), by, reading)
            seen += 1
    assert seen > 60
