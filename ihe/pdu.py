"""PS3.8 section 9.3 and PS3.7 annex D.3.3: the PDUs that open and end an association, between bytes and values.

Every length is checked against what is there; items that nobody knows are passed over. P-DATA-TF is not here: its values are
never put together (`ihe.upper_layer`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import pack, unpack_from
from typing import Final

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
"""The DICOM application context, PS3.7 annex A.2.1."""

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

# Result of a presentation context, PS3.8 table 9-18
ACCEPTANCE, USER_REJECTION, NO_REASON, ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED = range(5)


class PduError(ValueError):
    """What was sent is no PDU of PS3.8 section 9.3, or what is to be sent does not fit into one."""


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """PS3.8 table 9-13: a presentation context as it is proposed. `id` is odd, 1 to 255."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """PS3.8 table 9-18: the answer to a proposal. `transfer_syntax` has a meaning only if `result` is 0 (acceptance)."""

    id: int
    result: int
    transfer_syntax: str = ""


@dataclass(frozen=True, slots=True)
class Role:
    """PS3.7 table D.3-9: the roles of the association's requestor for a SOP Class, as proposed or as agreed to."""

    sop_class: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class Extended:
    """PS3.7 table D.3-11: SOP Class Extended Negotiation; `information` is the service class's own."""

    sop_class: str
    information: bytes


@dataclass(frozen=True, slots=True)
class CommonExtended:
    """PS3.7 table D.3-12: which service class a SOP Class is of, and which general SOP Classes it is related to."""

    sop_class: str
    service_class: str
    related: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class UserIdentity:
    """PS3.7 table D.3-14. `kind` is 1 (user name) to 5 (JSON web token). Never shown: the fields are secrets."""

    kind: int
    primary: bytes
    secondary: bytes = b""
    response_requested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInformation:
    """PS3.7 annex D.3.3. `max_length`: the longest P-DATA-TF that its sender takes, 0 for any; `operations`: invoked, performed."""

    max_length: int = 0
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    operations: tuple[int, int] | None = None
    roles: tuple[Role, ...] = ()
    extended: tuple[Extended, ...] = ()
    common_extended: tuple[CommonExtended, ...] = ()
    identity: UserIdentity | None = None
    identity_response: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateRequest:
    """PS3.8 section 9.3.2, A-ASSOCIATE-RQ. AE titles without padding."""

    called: str
    calling: str
    contexts: tuple[ProposedContext, ...]
    user: UserInformation = field(default_factory=UserInformation)
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateAccept:
    """PS3.8 section 9.3.3, A-ASSOCIATE-AC."""

    called: str
    calling: str
    contexts: tuple[AnsweredContext, ...]
    user: UserInformation = field(default_factory=UserInformation)
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AssociateReject:
    """PS3.8 table 9-21, A-ASSOCIATE-RJ."""

    result: int
    source: int
    reason: int

    @property
    def words(self) -> str:
        """Why, for people."""
        why = _REASONS.get((self.source, self.reason), f"source {self.source}, reason {self.reason}")
        return f"{why} ({'for now' if self.result == 2 else 'for good'})"


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """PS3.8 section 9.3.6."""


@dataclass(frozen=True, slots=True)
class ReleaseResponse:
    """PS3.8 section 9.3.7."""


@dataclass(frozen=True, slots=True)
class Abort:
    """PS3.8 table 9-26, A-ABORT. `source` 0 is the service user, 2 the provider, whose `reason` then has a meaning."""

    source: int = 0
    reason: int = 0

    @property
    def words(self) -> str:
        """Who, and why, for people."""
        return "the peer's application" if self.source == 0 else _ABORTS.get(self.reason, f"reason {self.reason}")


Pdu = AssociateRequest | AssociateAccept | AssociateReject | ReleaseRequest | ReleaseResponse | Abort

# PS3.8 table 9-21, by source and reason
_REASONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given by the provider",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
# PS3.8 table 9-26
_ABORTS: Final = {
    0: "no reason given",
    1: "it did not recognize a PDU",
    2: "it did not expect that PDU",
    4: "it did not recognize a PDU parameter",
    5: "it did not expect that PDU parameter",
    6: "it found an invalid PDU parameter value",
}


def encode(pdu: Pdu) -> bytes:
    """PS3.8 section 9.3. Raises `PduError` for what does not fit."""
    match pdu:
        case AssociateRequest():
            return _pdu(ASSOCIATE_RQ, _association(pdu, (_proposed(each) for each in pdu.contexts)))
        case AssociateAccept():
            return _pdu(ASSOCIATE_AC, _association(pdu, (_answered(each) for each in pdu.contexts)))
        case AssociateReject():
            return _pdu(ASSOCIATE_RJ, bytes((0, pdu.result, pdu.source, pdu.reason)))
        case ReleaseRequest():
            return _pdu(RELEASE_RQ, bytes(4))
        case ReleaseResponse():
            return _pdu(RELEASE_RP, bytes(4))
        case Abort():
            return _pdu(ABORT, bytes((0, 0, pdu.source, pdu.reason)))


def decode(kind: int, body: bytes) -> Pdu:
    """The PDU of type `kind` with what follows its header of 6 bytes. Raises `PduError`."""
    if kind in (ASSOCIATE_RQ, ASSOCIATE_AC):
        return _read_association(kind, body)
    if len(body) < 4:
        raise PduError("a PDU is too short (PS3.8 section 9.3)")
    if kind == ASSOCIATE_RJ:
        return AssociateReject(body[1], body[2], body[3])
    if kind == RELEASE_RQ:
        return ReleaseRequest()
    if kind == RELEASE_RP:
        return ReleaseResponse()
    if kind == ABORT:
        return Abort(body[2], body[3])
    raise PduError("a PDU of unknown type (PS3.8 section 9.3.1)")


def _pdu(kind: int, body: bytes) -> bytes:
    return pack(">BxL", kind, len(body)) + body


def _item(kind: int, data: bytes) -> bytes:
    if len(data) > 0xFFFF:
        raise PduError("an item is longer than 65535 bytes (PS3.8 section 9.3)")
    return pack(">BxH", kind, len(data)) + data


def _uid(text: str) -> bytes:
    return text.encode("ascii", "replace")


def _counted(data: bytes) -> bytes:
    if len(data) > 0xFFFF:
        raise PduError("a field is longer than 65535 bytes (PS3.7 annex D.3.3)")
    return pack(">H", len(data)) + data


def _title(text: str) -> bytes:
    return text.encode("ascii", "replace")[:16].ljust(16)


def _association(pdu: AssociateRequest | AssociateAccept, contexts: Iterable[bytes]) -> bytes:
    head = pack(">HH16s16s32x", pdu.protocol_version, 0, _title(pdu.called), _title(pdu.calling))
    items = (_item(0x10, _uid(pdu.application_context)), *contexts, _item(0x50, b"".join(_user_items(pdu.user))))
    return head + b"".join(items)


def _proposed(context: ProposedContext) -> bytes:
    syntaxes = b"".join(_item(0x40, _uid(each)) for each in context.transfer_syntaxes)
    return _item(0x20, bytes((context.id, 0, 0, 0)) + _item(0x30, _uid(context.abstract_syntax)) + syntaxes)


def _answered(context: AnsweredContext) -> bytes:
    return _item(0x21, bytes((context.id, 0, context.result, 0)) + _item(0x40, _uid(context.transfer_syntax)))


def _user_items(user: UserInformation) -> Iterator[bytes]:
    yield _item(0x51, pack(">L", user.max_length))
    if user.implementation_class_uid:
        yield _item(0x52, _uid(user.implementation_class_uid))
    if user.operations is not None:
        yield _item(0x53, pack(">HH", *user.operations))
    for role in user.roles:
        yield _item(0x54, _counted(_uid(role.sop_class)) + bytes((role.scu, role.scp)))
    if user.implementation_version_name:
        yield _item(0x55, _uid(user.implementation_version_name))
    for extended in user.extended:
        yield _item(0x56, _counted(_uid(extended.sop_class)) + extended.information)
    for common in user.common_extended:
        related = b"".join(_counted(_uid(each)) for each in common.related)
        yield _item(0x57, _counted(_uid(common.sop_class)) + _counted(_uid(common.service_class)) + _counted(related))
    if (identity := user.identity) is not None:
        fields = _counted(identity.primary) + _counted(identity.secondary)
        yield _item(0x58, bytes((identity.kind, identity.response_requested)) + fields)
    if user.identity_response is not None:
        yield _item(0x59, _counted(user.identity_response))


def _read_association(kind: int, body: bytes) -> AssociateRequest | AssociateAccept:
    if len(body) < 68:
        raise PduError("an A-ASSOCIATE PDU is shorter than its fixed fields (PS3.8 section 9.3.2)")
    application_context, user = "", UserInformation()
    proposed: dict[int, ProposedContext] = {}
    answered: list[AnsweredContext] = []
    for item, data in _items(body, 68):
        if item == 0x10:
            application_context = _text(data)
        elif item == 0x20 and kind == ASSOCIATE_RQ:
            context = _read_proposed(data)
            if context.id in proposed:
                raise PduError("two presentation contexts have one id (PS3.8 section 9.3.2.2)")
            proposed[context.id] = context
        elif item == 0x21 and kind == ASSOCIATE_AC:
            answered.append(_read_answered(data))
        elif item == 0x50:
            user = _read_user(data)
    called, calling, (version,) = _text(body[4:20]), _text(body[20:36]), unpack_from(">H", body)
    if kind == ASSOCIATE_RQ:
        return AssociateRequest(
            called=called, calling=calling, contexts=tuple(proposed.values()), user=user, application_context=application_context,
            protocol_version=version,
        )  # fmt: skip
    return AssociateAccept(
        called=called, calling=calling, contexts=tuple(answered), user=user, application_context=application_context,
        protocol_version=version,
    )  # fmt: skip


def _items(data: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """Type and value of each item from `at` on."""
    while at < len(data):
        if len(data) - at < 4:
            raise PduError("an item ends in its header (PS3.8 section 9.3)")
        kind, length = unpack_from(">BxH", data, at)
        at += 4
        if length > len(data) - at:
            raise PduError("an item is longer than what holds it (PS3.8 section 9.3)")
        yield kind, data[at : at + length]
        at += length


def _text(data: bytes) -> str:
    return data.decode("ascii", "replace").strip(" \0")


def _read_proposed(data: bytes) -> ProposedContext:
    if len(data) < 4 or not data[0] % 2:
        raise PduError("a presentation context has an odd id and an abstract syntax (PS3.8 section 9.3.2.2)")
    items = list(_items(data, 4))
    abstract = [_text(value) for kind, value in items if kind == 0x30]
    if len(abstract) != 1:
        raise PduError("a presentation context has one abstract syntax (PS3.8 section 9.3.2.2.1)")
    return ProposedContext(data[0], abstract[0], tuple(_text(value) for kind, value in items if kind == 0x40))


def _read_answered(data: bytes) -> AnsweredContext:
    if len(data) < 4:
        raise PduError("the answer to a presentation context is too short (PS3.8 section 9.3.3.2)")
    syntax = next((_text(value) for kind, value in _items(data, 4) if kind == 0x40), "")
    return AnsweredContext(data[0], data[2], syntax)


class _Fields:
    """The counted fields of one user item, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def counted(self) -> bytes:
        (length,) = unpack_from(">H", self.take(2))
        return self.take(length)

    def take(self, length: int) -> bytes:
        if length > len(self.left):
            raise PduError("a user item ends in the middle of a field (PS3.7 annex D.3.3)")
        taken, self.left = self.left[:length], self.left[length:]
        return taken


def _read_user(data: bytes) -> UserInformation:
    """PS3.7 annex D.3.3 and PS3.8 annex D.1."""
    single: dict[str, object] = {}
    roles: list[Role] = []
    extended: list[Extended] = []
    common: list[CommonExtended] = []
    for kind, value in _items(data):
        fields = _Fields(value)
        if kind == 0x51:
            (single["max_length"],) = unpack_from(">L", fields.take(4))
        elif kind == 0x52:
            single["implementation_class_uid"] = _text(value)
        elif kind == 0x53:
            single["operations"] = unpack_from(">HH", fields.take(4))
        elif kind == 0x54:
            sop_class = _text(fields.counted())
            scu, scp = fields.take(2)
            roles.append(Role(sop_class, bool(scu), bool(scp)))
        elif kind == 0x55:
            single["implementation_version_name"] = _text(value)
        elif kind == 0x56:
            extended.append(Extended(_text(fields.counted()), fields.left))
        elif kind == 0x57:
            common.append(_read_common(fields))
        elif kind == 0x58:
            identity_kind, requested = fields.take(2)
            primary, secondary = fields.counted(), fields.counted()
            single["identity"] = UserIdentity(identity_kind, primary, secondary, bool(requested))
        elif kind == 0x59:
            single["identity_response"] = fields.counted()
    return UserInformation(
        **single,  # type: ignore[arg-type]
        roles=tuple(roles), extended=tuple(extended), common_extended=tuple(common),
    )  # fmt: skip


def _read_common(fields: _Fields) -> CommonExtended:
    sop_class, service_class = _text(fields.counted()), _text(fields.counted())
    related, found = _Fields(fields.counted()), []
    while related.left:
        found.append(_text(related.counted()))
    return CommonExtended(sop_class, service_class, tuple(found))
