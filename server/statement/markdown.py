"""Tables and names as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Final

from pydicom.datadict import dictionary_description
from pydicom.uid import UID

from profiles.transfer_syntaxes import DEFLATED_FRAMES

# Of PS3.6 table A-1, what pydicom does not know yet
_NEWER: Final = {DEFLATED_FRAMES: "Deflated Image Frame Compression"}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of GitHub's Markdown; "none" where it has no rows. Values may have Markdown of their own."""
    found = [tuple(map(_cell, row)) for row in rows]
    if not found:
        return "None."
    lines = [tuple(header), ("---",) * len(header), *found]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def code(value: object) -> str:
    """As it is typed; nothing where it is empty."""
    text = str(value)
    return f"`{text}`" if text else ""


def listed(values: Iterable[object]) -> str:
    """Several, each as it is typed."""
    return ", ".join(code(value) for value in values)


def uid_name(uid: str) -> str:
    """What PS3.6 table A-1 calls a UID."""
    return _NEWER.get(uid) or UID(uid).name


def attribute(tag: str) -> str:
    """PS3.6 section 6: the name of an attribute. `tag` is eight hexadecimal digits."""
    try:
        return dictionary_description(int(tag, 16))
    except KeyError:
        return "(unknown)"


def tagged(tag: str) -> str:
    """A tag as the standard writes it."""
    return f"({tag[:4]},{tag[4:]})"


def status(number: int) -> str:
    """A status or reason in hexadecimal digits."""
    return f"`{number:04X}`"
