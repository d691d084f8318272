"""Abuse case 22, for everything that is no answer by HTTP: commands, devices, the worker, and the data folder's files.

Names, a birth date, e-mail addresses, passwords, codes and tokens are planted; then each kind of event happens (`peers.every_event`), at DEBUG.
HTTP's own routes, with their metrics and their errors, are in tests/server/test_every_route.py.
"""

import base64
import logging
import re
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Final

import pytest
from peers.every_event import Happened, happened

from server import telemetry

_NAMES: Final = ("Alba", "Anna", "Berg", "Bert")
_BIRTH_DATES: Final = ("19600229", "1960-02-29")
_PEOPLE: Final = ("patient@", "other@", "proxy@", "practitioner@", "staff@", "administrator@", "nobody@", "eve@")
_TOKENS: Final = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_PRINTED_ONCE: Final = {("user", "password"), ("client", "add"), ("token", "--client")}
"""Commands whose first line is a secret."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Happened, str]]:
    """The site, and its log at DEBUG."""
    root, error, output = logging.getLogger(), sys.stderr, StringIO()
    handlers, level = root.handlers[:], root.level
    sys.stderr = output
    try:
        telemetry.configure("http", "DEBUG")
        with happened(tmp_path_factory.mktemp("words") / "data") as done:
            sys.stderr, root.handlers[:] = error, handlers
            yield done, output.getvalue()
    finally:
        sys.stderr, root.handlers[:] = error, handlers
        root.setLevel(level)
        telemetry.configure("test")
        root.handlers[:] = handlers


def _secrets(done: Happened) -> dict[str, str]:
    """What is planted, and what commands gave out."""
    found = {**done.secrets, "client secret": done.smart.secret["secret"], "secret of the EHR": done.smart.secret["ehr"]}
    for arguments, result in done.output.items():
        if arguments[:2] in _PRINTED_ONCE:
            found[" ".join(arguments[:2])] = result.stdout.splitlines()[0].strip()
    return found


def test_commands_give_out_what_is_looked_for(written: tuple[Happened, str]) -> None:
    """The tests below can see: what is printed once is known."""
    found = _secrets(written[0])
    assert {" ".join(each) for each in _PRINTED_ONCE} <= set(found)
    assert all(len(secret) > 10 for secret in found.values())


def test_the_log_has_none(written: tuple[Happened, str]) -> None:
    done, log = written
    assert log.count("\n") > 20, "nothing was logged, so nothing was looked at"
    words = (*_NAMES, *_BIRTH_DATES, *_PEOPLE, "canary", *_secrets(done).values(), *done.smart.patients.values())
    assert [each for each in words if each in log] == []
    assert _TOKENS.findall(log) == []


def test_the_trail_has_no_name_no_address_and_no_secret(written: tuple[Happened, str]) -> None:
    """What clients ask for is kept as they wrote it, in base64: that is looked at decoded, and has a patient's number, which they sent."""
    done, _ = written
    for event in done.events():
        asked = [
            base64.b64decode(each["query"]).decode("utf-8", "replace") for each in event.get("entity", ()) if "query" in each
        ]
        told = str(event) + " ".join(asked)
        secrets = [name for name, secret in _secrets(done).items() if secret in told]
        assert (secrets, [each for each in (*_BIRTH_DATES, *_PEOPLE, "canary") if each in told]) == ([], []), event
        assert [each for each in _NAMES if each in str(event)] == [], event


def test_no_file_but_letters_has_a_secret(written: tuple[Happened, str]) -> None:
    done, _ = written
    folder: Path = done.node.settings.data
    files = [each for each in folder.rglob("*") if each.is_file() and "mail" not in each.relative_to(folder).parts]
    assert any(each.name == "imageshare.db" for each in files)
    for each in files:
        content = each.read_bytes()
        assert [name for name, secret in _secrets(done).items() if secret.encode() in content] == [], each


def test_commands_say_no_more_than_they_are_asked_for(written: tuple[Happened, str]) -> None:
    """A password that was typed is not echoed; who is registered is for `user list`."""
    done, _ = written
    for result in done.output.values():
        assert [name for name, secret in done.secrets.items() if secret in result.output] == []
        assert [each for each in (*_NAMES, *_BIRTH_DATES) if each in result.output] == []


def test_metrics_have_none(written: tuple[Happened, str]) -> None:
    done, _ = written
    metrics = done.smart.http.get("/metrics").text
    words = (*_NAMES, *_BIRTH_DATES, *_PEOPLE, "canary", *_secrets(done).values(), *done.smart.patients.values())
    assert [each for each in words if each in metrics] == []


def test_refusals_and_redirects_have_none(written: tuple[Happened, str]) -> None:
    done, _ = written
    for each in done.answers:
        told = each.headers.get("location", "") + (each.text if each.status_code >= 400 else "")
        assert [name for name, secret in _secrets(done).items() if secret in told] == []
        assert [word for word in (*_NAMES, *_BIRTH_DATES) if word in told] == []
