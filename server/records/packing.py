"""Bodies as they are stored: one byte that says how, then the bytes as they are or compressed."""

import threading

import zstandard

_RAW, _ZSTD = b"\x00", b"\x01"
_SMALL = 512


class _Mine(threading.local):
    """A thread's own compressors: to make one takes ten times as long as to compress an event."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=3)
        self.decompressor = zstandard.ZstdDecompressor()


_mine = _Mine()


def packed(body: bytes) -> bytes:
    """`body` as it is stored: one byte that says how, then raw below 512 bytes, else zstd level 3."""
    return _RAW + body if len(body) < _SMALL else _ZSTD + _mine.compressor.compress(body)


def unpacked(stored: bytes) -> bytes:
    """The reverse of `packed`."""
    return stored[1:] if stored[:1] == _RAW else _mine.decompressor.decompress(stored[1:])
