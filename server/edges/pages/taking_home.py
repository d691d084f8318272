"""A study to take home: a ZIP archive with a DICOMDIR for other programs, and a page for people which shows it without a server."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain

from starlette.responses import Response, StreamingResponse

from server import languages
from server.edges import context
from server.edges.pages import assets, looking
from server.edges.pages.browser import Visit
from server.edges.pages.images import words
from server.edges.pages.showing import written
from server.edges.pages.wording import day
from server.records import catalogue
from server.work import file_set
from server.work.file_set import Beside
from server.work.portal import reading, taking_home
from server.work.portal.reading import Reader
from server.work.portal.studies import SeenStudy
from server.work.portal.taking_home import FOLDER, README, Shown, Told


def download(visit: Visit) -> Response:
    """`GET /images/{study}/download`"""
    with visit.node.database.read() as connection:
        readers = looking.readers(visit, connection)
    return download_for(visit, readers)


def download_for(visit: Visit, readers: Sequence[Reader], *, with_reports: bool = True) -> Response:
    """The same, for whoever may have it: the series that they may know of, as they are stored."""
    node = visit.node
    with node.database.read() as connection:
        found, reader = reading.one(connection, readers, visit.request.path_params["study"])
        seen = {each.uid for each in found.series}
        instances = [each for each in catalogue.instances(connection, found.uid) if each.series_uid in seen]
        made = file_set.of(connection, instances)
        parts = taking_home.parts(connection, found, instances)
        base = f"{visit.settings.base_url}/fhir"
        said = taking_home.told(connection, reader, found, node.blobs, base) if with_reports else ()
    looking.told_study(visit, reader, found, "download")

    language = languages.spoken()

    def page(shown: Sequence[Shown], listed: Sequence[Told]) -> bytes:
        languages.speak(language)  # it is written when all that comes before it has been sent
        return _page(visit, found, shown, listed)

    beside = taking_home.beside(node.blobs, context.renderer(visit.request), parts, said, page)
    pieces = made.chunks(node.blobs, datetime.now(node.settings.zone), chain(_always(visit), beside))
    headers = {"Content-Disposition": f'attachment; filename="images-{found.date or "undated"}.zip"'}
    return StreamingResponse(context.together(pieces), headers=headers, media_type=file_set.MEDIA_TYPE)


def _page(visit: Visit, study: SeenStudy, shown: Sequence[Shown], listed: Sequence[Told]) -> bytes:
    about = {**words(study, len(listed)), "name": study.patient_name, "born": day(study.birth_date)}
    return written(visit.request, "taken_home.html", {"study": about, "series": shown, "reports": listed}).encode()


def _always(visit: Visit) -> Iterator[Beside]:
    """What is in every archive."""
    text = written(visit.request, "taken_home.txt", {})
    yield Beside.of(README, text.replace("\n", "\r\n").encode())
    for name, asset in (("PAGE.CSS", "taken_home.css"), ("PAGE.JS", "taken_home.js")):
        yield Beside.of(f"{FOLDER}/{name}", assets.content(asset))
