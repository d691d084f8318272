"""Whether a submission is right by itself: every rule of ITI TF-3 sections 4.1 to 4.3 that needs no registry to be told.

The rules of one object's attributes stand in `ihe.attribute_rules`, those of how the objects hang together in `ihe.submission_rules`.
What only a registry knows (whether what is referred to is there, and of which patient it is) is the transaction's to check.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final, Literal

from ihe import attribute_rules, submission_rules
from ihe.ebrs import RegistryError
from ihe.ebxml import Fault, Reading
from ihe.metadata import By
from profiles.document import Submission, is_uuid

Actor = Literal["Registry", "Repository"]
"""Who found it: the codes of ITI TF-3 table 4.2.4.1-2 name it."""

_MOST: Final = 100
_LONGEST_ID: Final = 100


def check(submission: Submission, by: By, reading: Reading, actor: Actor = "Registry") -> tuple[RegistryError, ...]:
    """Everything that is wrong with `submission`, as the RegistryErrors to refuse it with; empty where it is right.

    `by` is the transaction, `reading` what `ihe.ebxml.submission` collected on the way. A context names the object by its id as it was
    sent, the attribute, and what to do, and no value of a patient's. At most 100 errors are given, and then one that tells so.
    """
    found = list(islice(_faults(submission, by, reading), _MOST + 1))
    errors = [_error(fault, actor) for fault in found[:_MOST]]
    if len(found) > _MOST:
        errors.append(RegistryError(f"XDS{actor}MetadataError", f"there are more errors than the {_MOST} that are listed"))
    return tuple(errors)


def resolved(submission: Submission, new_uuid: Callable[[], str]) -> Submission:
    """ITI TF-3 section 4.2.3.1.5: `submission` with a UUID for each symbolic id of an object, wherever it stands; what is a UUID already stays.

    `new_uuid` gives a fresh `urn:uuid:...` each time. Ids of parts (Classifications, ExternalIdentifiers) follow from that of their object
    when it is written. Of a checked submission nothing symbolic is left.
    """
    names = dict.fromkeys(value.entry_uuid for value in submission.objects() if not is_uuid(value.entry_uuid))
    given = {name: new_uuid() for name in names}

    def real(id_: str) -> str:
        return given.get(id_, id_)

    submitted = submission.submission_set
    return Submission(
        replace(submitted, entry_uuid=real(submitted.entry_uuid)) if submitted is not None else None,
        tuple(replace(one, entry_uuid=real(one.entry_uuid), logical_id=real(one.logical_id)) for one in submission.documents),
        tuple(replace(one, entry_uuid=real(one.entry_uuid), logical_id=real(one.logical_id)) for one in submission.folders),
        tuple(
            replace(one, entry_uuid=real(one.entry_uuid), source=real(one.source), target=real(one.target))
            for one in submission.associations
        ),
        tuple(map(real, submission.references)),
    )


def _faults(submission: Submission, by: By, reading: Reading) -> Iterator[Fault]:
    yield from reading.faults
    for value in submission.objects():
        yield from attribute_rules.faults(value, by)
    yield from submission_rules.faults(submission, by)


def _error(fault: Fault, actor: Actor) -> RegistryError:
    id_ = fault.id[:_LONGEST_ID]
    return RegistryError(fault.code.format(actor=actor), f"{id_}: {fault.words}" if id_ else fault.words, id_, sent=fault.sent)
