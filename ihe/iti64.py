"""Notify XAD-PID Link Change [ITI-64], ITI TF-2 section 3.64: ADT^A43 of HL7 2.5, "move patient information - patient identifier list".

A local patient id was linked to one patient of the affinity domain (the previous XAD-PID) and is linked to another now (the new XAD-PID). Of the
message PID-3 and MRG-1 count: in each a patient id of the affinity domain, and the local one beside it. Which is which is for whoever calls
this, who knows the domain's assigning authorities.
"""

from dataclasses import dataclass
from typing import Final

from ihe.hl7v2 import UTF8, Encoding, Message, MessageRefused, written
from ihe.iti8 import Identifier, cx, envelope, identifiers, only, trigger

EVENT: Final = "A43"


@dataclass(frozen=True, slots=True)
class LinkChange:
    """One message. `patient` is PID-3: the new XAD-PID and the local patient id; `previous` is MRG-1: the previous XAD-PID, and the subsumed local
    patient id where that is another one. `source` and `destination` are application and facility.
    """

    control_id: str
    source: tuple[str, str]
    destination: tuple[str, str]
    patient: tuple[Identifier, ...]
    previous: tuple[Identifier, ...]
    event: str = EVENT


def is_one(message: Message) -> bool:
    """Whether the message is of this transaction. Raises `MessageRefused` for what is no ADT message that could be taken at all."""
    return trigger(message) == EVENT


def read(message: Message) -> LinkChange:
    """Section 3.64.4.1.2. Raises `MessageRefused` with the field at fault."""
    control_id, source, destination = envelope(message)
    patient, previous = identifiers(only(message, "PID"), 3), identifiers(only(message, "MRG"), 1)
    if len(patient) < 2:
        raise MessageRefused("101", "PID-3 has no local patient id beside that of the affinity domain", "PID", 3)
    return LinkChange(control_id, source, destination, patient, previous)


def message(change: LinkChange, *, now: str, encoding: Encoding = UTF8) -> bytes:
    """The message of a Patient Identifier Cross-reference Manager. `now` is a TS."""
    of, repeated = encoding.escaped, encoding.repetition.join
    head = [*map(of, (*change.source, *change.destination)), now, "", encoding.component.join(["ADT", EVENT, "ADT_A43"])]
    segments = [
        ["MSH", *head, of(change.control_id), "P", "2.5", *[""] * 5, "UNICODE UTF-8"],
        ["EVN", "", now],
        ["PID", "", "", repeated(cx(each, encoding) for each in change.patient), "", " "],
        ["MRG", repeated(cx(each, encoding) for each in change.previous)],
    ]
    return written(segments, encoding)
