"""Syslog as Record Audit Event (ITI-20) uses it: RFC 5424 messages, and RFC 5425's frames on a stream.

ITI TF-2 section 3.20.4.1.2: facility 10, severity 5 or 4, MSGID `IHE+RFC-3881` (kept though the content is DICOM's), no structured data, and no BOM,
which is discouraged.
"""

import re
from typing import Final

NOTICE: Final = 85
"""PRI of facility 10 (security/authorization), severity 5 (normal but significant)."""
WARNING: Final = 84
"""The same with severity 4."""
MESSAGE_ID: Final = "IHE+RFC-3881"
_NIL: Final = "-"
_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")
_MOST_DIGITS: Final = 10


class FramingError(ValueError):
    """A stream that is not made of octet-counted frames."""


def message(content: bytes, *, moment: str, host: str, application: str, process: str, priority: int = NOTICE) -> bytes:
    """RFC 5424 section 6: HEADER SP STRUCTURED-DATA SP MSG. `moment` is an RFC 3339 timestamp, `content` UTF-8."""
    header = f"<{priority}>1 {moment} {_field(host, 255)} {_field(application, 48)} {_field(process, 128)} {_field(MESSAGE_ID, 32)} {_NIL} "
    return header.encode("ascii") + content


def frame(message: bytes) -> bytes:
    """RFC 5425 section 4.3: MSG-LEN SP SYSLOG-MSG."""
    return b"%d " % len(message) + message


def frames(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole messages at the beginning of a stream, and the bytes of the next one so far. Raises `FramingError`."""
    found: list[bytes] = []
    while True:
        digits, separator, _ = data[: _MOST_DIGITS + 1].partition(b" ")
        if not separator:
            if digits and (not digits.isdigit() or len(digits) > _MOST_DIGITS):
                raise FramingError("a frame begins with its length in digits and a space (RFC 5425 section 4.3)")
            return found, data
        if not digits.isdigit() or digits.startswith(b"0"):
            raise FramingError("a frame's length is a number without leading zeros (RFC 5425 section 4.3)")
        begin, length = len(digits) + 1, int(digits)
        if len(data) - begin < length:
            return found, data
        found.append(data[begin : begin + length])
        data = data[begin + length :]


def _field(text: str, longest: int) -> str:
    """RFC 5424 section 6: printable ASCII without spaces, up to a length; `-` for nothing."""
    return _UNPRINTABLE.sub("_", text)[:longest] or _NIL
