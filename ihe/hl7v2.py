"""HL7 v2 messages as text with delimiters (HL7 2.5 section 2.7): bytes to segments and fields, and back; acknowledgments (section 2.9).

Real senders are sloppy: segments may end in LF or CR LF, delimiters at the end of MSH-2 may be missing, and what MSH-18 says may be false. All that
is read. A field is cut into its parts only when it is asked for, so that a message costs what is used of it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

NULL: Final = '""'
"""HL7 2.5 section 2.6.3: the value is to be removed. An empty field says nothing."""
AckCode = Literal["AA", "AE", "AR"]
"""HL7 table 0008: accepted; an error in the message; rejected, for its kind or because this system cannot now."""

# HL7 table 0357
CONDITIONS: Final[Mapping[str, str]] = {
    "0": "Message accepted",
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}
_REJECTED: Final = frozenset({"200", "201", "202", "203", "207"})
"""HL7 2.5 section 2.9.2.2: those that MSA-1 is AR for."""

# HL7 table 0211, alternate character sets, by letters and digits only: Python's codecs
_CODECS: Final[Mapping[str, str]] = {
    "": "ascii", "ASCII": "ascii", "UNICODEUTF8": "utf-8", "UTF8": "utf-8", "UNICODE": "utf-8", "GB180302000": "gb18030",
    "KSX1001": "euc_kr", "BIG5": "big5", "88591": "iso8859-1", "88592": "iso8859-2", "88593": "iso8859-3", "88594": "iso8859-4",
    "88595": "iso8859-5", "88596": "iso8859-6", "88597": "iso8859-7", "88598": "iso8859-8", "88599": "iso8859-9", "885915": "iso8859-15",
    "ISOIR6": "ascii", "ISOIR14": "iso2022_jp_2", "ISOIR87": "iso2022_jp_2", "ISOIR159": "iso2022_jp_2",
}  # fmt: skip
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")


class MessageRefused(Exception):
    """Why a message is not taken: a condition of HL7 table 0357, where in the message, and words without any value of it."""

    def __init__(self, condition: str, detail: str, segment: str = "", number: int = 0, sequence: int = 1) -> None:
        super().__init__(detail)
        self.condition, self.detail = condition, detail
        self.segment, self.number, self.sequence = segment, number, sequence
        """The field at fault, such as ("PID", 3), and of which segment of that name it is."""

    @property
    def code(self) -> AckCode:
        """What MSA-1 says of it."""
        return "AR" if self.condition in _REJECTED else "AE"


@dataclass(frozen=True, slots=True)
class Encoding:
    """HL7 2.5 section 2.5.4: the delimiters of a message, and the codec of its characters."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    codec: str = "ascii"

    @property
    def characters(self) -> str:
        """MSH-2."""
        return self.component + self.repetition + self.escape + self.subcomponent

    def escaped(self, text: str) -> str:
        """HL7 2.5 section 2.7.1: text as it stands in a field."""
        return "".join(map(self._escaped, text))

    def _escaped(self, character: str) -> str:
        letter = self._letters().get(character)
        if letter is None and character < " ":
            letter = f"X{ord(character):02X}"
        return f"{self.escape}{letter}{self.escape}" if letter and self.escape else character

    def text(self, raw: str) -> str:
        """What `raw` means. Formatting and character sets within a text are passed over."""
        if not self.escape or self.escape not in raw:
            return raw
        meant = {letter: character for character, letter in self._letters().items()}
        mark = re.escape(self.escape)

        def one(found: "re.Match[str]") -> str:
            said = found[1]
            if said in meant:
                return meant[said]
            if said[:1] == "X":
                return self._hexadecimal(said[1:])
            return "\n" if said == ".br" else ""

        return re.sub(f"{mark}([^{mark}]*){mark}", one, raw)

    def _letters(self) -> dict[str, str]:
        return {self.field: "F", self.component: "S", self.subcomponent: "T", self.repetition: "R", self.escape: "E"}

    def _hexadecimal(self, digits: str) -> str:
        try:
            return bytes.fromhex(digits).decode("latin-1" if self.codec == "ascii" else self.codec, "replace")
        except ValueError:
            return ""


PLAIN: Final = Encoding()
UTF8: Final = Encoding(codec="utf-8")


@dataclass(frozen=True, slots=True)
class Value:
    """One repetition of a field. Components and subcomponents are numbered from 1."""

    raw: str
    encoding: Encoding

    def __bool__(self) -> bool:
        return bool(self.raw)

    def text(self, component: int = 1, subcomponent: int = 1) -> str:
        """What a component says, empty where there is none; without control characters but those of lines."""
        raw = self.component(component).split(self.encoding.subcomponent, subcomponent)
        return _CONTROL.sub("", self.encoding.text(raw[subcomponent - 1])).strip() if subcomponent <= len(raw) else ""

    def component(self, number: int) -> str:
        """A component as it is written."""
        raw = self.raw.split(self.encoding.component, number)
        return raw[number - 1] if number <= len(raw) else ""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment: `raw` without what ends it. Fields are numbered as HL7 does, in MSH too."""

    raw: str
    encoding: Encoding

    @property
    def name(self) -> str:
        return self.raw[:3]

    def field(self, number: int) -> str:
        """A field as it is written, all repetitions, empty where there is none."""
        shift = 1 if self.name == "MSH" else 0
        if shift and number == 1:
            return self.encoding.field
        parts = self.raw.split(self.encoding.field, number + 1 - shift)
        return parts[number - shift] if number - shift < len(parts) else ""

    def values(self, number: int) -> list[Value]:
        """The repetitions of a field that are not empty."""
        return [Value(raw, self.encoding) for raw in self.field(number).split(self.encoding.repetition) if raw]

    def text(self, number: int, component: int = 1, subcomponent: int = 1) -> str:
        """What a component of the first repetition says."""
        return Value(self.field(number).partition(self.encoding.repetition)[0], self.encoding).text(component, subcomponent)


@dataclass(frozen=True, slots=True)
class Message:
    """`segments` in their order; the first is MSH."""

    segments: tuple[Segment, ...]
    encoding: Encoding = field(default=PLAIN)

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    def named(self, name: str) -> list[Segment]:
        """All segments of that name."""
        return [each for each in self.segments if each.name == name]


# --- reading


def read(data: bytes) -> Message:
    """HL7 2.5 section 2.6: the message. Raises `MessageRefused` for what has no MSH or is in no character set that is known."""
    header = header_of(data)
    codec = _codec(header)
    text = _decoded(data.strip(b"\r\n \t\0").removeprefix(b"\xef\xbb\xbf"), codec)
    encoding = Encoding(*_delimiters(header), codec=codec)
    lines = re.split("\r\n?" if "\r" in text else "\n", text)
    segments = tuple(Segment(line.strip("\n"), encoding) for line in lines if line.strip())
    for each in segments:
        if not _NAME.fullmatch(each.name) or each.raw[3:4] not in ("", encoding.field):
            raise MessageRefused("100", "each segment begins with its name, three letters or digits, and the field separator")
    return Message(segments, encoding)


def header_of(data: bytes) -> Segment:
    """MSH alone, of a message that may be wrong or cut off anywhere behind it. Raises `MessageRefused` where there is none."""
    data = data.lstrip(b"\r\n \t\0").removeprefix(b"\xef\xbb\xbf")
    first = re.split(b"[\r\n]", data, maxsplit=1)[0].decode("latin-1")
    if not first.startswith("MSH") or not re.fullmatch(r"[!-/:-@\[-`{-~]", first[3:4]):
        raise MessageRefused("100", "a message begins with MSH and the field separator", "MSH", 1)
    made = Segment(first, Encoding(first[3]))
    named = made.field(2)
    if not named or len({*named, first[3]}) != len(named) + 1 or not re.fullmatch(r"[!-/:-@\[-`{-~]{1,5}", named):
        raise MessageRefused("101", "MSH-2 has the encoding characters, each another, such as ^~\\&", "MSH", 2)
    return Segment(first, Encoding(*_delimiters(made)))


def _delimiters(header: Segment) -> tuple[str, str, str, str, str]:
    named = header.field(2)[:4]
    marks = named + PLAIN.characters[len(named) :]
    return header.encoding.field, marks[0], marks[1], marks[2], marks[3]


def _codec(header: Segment) -> str:
    named = [re.sub("[^0-9A-Z]", "", each.upper()) for each in header.field(18).split(header.encoding.repetition)]
    if unknown := [each for each in named if each not in _CODECS]:
        raise MessageRefused("103", f"the character set {unknown[0][:20]!r} is not known (HL7 table 0211)", "MSH", 18)
    codecs = [_CODECS[each] for each in named]
    return next((each for each in codecs if each.startswith("iso2022")), codecs[0])  # which all others are part of


def _decoded(data: bytes, codec: str) -> str:
    """What is said to be ASCII, or nothing, is often UTF-8 or Latin-1; the former shows."""
    try:
        return data.decode("utf-8" if codec == "ascii" else codec)
    except UnicodeDecodeError:
        if codec == "ascii":
            return data.decode("latin-1")
        raise MessageRefused("102", "the message is not in the character set of MSH-18", "MSH", 18) from None


# --- writing


def written(segments: Iterable[Iterable[str]], encoding: Encoding = PLAIN) -> bytes:
    """A message of fields that are escaped already; that of MSH begin with MSH-3. Raises UnicodeEncodeError for what the codec has not."""
    text = ""
    for name, *fields in segments:
        head = [f"MSH{encoding.field}{encoding.characters}"] if name == "MSH" else [name]
        text += encoding.field.join([*head, *fields]).rstrip(encoding.field) + "\r"
    return text.encode(encoding.codec)


def acknowledgment(
    header: Segment | None, refused: MessageRefused | None, *, control_id: str, now: str, sender: tuple[str, str] = ("", "")
) -> bytes:
    """HL7 2.5 section 2.9.2.2 and ITI TF-2 appendix C.2.3: ACK in original mode, of the version of the message that it answers.

    `header` is that message's MSH, None where it has none; `sender` is who answers then. `now` is a TS, `control_id` the answer's own.
    """
    encoding = header.encoding if header is not None else PLAIN
    ours, theirs, event, processing, version, answered = _addressed(header, sender)
    is_new = version >= "2.5"
    structure = [event, *(["ACK"] if event and is_new else [])]
    kind = encoding.component.join(["ACK", *filter(None, structure)])
    code = "AA" if refused is None else refused.code
    said = encoding.escaped(refused.detail) if refused is not None else ""
    segments = [
        ["MSH", *ours, *theirs, now, "", kind, control_id, processing, version],
        ["MSA", code, answered, said],
    ]
    if refused is not None:
        segments.append(["ERR", *_error(refused, encoding, said, is_new=is_new)])
    return written(segments, replace(encoding, codec="latin-1"))  # which gives what is told back as it came


def _addressed(header: Segment | None, sender: tuple[str, str]) -> tuple[list[str], list[str], str, str, str, str]:
    if header is None:
        return list(sender), ["", ""], "", "P", "2.3.1", ""
    ours, theirs = [header.field(5), header.field(6)], [header.field(3), header.field(4)]
    event = header.text(9, 2) if header.text(9, 2).isalnum() else ""
    version = header.text(12) if re.fullmatch(r"2\.[0-9.]{1,6}", header.text(12)) else "2.3.1"
    return ours, theirs, event, header.field(11) or "P", version, header.field(10)[:255]


def _error(refused: MessageRefused, encoding: Encoding, said: str, *, is_new: bool) -> list[str]:
    """ERR: from 2.5 on ERR-2 has the place, ERR-3 the condition and ERR-4 how grave it is; before, ERR-1 has all of it."""
    condition = [refused.condition, CONDITIONS[refused.condition], "HL70357"]
    place = (
        [refused.segment, str(refused.sequence), *([str(refused.number)] if refused.number else [])] if refused.segment else []
    )
    if is_new:
        return ["", encoding.component.join(place), encoding.component.join(condition), "E", "", "", "", said]
    padded = [*place, *[""] * (3 - len(place))]
    return [encoding.component.join([*padded, encoding.subcomponent.join(condition)])]
