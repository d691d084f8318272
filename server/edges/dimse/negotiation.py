"""PS3.8 section 7.1 and PS3.7 annex D.3: who may associate, and what for. Requests in, answers out; no socket."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pydicom.uid import UID, PrivateTransferSyntaxes

from ihe import pdu
from ihe.pdu import AnsweredContext, AssociateAccept, AssociateReject, AssociateRequest, Extended, ProposedContext, Role
from profiles.identifiers import InvalidIdentifier, ae_title
from profiles.transfer_syntaxes import DECODED
from profiles.vocabulary import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from server.association import MAX_LENGTH
from server.edges.dimse.service import Context, Service
from server.records.peers import Peers
from server.settings import Device

WINDOW = 16
"""PS3.7 annex D.3.3.3: how many requests a peer may send ahead of their answers, if it asks. They are answered in their order."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """PS3.8 table 9-21, and what the trail says of it."""

    answer: AssociateReject
    words: str


_WRONG_VERSION = Rejection(AssociateReject(1, 2, 2), "the protocol version is not version 1 (PS3.8 section 9.3.2)")
_WRONG_CONTEXT = Rejection(AssociateReject(1, 1, 2), "the application context is not DICOM's (PS3.7 annex A.2.1)")
_CALLING_UNKNOWN = Rejection(AssociateReject(1, 1, 3), "no device is configured with this calling AE title at this address")
_NOT_SECURE = Rejection(AssociateReject(1, 1, 3), "this device is one with TLS, and called without it")
_CALLED_UNKNOWN = Rejection(AssociateReject(1, 1, 7), "the called AE title is not this server's")
TOO_MANY = Rejection(AssociateReject(2, 3, 2), "too many associations at once; try again later")
REJECTIONS = (_WRONG_VERSION, _WRONG_CONTEXT, _CALLED_UNKNOWN, _CALLING_UNKNOWN, _NOT_SECURE, TOO_MANY)
"""Every reason to reject an association, in the order that they are looked for."""

# Storage of what belongs to no patient and no study (PS3.4 table GG.3-1), which a study archive has no place for
_NON_PATIENT = frozenset(
    {
        "1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.39.1", "1.2.840.10008.5.1.4.43.1", "1.2.840.10008.5.1.4.44.1",
        "1.2.840.10008.5.1.4.45.1", "1.2.840.10008.5.1.4.1.1.200.1", "1.2.840.10008.5.1.4.1.1.200.3",
        "1.2.840.10008.5.1.4.1.1.200.7", "1.2.840.10008.5.1.4.1.1.201.1",
    }
)  # fmt: skip
_NOT_STORAGE = _NON_PATIENT | {"1.2.840.10008.1.3.10"}
# Mail and XML bodies, real-time video, Papyrus: transfer syntaxes that are not for DIMSE (PS3.6 table A-1)
_NOT_DIMSE = ("1.2.840.10008.1.2.6.", "1.2.840.10008.1.2.7.", "1.2.840.10008.1.20")


@lru_cache(maxsize=1024)
def is_storage(sop_class_uid: str) -> bool:
    """PS3.4 annex B.5: whether this is a Storage SOP Class. Private ones, and such as are newer than this program, are taken for one."""
    if sop_class_uid in _NOT_STORAGE:
        return False
    uid = UID(sop_class_uid)
    return not uid.type or (uid.type == "SOP Class" and "Storage" in uid.name and "Storage Commitment" not in uid.name)


@lru_cache(maxsize=1024)
def is_known_transfer_syntax(transfer_syntax_uid: str) -> bool:
    """PS3.6 table A-1: every transfer syntax for DIMSE, retired ones too, newer ones that can be decoded, and private ones that pydicom has been told of."""
    uid = UID(transfer_syntax_uid)
    if uid in PrivateTransferSyntaxes or uid in DECODED:
        return True
    return uid.type == "Transfer Syntax" and not uid.startswith(_NOT_DIMSE)


def title(text: str) -> str:
    """An AE title as it is compared and recorded; empty for what is none."""
    try:
        return ae_title(text)
    except InvalidIdentifier:
        return ""


def judged(request: AssociateRequest, address: str, ours: str, peers: Peers, *, secure: bool) -> Device | Rejection:
    """PS3.8 section 7.1.1: the known peer behind a request to the AE title `ours`, or why it is rejected.

    `secure` says that the request came over TLS, which a peer that is one with TLS (`Peer.tls`) has to use.
    """
    if not request.protocol_version & 1:
        return _WRONG_VERSION
    if request.application_context != pdu.APPLICATION_CONTEXT:
        return _WRONG_CONTEXT
    if request.called.strip() != ours:
        return _CALLED_UNKNOWN
    calling = title(request.calling)
    found = peers.admitted(calling, address) if calling else None
    if found is None:
        return _CALLING_UNKNOWN
    return found.device(address) if secure or not found.tls else _NOT_SECURE


@dataclass(frozen=True, slots=True)
class Agreement:
    """What an association is about: the answer to its requestor, the contexts by id, extended negotiation by abstract syntax."""

    answer: AssociateAccept
    contexts: Mapping[int, Context]
    extended: Mapping[str, bytes]


def agreed(request: AssociateRequest, device: Device, services: Mapping[str, Service]) -> Agreement:
    """PS3.7 annex D.3: the answer to an acceptable request. `services` are those that are offered, by abstract syntax."""
    asked = {each.sop_class: each for each in request.user.roles}
    answers = [_answered(each, asked.get(each.abstract_syntax), device, services) for each in request.contexts]
    contexts = {each.id: each for _, each in answers if each is not None}
    accepted = {each.abstract_syntax: each for each in contexts.values()}
    extended = dict(_extended(request, accepted, services))
    user = pdu.UserInformation(
        max_length=MAX_LENGTH,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        operations=_window(request.user.operations),
        roles=tuple(Role(name, accepted[name].scu, accepted[name].scp) for name in asked if name in accepted),
        extended=tuple(Extended(*each) for each in extended.items()),
    )
    # PS3.8 table 9-17: the titles are not looked at by the requestor, and shall be those that it sent.
    answer = AssociateAccept(
        called=request.called, calling=request.calling, contexts=tuple(each for each, _ in answers), user=user
    )
    return Agreement(answer, contexts, extended)


def _answered(
    proposed: ProposedContext, asked: Role | None, device: Device, services: Mapping[str, Service]
) -> tuple[AnsweredContext, Context | None]:
    """PS3.8 section 7.1.1.14: the result for one presentation context, and the context if it is accepted."""
    name = proposed.abstract_syntax
    service = services.get(name)
    if service is not None:
        may_be_scu = not service.permission or service.permission in device.permissions
        may_be_scp = service.requestor_may_be_scp and may_be_scu
        syntaxes = service.transfer_syntaxes
        chosen = next((each for each in syntaxes if each in proposed.transfer_syntaxes), None)
    elif is_storage(name):
        may_be_scu, may_be_scp = "store" in device.permissions, "retrieve" in device.permissions
        chosen = next((each for each in proposed.transfer_syntaxes if is_known_transfer_syntax(each)), None)
    else:
        return AnsweredContext(proposed.id, pdu.ABSTRACT_SYNTAX_NOT_SUPPORTED, _echoed(proposed)), None
    if chosen is None:
        return AnsweredContext(proposed.id, pdu.TRANSFER_SYNTAXES_NOT_SUPPORTED, _echoed(proposed)), None
    # PS3.7 annex D.3.3.4: without a proposal of roles the requestor is SCU.
    scu = may_be_scu and (asked is None or asked.scu)
    scp = may_be_scp and asked is not None and asked.scp
    if not scu and not scp:
        return AnsweredContext(proposed.id, pdu.USER_REJECTION, _echoed(proposed)), None
    return AnsweredContext(proposed.id, pdu.ACCEPTANCE, chosen), Context(proposed.id, name, chosen, scu, scp)


def _echoed(proposed: ProposedContext) -> str:
    """PS3.8 table 9-18: a transfer syntax without meaning, which some peers want to be one nevertheless."""
    return proposed.transfer_syntaxes[0] if proposed.transfer_syntaxes else "1.2.840.10008.1.2"


def _extended(
    request: AssociateRequest, accepted: Mapping[str, Context], services: Mapping[str, Service]
) -> Iterator[tuple[str, bytes]]:
    for each in request.user.extended:
        service = services.get(each.sop_class)
        if service is None or each.sop_class not in accepted:
            continue
        answer = service.extended(each.sop_class, each.information)
        if answer is not None:
            yield each.sop_class, answer


def _window(asked: tuple[int, int] | None) -> tuple[int, int] | None:
    """PS3.7 annex D.3.3.3: operations that the requestor may invoke, and that it performs, at once; 0 asks for any number."""
    if asked is None:
        return None
    return min(asked[0] or WINDOW, WINDOW), 1
