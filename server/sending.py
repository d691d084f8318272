"""Sending files to a person's eyes: where to, a progress bar, and what came of it. `imageshare send` and the demo stand on it.

Nothing of what the files contain is shown: names of files and patients stay off the screen, failures are counted by reason.
"""

import re
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from profiles.identifiers import InvalidIdentifier, ae_title
from server.errors import SettingsError
from server.outbound import cstore, stow
from server.outbound.calling import tls_context
from server.outbound.files import Sent
from server.records.peers import Peer as KnownPeer
from server.settings import Settings

CALLING = "IMAGESHARE_SEND"
"""The AE title that files are sent under: not the one that our own server is called by."""

_PEER = re.compile(r"(?P<title>[^@]+)@(?P<host>\[[^\]]+\]|[^:@\[\]]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Peer:
    """A DICOM Storage SCP."""

    title: str
    host: str
    port: int
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Web:
    """A DICOMweb service: its base URL without `/studies`, an access token if it asks for one, `direct` past any proxy."""

    url: str
    token: str | None = field(default=None, repr=False)
    direct: bool = False


Target = Peer | Web


def target(text: str, token: str | None = None) -> Target:
    """`AE@host:port` or the URL of a DICOMweb service. Raises `SettingsError`."""
    if is_url(text):
        return Web(_url(text).rstrip("/").removesuffix("/studies"), token)
    return Peer(*address(text, "--to", ", or the URL of a DICOMweb service"))


def called(peer: KnownPeer, settings: Settings) -> Peer:
    """A peer of the table, with the TLS that it is called with. Raises `SettingsError`."""
    return Peer(peer.ae_title, peer.host, peer.port, tls_context(peer, settings))


def is_url(text: str) -> bool:
    return bool(re.match(r"https?://", text))


def address(text: str, option: str, otherwise: str = "") -> tuple[str, str, int]:
    """AE title, host and port of `AE@host:port`. Raises `SettingsError`, which names the option and what it takes `otherwise`."""
    found = _PEER.fullmatch(text)
    if not found or not 0 < int(found["port"]) < 65536:
        raise SettingsError(f"{option} takes AE@host:port, such as IMAGESHARE@127.0.0.1:11112{otherwise}")
    try:
        return ae_title(found["title"]), found["host"].strip("[]"), int(found["port"])
    except InvalidIdentifier as error:
        raise SettingsError(f"{option}: {error}") from None


def _url(text: str) -> str:
    try:
        url = httpx2.URL(text)
        if url.host and (url.port is None or 0 < url.port < 65536) and not set(text) & set("?#"):
            return text
    except httpx2.InvalidURL:
        pass
    raise SettingsError("--to: this is not the URL of a DICOMweb service, such as https://pacs.example.org/dicomweb")


def calling_title(text: str) -> str:
    """The AE title to call with. Raises `SettingsError` for one that PS3.5 section 6.2 does not allow."""
    try:
        return ae_title(text)
    except InvalidIdentifier as error:
        raise SettingsError(f"--calling: {error}") from None


@dataclass
class Report:
    """What came of sending. `sent` are the paths that the peer acknowledged; `bytes` is their size, `seconds` what it took."""

    sent: list[Path] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    seconds: float = 0.0

    @property
    def failures(self) -> int:
        return self.failed.total()

    def note(self, one: Sent) -> None:
        """Counts one file in."""
        if one.ok:
            self.sent.append(one.path)
            self.bytes += one.size
        else:
            status = "" if one.status is None else f"0x{one.status:04X}"
            self.failed[one.reason or f"refused without a reason {status}".rstrip()] += 1

    def rate(self) -> str:
        """`84 files/s, 42.0 MB/s`."""
        seconds = max(self.seconds, 1e-3)
        return f"{len(self.sent) / seconds:,.0f} files/s, {decimal(int(self.bytes / seconds))}/s"

    def reasons(self) -> str:
        """Why files failed; with counts where there is more than one."""
        if self.failures == 1:
            return next(iter(self.failed))
        return "; ".join(f"{count} x {reason}" for reason, count in self.failed.most_common())


def send(files: Iterable[Path], to: Target, *, calling: str = CALLING) -> Iterator[Sent]:
    """Sends `files` and tells what became of each as it becomes known. A peer that cannot be reached is a failure of each file."""
    if isinstance(to, Peer):
        return cstore.send(files, to.host, to.port, called=to.title, calling=calling, tls=to.tls)
    return _stow(files, to)


def _stow(files: Iterable[Path], to: Web) -> Iterator[Sent]:
    with httpx2.Client(timeout=120, trust_env=not to.direct) as client:
        yield from stow.send(files, to.url, token=to.token, client=client)


def send_with_bar(console: Console, label: str, files: Sequence[Path], to: Target, *, calling: str = CALLING) -> Report:
    """`send` with a progress bar on `console`, which goes when it is done."""
    report = Report()
    began = time.monotonic()
    with _bar(console, label, files) as advance:
        for one in send(files, to, calling=calling):
            report.note(one)
            advance(one.path)
    report.seconds = time.monotonic() - began
    return report


@contextmanager
def _bar(console: Console, label: str, files: Sequence[Path]) -> Iterator[Callable[[Path], None]]:
    sizes = {path: _size(path) for path in files}
    columns = (
        TextColumn("  {task.description}", style="bold"), BarColumn(bar_width=None), MofNCompleteColumn(), TextColumn("files"),
        _Moved(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, expand=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=len(files), moved=0, began=time.monotonic())
        moved = 0

        def advance(path: Path) -> None:
            nonlocal moved
            moved += sizes.get(path, 0)
            progress.update(task, advance=1, moved=moved)

        yield advance


class _Moved(ProgressColumn):
    """Bytes and bytes per second."""

    def render(self, task: Task) -> Text:
        """`12.6 MB  21.0 MB/s`."""
        moved = int(task.fields["moved"])
        rate = int(moved / max(time.monotonic() - task.fields["began"], 1e-3))
        return Text(f"{decimal(moved):>9} {decimal(rate) + '/s':>11}", style="cyan")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
