"""The command `imageshare code`: access codes, by which patients get to their images without an account."""

from typing import Annotated

import typer

from server.console import Data, open_trail, operator, told
from server.settings import load

code_app = typer.Typer(no_args_is_help=True, help="Access codes for patients.")


@code_app.callback()
def code() -> None:
    """Access codes for patients."""


@code_app.command("issue")
def issue(
    patient: Annotated[str, typer.Argument(help="Id of the FHIR Patient.")],
    data: Data = None,
    days: Annotated[int, typer.Option("--days", min=1, max=365, help="How long it may be claimed.")] = 30,
) -> None:
    """Issue a code for all images of a patient, and print it: this once.

    With it and the date of birth the patient sees the images at /claim, once, in one browser.
    """
    from profiles.audit_event import USER_SECURITY_CHANGED, AuditedEntity
    from server.access import codes
    from server.records.installation import installation
    from server.store.db import Database, micros
    from server.store.migrations import require_current

    with told():
        settings = load(data=data)
        database = Database(settings.database)
        require_current(database)
        trail, until = open_trail(settings, database), micros() + days * 86_400_000_000
        key = installation(database).cursor_key
        with database.write() as connection:
            made, text = codes.issue(connection, key, patient=patient, studies=None, creator="", expires=until, sent="print")
            said = "an access code was issued"
            entity = AuditedEntity(identifier=made.id, details=(("changed", said),))
            action = trail.action(
                "security",
                USER_SECURITY_CHANGED,
                operator(),
                rest=False,
                outcome_desc=said,
                patient_id=patient,
                entities=(entity,),
            )
            trail.record(connection, action)
        typer.echo(text)
