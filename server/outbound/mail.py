"""E-mails to people: by SMTP (RFC 5321, TLS as RFC 3207 and 8314 have it), or as files where no mail server is set.

What is sent may hold a code: neither text nor address goes into the log.
"""

import secrets
import smtplib
import ssl
import textwrap
import time
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from server.errors import SettingsError, Unavailable
from server.settings import Settings, is_local_name

_SECONDS: Final = 15.0
_WIDTH: Final = 76


class Mail:
    """Sends one e-mail at a time for whoever calls, and waits for the mail server to take it."""

    def __init__(self, settings: Settings) -> None:
        """Raises `SettingsError` for an `smtp_url` that is none."""
        self._server = server_of(settings)
        self._from = settings.mail_from
        self._folder = folder(settings)
        self._closing = _closing(settings)

    def send(self, to: str, subject: str, text: str) -> None:
        """Raises `Unavailable` where the mail server does not take it, or none can be reached."""
        message = EmailMessage()
        try:
            message["From"], message["To"], message["Subject"] = self._from, to, subject
            message["Date"] = formatdate(localtime=False)
            message["Message-ID"] = make_msgid(domain=self._from.rpartition("@")[2] or "localhost")
            message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notice comes back
        except ValueError:  # line breaks, which would be headers of their own
            raise Unavailable("this e-mail address cannot be written to") from None
        message.set_content(f"{_wrapped(text)}\n\n{self._closing}")
        if self._server is None:
            self._keep(message)
            return
        try:
            _sent(self._server, message)
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            raise Unavailable("the mail server did not take an e-mail; try again later") from error

    def _keep(self, message: EmailMessage) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns()}-{secrets.token_hex(4)}"
        part = self._folder / f".{name}"
        part.touch(mode=0o600, exist_ok=False)
        part.write_bytes(bytes(message))
        part.rename(self._folder / f"{name}.eml")


def _wrapped(text: str) -> str:
    """Paragraphs in lines that every program shows whole (RFC 5322 section 2.1.1); addresses and codes stand in lines of their own."""
    lines = (
        textwrap.wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
        if len(line) > _WIDTH and not line.startswith(" ")
        else [line]
        for line in text.rstrip("\n").split("\n")
    )
    return "\n".join(each for some in lines for each in some)


def server_of(settings: Settings) -> SplitResult | None:
    """Where e-mails are sent. Raises `SettingsError` for an `smtp_url` that is none."""
    if settings.smtp_url is None or not (url := settings.smtp_url.get_secret_value()):
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(
            "IMAGESHARE_SMTP_URL is like smtp://user:password@mail.example.org:587, or smtps:// for TLS from the first byte"
        )
    return parts


def _closing(settings: Settings) -> str:
    """Below every e-mail (RFC 3676 section 4.3): who has sent it, and how to reach whom one asks for help."""
    return "\n".join(["-- ", settings.organization, *([settings.help_text.strip()] if settings.help_text.strip() else []), ""])


def folder(settings: Settings) -> Path:
    """Where e-mails go as files where no mail server is set."""
    return settings.data.absolute() / "mail"


def _sent(server: SplitResult, message: EmailMessage) -> None:
    host = server.hostname or ""
    local = is_local_name(server.netloc.rpartition("@")[2])
    trust = ssl.create_default_context()
    if server.scheme == "smtps":
        connection: smtplib.SMTP = smtplib.SMTP_SSL(host, server.port or 465, timeout=_SECONDS, context=trust)
    else:
        connection = smtplib.SMTP(host, server.port or 587, timeout=_SECONDS)
    with connection:
        if server.scheme == "smtp" and not local:  # on this machine nobody listens in
            connection.starttls(context=trust)
        if server.username:
            connection.login(unquote(server.username), unquote(server.password or ""))
        connection.send_message(message)
