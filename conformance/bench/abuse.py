"""Bad input over the wire, each case measured for answer, time and memory, beside Orthanc: `python -m conformance.bench abuse`.

After each case a well-behaved client must be served; a server that has died is started again, and told so.
"""

import contextlib
import functools
import random
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

import pydicom
from pydicom.uid import UID

from conformance.bench import corpus
from conformance.bench.line import Line, p_data
from conformance.bench.peers import Peer
from conformance.bench.wire import Connection
from ihe import dimse
from ihe.dimse import Command, CommandField

pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE  # what is written here is wrong on purpose

_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_VERIFICATION: Final = "1.2.840.10008.1.1"
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_JPEG_2000: Final = "1.2.840.10008.1.2.4.90"
_PATIENCE: Final = 15.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """`memory` is the highest MB of the server's processes during the case, `grown` how much more that is than before it."""

    case: str
    who: str
    answer: str
    seconds: float
    memory: float
    grown: float
    serves: bool
    """Whether a C-ECHO was answered afterwards."""


def run(start: Callable[[], AbstractContextManager[Peer | None]], told: Callable[[str], None] = lambda _: None) -> list[Outcome]:
    """Every case against one server, which `start` starts; again after each death."""
    outcomes = []
    waiting = list(CASES.items())
    _bomb(_uid("bomb"))  # takes ten seconds to make
    while waiting:
        with start() as peer:
            if peer is None:
                return []
            while waiting and peer.process.poll() is None:
                name, case = waiting.pop(0)
                told(f"{peer.name}: {name}")
                outcomes.append(_measured(name, case, peer))
    return outcomes


def _measured(name: str, case: Callable[[Peer], str], peer: Peer) -> Outcome:
    before = peer.memory()
    highest, done = [before], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            highest.append(peer.memory())

    sampler = threading.Thread(target=sample)
    sampler.start()
    began = time.perf_counter()
    try:
        answer = case(peer)
    except (OSError, ConnectionError) as error:
        answer = "no answer" if isinstance(error, TimeoutError) else "closed"
    elapsed = time.perf_counter() - began
    done.set()
    sampler.join()
    time.sleep(0.2)
    died = peer.process.poll() is not None
    serves = not died and _echo(peer) == "0x0000"
    return Outcome(name, peer.name, "the server died" if died else answer, elapsed, max(highest), max(highest) - before, serves)


# --- cases on the DICOM port


def _idle(peer: Peer, count: int) -> str:
    """Connections that say nothing, and then a device."""
    lines: list[Line] = []
    with contextlib.suppress(OSError):
        lines.extend(Line(peer.dicom_port, 5) for _ in range(count))
    answer = _echo(peer)
    for line in lines:
        line.close()
    time.sleep(0.5)
    return f"C-ECHO meanwhile {answer}, after they closed {_echo(peer)}"


def _endless_pdu(peer: Peer) -> str:
    with _line(peer) as line:
        line.socket.sendall(struct.pack(">BxL", 4, 0xFFFFFFFF) + bytes(100_000))
        return line.answer()


def _long_pdv(peer: Peer) -> str:
    with _line(peer) as line:
        line.socket.sendall(p_data(3, bytes(100), claimed=5000))
        return line.answer()


def _empty_pdv(peer: Peer) -> str:
    with _line(peer) as line:
        line.socket.sendall(p_data(3, b"", claimed=0))
        return line.answer()


def _no_dicom(peer: Peer) -> str:
    line = Line(peer.dicom_port, _PATIENCE)
    line.socket.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    return line.answer()


def _cut(peer: Peer) -> str:
    data = _data_set(_uid("cut"))
    with _line(peer) as line:
        line.socket.sendall(p_data(3, _command(_uid("cut"))) + p_data(0, data[: len(data) // 2]))
    return "-"


def _aborted_everywhere(peer: Peer) -> str:
    """An association that ends after each of its first 700 bytes, every seventh."""
    data = _data_set(_uid("everywhere"))
    message = p_data(3, _command(_uid("everywhere"))) + p_data(2, data)
    for at in range(0, 700, 7):
        with _line(peer) as line:
            line.socket.sendall(message[:at])
    return "-"


def _stored(data: Callable[[str], bytes], uid: str, *, syntax: str = _EXPLICIT, announced: str = "") -> Callable[[Peer], str]:
    """A C-STORE of `data`, which is given the SOP Instance UID to have."""

    def case(peer: Peer) -> str:
        with _line(peer, syntax) as line:
            line.store(_CT, announced or uid, data(uid))
            return line.answer()

    return case


def _nested(uid: str) -> bytes:
    """Sequences 20,000 deep."""
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    head = _data_set(uid, pixels=False)
    return head + (b"\x54\x00\x16\x00SQ\x00\x00\xff\xff\xff\xff" + item) * 20_000


@functools.lru_cache
def _bomb(uid: str) -> bytes:
    """1.5 MB that inflate to 1.5 GB."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    inner = _data_set(uid, pixels=False) + struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", 1500 << 20)
    chunk = bytes(1 << 20)
    return squeeze.compress(inner) + b"".join(squeeze.compress(chunk) for _ in range(1500)) + squeeze.flush()


def _lying_length(uid: str) -> bytes:
    data = _data_set(uid, pixels=False)
    return data + struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", 0x7FFFFFF0) + bytes(1000)


def _overflowing(uid: str) -> bytes:
    """65,535 x 65,535 pixels of 32 bits in 2,147,483,647 frames, of which 64 bytes are there."""
    dataset = _made()
    dataset.Rows = dataset.Columns = 65535
    dataset.BitsAllocated = dataset.BitsStored = 32
    dataset.HighBit = 31
    dataset.NumberOfFrames = 2147483647
    dataset.PixelData = bytes(64)
    dataset.SOPInstanceUID = UID(uid)
    return corpus.data_set(dataset)


def _strange_text(uid: str) -> bytes:
    data = _data_set(uid).replace(b"Bench^0 ", b"\x1b$B\xff\xfe\x80\x81\x82")
    return data.replace(b"CS\x0a\x00ISO_IR 100", b"CS\x0a\x00ISO_IR 9999"[:14])


# --- cases over HTTP


def _flood(peer: Peer) -> str:
    """A STOW-RS body of 200,000 parts of nothing."""
    part = b"\r\n--flood\r\nContent-Type: application/dicom\r\n\r\n"
    return _post(peer, [part * 1000] * 200 + [b"\r\n--flood--\r\n"])


def _headers(peer: Peer) -> str:
    """One part with 16 MB of headers."""
    line = b"X-Filler: " + b"a" * 1000 + b"\r\n"
    return _post(peer, [b"--flood\r\n", *[line * 100] * 160, b"\r\nx\r\n--flood--\r\n"])


def _left_out(peer: Peer) -> str:
    """3 kB of metadata in XML whose 30 attributes have their 1,048,576th value only."""
    rows = "".join(
        f'<DicomAttribute tag="0009{number:04X}" vr="LO"><Value number="1048576">x</Value></DicomAttribute>'
        for number in range(0x1000, 0x101E)
    )
    part = f"--flood\r\nContent-Type: application/dicom+xml\r\n\r\n<NativeDicomModel>{rows}</NativeDicomModel>\r\n--flood--\r\n"
    return _post(peer, [part.encode()], "application/dicom+xml")


def _never_ending(peer: Peer) -> str:
    """64 MB that never come to a boundary."""
    return _post(peer, [b"--flood\r\nContent-Type: application/dicom\r\n\r\n", *[bytes(1 << 20)] * 64])


def _broken_codestream(peer: Peer) -> str:
    """A JPEG 2000 frame whose header promises 40,000 x 40,000 pixels and whose rest is noise, stored and then rendered."""
    noise = random.Random(3)
    stream = (
        b"\xff\x4f\xff\x51\x00\x29\x00\x00" + struct.pack(">8L", 40_000, 40_000, 0, 0, 40_000, 40_000, 0, 0) + b"\x00\x01\x0f\x01\x01"
        b"\xff\x52\x00\x0c\x00\x00\x00\x01\x00\x05\x04\x04\x00\x01\xff\x5c\x00\x13\x40" + bytes(16) + b"\xff\x90\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x01\xff\x93"
        + noise.randbytes(20_000)
    )  # fmt: skip
    dataset = _made()
    dataset.Rows = dataset.Columns = 40_000
    dataset.SOPInstanceUID = UID(_uid("j2k"))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = UID(_uid("j2k-study")), UID(_uid("j2k-series"))
    del dataset.PixelData
    stream += b"\0" * (len(stream) % 2)
    encapsulated = (
        struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF)
        + struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, len(stream)) + stream
        + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    )  # fmt: skip
    with _line(peer, _JPEG_2000) as line:
        line.store(_CT, dataset.SOPInstanceUID, corpus.data_set(dataset) + encapsulated)
        answer = line.answer()
    if answer != "0x0000":
        return f"C-STORE {answer}"
    time.sleep(4)
    root = "/" + peer.dicomweb.split("/", 3)[3]
    path = f"{root}/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}/rendered"
    connection = Connection(peer.dicomweb, peer.headers)
    status, size = connection.get(path, "image/jpeg")
    connection.close()
    return f"stored; rendered: {status}, {size} bytes"


def _program_preamble(peer: Peer) -> str:
    """A file that is also a Windows program (PS3.10 section 7.5): what its first bytes are when it is fetched."""
    dataset = _made()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(_uid("program"))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = UID(_uid("program-study")), UID(_uid("program-series"))
    dataset.preamble = b"MZ" + bytes(126)
    buffer = pydicom.filebase.DicomBytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    part = b"--flood\r\nContent-Type: application/dicom\r\n\r\n" + buffer.getvalue()
    stored = _post(peer, [part, b"\r\n--flood--\r\n"])
    time.sleep(4)
    root = "/" + peer.dicomweb.split("/", 3)[3]
    connection = Connection(peer.dicomweb, peer.headers)
    path = f"{root}/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"
    status, body = connection.fetch(path, 'multipart/related; type="application/dicom"; transfer-syntax=*')
    connection.close()
    at = body.find(b"DICM")
    return f"stored: {stored}; fetched: {status}, preamble {'as it was' if body[at - 128 : at - 126] == b'MZ' else 'of zeros'}"


# --- what they share


def _echo(peer: Peer) -> str:
    try:
        line = Line(peer.dicom_port, 10)
        if not line.associate(peer.ae_title, "BENCH", _VERIFICATION):
            return "no association"
        line.echo()
        answer = line.answer()
        line.close()
    except TimeoutError:
        return "no answer"
    except OSError:
        return "closed"
    return answer


@contextlib.contextmanager
def _line(peer: Peer, syntax: str = _EXPLICIT) -> Iterator[Line]:
    """An association for CT images; its connection is closed without a word."""
    line = Line(peer.dicom_port, _PATIENCE)
    try:
        if not line.associate(peer.ae_title, "BENCH", _CT, syntax):
            raise ConnectionError("no association")
        yield line
    finally:
        line.close()


def _post(peer: Peer, pieces: list[bytes], type_: str = "application/dicom") -> str:
    connection = Connection(peer.dicomweb, peer.headers)
    root = "/" + peer.dicomweb.split("/", 3)[3]
    try:
        status, _ = connection.post(
            f"{root}/studies",
            f'multipart/related; type="{type_}"; boundary=flood',
            sum(map(len, pieces)),
            iter(pieces),
            "application/dicom+json",
        )
    except (BrokenPipeError, ConnectionResetError):
        return "refused before the end"
    finally:
        connection.close()
    return str(status)


def _command(sop_instance: str) -> bytes:
    return dimse.encode(
        Command(
            field=CommandField.C_STORE_RQ,
            message_id=1,
            affected_sop_class_uid=_CT,
            affected_sop_instance_uid=sop_instance,
            priority=0,
            has_data_set=True,
        )
    )


def _made() -> pydicom.Dataset:
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(next(corpus.small_studies(1, seed=77))))


def _data_set(uid: str, *, pixels: bool = True) -> bytes:
    dataset = _made()
    dataset.SOPInstanceUID = UID(uid, validation_mode=0)
    if not pixels:
        del dataset.PixelData
    return corpus.data_set(dataset)


def _uid(name: str) -> str:
    return f"1.2.826.0.1.3680043.8.498.77.{zlib.crc32(name.encode())}"


CASES: Final[Mapping[str, Callable[[Peer], str]]] = {
    "1 idle connection, then C-ECHO": lambda peer: _idle(peer, 1),
    "300 idle connections, then C-ECHO": lambda peer: _idle(peer, 300),
    "no DICOM at all": _no_dicom,
    "PDU of 4 GiB - 1": _endless_pdu,
    "PDV longer than its PDU": _long_pdv,
    "PDV of length 0": _empty_pdv,
    "connection cut in a C-STORE": _cut,
    "100 associations cut at every seventh byte": _aborted_everywhere,
    "sequences 20,000 deep": _stored(_nested, _uid("nested")),
    "deflated, 1.5 MB to 1.5 GB": _stored(_bomb, _uid("bomb"), syntax=_DEFLATED),
    "pixels of 2 GB that are not there": _stored(_lying_length, _uid("lying")),
    "frames that overflow every integer": _stored(_overflowing, _uid("overflowing")),
    "garbage under a good command": _stored(lambda _: random.Random(1).randbytes(5000), _uid("garbage")),
    "another instance than announced": _stored(_data_set, _uid("other"), announced=_uid("announced")),
    "a path as SOP Instance UID": _stored(_data_set, "../../../tmp/x"),
    "text that is not in its character set": _stored(_strange_text, _uid("strange")),
    "STOW-RS, 200,000 empty parts": _flood,
    "STOW-RS, 16 MB of part headers": _headers,
    "STOW-RS, 64 MB without a boundary": _never_ending,
    "STOW-RS, 3 kB of XML with 31 million values left out": _left_out,
    "a program as preamble": _program_preamble,
    "a JPEG 2000 frame that lies": _broken_codestream,
}
"""Name and what it does; the answer in a few words."""
