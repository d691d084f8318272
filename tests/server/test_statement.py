"""The Conformance Statement says what the program does, because it is made from the program's own tables."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from peers.dicomweb import site
from pydicom.uid import UID

from ihe.pdu import ACCEPTANCE, AssociateRequest, ProposedContext, UserInformation
from profiles.transfer_syntaxes import DECODED
from server.edges.dimse import negotiation
from server.edges.dimse.negotiation import Rejection, agreed
from server.edges.dimse.services import BY_ABSTRACT_SYNTAX
from server.errors import ImageShareError
from server.records.comparing import MOST_UIDS
from server.records.peers import Peer
from server.sending import CALLING
from server.settings import EVERY_PERMISSION, Device, Settings
from server.statement import document, web
from server.statement.document import statement
from server.statement.markdown import table
from server.statement.network import STORE_ERRORS

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "docs" / "dicom-conformance-statement.md"


def written(**environment: str) -> str:
    """By a process of its own, as `make statement` does: pynetdicom, which other tests load, adds to pydicom's table of UIDs."""
    command = [sys.executable, "-m", "server.statement"]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True, text=True).stdout


@pytest.fixture(scope="module")
def text() -> str:
    return written()


def section(text: str, title: str) -> str:
    """From a heading to the next of its depth or above."""
    (marks, body), *_ = re.findall(rf"^(#+) {re.escape(title)}$(.*?)(?=^\#\#? |^\1 |\Z)", text, re.MULTILINE | re.DOTALL)
    assert marks
    return str(body)


def test_the_committed_statement_is_what_the_program_says(text: str) -> None:
    assert COMMITTED.read_text() == text, "run `make statement`"


def test_it_is_the_same_whoever_writes_it(text: str) -> None:
    """Neither the order of sets nor the settings of the machine are in it."""
    for seed in ("1", "2"):
        assert written(PYTHONHASHSEED=seed, IMAGESHARE_AE_TITLE="OTHER", TZ="Asia/Tokyo") == text


def test_every_table_has_its_place_and_every_place_its_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    template = tmp_path / "template.md"
    monkeypatch.setattr(document, "_TEMPLATE", template)
    shown = "".join(f"{{{{{name}}}}}" for name in document._TABLES)
    template.write_text(f"{shown}{{{{nothing}}}}")
    with pytest.raises(KeyError):
        statement()
    template.write_text("# Empty")
    with pytest.raises(ValueError, match="network_overview"):
        statement()


def test_every_service_is_told_of(text: str) -> None:
    overview, accepted = section(text, "1.1 Network services"), section(text, "7.3 Accepted presentation contexts")
    for uid, service in BY_ABSTRACT_SYNTAX.items():
        assert f"`{uid}`" in overview
        assert f"{UID(uid).name} `{uid}`" in accepted
        assert service.name in overview


def told_syntaxes(text: str) -> dict[str, tuple[str, ...]]:
    rows = re.findall(r"^\| ([^|]+) \| `([\d.]+)` \|(.*)\|$", section(text, "A.2 Transfer syntaxes"), re.MULTILINE)
    return {uid: tuple(cell.strip() for cell in rest.split("|")) for _, uid, rest in rows}


def test_what_it_says_of_storage_is_what_is_negotiated(text: str) -> None:
    """Every pair of the annexes is proposed, 100 contexts at a time."""
    classes = re.findall(r"`([\d.]+)`", section(text, "A.1 Storage SOP Classes"))
    syntaxes = told_syntaxes(text)
    device = Device(ae_title="CT1", address="127.0.0.1", permissions=EVERY_PERMISSION)
    for group in (classes[start : start + 100] for start in range(0, len(classes), 100)):
        for syntax in syntaxes:
            contexts = tuple(ProposedContext(2 * number + 1, uid, (syntax,)) for number, uid in enumerate(group))
            request = AssociateRequest(called="IMAGESHARE", calling="CT1", contexts=contexts, user=UserInformation())
            answer = agreed(request, device, BY_ABSTRACT_SYNTAX).answer
            assert {each.result for each in answer.contexts} == {ACCEPTANCE}


def test_what_can_be_decoded_is_taken(text: str) -> None:
    syntaxes = told_syntaxes(text)
    assert {uid for uid, (_, decoded, _) in syntaxes.items() if decoded} == DECODED


def test_every_rejection_is_told_of(text: str) -> None:
    told = section(text, "7.2 Association acceptance")
    every = [each for each in vars(negotiation).values() if isinstance(each, Rejection)]
    assert len(every) == len(negotiation.REJECTIONS)
    for each in every:
        assert f"| {each.answer.result} | {each.answer.source} | {each.answer.reason} | {each.words} |" in told


def test_every_resource_is_told_of(text: str) -> None:
    told = section(text, "5.7 Web services")
    offered = {offer.path for offer in web._offers()}
    assert {"/studies", "/studies/{study}/metadata", "/changefeed"} <= offered
    assert all(f"`{path}`" in told for path in offered)
    assert "**Other**" not in told, "a resource that belongs to no group: give it one in server.statement.web"


def test_what_is_told_is_what_a_server_tells(tmp_path: Path) -> None:
    with site(tmp_path / "data") as server:
        answer = requests.options(server.url, headers={"Accept": "application/json"}, timeout=60)
    told = answer.json()["resources"]
    assert {(offer.path, offer.method) for offer in web._offers()} == {
        (path, method) for path, methods in told.items() for method in methods
    }


@pytest.mark.parametrize("error", STORE_ERRORS, ids=lambda error: error.__name__)
def test_every_end_of_a_store_is_told_of(text: str, error: type[ImageShareError]) -> None:
    assert re.search(rf"\| `{error.dimse_status:04X}` \| [^|]*{re.escape(error.summary)}", section(text, "5.2 Storage"))
    assert re.search(
        rf"\| `{error.stow_reason:04X}` \(\d+\) \| [^|]*{re.escape(error.summary)}", section(text, "5.7 Web services")
    )


def test_every_setting_that_is_told_of_has_words(text: str) -> None:
    rows = re.findall(r"^\| `IMAGESHARE_(\w+)` \| (.*) \| (.*) \|$", section(text, "6.2 Parameters"), re.MULTILINE)
    assert len(rows) > 15
    assert all(name.lower() in Settings.model_fields and words.strip() for name, _, words in rows)


def test_every_field_of_a_peer_is_told_of(text: str) -> None:
    """As the table has it, and as `devices` of the settings have it."""
    told = section(text, "6.1 AE title and presentation address")
    found = re.findall(r"^\| `(\w+)` \| `([^|]+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", told, re.MULTILINE)
    rows = {row[0]: row for row in found}
    assert list(rows) == [field.name for field in dataclasses.fields(Peer)]
    assert {name for row in rows.values() for name in re.findall(r"`(\w+)`", row[2])} == set(Device.model_fields)
    assert (rows["tls"][2], rows["network"][3]) == ("", "none")
    assert "(must be given)" in rows["network"][2]


def test_it_says_who_calls_by_which_title_and_how_many_uids_may_be_asked_for(text: str) -> None:
    assert f"`imageshare send` calls as `{CALLING}`" in section(text, "4.2 Functional definition")
    assert f"| UIDs in a list of C-FIND; beyond it `A900` | {MOST_UIDS:,} |" in section(text, "5.3 Query and retrieve")


def test_a_table_survives_bars_and_lines() -> None:
    assert table(("a", "b"), [("x|y", "1\n2")]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 2 |"
    assert table(("a",), []) == "None."


def test_no_row_is_broken(text: str) -> None:
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block[:200]
