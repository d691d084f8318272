"""Query of a peer (PS3.4 section C.4.1): C-FIND as SCU."""

from collections.abc import Generator, Iterator, Mapping
from typing import Final

from pydicom.datadict import dictionary_VR

from ihe.dimse import Command, CommandField
from profiles.dicom_json import Attribute, Attributes
from profiles.model_item import items, values
from profiles.part10 import HeaderError
from profiles.query_retrieve import PATIENT_ROOT, QUERY_RETRIEVE_LEVEL, STUDY_ROOT, Model
from server.association import Accepted, Association, Ended, Limits
from server.errors import MalformedQuery
from server.outbound.calling import PATIENCE, NoAnswer, called, end
from server.outbound.statuses import plain
from server.records import conditions
from server.records.item_values import decoded, encoded
from server.records.peers import Peer
from server.settings import Settings

LEVELS: Final = PATIENT_ROOT.levels
PENDING: Final = (0xFF00, 0xFF01)
CANCELLED: Final = 0xFE00

_MEDIUM: Final = 0
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_WHOLE: Final = frozenset({"SL", "SS", "SV", "UL", "US", "UV"})
_REAL: Final = frozenset({"FD", "FL"})
_ONE_TEXT: Final = frozenset({"LT", "ST", "UR", "UT"})


def find(
    peer: Peer, settings: Settings, level: str, keys: Mapping[str, str], *, character_set: tuple[str, ...] = (),
    limits: Limits = PATIENCE,
) -> Generator[Attributes]:  # fmt: skip
    """PS3.4 section C.4.1.2: what matches at that level, in the DICOM JSON Model (PS3.18 annex F), as it arrives.

    `keys` as of `identifier`, which are said in `character_set` where that has their characters, else in UTF-8. Closing the iterator
    cancels the query. Raises `NoAnswer`, and `MalformedQuery` for keys that are none.
    """
    model = model_for(level)
    item = identifier(level, keys)
    try:
        opened = called(peer, settings, model.find, limits=limits)
        context = opened.context(model.find)
        assert context is not None
        try:
            yield from _matches(opened, context, encoded(item, context.transfer_syntax, character_set))
        finally:
            end(opened)
    except Ended as error:
        raise NoAnswer(str(error)) from None


def model_for(level: str) -> Model:
    """PS3.4 section C.3: the model that is asked, Study Root wherever that has the level. Raises `MalformedQuery`."""
    if level not in LEVELS:
        raise MalformedQuery(f"the level is one of {', '.join(LEVELS)}")
    return STUDY_ROOT if level in STUDY_ROOT.levels else PATIENT_ROOT


def identifier(level: str, keys: Mapping[str, str]) -> Attributes:
    """PS3.4 section C.2.2.2: the keys of a request. Each is a keyword or tag, or a path of them with full stops between, with the text
    to match, empty for universal matching. Raises `MalformedQuery`.
    """
    made: Attributes = {QUERY_RETRIEVE_LEVEL: {"vr": "CS", "Value": [level]}}
    for name, text in keys.items():
        *sequences, last = conditions.path(name)
        item = made
        for tag in sequences:
            within = item.setdefault(tag, {"vr": _vr(tag)}).setdefault("Value", [{}])
            if _vr(tag) != "SQ" or not isinstance(within, list):
                raise MalformedQuery("only an attribute of a sequence is matched by what is in it")
            item = within[0]
        item[last] = _attribute(last, text)
    return made


def _attribute(tag: str, text: str) -> Attribute:
    """PS3.18 section F.2.2, by the dictionary's VR; ranges, lists and wildcards are text of it."""
    vr = _vr(tag)
    if not text:
        return {"vr": vr}
    if vr == "SQ":
        raise MalformedQuery("a sequence is matched by an attribute in it, such as RequestAttributesSequence.AccessionNumber")
    values: list[object] = [text] if vr in _ONE_TEXT else list(text.split("\\"))
    try:
        if vr in _WHOLE or vr in _REAL:
            values = [(int if vr in _WHOLE else float)(str(each)) for each in values]
    except ValueError:
        raise MalformedQuery("a key with numbers is matched by a number") from None
    if vr == "PN":
        values = [dict(zip(_GROUPS, str(each).split("="), strict=False)) for each in values]
    return {"vr": vr, "Value": values}


def _vr(tag: str) -> str:
    try:
        return dictionary_VR(int(tag, 16)).partition(" ")[0]
    except KeyError:
        return "LO"


def _matches(opened: Association, context: Accepted, asked: bytes) -> Iterator[Attributes]:
    """PS3.7 section 9.3.2: one C-FIND operation."""
    number = opened.next_message_id()
    request = Command(
        field=CommandField.C_FIND_RQ, message_id=number, affected_sop_class_uid=context.abstract_syntax, priority=_MEDIUM
    )
    opened.send(context.id, request, asked)
    over = False
    try:
        while (match := _response(opened, context, number)) is not None:
            yield match
        over = True
    except (Ended, NoAnswer):
        over = True
        raise
    finally:
        if not over:
            _cancel(opened, context, number)


def _response(opened: Association, context: Accepted, number: int) -> Attributes | None:
    """The next match, None after the last."""
    received = opened.receive()
    answer = received.command
    if answer.field != CommandField.C_FIND_RSP or answer.responded_to != number or answer.status is None:
        opened.abort()
        raise NoAnswer("the peer answered something else than a query's result")
    if answer.status in PENDING:
        try:
            return decoded(received.data_set, context.transfer_syntax)
        except HeaderError as error:
            opened.abort()
            raise NoAnswer(f"the peer's result cannot be read: {error}") from None
    if answer.status not in (0, CANCELLED):
        raise NoAnswer(f"the peer refuses the query: status {answer.status:04X}H {plain(answer.error_comment)}".rstrip())
    return None


def _cancel(opened: Association, context: Accepted, number: int) -> None:
    """PS3.7 section 9.3.2.3: asks for the end, and passes over what is still on its way."""
    try:
        opened.send(context.id, Command(field=CommandField.C_CANCEL_RQ, responded_to=number))
        while opened.receive().command.status in PENDING:
            pass
    except Ended:
        pass


def shown(match: Attributes, name: str) -> str:
    """The values of an attribute as a person reads them, `name` as in `identifier`; empty where it has none."""
    item: Mapping[str, Attribute] = match
    *sequences, last = conditions.path(name)
    for tag in sequences:
        item = next(iter(items(item, tag)), {})
    return "\\".join(plain(_said(each)) for each in values(item, last))


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return "=".join(str(value.get(group, "")) for group in _GROUPS).rstrip("=")
    return "" if value is None else str(value)
