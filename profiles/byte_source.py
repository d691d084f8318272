"""Where the bytes of a data set come from: a file, or a deflate stream inside one (PS3.5 section A.5). Forwards only."""

import zlib
from typing import BinaryIO, Final

MAX_HEADER: Final = 64 << 20
MAX_INFLATED: Final = 512 << 20


class HeaderError(ValueError):
    """A DICOM header that cannot be taken. `tag` is the element at fault, or None. The message never holds a value."""

    def __init__(self, message: str, tag: int | None = None) -> None:
        super().__init__(message)
        self.tag = tag


class ByteSource:
    """Bytes by position, forwards."""

    def take(self, position: int, count: int, ahead: int = 65536) -> bytes:
        """Exactly `count` bytes from `position`. Raises `HeaderError` where they are not all there."""
        raise NotImplementedError

    def left(self, position: int) -> int:
        """How many bytes can still be read, as far as is known without reading; 0 only at the end."""
        raise NotImplementedError

    def pixels_begin(self) -> None:
        """The header is over."""

    def too_short(self, position: int, tag: int) -> "HeaderError":
        """Why an element goes on beyond what is `left`."""
        return truncated(tag)


class FileBytes(ByteSource):
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._base, self._window = file, size, 0, b""

    def take(self, position: int, count: int, ahead: int = 65536) -> bytes:
        start = position - self._base
        if start >= 0 and start + count <= len(self._window):
            return self._window[start : start + count]
        if position + count > self._size:
            raise truncated()
        self._file.seek(position)
        self._base, self._window = position, self._file.read(max(count, ahead))
        if len(self._window) < count:
            raise truncated()
        return self._window[:count]

    def left(self, position: int) -> int:
        return self._size - position


class InflatedBytes(ByteSource):
    """PS3.5 section A.5: the Data Set as one raw deflate stream, inflated piece by piece and forgotten."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        file.seek(offset)
        self._file, self._inflate, self._base, self._window = file, zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
        self._limit = MAX_HEADER

    def _fill(self, position: int, count: int) -> bool:
        """Whether the window holds `count` bytes from `position`, after trying to make it so."""
        while self._base + len(self._window) < position + count and not self._inflate.eof:
            data = self._inflate.unconsumed_tail or self._file.read(16384)
            if not data:
                raise truncated()
            piece = self._inflate.decompress(data, 1 << 18)
            keep = min(max(position - self._base, 0), len(self._window))
            self._base, self._window = self._base + keep, self._window[keep:] + piece
            if self._base + len(self._window) > self._limit + (1 << 18):
                raise HeaderError(f"the deflated data set inflates to more than {self._limit >> 20} MiB; that is refused")
        return self._base + len(self._window) >= position + count

    def take(self, position: int, count: int, ahead: int = 65536) -> bytes:
        if not self._fill(position, count):
            raise truncated()
        start = position - self._base
        return self._window[start : start + count]

    def left(self, position: int) -> int:
        if self._fill(position, 8):
            return MAX_INFLATED
        return max(0, self._base + len(self._window) - position)

    def pixels_begin(self) -> None:
        self._limit = MAX_INFLATED

    def too_short(self, position: int, tag: int) -> HeaderError:
        if self.left(position) < MAX_INFLATED:
            return truncated(tag)
        return HeaderError(f"the deflated data set inflates to more than {MAX_INFLATED >> 20} MiB; that is refused", tag)


def truncated(tag: int | None = None) -> HeaderError:
    return HeaderError("truncated: the data set ends inside an element (PS3.5 section 7.1)", tag)
