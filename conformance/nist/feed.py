"""ADT messages of a patient identity feed, ITI-8 (ITI TF-2 section 3.8): text out, acknowledgments in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Header:
    """Who sends to whom (`application|facility`), when (`YYYYMMDDHHMMSS`), and the message's id."""

    sending: str
    receiving: str
    time: str
    control_id: str

    def segment(self, event: str, structure: str, version: str) -> str:
        """The MSH segment."""
        sender, receiver = (f"{each}|" if "|" not in each else each for each in (self.sending, self.receiving))
        return f"MSH|^~\\&|{sender}|{receiver}|{self.time}||ADT^{event}^{structure}|{self.control_id}|P|{version}"


def _message(*segments: str) -> bytes:
    return ("\r".join(segments) + "\r").encode()


def admitted(header: Header, patient: str) -> bytes:
    """ITI TF-2 section 3.8.4.1: ADT^A01, a patient becomes known. `patient` is a CX such as `P1^^^&1.2.3&ISO`."""
    return _message(
        header.segment("A01", "ADT_A01", "2.3.1"),
        f"EVN|A01|{header.time}",
        f"PID|||{patient}||TESTPATIENT^NIST||19700101|O|||1 CALIBRATION ST^^METROPOLIS^IL^44130^USA",
        "PV1||O",
    )


def merged(header: Header, surviving: str, subsumed: str) -> bytes:
    """ITI TF-2 section 3.8.4.2: ADT^A40, one patient id is subsumed by another."""
    return _message(
        header.segment("A40", "ADT_A39", "2.3.1"),
        f"EVN|A40|{header.time}",
        f"PID|||{surviving}||TESTPATIENT^NIST",
        f"MRG|{subsumed}",
    )


def moved(header: Header, new: str, old: str, local: str, old_local: str = "") -> bytes:
    """ITI TF-2 section 3.64.4.1: ADT^A43, a local patient id is linked to another id of the affinity domain."""
    return _message(
        header.segment("A43", "ADT_A43", "2.5"),
        f"EVN||{header.time}",
        f"PID|||{new}~{local}||TESTPATIENT^NIST",
        f"MRG|{old}~{old_local or local}",
    )


def acknowledged(answer: bytes) -> tuple[bool, str]:
    """Whether an acknowledgment accepts (AA or CA), and what it says."""
    for segment in answer.decode("utf-8", "replace").replace("\n", "\r").split("\r"):
        if segment.startswith("MSA|"):
            fields = segment.split("|")
            return fields[1] in ("AA", "CA"), " ".join(each for each in (fields[1], *fields[3:4]) if each)
    return False, "no MSA segment in the answer"
