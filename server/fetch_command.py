"""The command `imageshare fetch`: a patient's images and documents from another community (IHE XDS-I.b)."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.console import Data, operator, told
from server.errors import SettingsError, Unavailable
from server.settings import Community, Settings, Way, load

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from profiles.document import DocumentEntry
    from profiles.identifiers import PatientIdentifier
    from server.edges.context import Node
    from server.outbound.community import CommunityClient
    from server.work.fetching.asked import Asked
    from server.work.fetching.documents import DocumentFetcher
    from server.work.fetching.fetcher import Fetcher

Told = dict[str, Any]
"""What became of a document, as `Fetched.told` has it."""
_LOOK_EVERY: Final = 0.2


def fetch(
    community: Annotated[str, typer.Argument(help="The name of a community of the settings.")],
    patient: Annotated[str, typer.Option(help="The patient's id there: id^^^&oid&ISO.")],
    accession: Annotated[str, typer.Option(help="Only this order: its accession number, alone or as a CXi.")] = "",
    study: Annotated[str, typer.Option(help="Only this study: its Study Instance UID.")] = "",
    document: Annotated[str, typer.Option(help="Only this document: its uniqueId.")] = "",
    by: Annotated[Way | None, typer.Option(help="How images are fetched; as the settings say where absent.")] = None,
    documents: Annotated[bool, typer.Option("--documents", help="Reports and other documents too.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show what there is, and fetch nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one document a line.")] = False,
    data: Data = None,
) -> None:
    """Fetch a patient's images from another community: by itself, or by the server where one runs on the data folder.

    Can be done again after an interruption: what is here is not fetched twice. Exit code 1 if anything is missing; a community that answers, and has nothing, is told and no failure. Images are published when the server runs, and belong to the patient that they name.
    """
    from server import upkeep
    from server.work.fetching.asked import Asked

    with told():
        settings = load(data=data)
        where = _community(settings, community)
        asked = Asked(_patient(patient), accession, study, document, by, documents)
        if not list_ and upkeep.is_served(settings):
            results: Sequence[Told] = _followed(settings, where, asked, as_json)
        else:
            with _opened(settings) as node:
                results = _listed(node, where, asked, as_json) if list_ else _fetched(node, where, asked, as_json)
    if not all(each["complete"] for each in results):
        raise typer.Exit(1)


def _community(settings: Settings, name: str) -> Community:
    for each in settings.communities:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in settings.communities) or "none"
    raise SettingsError(f"the settings name no such community; there are: {known}")


def _patient(text: str) -> "PatientIdentifier":
    from profiles.identifiers import InvalidIdentifier, PatientIdentifier

    try:
        return PatientIdentifier.from_cx(text)
    except InvalidIdentifier as error:
        raise SettingsError(f"--patient: {error}") from None


@contextmanager
def _opened(settings: Settings) -> "Iterator[Node]":
    from server import upkeep
    from server.composition import close_node, open_node

    with ExitStack() as held:
        if upkeep.is_served(settings):
            upkeep.require_ready(settings)
        else:
            upkeep.make_ready(settings)
            held.enter_context(upkeep.owned(settings, shared=True))
            held.enter_context(upkeep.owned_blob_folder(settings, shared=True))
        node = open_node(settings)
        held.callback(close_node, node)
        yield node


def _listed(node: "Node", community: Community, asked: "Asked", as_json: bool) -> "Sequence[Told]":
    import orjson
    from rich.table import Table

    from server.dicom_commands import wide
    from server.outbound.community import CommunityClient

    with CommunityClient(node.settings, community) as client:
        fetcher = _fetcher(node, community, client)
        entries = fetcher.find(asked)
    if not entries:
        typer.echo(_nothing(community.name, asked), err=as_json)
    elif as_json:
        for each in entries:
            typer.echo(orjson.dumps(_row(each)).decode())
    else:
        table = Table("created", "title", "type", "media type", "repository", "uniqueId", box=None)
        for each in entries:
            row = _row(each)
            table.add_row(*(row[name] for name in ("created", "title", "type", "mime_type", "repository", "document")))
        wide().print(table)
    if fetcher.partial:
        raise Unavailable(fetcher.partial)
    return ()


def _row(entry: "DocumentEntry") -> dict[str, str]:
    kind = entry.type_code
    return {
        "document": entry.unique_id, "title": entry.title, "type": (kind.display or kind.code) if kind else "",
        "mime_type": entry.mime_type, "created": entry.creation_time, "repository": entry.repository_unique_id,
        "references": " ".join(entry.reference_ids),
    }  # fmt: skip


def _fetched(node: "Node", community: Community, asked: "Asked", as_json: bool) -> "list[Told]":
    import orjson
    from rich.console import Console
    from rich.progress import Progress

    from server.outbound.community import CommunityClient
    from server.work.fetching.asked import is_manifest

    results: list[Told] = []
    with CommunityClient(node.settings, community) as client, Progress(console=Console(stderr=True)) as progress:
        fetcher, others = _fetcher(node, community, client), _document_fetcher(node, community, client)
        for entry in fetcher.find(asked):
            if is_manifest(entry):
                shown = partial(_show, progress, progress.add_task("images", total=None))
                done = fetcher.manifest(entry, asked, shown)
            else:
                done = others.fetch(entry, asked.patient)
            results.append(done.told())
            if as_json:
                typer.echo(orjson.dumps(results[-1]).decode())
    _tell(results, community.name, asked, as_json=as_json)
    if fetcher.partial:
        raise Unavailable(fetcher.partial)
    return results


def _followed(settings: Settings, community: Community, asked: "Asked", as_json: bool) -> "list[Told]":
    """The server does it; it goes on where this command is ended."""
    import orjson
    from rich.console import Console
    from rich.progress import Progress

    from server.records import fetches
    from server.store.db import Database
    from server.work.fetching.jobs import ask

    database = Database(settings.database)
    try:
        with database.write() as connection:
            id_ = ask(connection, community.name, asked, operator("imageshare fetch").user or operator())
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("images", total=None)
            while True:
                with database.read() as connection:
                    found = fetches.find(connection, id_)
                if found is None or found.state in ("done", "failed"):
                    break
                progress.update(task, completed=found.done, total=found.total or None)
                time.sleep(_LOOK_EVERY)
    finally:
        database.close()
    if found is None:
        raise Unavailable("the server has forgotten the fetch")
    for each in found.documents if as_json else ():
        typer.echo(orjson.dumps(each).decode())
    if found.documents or not found.error:
        _tell(found.documents, community.name, asked, as_json=as_json)
    if found.error:
        raise Unavailable(found.error)
    return found.documents


def _show(progress: "Progress", task: "TaskID", done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)


def _fetcher(node: "Node", community: Community, client: "CommunityClient") -> "Fetcher":
    from server.work.fetching.fetcher import Fetcher

    return Fetcher(community, client, node.database, node.ingest, node.trail, operator("imageshare fetch").user)


def _document_fetcher(node: "Node", community: Community, client: "CommunityClient") -> "DocumentFetcher":
    from server.work.fetching.documents import DocumentFetcher

    return DocumentFetcher(
        community, client, node.database, node.installation, node.ingest, node.domain, node.writes, node.trail,
        operator("imageshare fetch").user,
    )  # fmt: skip


def _nothing(name: str, asked: "Asked") -> str:
    """The registry was asked and has answered: no failure, but no images either."""
    narrowed = " that fits" if asked.accession or asked.study or asked.document else ""
    what = "document" if asked.documents or asked.document else "manifest of images"
    return f"nothing found: {name} has answered, and its registry has no {what} of this patient{narrowed}"


def _tell(results: "Sequence[Told]", name: str, asked: "Asked", *, as_json: bool) -> None:
    """Sums on standard output, what is missing on standard error; no title of a document, which may name a patient."""
    if not results:
        typer.echo(_nothing(name, asked), err=as_json)
    if not results or as_json:
        return
    new, known, named = (sum(each[what] for each in results) for what in ("new", "known", "instances"))
    studies = {study for each in results for study in each["studies"]}
    others = sum(not each["manifest"] for each in results)
    documents = f" and {others} documents" if others else ""
    typer.echo(
        f"{new} fetched from {name}, {known} known already; {named} instances of {len(studies)} studies{documents} in {len(results)} documents found"
    )
    for each in results:
        lost = [f"{count} not fetched: {reason}" for reason, count in each["failed"].items()]
        for line in (*each["notes"], *lost, *filter(None, (each["error"],))):
            typer.echo(f"{each['document']}: {line}", err=True)
