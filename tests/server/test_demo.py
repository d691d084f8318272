"""`imageshare demo`: the whole story as a reader runs it, and its parts where they can be tried alone."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pydicom.data
import pytest
from PIL import Image as Picture
from rich.console import Console

from server.demo import material
from server.demo.app import BACK, App
from server.demo.process import ServerProcess
from server.demo.story import Failed, Story, require

FILES = Path(pydicom.data.__file__).parent / "test_files"
COMMAND = [sys.executable, "-m", "server.cli", "demo"]
STEPS = (
    "A server starts", "C-STORE: real files", "A CT is generated", "C-STORE: phantom CT", "The same SOP Instance again",
    "FHIR ImagingStudy", "DICOMweb QIDO-RS", "DICOMweb WADO-RS rendered", "All studies, FHIR and QIDO",
    "XDS-I.b ITI-18 FindDocuments", "XDS-I.b ITI-43 manifest", "XDS-I.b RAD-69 images", "Without a token",
    "An account and an app", "The app asks how", "The patient signs in", "... and allows one study", "A code becomes a token",
    "What the token opens", "... and what it does not", "The patient takes it back", "A code on paper, no account",
    "... kept in an account", "A link for the doctor", "... opened without an account", "... and stopped", "An image comes late", "kill -9 while a CT comes in",
    "Started again on its folder", "The rest, by STOW-RS", "FHIR AuditEvent (IHE BALP)",
)  # fmt: skip


@pytest.mark.timeout(300)
def test_the_whole_story(tmp_path: Path) -> None:
    # A database of the reader's must not be met, whatever his environment says.
    environment = {**os.environ, "TMPDIR": str(tmp_path), "IMAGESHARE_DATABASE_URL": "sqlite:////nowhere/real.db"}
    done = subprocess.run(
        [*COMMAND, "--once"], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    places = [done.stdout.find(f"  ✓ {number:>3} {step}") for number, step in enumerate(STEPS, 1)]
    assert -1 not in places, STEPS[places.index(-1)]
    assert places == sorted(places)
    assert "✗" not in done.stdout
    assert "every dataset byte-identical" in done.stdout
    assert "0 lost" in done.stdout
    (folder,) = tmp_path.glob("imageshare-demo-*")
    assert sorted(path.name for path in folder.iterdir()) == ["pictures", "server.log"]
    assert f"Pictures and the server's log stay in {folder}" in done.stdout
    for path in (folder / "pictures").iterdir():
        with Picture.open(path) as picture:
            low, high = picture.convert("L").getextrema()
            assert high - low > 100, f"{path.name} shows nothing"


@pytest.mark.deep
@pytest.mark.timeout(300)
def test_the_readers_own_files(tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(FILES / "dicomdirtests" / "98892003", own / "mr")
    shutil.copy(FILES / "MR_truncated.dcm", own)
    (own / "notes.txt").write_text("no image")
    done = subprocess.run(
        [*COMMAND, "--once", "--input", str(own), "--keep", str(tmp_path / "kept")],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "C-STORE: your files" in done.stdout
    assert (tmp_path / "kept" / "data" / "imageshare.db").exists()


@pytest.mark.timeout(120)
def test_a_step_that_fails_ends_with_1_and_names_the_log(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--once", "--input", str(tmp_path), "--keep", str(tmp_path / "kept")],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "✗" in done.stdout
    assert "no complete DICOM file" in done.stdout
    assert "server.log" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_sigterm_ends_the_demo_and_its_server(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--keep", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL
    )
    assert process.stdout
    try:
        for line in process.stdout:
            if "A server starts" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    log = tmp_path / "server.log"
    size = -1
    while size != log.stat().st_size:  # nobody writes to it any more
        size = log.stat().st_size
        time.sleep(0.5)


@pytest.mark.timeout(120)
def test_sigterm_leaves_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL
    )
    assert process.stdout
    try:
        for line in process.stdout:
            if "A server starts" in line:
                break
        assert [*tmp_path.glob("imageshare-demo-*")]
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert [*tmp_path.glob("imageshare-demo-*")] == []


@pytest.mark.parametrize(
    ("came", "why"),
    [("error=access_denied&state=S", "access_denied"), ("code=c&state=other&iss=I", "another request"), ("code=c&state=S&iss=J", "another server")],
)  # fmt: skip
def test_the_app_takes_no_code_that_is_not_for_it(came: str, why: str) -> None:
    asking = App("http://127.0.0.1:1/fhir")
    asking._configuration, asking._state = {"issuer": "I"}, "S"
    with pytest.raises(Failed, match=why):
        asking.redeem(f"{BACK}?{came}")


def test_material_is_what_can_be_stored_and_nothing_twice() -> None:
    found = material.shipped()
    uids = {image.sop_instance_uid for image in found.images}
    assert len(uids) == len(found.images) > 50
    assert {"CT", "MR", "US"} <= set(found.modalities)
    assert all(twin.sop_instance_uid in uids for twin in found.twins)
    assert found.twins
    assert not any(image.path.name in ("MR_truncated.dcm", "no_meta.dcm") for image in found.images)


def test_same_means_every_byte_of_the_dataset(tmp_path: Path) -> None:
    (image,) = (one for one in material.files_in(FILES).images if one.path.name == "CT_small.dcm")
    whole = image.path.read_bytes()
    assert image.same(io.BytesIO(whole))
    other_preamble = b"\1" * 128 + whole[128:]
    assert image.same(io.BytesIO(other_preamble))
    assert not image.same(io.BytesIO(whole[:-1] + bytes([whole[-1] ^ 1])))
    assert not image.same(io.BytesIO((FILES / "MR_small.dcm").read_bytes()))


def test_middles_are_one_image_of_each_series(tmp_path: Path) -> None:
    images = material.phantom(tmp_path / "made", slices=2, seed=1, patient_id="P", accession_number="A")
    assert len(images) == 8
    assert [image.series for image in material.middles(images)] == list(dict.fromkeys(image.series for image in images))
    assert material.largest_study(images) == images


def test_a_story_numbers_its_steps_and_draws_what_failed() -> None:
    out = io.StringIO()
    story = Story(Console(file=out, width=100))
    with story.step("first") as told:
        told.say("seen")
        told.look_at("/somewhere")
    with pytest.raises(Failed), story.step("second"):
        require(condition=False, otherwise="two instead of three")
    with pytest.raises(Failed), story.step("third"):
        raise OSError("no connection")
    text = out.getvalue()
    assert "✓   1 first" in text
    assert "→ /somewhere" in text
    assert "✗   2 second" in text
    assert "two instead of three" in text
    assert "OSError: no connection" in text


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "imageshare.toml").write_text("quiet_period = 'often'")
    server = ServerProcess(data, tmp_path / "log", 1)
    server._environment.pop("IMAGESHARE_QUIET_PERIOD")
    with pytest.raises(Failed, match="quiet_period"):
        server.start()
    assert not server.running
