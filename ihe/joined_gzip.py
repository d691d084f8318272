"""A gzip file (RFC 1952) of texts that were compressed apart: DEFLATE fragments are joined as they are, byte by byte.

Not several members in one file, which browsers do not read to the end: one member. Its CRC-32 comes from those of the parts.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_POLYNOMIAL = 0xEDB88320


@dataclass(frozen=True, slots=True)
class Fragment:
    """A text of `size` bytes as DEFLATE blocks (RFC 1951) that end on a byte and are not the last; `crc` is the text's CRC-32."""

    body: bytes
    size: int
    crc: int


def fragment(pieces: Iterable[bytes], level: int = 6) -> Fragment:
    """Compresses a text that comes in pieces."""
    compressor = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    made, size, crc = [], 0, 0
    for piece in pieces:
        made.append(compressor.compress(piece))
        size += len(piece)
        crc = zlib.crc32(piece, crc)
    made.append(compressor.flush(zlib.Z_FULL_FLUSH))
    return Fragment(b"".join(made), size, crc)


def plain(part: Fragment) -> bytes:
    """The text of a fragment."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(part.body)


def joined(parts: Iterable[Fragment], opening: bytes = b"[", separator: bytes = b",", closing: bytes = b"]") -> Iterator[bytes]:
    """One gzip file of `opening`, the texts with `separator` between them, and `closing`; each of these at most 65,535 bytes."""
    yield _HEADER + _literal(opening)
    size, crc = len(opening), zlib.crc32(opening)
    for number, part in enumerate(parts):
        if number:
            yield _literal(separator)
            size, crc = size + len(separator), zlib.crc32(separator, crc)
        yield part.body
        size, crc = size + part.size, combined(crc, part.crc, part.size)
    crc = zlib.crc32(closing, crc)
    yield _literal(closing, last=True) + struct.pack("<II", crc, (size + len(closing)) & 0xFFFFFFFF)


def combined(first: int, second: int, size: int) -> int:
    """The CRC-32 of two texts in a row, from those of each; `size` is that of the second in bytes.

    To append `size` zero bytes is to multiply by x to the power of 8 * `size`, modulo the polynomial (bits reflected).
    """
    power, square = 1 << 31, 1 << 23  # 1 and x**8, the highest bit being x**0
    while size:
        if size & 1:
            power = _times(power, square)
        square = _times(square, square)
        size >>= 1
    return _times(power, first) ^ second


def _times(one: int, other: int) -> int:
    product, bit = 0, 1 << 31
    while one:
        if one & bit:
            product ^= other
            one ^= bit
        bit >>= 1
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return product


def _literal(text: bytes, *, last: bool = False) -> bytes:
    """RFC 1951 section 3.2.4: a stored block."""
    return struct.pack("<BHH", last, len(text), len(text) ^ 0xFFFF) + text
