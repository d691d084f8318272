"""C-STORE as SCU, to our own port and to dcmtk's storescp."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from peers.imageshare import node
from peers.scanner import after_head, instances, listening, stored_bytes

from server.outbound import cstore

ON_BOTH_ENGINES = True


def _files(folder: Path, count: int = 3) -> list[Path]:
    made = []
    for number, dataset in enumerate(instances(count)):
        made.append(folder / f"{number}.dcm")
        dataset.save_as(made[-1], enforce_file_format=True)
    return made


def test_files_arrive_byte_for_byte(tmp_path: Path) -> None:
    made = _files(tmp_path)
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        results = list(cstore.send(made, *scp.address, called="IMAGESHARE"))
        assert [(each.path, each.ok, each.status, each.reason) for each in results] == [(path, True, 0, "") for path in made]
        assert [each.size for each in results] == [path.stat().st_size for path in made]
        for path, dataset in zip(made, instances(3), strict=True):
            assert stored_bytes(opened, dataset.SOPInstanceUID) == after_head(path.read_bytes())


def test_each_file_has_its_own_result(tmp_path: Path) -> None:
    first, second, third = _files(tmp_path)
    first.write_text("no image")
    second.write_bytes(second.read_bytes()[:-50])
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        results = {each.path: each for each in cstore.send([first, second, third], *scp.address, called="IMAGESHARE")}
    assert "no preamble" in results[first].reason
    assert results[second].status == 0xC000
    assert "truncated" in results[second].reason
    assert results[third].ok


def test_a_peer_that_rejects_or_is_not_there(tmp_path: Path, free_port: int) -> None:
    made = _files(tmp_path, 2)
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        results = list(cstore.send(made, *scp.address, called="SOMEBODY"))
    assert [(each.ok, each.reason) for each in results] == [
        (False, "association rejected: called AE title not recognized (for good)")
    ] * 2
    results = list(cstore.send(made, "127.0.0.1", free_port, called="IMAGESHARE"))
    assert [each.reason for each in results] == [f"no connection to 127.0.0.1 port {free_port}: connection refused"] * 2


def test_contexts_that_are_refused(tmp_path: Path) -> None:
    made = []
    for number, (dataset, sop_class) in enumerate(
        zip(instances(2), ("1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.1.1.2"), strict=True)
    ):
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
        made.append(tmp_path / str(number))
        dataset.save_as(made[-1], enforce_file_format=True)
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        refused, taken = cstore.send(made, *scp.address, called="IMAGESHARE")
        assert not refused.ok
        assert refused.reason.startswith("the peer does not take Hanging Protocol Storage in Explicit VR")
        assert taken.ok
        (alone,) = cstore.send(made[:1], *scp.address, called="IMAGESHARE")
        assert alone.reason == refused.reason


def test_more_than_128_contexts_take_more_associations(tmp_path: Path) -> None:
    made = []
    (dataset,) = instances()
    for number in range(130):
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = f"1.3.6.1.4.1.5962.1.{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        made.append(tmp_path / str(number))
        dataset.save_as(made[-1], enforce_file_format=True)
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        assert all(each.ok for each in cstore.send(made, *scp.address, called="IMAGESHARE"))


def test_dcmtks_storescp_gets_the_same_bytes(tmp_path: Path, dcmtk: Callable[[str], Path], free_port: int) -> None:
    made = _files(tmp_path)
    received = tmp_path / "received"
    received.mkdir()
    peer = subprocess.Popen([dcmtk("storescp"), "+B", "-od", received, str(free_port)])
    try:
        for _ in range(200):
            results = list(cstore.send(made, "127.0.0.1", free_port, called="STORESCP"))
            if not results[0].reason.startswith("no connection"):
                break
            time.sleep(0.05)
        assert all(each.ok for each in results)
    finally:
        peer.terminate()
        peer.wait()
    assert {after_head(path.read_bytes()) for path in received.iterdir()} == {after_head(path.read_bytes()) for path in made}
