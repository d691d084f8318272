"""PS3.8 section 7.1 and PS3.7 annex D.3: who may associate, and what for."""

from collections.abc import Callable
from functools import lru_cache

from pydicom.uid import UID, PrivateTransferSyntaxes
from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from profiles.audit_event import INSTANCES_TRANSFERRED, REFUSED, Agent, AuditedEntity
from profiles.identifiers import InvalidIdentifier, ae_title
from server import telemetry
from server.edges.context import Node
from server.edges.dimse.reception import Reception
from server.settings import Device, plain_address

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

# Result, source and reason of an A-ASSOCIATE-RJ, PS3.8 table 9-21, and what the trail says of it
_Rejection = tuple[int, int, int, str]
_WRONG_CONTEXT: _Rejection = (1, 1, 2, "the application context is not DICOM's (PS3.7 annex A.2.1)")
_CALLING_UNKNOWN: _Rejection = (1, 1, 3, "no device is configured with this calling AE title at this address")
_CALLED_UNKNOWN: _Rejection = (1, 1, 7, "the called AE title is not this server's")
_TOO_MANY: _Rejection = (2, 3, 2, "too many associations at once; try again later")

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
    """PS3.6 table A-1: every transfer syntax for DIMSE, retired ones too, and private ones that pydicom has been told of."""
    uid = UID(transfer_syntax_uid)
    if uid in PrivateTransferSyntaxes:
        return True
    return uid.type == "Transfer Syntax" and not uid.startswith(_NOT_DIMSE)


class Admission(ACSE):
    """Judges an A-ASSOCIATE-RQ and leaves the answer to pynetdicom. `room` says whether one more association fits."""

    def __init__(self, assoc: Association, node: Node, room: Callable[[Association], bool]) -> None:
        super().__init__(assoc)
        self._node = node
        self._room = room

    def negotiate_association(self) -> None:
        """PS3.8 section 7.1.1: accept, or reject with the reason of table 9-21 and an entry in the trail."""
        request = self.requestor.primitive
        if not isinstance(request, A_ASSOCIATE):  # the connection ended before a request
            self.assoc.kill()
            return
        address = str(plain_address(self.requestor.address))
        title = _title(request.calling_ae_title)
        verdict = self._judge(request, title, address)
        if not isinstance(verdict, Device):
            self._reject(verdict, title, address, _title(request.called_ae_title))
            return
        reception = self.assoc.dimse
        assert isinstance(reception, Reception)
        reception.admit(verdict, title, address, self._node.settings.ae_title)
        self.acceptor.supported_contexts = _narrowed(request.presentation_context_definition_list)
        super().negotiate_association()

    def _judge(self, request: A_ASSOCIATE, title: str, address: str) -> "Device | _Rejection":
        settings = self._node.settings
        if request.application_context_name != _APPLICATION_CONTEXT:
            return _WRONG_CONTEXT
        if request.called_ae_title.strip() != settings.ae_title:
            return _CALLED_UNKNOWN
        device = settings.device(title, address) if title else None
        if device is None:
            return _CALLING_UNKNOWN
        return device if self._room(self.assoc) else _TOO_MANY

    def _reject(self, rejection: _Rejection, title: str, address: str, called: str) -> None:
        result, source, reason, words = rejection
        trail = self._node.trail
        asked = AuditedEntity(identifier=called, details=(("attribute", "called AE title"),))
        trail.write(
            trail.action(
                "create", INSTANCES_TRANSFERRED, Agent(identifier=title or "unknown", address=address), rest=False,
                outcome=REFUSED, outcome_desc=words, entities=(asked,) if called else (),
            )
        )  # fmt: skip
        telemetry.log().warning("association_rejected", door="dimse", ae_title=title, address=address, reason_number=reason)
        self.send_reject(result, source, reason)
        evt.trigger(self.assoc, evt.EVT_REJECTED, {})
        self.assoc.kill()


def _narrowed(proposed: list[PresentationContext]) -> list[PresentationContext]:
    """PS3.8 section 7.1.1.13: what this association supports: of each proposed context the first transfer syntax that is known.

    The proposals are narrowed to it, because pynetdicom would choose by the acceptor's order, not by the proposer's.
    """
    supported: dict[str, PresentationContext] = {str(Verification): build_context(Verification)}
    for context in proposed:
        sop_class = str(context.abstract_syntax)
        if not is_storage(sop_class):
            continue
        chosen = next((each for each in context.transfer_syntax if is_known_transfer_syntax(each)), None)
        here = supported.setdefault(sop_class, build_context(sop_class, []))
        if chosen is not None:
            context.transfer_syntax = [chosen]
            here.add_transfer_syntax(chosen)
    return list(supported.values())


def _title(text: str) -> str:
    try:
        return ae_title(text)
    except InvalidIdentifier:
        return ""
