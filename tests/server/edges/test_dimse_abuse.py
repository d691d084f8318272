"""What a hostile, broken or unlucky peer may send to the DICOM port: the protocol's own error, and nothing left behind."""

import contextlib
import os
import socket
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from peers.imageshare import node
from peers.scanner import associated, instances, listening, nothing_stored, outcomes, store, store_bytes, stored_bytes, written
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import Verification

from server.edges.context import Node
from server.settings import Device

ON_BOTH_ENGINES = True


def p_data(*items: tuple[int, bytes], context_id: int = 1) -> bytes:
    """A P-DATA-TF PDU of `(control header, value)` items."""
    body = b"".join(struct.pack(">LBB", len(value) + 2, context_id, control) + value for control, value in items)
    return struct.pack(">BxL", 4, len(body)) + body


def command(sop_instance_uid: str, **changes: int) -> bytes:
    """A C-STORE-RQ Command Set."""
    made = Dataset()
    made.AffectedSOPClassUID = CTImageStorage
    made.CommandField, made.MessageID, made.Priority, made.CommandDataSetType = 1, 1, 2, 1
    made.AffectedSOPInstanceUID = sop_instance_uid
    for name, value in changes.items():
        setattr(made, name, value)
    encoded = encode(made, True, True)
    assert encoded is not None
    return encoded


def wire(association: Association) -> socket.socket:
    assert association.is_established
    assert association.dul.socket is not None
    connection = association.dul.socket.socket
    assert connection is not None
    return connection


def gone(association: Association) -> bool:
    """Waits until the server has ended the association."""
    association.join(30)
    return association.is_aborted and not association.is_alive()


def settled(opened: Node, happened: Callable[[], bool]) -> bool:
    """Waits for what the server does on its own when a peer has gone."""
    waiting = threading.Event()
    for _ in range(500):
        if happened():
            return True
        waiting.wait(0.02)
    return False


def test_an_association_aborted_in_the_middle(tmp_path: Path, database_url: str) -> None:
    (dataset,) = instances()
    data = written(dataset)
    with node(tmp_path / "data", database_url) as opened, listening(opened) as scp:
        with associated(scp) as association:
            connection = wire(association)
            connection.sendall(p_data((3, command(dataset.SOPInstanceUID))) + p_data((0, data[: len(data) // 2])))
            assert settled(opened, lambda: len(list(opened.blobs.list())) == 1)
            association.abort()
        assert settled(opened, lambda: nothing_stored(opened))
        assert store(scp, dataset) == [(0, "")]


@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_a_connection_cut_in_the_middle(tmp_path: Path, part: float) -> None:
    (dataset,) = instances()
    data = written(dataset)
    message = p_data((3, command(dataset.SOPInstanceUID)), (2, data))
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        with associated(scp) as association:
            connection = wire(association)
            connection.sendall(message[: max(200, int(len(message) * part))])
            connection.shutdown(socket.SHUT_RDWR)
            association.join(30)
            connection.close()  # which pynetdicom leaves open when the peer is gone
        scp.stop()
        assert nothing_stored(opened)


def _broken(dataset: Dataset) -> dict[str, bytes]:
    good = written(dataset)
    pixels = good.rindex(b"\xe0\x7f\x10\x00")
    uid = good.index(b"\x20\x00\x0d\x00UI") + 8  # the instance's UID begins with the same bytes
    huge = struct.pack("<HH2sxxL", 0x0011, 0x1010, b"OB", 0x7FFFFFF0)
    return {
        "too short": b"\x08\x00",
        "garbage": os.urandom(5000),
        "truncated in the header": good[: pixels // 2],
        "truncated in the pixels": good[:-100],
        "length of 2 GB": good[:pixels] + huge + good[pixels:],
        "a study UID that is a path": good[:uid] + b"../" + good[uid + 3 :],
        "no study UID": good[: uid - 8] + good[uid + len(dataset.StudyInstanceUID) + len(dataset.StudyInstanceUID) % 2 :],
    }


_CUT_OFF = "truncated: the data set ends inside an element"
_COMMENTS = {
    "too short": _CUT_OFF,
    "garbage": _CUT_OFF,
    "truncated in the header": _CUT_OFF,
    "truncated in the pixels": _CUT_OFF,
    "length of 2 GB": _CUT_OFF,
    "a study UID that is a path": "StudyInstanceUID is not a UID (PS3.5 section 9.1)",
    "no study UID": "StudyInstanceUID is missing or empty; it is required",
}


@pytest.mark.parametrize("kind", _COMMENTS)
def test_a_data_set_that_is_none(tmp_path: Path, kind: str) -> None:
    (dataset,) = instances()
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        status, comment = store_bytes(scp, dataset.SOPInstanceUID, _broken(dataset)[kind])
        assert (status, comment) == (0xC000, _COMMENTS[kind])
        assert nothing_stored(opened)
        (told,) = outcomes(opened)
        assert b'"outcome":"4"' in told
        assert store(scp, dataset) == [(0, "")]


def test_a_deflated_bomb(tmp_path: Path) -> None:
    (dataset,) = instances()
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    inner = written(dataset)
    inner = inner[: inner.rindex(b"\xe0\x7f\x10\x00")] + struct.pack("<HH2sxxL", 0x0029, 0x1010, b"OB", 200 << 20)
    bomb = squeeze.compress(inner) + b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(200)) + squeeze.flush()
    assert len(bomb) < 1 << 20
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        status, comment = store_bytes(scp, dataset.SOPInstanceUID, bomb, DeflatedExplicitVRLittleEndian)
        assert (status, "inflates" in comment) == (0xC000, True)
        assert nothing_stored(opened)


def test_another_instance_than_the_command_says(tmp_path: Path) -> None:
    (dataset,) = instances()
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        status, comment = store_bytes(scp, "1.2.3.4", written(dataset))
        assert (status, comment) == (0xA900, "the SOP Instance UID announced is not that of the dataset")
        assert nothing_stored(opened)


@pytest.mark.parametrize("uid", ["../../outside", "1.2/../../x", "1.2.3\\1.2.4", ""])
def test_a_uid_that_is_none_in_the_command(tmp_path: Path, uid: str) -> None:
    (dataset,) = instances()
    before = sorted(tmp_path.rglob("*"))
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        with associated(scp) as association:
            association._reactor_checkpoint.clear()
            wire(association).sendall(p_data((3, command(uid)), (2, written(dataset))))
            _, answer = association.dimse.get_msg(block=True)
            association._reactor_checkpoint.set()
            assert answer is not None
            assert answer.Status == 0xC000
            assert answer.ErrorComment == "Affected SOP Instance UID is not a UID (PS3.5 section 9.1)"
        assert nothing_stored(opened)
        assert len(outcomes(opened)) == 1
    assert [each for each in sorted(tmp_path.rglob("*")) if not each.is_relative_to(tmp_path / "data")] == before


def test_a_full_disk(tmp_path: Path) -> None:
    with node(tmp_path / "data", min_free_bytes=1 << 60) as opened, listening(opened) as scp:
        ((status, comment),) = store(scp, *instances())
        assert (status, comment) == (0xA700, "the server has no room left; try again later")
        assert nothing_stored(opened)
        assert b'"outcome":"8"' in outcomes(opened)[0]


def test_a_full_disk_in_the_middle(tmp_path: Path) -> None:
    (dataset,) = instances()
    with node(tmp_path / "data", max_instance_bytes=1000) as opened, listening(opened) as scp:
        assert store(scp, dataset, dataset)[1][0] == 0xA700
        assert nothing_stored(opened)
        assert len(outcomes(opened)) == 2


ATTACKS = {
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "an A-ASSOCIATE-RQ of 4 GiB": struct.pack(">BxL", 1, 0xFFFFFFFF),
    "an A-RELEASE-RQ of 4 GiB": struct.pack(">BxL", 5, 0xFFFFFFFF),
    "an item longer than its PDU": struct.pack(">BxLLBB", 4, 12, 0xFFFFFFFF, 1, 0),
    "an item without a header": struct.pack(">BxLLBB", 4, 6, 0, 1, 0),
    "a PDU too short for an item": struct.pack(">BxL", 4, 3) + b"abc",
    "a data set without a command": p_data((2, b"data")),
    "no command set": p_data((3, b"no command set")),
    "a command set without end": p_data((1, bytes(100_000))),
    "a context that was not accepted": p_data((3, command("1.2.3")), context_id=77),
    "a message in two contexts": p_data((3, command("1.2.3"))) + p_data((0, b"x"), context_id=3),
    "a command within a data set": p_data((3, command("1.2.3"))) + p_data((3, command("1.2.4"))),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_messages_that_are_none_abort_the_association(tmp_path: Path, attack: bytes) -> None:
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        with associated(scp) as association:
            wire(association).sendall(attack)
            assert gone(association)
        assert settled(opened, lambda: nothing_stored(opened))
        assert store(scp, *instances()) == [(0, "")]


def test_no_data_set_at_all(tmp_path: Path) -> None:
    with node(tmp_path / "data") as opened, listening(opened) as scp, associated(scp) as association:
        association._reactor_checkpoint.clear()
        wire(association).sendall(p_data((3, command("1.2.3", CommandDataSetType=0x0101))))
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        assert answer is not None
        assert answer.Status == 0xC000
        assert nothing_stored(opened)


def test_a_message_in_many_small_items_of_many_pdus(tmp_path: Path) -> None:
    (dataset,) = instances()
    data, head = written(dataset), command(dataset.SOPInstanceUID)
    items = [(1, head[:7]), (1, b""), (1, head[7:20]), (3, head[20:])]
    items += [(0, data[at : at + 97]) for at in range(0, len(data), 97)] + [(2, b"")]
    with node(tmp_path / "data") as opened, listening(opened) as scp, associated(scp) as association:
        association._reactor_checkpoint.clear()
        for at in range(0, len(items), 3):
            wire(association).sendall(p_data(*items[at : at + 3]))
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        assert answer is not None
        assert answer.Status == 0
        assert stored_bytes(opened, dataset.SOPInstanceUID) == data


def test_requests_ahead_of_their_answers(tmp_path: Path) -> None:
    made = instances(5)
    with node(tmp_path / "data") as opened, listening(opened) as scp, associated(scp) as association:
        association._reactor_checkpoint.clear()
        for number, dataset in enumerate(made):
            wire(association).sendall(p_data((3, command(dataset.SOPInstanceUID, MessageID=number)), (2, written(dataset))))
        answers = [association.dimse.get_msg(block=True)[1] for _ in made]
        association._reactor_checkpoint.set()
        assert [(each.MessageIDBeingRespondedTo, each.Status) for each in answers if each] == [(n, 0) for n in range(5)]


def test_a_silent_peer_is_aborted(tmp_path: Path) -> None:
    with node(tmp_path / "data", association_idle=0.3) as opened, listening(opened) as scp:
        with associated(scp) as between:
            assert gone(between)
        with associated(scp) as within:
            wire(within).sendall(p_data((3, command("1.2.3"))) + struct.pack(">BxL", 4, 100))
            assert gone(within)
        with socket.create_connection(scp.address) as mute:
            mute.settimeout(30)
            assert mute.recv(1) == b""
        assert settled(opened, lambda: nothing_stored(opened))


def test_idle_connections_do_not_keep_devices_out(tmp_path: Path) -> None:
    with node(tmp_path / "data", max_associations=2) as opened, listening(opened) as scp:
        idle = [socket.create_connection(scp.address) for _ in range(40)]
        assert store(scp, *instances()) == [(0, "")]
        for connection in idle:
            connection.close()


def test_a_request_that_trickles_in_has_the_artim_time_as_a_whole(tmp_path: Path) -> None:
    """PS3.8 section 9.1.5. Each byte comes soon after the last, the request never comes to its end."""
    with node(tmp_path / "data", association_idle=1) as opened, listening(opened) as scp:
        with socket.create_connection(scp.address) as slow:
            slow.sendall(b"\x01\x00\x00\x0f\x00\x00")
            slow.settimeout(0.3)
            sent = 0
            for _ in range(60):
                try:
                    assert slow.recv(1) in (b"", b"\x07"), "closed, or aborted before"
                    break
                except TimeoutError:
                    slow.sendall(b"\x00")
                    sent += 1
                except ConnectionError:
                    break
        assert sent < 20, "every byte began the waiting anew"


def test_strangers_do_not_take_the_devices_places(tmp_path: Path) -> None:
    device = Device(ae_title="SCANNER", address="127.0.0.2")
    with node(tmp_path / "data", devices=(device,)) as opened, listening(opened) as scp:
        strangers = [socket.create_connection(scp.address) for _ in range(150)]
        for stranger in strangers:
            with contextlib.suppress(ConnectionError):
                stranger.sendall(b"\x01\x00\x00\x0f\x00\x00")
        entity = AE("SCANNER")
        association = entity.associate(
            *scp.address, contexts=[build_context(Verification)], ae_title="IMAGESHARE", bind_address=("127.0.0.2", 0)
        )
        assert association.is_established
        assert association.send_c_echo().Status == 0
        association.release()
        for stranger in strangers:
            stranger.close()


def test_stop_ends_what_is_open_and_takes_nothing_new(tmp_path: Path) -> None:
    (dataset,) = instances()
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        address = scp.address
        with associated(scp) as idle, associated(scp) as busy:
            wire(busy).sendall(p_data((3, command(dataset.SOPInstanceUID)), (0, written(dataset)[:500])))
            assert settled(opened, lambda: len(list(opened.blobs.list())) == 1)
            scp.stop()
            assert gone(idle)
            assert gone(busy)
        assert nothing_stored(opened)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


def test_memory_stays_flat(tmp_path: Path, dcmtk: Callable[[str], Path]) -> None:
    """200 MB in instances of 20 MB, as PDUs of 128 kB, then one of PDUs of 1 MiB: neither an instance nor the study is held."""
    (dataset,) = instances()
    dataset.Rows = dataset.Columns = 3200
    dataset.PixelData = np.random.default_rng(1).integers(0, 4000, (3200, 3200), dtype=np.uint16).tobytes()
    files = []
    for number in range(10):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        files.append(tmp_path / f"{number}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    data = written(dataset)
    process = psutil.Process()
    with node(tmp_path / "data") as opened, listening(opened) as scp:
        store(scp, *instances())  # what is loaded on first use
        before = process.memory_info().rss
        seen: list[int] = []
        watching = threading.Event()

        def watch() -> None:
            while not watching.wait(0.005):
                seen.append(process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        run = [dcmtk("storescu"), "-pdu", "131072", "-aec", "IMAGESHARE", "127.0.0.1", str(scp.address[1]), *files]
        done = subprocess.run(run, capture_output=True, text=True, env={**os.environ, "TCP_NODELAY": "1"}, check=False)
        assert done.returncode == 0, done.stderr
        changed = BytesIO(data.replace(b"1.2.3.9\0", b"1.2.3.10"))
        with associated(scp) as association:
            association._reactor_checkpoint.clear()
            connection = wire(association)
            connection.sendall(p_data((3, command("1.2.3.10"))))
            while piece := changed.read((1 << 20) - 6):
                connection.sendall(p_data((2 if changed.tell() == len(changed.getvalue()) else 0, piece)))
            _, answer = association.dimse.get_msg(block=True)
            association._reactor_checkpoint.set()
        watching.set()
        watcher.join()
        assert answer is not None
        assert answer.Status == 0
        assert stored_bytes(opened, "1.2.3.10") == changed.getvalue()
        # One instance has 20 MB, and the test's own copy of the last is among what grew.
        assert max(seen) - before < (16 << 20) + len(data)
