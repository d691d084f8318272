"""E-mails: to a real SMTP server, with TLS where others could listen in; to a folder where there is none."""

import email
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from peers.authority import Authority

from server import doctor
from server.errors import SettingsError, Unavailable
from server.outbound.mail import Mail
from server.settings import load


@dataclass
class Sink:
    """Keeps what it is sent; refuses when it is told to."""

    messages: list[Message] = field(default_factory=list)
    envelopes: list[tuple[str | None, list[str]]] = field(default_factory=list)
    answer: str = "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.messages.append(email.message_from_bytes(envelope.content, policy=default))
        self.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
        return self.answer


@pytest.fixture
def sink(free_port: int) -> Iterator[tuple[Sink, str]]:
    kept = Sink()
    controller = Controller(kept, hostname="127.0.0.1", port=free_port)
    controller.start()
    yield kept, f"smtp://127.0.0.1:{free_port}"
    controller.stop()


def test_an_e_mail_arrives(tmp_path: Path, sink: tuple[Sink, str]) -> None:
    kept, url = sink
    who = {"organization": "Riverside Hospital", "help_text": "Call 0123 45 67 89"}
    Mail(load(data=tmp_path, smtp_url=url, mail_from="images@example.org", **who)).send(
        "anna@example.org", "Your code", "Grüezi\n\n1234 5678\n"
    )
    (message,) = kept.messages
    assert kept.envelopes == [("images@example.org", ["anna@example.org"])]
    assert (message["From"], message["To"], message["Subject"]) == ("images@example.org", "anna@example.org", "Your code")
    said = ["Grüezi", "", "1234 5678", "", "-- ", "Riverside Hospital", "Call 0123 45 67 89"]
    assert message.get_content().splitlines() == said  # type: ignore[attr-defined]
    assert message["Message-ID"].endswith("@example.org>")
    assert message["Auto-Submitted"] == "auto-generated"
    assert not (tmp_path / "mail").exists()


def test_one_that_is_not_taken_says_so_without_the_address(tmp_path: Path, sink: tuple[Sink, str]) -> None:
    kept, url = sink
    kept.answer = "550 no such anna@example.org"
    with pytest.raises(Unavailable) as refused:
        Mail(load(data=tmp_path, smtp_url=url)).send("anna@example.org", "x", "y")
    assert "anna" not in refused.value.detail


def test_a_mail_server_that_is_not_there(tmp_path: Path, free_port: int) -> None:
    with pytest.raises(Unavailable):
        Mail(load(data=tmp_path, smtp_url=f"smtp://127.0.0.1:{free_port}")).send("anna@example.org", "x", "y")


@pytest.mark.parametrize("to", ["anna@example.org\r\nBcc: eve@example.org", "anna@example.org\nSubject: x"])
def test_a_line_break_adds_no_recipient(tmp_path: Path, sink: tuple[Sink, str], to: str) -> None:
    kept, url = sink
    with pytest.raises(Unavailable):
        Mail(load(data=tmp_path, smtp_url=url)).send(to, "x", "y")
    assert kept.messages == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # the controller does not count TLS from the first byte
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_beyond_this_machine_only_with_tls(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """A mail server elsewhere is talked to with STARTTLS and a certificate for its name; one that has none gets nothing."""
    kept, seen = Sink(), []

    def authenticate(server: SMTP, session: Any, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        seen.append((data.login, data.password))
        return AuthResult(success=True)

    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("mail"))
    first = scheme == "smtps"
    options: dict[str, Any] = {"ssl_context": context} if first else {"tls_context": context, "require_starttls": True}
    controller = Controller(
        kept, hostname="127.0.0.1", port=free_port, authenticator=authenticate, auth_required=True, auth_require_tls=not first,
        **options,
    )  # fmt: skip
    monkeypatch.setattr("server.outbound.mail.is_local_name", lambda _: False)
    if first:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))  # the controller looks whether it listens
    controller.start()
    try:
        mail = Mail(load(data=tmp_path, smtp_url=f"{scheme}://images%40example.org:s%3Aecret@127.0.0.1:{free_port}"))
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises(Unavailable):
            mail.send("anna@example.org", "x", "y")  # nobody vouches for its certificate
        assert (kept.messages, seen) == ([], [])
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        mail.send("anna@example.org", "x", "y")
        assert len(kept.messages) == 1
        assert seen == [(b"images@example.org", b"s:ecret")]
    finally:
        controller.stop()


def test_one_without_tls_elsewhere_gets_nothing(tmp_path: Path, sink: tuple[Sink, str], monkeypatch: pytest.MonkeyPatch) -> None:
    kept, url = sink
    monkeypatch.setattr("server.outbound.mail.is_local_name", lambda _: False)
    with pytest.raises(Unavailable):
        Mail(load(data=tmp_path, smtp_url=url)).send("anna@example.org", "x", "y")
    assert kept.messages == []


@pytest.mark.parametrize("url", ["mail.example.org", "http://mail.example.org", "smtp://", "smtp://[::1", "smtp://x:99999"])
def test_what_is_no_mail_server_is_refused(tmp_path: Path, url: str) -> None:
    settings = load(data=tmp_path, smtp_url=url)
    with pytest.raises(SettingsError, match="SMTP_URL"):
        Mail(settings)


def test_without_a_mail_server_they_are_files_that_others_cannot_read(tmp_path: Path) -> None:
    Mail(load(data=tmp_path)).send("anna@example.org", "Your code", "1234 5678")
    (file,) = (tmp_path / "mail").iterdir()
    assert file.suffix == ".eml"
    assert "1234 5678" in file.read_text()
    assert [stat.S_IMODE(each.stat().st_mode) for each in (file, file.parent)] == [0o600, 0o700]


def test_the_doctor_tells_where_e_mails_go(tmp_path: Path) -> None:
    def told(**given: Any) -> tuple[str, bool]:
        rows = {name: (value, fine) for name, value, fine in doctor.examined(load(data=tmp_path, **given))}
        assert "s:ecret" not in str(rows)
        return rows["e-mail"]

    assert told() == (f"files in {tmp_path / 'mail'}, which nobody reads: set smtp_url", True)
    assert told(smtp_url="smtp://me:s:ecret@mail.example.org") == ("by smtp through mail.example.org", True)
    assert told(smtp_url="mail.example.org")[1] is False
