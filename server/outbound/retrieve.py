"""Retrieve from a peer (PS3.4 sections C.4.2 and C.4.3): C-GET and C-MOVE as SCU."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ihe.dimse import Command, CommandField
from ihe.pdu import ProposedContext, Role
from profiles import transfer_syntaxes as syntaxes
from profiles.dicom_json import Attribute
from profiles.model_item import text, values
from profiles.part10 import HeaderError
from profiles.vocabulary import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from server.association import Accepted, Association, Ended, Limits
from server.outbound.calling import NoAnswer, called, end
from server.outbound.find import CANCELLED, PENDING, find, identifier, model_for
from server.outbound.statuses import plain
from server.records.item_values import decoded, encoded
from server.records.peers import Peer
from server.settings import Settings

PATIENCE: Final = Limits(artim=10.0, silence=600.0)
"""A peer may have to fetch what it sends from a slow store first, and tells nothing of a C-MOVE but as it likes."""

ROOM: Final = 127
"""Presentation contexts for Storage, besides that of the C-GET (PS3.8 section 7.1.1.13)."""
_OFTEN: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN, syntaxes.JPEG_2000_LOSSLESS, *reversed(syntaxes.JPEG_LOSSLESS), syntaxes.JPEG_BASELINE,
    syntaxes.JPEG_LS_LOSSLESS, syntaxes.RLE_LOSSLESS, syntaxes.JPEG_2000,
)  # fmt: skip
_VIDEO: Final = tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))
_SYNTAXES: Final = (
    *_OFTEN, *sorted(syntaxes.DECODED - {*_OFTEN, IMPLICIT_VR_LITTLE_ENDIAN}), *_VIDEO, IMPLICIT_VR_LITTLE_ENDIAN,
)  # fmt: skip
"""What instances may be stored in: whatever we could decode, and video (PS3.6 table A-1)."""
COMMON: Final = tuple(
    f"1.2.840.10008.5.1.4.1.1.{each}"
    for each in (
        "1", "1.1", "1.1.1", "1.2", "1.2.1", "13.1.3", "2", "2.1", "2.2", "4", "4.1", "4.2", "4.4", "6.1", "3.1", "6.2", "20",
        "128", "130", "12.1", "12.1.1", "12.2", "13.1.1", "7", "7.1", "7.2", "7.3", "7.4", "88.11", "88.22", "88.33", "88.34",
        "88.50", "88.67", "88.59", "11.1", "11.2", "104.1", "104.2", "66.4", "30", "66", "66.1", "481.1", "481.2", "481.3",
        "481.5", "481.4", "9.1.1", "9.1.2", "77.1.1", "77.1.1.1", "77.1.2", "77.1.4", "77.1.4.1", "77.1.6", "77.1.5.1",
        "77.1.5.4"
    )
)  # fmt: skip
"""Storage SOP Classes (PS3.4 table B.5-1) that are proposed where a peer does not tell what it has: images, reports and what goes with them."""
_MEDIUM: Final = 0
_FAILED: Final = "00080058"

Take = Callable[[Association, Accepted, Command], Command]
"""Receives the Data Set of a C-STORE-RQ from the association, stores it, and gives the response. `scu` of the context is the sender."""


@dataclass(frozen=True, slots=True)
class Progress:
    """PS3.4 tables C.4-2 and C.4-3: what a response says. `remaining` is None where it does not say; `status` is final unless pending.

    `failed_uids` are the SOP Instance UIDs that the last response names.
    """

    status: int
    remaining: int | None = None
    completed: int = 0
    failed: int = 0
    warning: int = 0
    comment: str = ""
    failed_uids: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        return self.status not in PENDING

    @property
    def is_complete(self) -> bool:
        """Whether everything that was asked for has arrived."""
        return self.status == 0 and not self.failed


def get(
    peer: Peer, settings: Settings, level: str, keys: Mapping[str, str], sop_classes: Sequence[str], take: Take,
    limits: Limits = PATIENCE,
) -> Iterator[Progress]:  # fmt: skip
    """PS3.4 section C.4.3.2: retrieves what `keys` (as of `find.identifier`) name over one association; each instance goes to `take`.

    `sop_classes` are those that may come. Tells of every response of the peer; the last one is final. Raises `NoAnswer`.
    """
    model = model_for(level)
    storage = storage_contexts(sop_classes)
    roles = [Role(each, scu=False, scp=True) for each in dict.fromkeys(sop_classes)]
    command = Command(field=CommandField.C_GET_RQ, affected_sop_class_uid=model.get, priority=_MEDIUM)
    try:
        opened = called(peer, settings, model.get, roles, limits, storage)
        yield from _performed(opened, command, identifier(level, keys), take)
    except Ended as error:
        raise NoAnswer(str(error)) from None


def move(
    peer: Peer, settings: Settings, level: str, keys: Mapping[str, str], destination: str, limits: Limits = PATIENCE
) -> Iterator[Progress]:
    """PS3.4 section C.4.2.2: has a peer send what `keys` (as of `find.identifier`) name to the AE `destination`, which it must know.

    Tells of every response; the last one is final. Raises `NoAnswer`.
    """
    model = model_for(level)
    command = Command(
        field=CommandField.C_MOVE_RQ, affected_sop_class_uid=model.move, priority=_MEDIUM, move_destination=destination
    )
    try:
        opened = called(peer, settings, model.move, limits=limits)
        yield from _performed(opened, command, identifier(level, keys), None)
    except Ended as error:
        raise NoAnswer(str(error)) from None


def sop_classes_of(peer: Peer, settings: Settings, study: str, series: str = "") -> tuple[str, ...]:
    """Which SOP Classes are in a study or series, by queries: of the study where the peer knows (0008,0062), else of its instances.

    `COMMON` ones where the peer tells neither. Raises `NoAnswer`, also where there is no such study.
    """
    if not series:
        found = list(find(peer, settings, "STUDY", {"StudyInstanceUID": study, "SOPClassesInStudy": ""}))
        if not found:
            raise NoAnswer("the peer has no such study, or does not show it to us")
        if told := values(found[0], "00080062"):
            return tuple(dict.fromkeys(map(str, told)))
    matches = find(peer, settings, "SERIES", {"StudyInstanceUID": study, "SeriesInstanceUID": series})
    classes: dict[str, None] = {}
    for one in [series] if series else [text(each, "0020000E") for each in matches]:
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": one, "SOPInstanceUID": "", "SOPClassUID": ""}
        classes |= dict.fromkeys(text(each, "00080016") for each in find(peer, settings, "IMAGE", keys))
    if not classes:
        raise NoAnswer("the peer has no such series, or does not show it to us")
    return COMMON if "" in classes else tuple(classes)


def storage_contexts(sop_classes: Sequence[str]) -> list[ProposedContext]:
    """PS3.8 section 7.1.1.13: contexts from id 3 on in which these can be received as they are stored: each transfer syntax by itself,
    so that the sender need not choose one for all, as far as there is room. Raises `NoAnswer` for more than there can be.
    """
    each = list(dict.fromkeys(sop_classes))
    if not 0 < len(each) <= ROOM:
        raise NoAnswer(f"one C-GET takes instances of 1 to {ROOM} SOP Classes; retrieve series by series")
    room = ROOM // len(each)
    alone, together = (_SYNTAXES, ()) if room >= len(_SYNTAXES) else (_SYNTAXES[: room - 1], _SYNTAXES[room - 1 :])
    wanted: list[tuple[str, tuple[str, ...]]] = [(sop_class, (syntax,)) for sop_class in each for syntax in alone]
    wanted += [(sop_class, together) for sop_class in each if together]
    return [ProposedContext(2 * number + 3, *pair) for number, pair in enumerate(wanted)]


def _performed(opened: Association, command: Command, asked: Mapping[str, Attribute], take: Take | None) -> Iterator[Progress]:
    """PS3.7 sections 9.3.3 and 9.3.4: one operation, with the sub-operations that come over the same association."""
    context = opened.context(command.affected_sop_class_uid)
    assert context is not None
    number = opened.next_message_id()
    over = False
    try:
        opened.send(context.id, replace(command, message_id=number), encoded(asked, context.transfer_syntax))
        while not over:
            told = _told(opened, number, take)
            if told is not None:
                over = told.is_final
                yield told
    finally:
        if not over:
            opened.abort()
        end(opened)


def _told(opened: Association, number: int, take: Take | None) -> Progress | None:
    """The next response to our request; None for a sub-operation, which is answered."""
    context_id, command = opened.receive_command()
    context = opened.contexts[context_id]
    if command.field == CommandField.C_STORE_RQ and take is not None:
        opened.send(
            context_id, take(opened, replace(context, scu=True), command)
        )  # the roles are changed: what comes is a request
        return None
    if not command.is_response or command.responded_to != number or command.status is None:
        raise NoAnswer("the peer answered something else than to a retrieve")
    data_set = opened.collect_data_set(context_id) if command.has_data_set else b""
    if command.status not in (*PENDING, 0, CANCELLED) and command.status >> 12 != 0xB:
        raise NoAnswer(f"the peer refuses: {command.status:04X}H {_words(command)}".rstrip())
    return Progress(
        command.status, command.remaining, command.completed or 0, command.failed or 0, command.warning or 0, _words(command),
        _failed(data_set, context.transfer_syntax),
    )  # fmt: skip


def _failed(data_set: bytes, transfer_syntax: str) -> tuple[str, ...]:
    """PS3.4 section C.4.2.1.4.2: Failed SOP Instance UID List."""
    try:
        return tuple(map(str, values(decoded(data_set, transfer_syntax), _FAILED))) if data_set else ()
    except HeaderError:
        return ()


# PS3.4 tables C.4-2 and C.4-3
_WORDS: Final = {
    0xA701: "out of resources to count the matches",
    0xA702: "unable to send the instances",
    0xA801: "it does not know the destination",
    0xA900: "the identifier does not fit the SOP Class",
}


def _words(command: Command) -> str:
    known = _WORDS.get(command.status or 0, "")
    return ": ".join(each for each in (known, plain(command.error_comment)) if each)
