"""The picture that stands for a study or series: its middle image, rendered small (PS3.18 section 10.4.1.1.4 leaves the choice to the server)."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from profiles.frames import FrameTable
from profiles.kinds import kind
from server.errors import NotFound
from server.records import catalogue
from server.records.catalogue import StoredInstance
from server.store.blobs import BlobStore
from server.work.portal.studies import SeenSeries, SeenStudy
from server.work.render import Renderer, Viewport, Wish

_NO_PICTURE: Final = "there is no picture of these images"


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame (from 1) of an instance, and what is known of where its pixels are. `place` is where it stands in its series, from 0."""

    instance: StoredInstance
    frame: int
    place: int
    count: int
    frame_table: bytes | None


def first(study: SeenStudy) -> SeenSeries:
    """The series that is shown first: the first with images. Raises `NotFound`."""
    found = next((each for each in study.series if each.kind == "image"), None)
    if found is None:
        raise NotFound(_NO_PICTURE)
    return found


def middle(connection: Connection, study: SeenStudy, series: SeenSeries) -> Picture:
    """The middle image of a series that the reader may know of. Raises `NotFound`."""
    images = [each for each in catalogue.instances(connection, study.uid, series.uid) if _is_image(each)]
    if not images:
        raise NotFound(_NO_PICTURE)
    place = len(images) // 2
    instance = images[place]
    table = catalogue.frame_table(connection, instance.pk)
    return Picture(instance, (instance.frames + 1) // 2, place, len(images), table)


def jpeg(blobs: BlobStore, renderer: Renderer, picture: Picture, size: int, quality: int = 80) -> bytes:
    """At most `size` pixels wide and high, as JPEG. Raises `NotAcceptable` for pixels that cannot be decoded, `Busy` and its like."""
    table = _table(picture.frame_table)

    def made() -> bytes:
        with blobs.open(picture.instance.blob_id) as file:
            return renderer.cine(file, wish(table, size, quality), [picture.frame], table, picture.instance.blob_id)

    return renderer.kept(key(picture, size, quality), made)


def key(picture: Picture, size: int, quality: int = 80) -> str:
    """What stands for this picture: the same for the same bytes."""
    return wish(_table(picture.frame_table), size, quality).key(picture.instance.blob_id, [picture.frame])


def wish(table: FrameTable | None, size: int, quality: int = 80) -> Wish:
    """JPEG at most `size` pixels wide and high: smaller images as they are, for a viewport would enlarge them (PS3.18 section 8.3.5.1.3)."""
    fits = table is not None and max(table.rows, table.columns) <= size
    return Wish("image/jpeg", viewport=None if fits else Viewport(size, size), quality=quality)


def _table(stored: bytes | None) -> FrameTable | None:
    return FrameTable.from_bytes(stored) if stored is not None else None


def _is_image(instance: StoredInstance) -> bool:
    return kind(instance.sop_class, instance.transfer_syntax, instance.frames) == "image"
