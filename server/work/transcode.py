"""Instances and frames in another transfer syntax than the stored one, without loss (PS3.5 annex A, PS3.18 section 8.7.3).

The Data Set is written anew (`profiles.reencoding`), the pixels frame by frame in a process that may die (`server.work.pixels`), so
that a long instance costs no more memory than a frame. The SOP Instance UID stays: nothing is lost. What a lossy compression lost
before stays said (0028,2110).
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from struct import Struct
from typing import BinaryIO, Final

from profiles import frames, part10, reencoding
from profiles.frames import FrameTable
from profiles.part10 import HeaderError, Part10
from profiles.pixel_description import PIXEL_DATA, PixelDescription, described
from profiles.reencoding import Piece
from profiles.transfer_syntaxes import DECODED, ENCODED, NATIVE, decoded_photometric, encoded_photometric
from profiles.vocabulary import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from server.errors import NotAcceptable, NotFound
from server.records.catalogue import StoredInstance
from server.store.blobs import BlobStore
from server.work import retrieve
from server.work.pixels import pool as pools
from server.work.pixels.pool import Pool

_OFFSET_TABLES: Final = (0x7FE00001, 0x7FE00002, 0x7FE00003)
_WHOLE: Final = 32 << 20
"""Decoded bytes up to which an instance is encoded before it is sent, so that its length is known and it has an offset table."""
_LONGEST: Final = 0xFFFFFFFE
_LENGTH: Final = Struct("<L")
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def acceptable(stored: str, wanted: Sequence[str], *, pixels: bool = True) -> str | None:
    """The transfer syntax to send an instance in that is stored in `stored`: the stored one if it is wanted, else the first that can be had.

    `pixels` is False for an instance without: it can be had uncompressed only. None where there is none. An instance may still
    turn out to be damaged, or of a kind that the syntax cannot hold.
    """
    if stored in wanted:
        return stored
    if stored not in DECODED:
        return None
    return next((syntax for syntax in wanted if syntax in ENCODED and (pixels or syntax in NATIVE)), None)


def transcoded(
    blobs: BlobStore, instance: StoredInstance, syntax: str, *, pool: Pool | None = None
) -> tuple[int | None, Iterator[bytes]]:
    """PS3.10 section 7.1: the instance as a Part 10 file in transfer syntax `syntax`, in pieces, and how long it is where that is known.

    The first frame is made before this returns. Raises `NotAcceptable` for pixels that cannot be decoded or that `syntax` cannot
    hold, `TooLarge`, `Busy` and `Unavailable`; also while it is read, for frames after the first.
    """
    if syntax == instance.transfer_syntax:
        return instance.size, retrieve.part10(blobs, instance)
    if acceptable(instance.transfer_syntax, [syntax]) is None:
        raise NotAcceptable(f"an instance stored in {instance.transfer_syntax} cannot be sent in {syntax} here")
    pieces = _pieces(blobs, instance, syntax, pool or pools.shared())
    length = next(pieces)
    assert isinstance(length, int)
    first = next(pieces, b"")
    return (None if length < 0 else length), chain([first], pieces)  # type: ignore[list-item, arg-type]


def frames_of(
    blobs: BlobStore, instance: StoredInstance, numbers: Sequence[int], syntax: str, *, pool: Pool | None = None
) -> tuple[int | None, Iterator[bytes]]:
    """PS3.18 section 10.4.1.1.6: frames `numbers` (from 1) in transfer syntax `syntax`, and how long each is where that is known.

    The first is made before this returns. Raises as `transcoded` does, and `NotFound` beyond the last frame.
    """
    made = _frames(blobs, instance, numbers, syntax, pool or pools.shared())
    length = next(made)
    assert isinstance(length, int)
    return (None if length < 0 else length), chain([next(made, b"")], made)  # type: ignore[list-item, arg-type]


@dataclass(frozen=True, slots=True)
class _Source:
    """An open file, inflated where it was deflated, and what is known of its pixels."""

    file: BinaryIO
    parsed: Part10
    table: FrameTable | None
    shape: PixelDescription | None

    @property
    def syntax(self) -> str:
        return self.parsed.transfer_syntax_uid

    @property
    def photometric(self) -> str:
        return decoded_photometric(self.syntax, self.shape) if self.shape else ""

    def ranges(self, number: int) -> list[tuple[int, int]]:
        """Offset and length of a frame's pieces, with the other half of the last word where its bytes are to be turned around."""
        assert self.table is not None
        found = self.table.ranges(number)
        if self.shape is not None and self.shape.word > 1 and found[0][1] % self.shape.word:
            if self.table.count > 1:
                raise NotAcceptable("big-endian frames that do not fill their last word are sent as they are stored only")
            found = [(found[0][0], found[0][1] + 1)]
        return found

    def job(self, number: int, syntax: str) -> dict[str, object]:
        assert self.table is not None
        assert self.shape is not None
        pieces = self.ranges(number)
        return {"do": "transcode", "from": self.syntax, "to": syntax, "shape": asdict(self.shape), "pieces": pieces}


@contextlib.contextmanager
def opened(blobs: BlobStore, instance: StoredInstance) -> Iterator[_Source]:
    """The stored file, parsed. Raises `NotAcceptable` where it is damaged."""
    with contextlib.ExitStack() as stack:
        file: BinaryIO = stack.enter_context(contextlib.closing(blobs.open(instance.blob_id)))
        try:
            parsed = part10.parse(file)
            if parsed.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
                plain = stack.enter_context(tempfile.TemporaryFile())
                reencoding.inflate(parsed, file, plain)
                plain.flush()  # others read it by its descriptor
                file, parsed = plain, part10.parse(plain)
            table = frames.table(parsed, file)
        except HeaderError:
            raise NotAcceptable("this instance is damaged; it can be retrieved as it is stored only") from None
        yield _Source(file, parsed, table, described(parsed))


def _pieces(blobs: BlobStore, instance: StoredInstance, syntax: str, pool: Pool) -> Iterator[bytes | int]:
    """First the length (-1 where it is not known), then the file."""
    with opened(blobs, instance) as source:
        body = _native(source, syntax, pool) if syntax in NATIVE else _encapsulated(source, syntax, pool)
        yield from _sized(reencoding.file_meta(source.parsed, syntax), body)


def _sized(head: bytes, body: Iterator[bytes | int]) -> Iterator[bytes | int]:
    length = next(body)
    assert isinstance(length, int)
    yield length + len(head) if length >= 0 else -1
    yield head + bytes(next(body, b""))
    yield from body


def _native(source: _Source, syntax: str, pool: Pool) -> Iterator[bytes | int]:
    implicit, shape = reencoding.syntax_is_implicit(syntax), source.shape
    if source.syntax in NATIVE:
        pieces = reencoding.dataset(source.parsed, {}, implicit=implicit)
        if shape is not None and shape.word > 2:
            pieces = _with_pixels(source, shape, implicit)
        yield reencoding.size(pieces)
        yield from _read(pieces, source.file)
        return
    if shape is None or source.table is None:
        yield from _without_pixels(source, implicit)
        return
    length = source.table.count * shape.frame_length
    if length > _LONGEST or (shape.allocated == 1 and source.table.count > 1 and shape.rows * shape.columns % 8):
        raise NotAcceptable(
            "this instance cannot be sent uncompressed here: it is too large (PS3.5 section 7.1.1), or of bits that fill no bytes"
        )
    before, after = _around(source, source.photometric, implicit)
    vr = "OW" if shape.allocated > 8 or implicit else "OB"
    head = reencoding.head(PIXEL_DATA, vr, length + length % 2, implicit=implicit)
    yield reencoding.size(before) + len(head) + length + length % 2 + reencoding.size(after)
    first = pool.ask(source.file, source.job(1, EXPLICIT_VR_LITTLE_ENDIAN))
    yield from _read([*before, head], source.file)
    yield first
    for number in range(2, source.table.count + 1):
        yield pool.ask(source.file, source.job(number, EXPLICIT_VR_LITTLE_ENDIAN))
    yield from _read([b"\0" * (length % 2), *after], source.file)


def _without_pixels(source: _Source, implicit: bool) -> Iterator[bytes | int]:
    if source.parsed.pixels is not None:
        raise NotAcceptable("the frames of this instance cannot be told apart; it can be retrieved as it is stored only")
    pieces = reencoding.dataset(source.parsed, {}, implicit=implicit)
    yield reencoding.size(pieces)
    yield from _read(pieces, source.file)


def _with_pixels(source: _Source, shape: PixelDescription, implicit: bool) -> list[Piece]:
    """Big-endian numbers of more than 16 bits, which are turned around whole although their VR is OW."""
    pixels = source.parsed.pixels
    assert pixels is not None
    head = reencoding.head(PIXEL_DATA, "OW", pixels.length, implicit=implicit)
    return [
        *reencoding.dataset(source.parsed, {}, implicit=implicit, last=PIXEL_DATA - 1),
        head,
        reencoding.Copied(pixels.offset, pixels.length, shape.word),
        *reencoding.dataset(source.parsed, {}, implicit=implicit, first=PIXEL_DATA + 1),
    ]


def _encapsulated(source: _Source, syntax: str, pool: Pool) -> Iterator[bytes | int]:
    """PS3.5 section A.4: one fragment a frame, with a Basic Offset Table where all frames were made first."""
    shape, table = source.shape, source.table
    if shape is None or table is None or not shape.is_integer:
        raise NotAcceptable(f"this instance has no pixels that transfer syntax {syntax} could hold")
    before, after = _around(source, encoded_photometric(syntax, source.photometric), implicit=False)
    head = reencoding.head(PIXEL_DATA, "OB", 0xFFFFFFFF, implicit=False)
    made = (pool.ask(source.file, source.job(number, syntax)) for number in range(1, table.count + 1))
    if shape.frame_length * table.count <= _WHOLE:
        items = [_item(frame) for frame in made]
        offsets, at = b"", 0
        for item in items:
            offsets += _LENGTH.pack(at)
            at += len(item)
        whole = b"".join([head, _item(offsets), *items, _END])
        yield reencoding.size(before) + len(whole) + reencoding.size(after)
        yield from _read([*before, whole, *after], source.file)
        return
    yield -1
    first = _item(next(made))
    yield from _read([*before, head + _item(b"") + first], source.file)
    for frame in made:
        yield _item(frame)
    yield from _read([_END, *after], source.file)


def _item(frame: bytes) -> bytes:
    padding = b"\0" * (len(frame) % 2)
    return _ITEM + _LENGTH.pack(len(frame) + len(padding)) + frame + padding


def _around(source: _Source, photometric: str, implicit: bool) -> tuple[list[Piece], list[Piece]]:
    """The Data Set before and after its pixels, with the attributes that change as they are coded (PS3.5 section 8.2)."""
    changes = dict.fromkeys(_OFFSET_TABLES, b"")
    changes[0x00280004] = reencoding.element(0x00280004, "CS", photometric.encode("ascii"), implicit=implicit)
    if source.shape is not None and source.shape.samples > 1:
        changes[0x00280006] = reencoding.element(0x00280006, "US", b"\0\0", implicit=implicit)
    before = reencoding.dataset(source.parsed, changes, implicit=implicit, last=PIXEL_DATA - 1)
    return before, reencoding.dataset(source.parsed, changes, implicit=implicit, first=PIXEL_DATA + 1)


def _read(pieces: Sequence[Piece], file: BinaryIO) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from piece.read(file)


def _frames(blobs: BlobStore, instance: StoredInstance, numbers: Sequence[int], syntax: str, pool: Pool) -> Iterator[bytes | int]:
    """First the length of each (-1 where it is not known), then the frames."""
    with opened(blobs, instance) as source:
        shape, table = source.shape, source.table
        if shape is None or table is None:
            raise NotFound("this instance has no frames that can be retrieved one by one")
        if max(numbers) > table.count:
            raise NotFound(f"this instance has frames 1 to {table.count}")
        make = _maker(source, syntax, pool)
        yield shape.frame_length if syntax in NATIVE else -1
        for number in numbers:
            yield make(number)


def _maker(source: _Source, syntax: str, pool: Pool) -> Callable[[int], bytes]:
    shape = source.shape
    assert shape is not None
    if syntax in NATIVE and source.syntax in NATIVE:

        def copied(number: int) -> bytes:
            ((offset, length),) = source.ranges(number)
            return b"".join(reencoding.Copied(offset, length, shape.word).read(source.file))[: shape.frame_length]

        return copied
    if not shape.is_integer:
        raise NotAcceptable(f"this instance has no pixels that transfer syntax {syntax} could hold")
    return lambda number: pool.ask(source.file, source.job(number, syntax))
