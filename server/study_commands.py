"""What a person does to studies on the command line: `imageshare reject`, `restore`, `correct`, `merge`, `hold` and `manifests`.

Each is one call of `server.work`, the same that the doors make, and in the audit trail under the name of the command.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.console import Data, told
from server.errors import SettingsError
from server.settings import load

if TYPE_CHECKING:
    from profiles.dicom_json import Attributes
    from server.edges.context import Node
    from server.work.corrections import Corrector
    from server.work.reconcile import Actor, Reconciler

Study = Annotated[str, typer.Argument(help="Study Instance UID.")]
Series = Annotated[str | None, typer.Option("--series", help="Only this series: its Series Instance UID.")]
Instance = Annotated[str | None, typer.Option("--instance", help="Only this instance: its SOP Instance UID.")]

_NO_PARTNER = "the settings name no partner that is given manifests (documents_to), and none was sent"
_NONE_SENT = (
    "no manifest was sent yet: each study's is when it is published, and --all sends those of studies that were published before"
)


class Reason(StrEnum):
    """PS3.16 CID 7011, by names that can be typed; `code` is that of coding scheme DCM."""

    QUALITY = "quality"
    PATIENT_SAFETY = "patient-safety"
    WORKLIST = "worklist"
    RETENTION = "retention"

    @property
    def code(self) -> str:
        from server.records import rejections

        return {
            Reason.QUALITY: rejections.QUALITY,
            Reason.PATIENT_SAFETY: rejections.PATIENT_SAFETY,
            Reason.WORKLIST: rejections.WRONG_WORKLIST,
            Reason.RETENTION: rejections.RETENTION,
        }[self]


@dataclass(frozen=True, slots=True)
class _Changes:
    """What a command changes studies with, and as whom."""

    node: "Node"
    reconciler: "Reconciler"
    corrector: "Corrector"
    actor: "Actor"


@contextlib.contextmanager
def _changing(data: Path | None, command: str) -> Iterator[_Changes]:
    from profiles.audit_event import Agent
    from server import upkeep
    from server.composition import close_node, open_node
    from server.work.corrections import Corrector
    from server.work.reconcile import Actor, Reconciler

    with told():
        settings = load(data=data)
        upkeep.require_ready(settings)
        node = open_node(settings)
        try:
            reconciler = Reconciler(node.settings, node.database, node.blobs, node.installation, node.trail)
            corrector = Corrector(reconciler, node.database, node.blobs, node.installation.patients.oid)
            yield _Changes(node, reconciler, corrector, Actor(Agent(identifier=f"imageshare {command}"), rest=False))
        finally:
            close_node(node)


def reject(
    study: Study,
    reason: Annotated[Reason, typer.Option(help="Why, as IHE IOCM has it.")],
    series: Series = None,
    instance: Instance = None,
    data: Data = None,
) -> None:
    """Hide a study, series or instance from every face. It stays stored and can be restored; it is not taken again meanwhile."""
    from server.work.reconcile import Target

    with _changing(data, "reject") as changes:
        count = changes.reconciler.reject(Target(study, series, instance), reason=reason.code, actor=changes.actor)
    typer.echo(f"{count} instances are hidden")


def restore(study: Study, series: Series = None, instance: Instance = None, data: Data = None) -> None:
    """Show again what was rejected; let what was deleted come again."""
    from server.work.reconcile import Target

    with _changing(data, "restore") as changes:
        count = changes.reconciler.restore(Target(study, series, instance), actor=changes.actor)
    typer.echo(f"{count} instances are shown again")


def correct(
    study: Study,
    attributes: Annotated[
        list[str],
        typer.Argument(metavar="KEYWORD=VALUE...", help='Such as AccessionNumber=A2 or "PatientName=Doe^Jane"; empty removes.'),
    ],
    data: Data = None,
) -> None:
    """Correct what a study says of itself and its patient.

    It is so behind every face and in every file that leaves. Another PatientID moves the study to that patient; name, birth date and sex change in every study of the patient.
    """
    correction = _correction(attributes)
    with _changing(data, "correct") as changes:
        domains = changes.node.installation.domains(changes.node.settings)
        changes.corrector.correct(study, correction, domains, actor=changes.actor)
    typer.echo("the study is corrected")


def _correction(attributes: list[str]) -> "Attributes":
    from pydicom.datadict import tag_for_keyword

    from profiles.correction import CORRECTABLE, CannotCorrect, checked

    with told():
        found: dict[str, dict[str, object]] = {}
        for given in attributes:
            keyword, equals, value = given.partition("=")
            number = tag_for_keyword(keyword)
            if not equals or number is None:
                raise SettingsError("a correction is KEYWORD=VALUE with a keyword of PS3.6, such as AccessionNumber=A2")
            tag = f"{number:08X}"
            vr = CORRECTABLE.get(tag, "")
            said: object = _person_name(value) if vr == "PN" else value
            found[tag] = {"vr": vr, **({"Value": [said]} if value else {})}
        try:
            return checked(found)
        except CannotCorrect as error:
            raise SettingsError(str(error)) from None


def _person_name(value: str) -> dict[str, str]:
    """PS3.18 section F.2.2: the component groups by their names."""
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), value.split("="), strict=False)
    return {group: text for group, text in groups if text}


def merge(
    source: Annotated[str, typer.Argument(help="The patient that was one too many: resource id, Patient ID, or OID|Patient ID.")],
    target: Annotated[str, typer.Argument(help="The patient that stays.")],
    data: Data = None,
) -> None:
    """Merge two patients (HL7 ADT A40).

    All studies of the first are the second's from now on, also those to come.
    """
    from server.access.grants import named_patient

    with _changing(data, "merge") as changes:
        database = changes.node.database
        ids = named_patient(database, source, "SOURCE"), named_patient(database, target, "TARGET")
        moved = changes.corrector.merge(*ids, actor=changes.actor)
    typer.echo(f"{moved} studies moved")


def hold(
    study: Study,
    data: Data = None,
    why: Annotated[str, typer.Option(help="The reason, for those who ask later.")] = "",
    release: Annotated[bool, typer.Option("--release", help="End the hold.")] = False,
) -> None:
    """Put a study under a legal hold, or end it.

    No retention rule and no delete gets past it.
    """
    with _changing(data, "hold") as changes:
        if release:
            changes.reconciler.release(study, actor=changes.actor)
        else:
            changes.reconciler.hold(study, why=why, actor=changes.actor)
    typer.echo("the hold is ended" if release else "the study is under a legal hold")


def manifests(
    data: Data = None,
    again: Annotated[bool, typer.Option("--again", help="Let the worker try all of these anew.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Let the worker send those too that were published before a partner was named.")
    ] = False,
) -> None:
    """List the manifests that partners (documents_to) have not taken, or still show though they are withdrawn here.

    Each line: state, partner, Study Instance UID, why.
    """
    from server import upkeep
    from server.records import foreign_entries
    from server.store.db import Database
    from server.work import manifest_submission

    with told():
        settings = load(data=data)
        upkeep.require_ready(settings)
        database = Database(settings.database)
        try:
            with database.write() as connection:
                found, any_sent = foreign_entries.troubled(connection), bool(foreign_entries.counts(connection))
                if again:
                    manifest_submission.again(connection, settings)
                studies = manifest_submission.everything(connection, settings) if everything else 0
        finally:
            database.close()
    for row, study_uid in found:
        typer.echo(f"{row.state}  {row.partner}  {study_uid}  {row.error}".rstrip())
    if everything and settings.documents_to:
        typer.echo(f"the worker tells partners of {studies} studies: of those that they do not know yet")
    elif not found and any_sent:
        typer.echo("partners have taken all of them")
    elif not found:
        typer.echo(_NONE_SENT if settings.documents_to else _NO_PARTNER)
