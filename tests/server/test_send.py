"""`imageshare send`: by C-STORE and by STOW-RS against a real server, and what it says when something goes wrong.

On SQLite alone: what sends has no database, and how a server stores on either engine is tested with its two doors.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import imageshare

from server import sending
from server.errors import SettingsError
from server.outbound.delivery import WINDOW
from server.outbound.files import Sent
from server.sending import Peer, Report, Web, target

FILES = Path(pydicom.data.__file__).parent / "test_files"


def send(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "server.cli", "send", *map(str, arguments)],
        env={**{name: value for name, value in os.environ.items() if not name.startswith("IMAGESHARE_")}, **environment},
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[imageshare.Running]:
    with imageshare.running(tmp_path_factory.mktemp("server")) as running:
        yield running


def test_c_store_takes_files_and_folders(server: imageshare.Running) -> None:
    done = send(FILES / "CT_small.dcm", FILES / "dicomdirtests" / "77654033", "--to", f"IMAGESHARE@127.0.0.1:{server.dicom_port}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("8 of 8 files sent")


def test_stow_takes_the_token_from_the_environment(server: imageshare.Running) -> None:
    done = send(FILES / "MR_small.dcm", "--to", f"{server.http}/dicomweb", IMAGESHARE_TOKEN=server.token())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 of 1 files sent")


def test_stow_without_a_token_is_refused_for_every_file(server: imageshare.Running) -> None:
    done = send(FILES / "dicomdirtests" / "98892003", "--to", f"{server.http}/dicomweb/studies")
    assert done.returncode == 1
    assert done.stdout.startswith("0 of 17 files sent")
    assert "17 not sent: HTTP 401 Unauthorized: set IMAGESHARE_TOKEN" in done.stderr


def test_failures_are_counted_by_reason_and_never_name_a_file(server: imageshare.Running, tmp_path: Path) -> None:
    text = tmp_path / "DOE^JOHN.txt"
    text.write_text("no image")
    done = send(FILES / "CT_small.dcm", FILES / "MR_truncated.dcm", text, "--to", f"IMAGESHARE@127.0.0.1:{server.dicom_port}")
    assert done.returncode == 1
    assert done.stdout.startswith("1 of 3 files sent")
    assert "1 not sent: not a DICOM file" in done.stderr
    assert "0xC000" in done.stderr
    assert "DOE" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_called_ae_title_is_told(server: imageshare.Running) -> None:
    done = send(FILES / "CT_small.dcm", "--to", f"SOMEBODY@127.0.0.1:{server.dicom_port}")
    assert done.returncode == 1
    assert "association rejected" in done.stderr


@pytest.mark.parametrize("door", ["IMAGESHARE@127.0.0.1:{port}", "http://127.0.0.1:{port}/dicomweb"])
def test_nobody_listens(door: str, free_port: int) -> None:
    done = send(FILES / "CT_small.dcm", FILES / "MR_small.dcm", "--to", door.format(port=free_port))
    assert done.returncode == 1
    assert done.stdout.startswith("0 of 2 files sent")
    assert "2 not sent:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_dicom_and_a_path_that_is_not_there(tmp_path: Path) -> None:
    done = send(tmp_path, "--to", "IMAGESHARE@127.0.0.1:11112")
    assert done.returncode == 1
    assert "no DICOM file" in done.stderr
    done = send(tmp_path / "nowhere", "--to", "IMAGESHARE@127.0.0.1:11112")
    assert done.returncode == 1
    assert "there is no" in done.stderr


@pytest.mark.timeout(60)  # half of what an answer that never comes would be waited for
def test_a_server_that_dies_in_the_middle_fails_the_rest_at_once(tmp_path: Path) -> None:
    files = sorted((FILES / "dicomdirtests" / "98892003").rglob("[0-9]*"))
    files = [path for path in files if path.is_file()] * 20
    report = Report()
    with imageshare.running(tmp_path) as running:
        for number, one in enumerate(sending.send(files, Peer("IMAGESHARE", "127.0.0.1", running.dicom_port)), 1):
            report.note(one)
            if number == 3:
                running.kill()
    assert 3 <= len(report.sent) <= 3 + 2 * WINDOW  # answers that were on their way
    assert report.failures == len(files) - len(report.sent)


def test_files_are_not_sent_under_the_servers_own_title(tmp_path: Path) -> None:
    assert sending.calling_title(sending.CALLING) == sending.CALLING != "IMAGESHARE"
    device = '[{"ae_title": "IMAGESHARE_SEND", "address": "127.0.0.1"}]'
    with imageshare.running(tmp_path, devices=device) as running:
        to = f"IMAGESHARE@127.0.0.1:{running.dicom_port}"
        assert send(FILES / "CT_small.dcm", "--to", to).returncode == 0
        assert "association rejected" in send(FILES / "CT_small.dcm", "--to", to, "--calling", "OTHER").stderr
    refused = send(FILES / "CT_small.dcm", "--to", to, "--calling", "A" * 17)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "--calling" in refused.stderr


def test_a_dicom_port_is_no_web_server(server: imageshare.Running) -> None:
    done = send(FILES / "CT_small.dcm", "--to", f"http://127.0.0.1:{server.dicom_port}/dicomweb")
    assert done.returncode == 1
    assert "1 not sent:" in done.stderr
    assert "Error" not in done.stderr


def test_targets() -> None:
    assert target("PACS@10.0.0.1:104") == Peer("PACS", "10.0.0.1", 104)
    assert target("MY PACS@pacs.hospital.example:11112") == Peer("MY PACS", "pacs.hospital.example", 11112)
    assert target("PACS@[::1]:104") == Peer("PACS", "::1", 104)
    assert target("https://pacs.example/dicomweb/studies/", "t") == Web("https://pacs.example/dicomweb", "t")
    assert "secret" not in repr(target("https://pacs.example/dicomweb", "secret"))


@pytest.mark.parametrize("text", ["http://", "http://h:99999/", "http://h/?x", "ftp://x"])
def test_no_urls(text: str) -> None:
    with pytest.raises(SettingsError, match="--to"):
        target(text)


@pytest.mark.parametrize("text", ["", "PACS", "PACS@host", "@host:104", "PACS@host:0", "PACS@host:70000", "A" * 17 + "@h:1"])
def test_no_targets(text: str) -> None:
    with pytest.raises(SettingsError, match="--to"):
        target(text)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000), st.sampled_from(["a", "b", ""]), st.none() | st.just(0xA700))))
def test_a_report_counts_every_file_once(files: list[tuple[bool, int, str, int | None]]) -> None:
    report = Report()
    for number, (ok, size, reason, status) in enumerate(files):
        report.note(Sent(Path(str(number)), size, ok=ok, status=status, reason=reason))
    assert len(report.sent) + report.failures == len(files)
    assert report.bytes == sum(size for ok, size, _, _ in files if ok)
    assert all(reason for reason in report.failed)
