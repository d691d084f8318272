"""`imageshare user`, and the administrator whom a new server makes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from peers import imageshare
from typer.testing import CliRunner, Result

from server.access import break_glass
from server.access.people import accounts, proxies
from server.access.people.hospital import Identity
from server.access.people.people import FIRST
from server.cli import app
from server.edges.context import Node
from server.records import resources
from server.records.trail import events
from server.store.db import micros

pytestmark = pytest.mark.postgresql_is_deep
PASSWORD = "correct horse battery"


def run(node: Node, *arguments: str, input: str = "") -> Result:
    environment = {"IMAGESHARE_DATA": str(node.settings.data), "IMAGESHARE_DATABASE_URL": node.settings.database}
    return CliRunner().invoke(app, ["user", *arguments], input=input, env=environment)


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with imageshare.node(tmp_path / "data", database_url) as made:
        for patient in ("child", "old"):
            with made.database.write() as connection:
                resources.put(connection, {"resourceType": "Patient", "id": patient, "birthDate": "2015-06-07"})
        yield made


def reach(node: Node, email: str) -> frozenset[str] | None:
    with node.database.read() as connection:
        found = accounts.by_email(connection, email)
        assert found
        return accounts.reach(connection, found, micros())[0]


def test_a_practitioner_whom_no_resource_is_is_warned_of_and_can_be_named_later(opened: Node) -> None:
    with opened.database.write() as connection:
        resources.put(connection, {"resourceType": "Practitioner", "id": "x"})
    added = run(opened, "add", "p@example.org", "--kind", "practitioner", input=f"{PASSWORD}\n{PASSWORD}\n")
    assert added.exit_code == 0, added.output
    assert "emergency access is not offered" in added.stderr
    assert "imageshare user person p@example.org Practitioner/ID" in added.stderr
    assert "warning" not in added.stdout
    assert run(opened, "add", "s@example.org", "--kind", "staff", input=f"{PASSWORD}\n{PASSWORD}\n").stderr.count("warning") == 0
    wrong = run(opened, "person", "p@example.org", "x")
    assert (wrong.exit_code, "such as Practitioner/x" in wrong.output) == (1, True)
    named = run(opened, "person", "p@example.org", "Practitioner/x")
    assert (named.exit_code, named.output) == (0, "p@example.org is Practitioner/x\n")
    with opened.database.read() as connection:
        found = accounts.by_email(connection, "p@example.org")
    assert found
    assert found.fhir_user == "Practitioner/x"
    assert break_glass.may(found)
    assert "there is no Practitioner/y" in run(opened, "person", "p@example.org", "Practitioner/y").stderr
    run(opened, "add", "a@example.org", input=f"{PASSWORD}\n{PASSWORD}\n")
    assert run(opened, "person", "a@example.org", "Practitioner/x").exit_code == 1


def test_an_account_with_a_password_that_is_asked_for(opened: Node) -> None:
    added = run(opened, "add", "anna@example.org", "--name", "Anna", "--patient", "old", input=f"{PASSWORD}\n{PASSWORD}\n")
    assert added.exit_code == 0, added.output
    assert PASSWORD not in added.output
    anna = opened.people.sign_in.password("anna@example.org", PASSWORD, "127.0.0.1")
    assert (anna.kind, anna.name, anna.fhir_user) == ("patient", "Anna", "Patient/old")
    assert reach(opened, anna.email) == {"old"}
    again = run(opened, "add", "ANNA@example.org", input=f"{PASSWORD}\n{PASSWORD}\n")
    assert again.exit_code == 1
    assert "already" in again.output
    listed = run(opened, "list")
    assert "anna@example.org" in listed.output


def test_one_that_is_invited_by_e_mail(opened: Node) -> None:
    """The invitation holds no secret and does not run out; who can read the address asks for a code."""
    added = run(opened, "add", "p@example.org", "--kind", "practitioner", "--fhir-user", "Practitioner/x", "--mail")
    assert added.exit_code == 0
    assert "no Practitioner/x here yet" in added.stderr
    assert run(opened, "invite", "p@example.org").exit_code == 0
    folder = opened.settings.data / "mail"
    first, again = (message_from_bytes(each.read_bytes(), policy=default) for each in sorted(folder.iterdir()))
    assert (first["To"], again["To"]) == ("p@example.org", "p@example.org")
    text = first.get_content()
    assert opened.settings.organization in text
    assert f"{opened.settings.base_url}/sign-in" in text
    assert not re.search(r"\d{4}", text.replace(opened.settings.base_url, ""))
    opened.people.sign_in.send_code("p@example.org", "192.0.2.1")
    opened.people.sign_in.close()
    found = re.search(r"(\d{4} \d{4})", max(folder.iterdir()).read_text())
    assert found
    assert opened.people.sign_in.code("p@example.org", found[1], "127.0.0.1").fhir_user == "Practitioner/x"
    assert reach(opened, "p@example.org") is None


def test_an_invitation_that_the_mail_server_does_not_take_is_sent_again(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with imageshare.node(tmp_path / "data", database_url) as opened:
        monkeypatch.setenv("IMAGESHARE_SMTP_URL", "smtp://127.0.0.1:1")
        added = run(opened, "add", "anna@example.org", "--mail")
        assert added.exit_code == 1
        assert "anna@example.org is added" in added.stdout, "it is there all the same"
        assert "imageshare user invite anna@example.org" in added.output
        monkeypatch.delenv("IMAGESHARE_SMTP_URL")
        assert run(opened, "invite", "anna@example.org").exit_code == 0
        assert len(list((opened.settings.data / "mail").iterdir())) == 1
        for nobody in ("nobody@example.org", FIRST):
            assert run(opened, "invite", nobody).exit_code == 1
        run(opened, "disable", "anna@example.org")
        assert "disabled" in run(opened, "invite", "anna@example.org").output


def test_a_password_may_come_from_a_pipe(opened: Node) -> None:
    """One line, which is asked for of nobody twice."""
    added = run(opened, "add", "anna@example.org", input=f"{PASSWORD}\n")
    assert (added.exit_code, added.stderr) == (0, "")
    opened.people.sign_in.password("anna@example.org", PASSWORD, "127.0.0.1")
    common = run(opened, "add", "bert@example.org", input="password1234\n")
    assert common.exit_code == 1
    assert "first that are tried" in common.output


def test_who_disables_the_last_administrator_is_warned(opened: Node) -> None:
    for email in ("one@example.org", "two@example.org"):
        run(opened, "add", email, "--kind", "administrator", "--mail")
    assert run(opened, "disable", "one@example.org").stderr == ""
    assert "no administrator any more" in run(opened, "disable", "two@example.org").stderr
    assert "already" in run(opened, "disable", "two@example.org").output


def test_a_parent_is_one_until_the_child_is_of_age(opened: Node) -> None:
    run(opened, "add", "mum@example.org", "--kind", "proxy", "--mail")
    assert "until the age of 18" in run(opened, "proxy", "mum@example.org", "child").output
    assert "age" not in run(opened, "proxy", "mum@example.org", "child", "--until-age", "0").output
    refused = run(opened, "proxy", "mum@example.org", "child", "--until-age", "3")
    assert refused.exit_code == 1
    assert "over already" in refused.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no address", "--mail"), "e-mail address"),
        (("x@example.org", "--mail", "--fhir-user", "Device/x"), "Practitioner"),
        (("x@example.org", "--mail", "--fhir-user", "Practitioner/p1"), "two accounts"),
        (("x@example.org", "--mail", "--patient", "nobody"), "no patient"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_added(opened: Node, arguments: tuple[str, ...], words: str) -> None:
    refused = run(opened, "add", *arguments)
    assert refused.exit_code == 1
    assert words in refused.output
    with opened.database.read() as connection:
        assert accounts.every(connection) == []


def test_a_password_that_is_none_is_refused(opened: Node) -> None:
    refused = run(opened, "add", "anna@example.org", input="short\nshort\n")
    assert refused.exit_code == 1
    assert "characters" in refused.output


def test_disabling_and_enabling(opened: Node) -> None:
    run(opened, "add", "anna@example.org", input=f"{PASSWORD}\n{PASSWORD}\n")
    assert run(opened, "disable", "anna@example.org").exit_code == 0
    assert "disabled" in run(opened, "list").output
    with opened.database.read() as connection:
        found = accounts.by_email(connection, "anna@example.org")
    assert found
    assert found.disabled
    assert run(opened, "enable", "anna@example.org").exit_code == 0
    opened.people.sign_in.password("anna@example.org", PASSWORD, "127.0.0.1")
    assert run(opened, "disable", "nobody@example.org").exit_code == 1


def test_a_password_for_once(opened: Node) -> None:
    run(opened, "add", "anna@example.org", "--mail")
    once = run(opened, "password", "anna@example.org", "--once").stdout.strip()
    assert opened.people.sign_in.password("anna@example.org", once, "127.0.0.1").email == "anna@example.org"


def test_a_proxy_begins_and_ends_and_the_trail_has_it(opened: Node) -> None:
    run(opened, "add", "mum@example.org", "--kind", "proxy", "--mail")
    assert run(opened, "proxy", "mum@example.org", "child", "--until-age", "18").exit_code == 0
    assert run(opened, "proxy", "mum@example.org", "old", "--relation", "carer", "--until", "2999-01-01").exit_code == 0
    assert reach(opened, "mum@example.org") == {"child", "old"}
    with opened.database.read() as connection:
        account = accounts.by_email(connection, "mum@example.org")
        assert account
        held = {each.patient: each for each in proxies.of_account(connection, account.id)}
    assert (held["child"].until_age, held["old"].relation, held["old"].ends > micros()) == (18, "carer", True)
    assert run(opened, "proxy", "mum@example.org", "child", "--end").exit_code == 0
    assert reach(opened, "mum@example.org") == {"old"}
    assert run(opened, "proxy", "mum@example.org", "child", "--end").exit_code == 1
    with opened.database.read() as connection:
        told = [json.loads(each.body)["outcomeDesc"] for each in events(connection, limit=10) if each.patient == "child"]
    assert told == ["proxy ended: parent", "proxy begun: parent"]


def test_somebody_is_linked_to_a_hospital_and_unlinked(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By issuer and subject, by whoever knows them; what the trail says of it names neither."""
    issuer = "https://login.hospital.example.org"
    provider = {"id": "general", "title": "General Hospital", "issuer": issuer, "client_id": "us"}
    monkeypatch.setenv("IMAGESHARE_HOSPITAL_SIGN_IN", json.dumps([provider]))
    with imageshare.node(tmp_path / "data", database_url, hospital_sign_in=[provider]) as node:
        for name in ("anna", "bert"):
            run(node, "add", f"{name}@example.org", "--mail")
        whom = "--issuer", issuer, "--subject", "s-77"
        linked = run(node, "link", "anna@example.org", *whom)
        assert linked.exit_code == 0, linked.output
        assert "General Hospital" in linked.output
        known = node.hospital.account(Identity("general", issuer, "s-77"))
        assert known is not None
        assert known.email == "anna@example.org"
        taken = run(node, "link", "bert@example.org", *whom)
        assert taken.exit_code == 1
        assert "another account" in taken.output
        elsewhere = run(node, "link", "bert@example.org", "--issuer", "https://evil.example.org", "--subject", "s-77")
        assert elsewhere.exit_code == 1
        assert issuer in elsewhere.output
        assert run(node, "unlink", "bert@example.org", *whom).exit_code == 1
        monkeypatch.delenv("IMAGESHARE_HOSPITAL_SIGN_IN")  # what is not set up any more can still be taken away
        assert run(node, "unlink", "anna@example.org", *whom).exit_code == 0
        assert node.hospital.account(Identity("general", issuer, "s-77")) is None
        with node.database.read() as connection:
            told = [json.loads(each.body) for each in events(connection, limit=10)]
        assert [each["outcomeDesc"].rpartition(" ")[2] for each in told[:2]] == ["unlinked", "linked"]
        assert all("s-77" not in json.dumps(each) for each in told)


def test_every_change_is_in_the_trail(opened: Node) -> None:
    """Of each command that changes what somebody may do: once, by the command line, of that account. A refused one is none."""
    words = ["account added: proxy", "account disabled", "account enabled", "password reset by an administrator", "proxy begun: parent", "proxy ended: parent"]  # fmt: skip
    mail = "mum@example.org"
    for arguments in (
        ("add", mail, "--kind", "proxy", "--mail"), ("disable", mail), ("enable", mail), ("password", mail, "--once"), ("proxy", mail, "child"),
        ("proxy", mail, "child", "--end"),
    ):  # fmt: skip
        assert run(opened, *arguments).exit_code == 0, arguments
    for arguments in (("add", mail, "--mail"), ("disable", "nobody@example.org"), ("proxy", mail, "child", "--end")):
        assert run(opened, *arguments).exit_code == 1, arguments
    with opened.database.read() as connection:
        account = accounts.by_email(connection, mail)
        told = [json.loads(each.body) for each in events(connection, limit=50)]
    assert account is not None
    assert [each["outcomeDesc"] for each in reversed(told)] == words
    for each in told:
        assert each["agent"][0]["who"]["identifier"]["value"] == "command line"
        assert account.id in json.dumps(each["entity"])


def test_a_new_server_on_loopback_has_an_administrator_whose_password_is_printed_once(tmp_path: Path) -> None:
    """Real processes: what they print, and that the log has nothing of it."""
    environment = {**os.environ, "IMAGESHARE_DATA": str(tmp_path / "data"), "IMAGESHARE_MIN_FREE_BYTES": "0"}
    command = [sys.executable, "-m", "server.cli", "serve", "--http-port", "0", "--dicom-port", "0"]

    log = tmp_path / "log"

    def started() -> str:
        with log.open("a") as errors:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        with process:
            assert process.stdout
            assert process.stdout.readline().startswith("imageshare listens: ")
            process.terminate()
            return process.stdout.read()

    found = re.search(rf"{FIRST} with the password (\S+), which works once", started())
    assert found
    assert started() == "", "there is an account now"
    assert found[1] not in log.read_text()
    with imageshare.node(tmp_path / "data") as opened:
        made = opened.people.sign_in.password(FIRST, found[1].lower(), "127.0.0.1")
        assert made.kind == "administrator"
        assert not opened.people.passwords.is_right(made.id, found[1])


@pytest.mark.parametrize("given", [{"http_host": "0.0.0.0"}, {"public_url": "https://images.example.org"}])
def test_one_that_others_reach_makes_none(tmp_path: Path, given: dict[str, str]) -> None:
    from server import upkeep

    with imageshare.node(tmp_path / "data", **given) as opened:
        assert upkeep.first_administrator(opened.settings) is None


def test_who_may_not_rename_themselves_is_renamed(opened: Node) -> None:
    run(opened, "add", "doc@example.org", "--kind", "staff", "--name", "Dora", input=f"{PASSWORD}\n{PASSWORD}\n")
    renamed = run(opened, "rename", "doc@example.org", "Dr.  Dora  Doe")
    assert (renamed.exit_code, renamed.output) == (0, "doc@example.org is called Dr. Dora Doe\n")
    with opened.database.read() as connection:
        found = accounts.by_email(connection, "doc@example.org")
        assert found is not None
        assert found.name == "Dr. Dora Doe"
        assert "name changed" in next(iter(events(connection, limit=1))).body.decode()
    for wrong in ("", "x" * 201, "a\u202eb"):
        assert run(opened, "rename", "doc@example.org", wrong).exit_code == 1
