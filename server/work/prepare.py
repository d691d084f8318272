"""What is made after a study became visible: the metadata of its series, packed, as it is sent (PS3.18 section 10.4.1.1.2)."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, select

from ihe.joined_gzip import Fragment, fragment
from profiles.query_result import bulk_located
from server.records import catalogue, results
from server.records.catalogue import INSTANCE, PUBLISHED, SERIES, STUDY
from server.records.packing import unpacked
from server.settings import Settings
from server.store import jobs
from server.store.db import Database

_TOGETHER = 100


class Preparer:
    """`metadata` and `index` are what the worker calls for the jobs of these kinds; their keys are rows of studies."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._base = f"{settings.base_url}/dicomweb"
        self._database = database

    def metadata(self, due: Sequence[jobs.Job]) -> None:
        """Prepares the metadata of the series of studies, for the base URL that this server has now."""
        for job in due:
            with self._database.read() as connection:
                version, made = self._packed(connection, int(job.key))
            with self._database.write() as connection:
                # If it was published anew meanwhile, this job is due again.
                if version == _version(connection, int(job.key)):
                    for series_pk, part in made:
                        results.keep_metadata(connection, series_pk, self._base, part)
                jobs.done(connection, job)

    def index(self, due: Sequence[jobs.Job]) -> None:
        """Makes results and terms of studies that were published before there were any."""
        for job in due:
            with self._database.write() as connection:
                study_pk = int(job.key)
                visible = connection.execute(select(INSTANCE.c.pk).where(INSTANCE.c.study_pk == study_pk, PUBLISHED)).scalars()
                results.refresh(connection, study_pk, catalogue.load(connection, study_pk), list(visible))
                jobs.done(connection, job)

    def _packed(self, connection: Connection, study_pk: int) -> tuple[int | None, list[tuple[int, Fragment]]]:
        version = _version(connection, study_pk)
        if version is None:
            return None, []
        rows = connection.execute(
            select(SERIES.c.pk, SERIES.c.uid, STUDY.c.uid)
            .join(STUDY, STUDY.c.pk == SERIES.c.study_pk)
            .where(STUDY.c.pk == study_pk, SERIES.c.instance_count > 0)
        ).all()
        return version, [(pk, fragment(self._texts(connection, study, series))) for pk, series, study in rows]

    def _texts(self, connection: Connection, study_uid: str, series_uid: str) -> Iterator[bytes]:
        found = catalogue.instances(connection, study_uid, series_uid)
        for start in range(0, len(found), _TOGETHER):
            some = found[start : start + _TOGETHER]
            bodies = catalogue.dicom_json(connection, [instance.pk for instance in some])
            for number, (instance, body) in enumerate(zip(some, bodies, strict=True), start):
                url = f"{self._base}/studies/{study_uid}/series/{series_uid}/instances/{instance.uid}"
                yield (b"," if number else b"") + bulk_located(unpacked(body), url)


def _version(connection: Connection, study_pk: int) -> int | None:
    return connection.execute(select(STUDY.c.version).where(STUDY.c.pk == study_pk)).scalar_one_or_none()
