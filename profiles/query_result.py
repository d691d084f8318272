"""Results of searches as text: made once, when a study is published, and joined when they are asked for.

A result is one DICOM JSON object (PS3.18 annex F) with one attribute a line, in ascending order of the tags, so that results of two
levels are merged by their lines without being read. It does not say where this server is: `located` puts that in.
"""

from collections.abc import Mapping
from functools import lru_cache

import orjson

from profiles.dicom_json import Attribute, Attributes, query_result
from profiles.query_attributes import OPTIONAL, REQUIRED, Level
from profiles.study import Instance, Series, Study

# Lines begin at top level only: compact JSON has no line feeds.
_RETRIEVE_URL = b'\n"00081190":{"vr":"UR","Value":["'
_BULK_DATA = b'"BulkDataURI":"'


def result(
    level: Level, study: Study, series: Series | None, instance: Instance | None, stored: Mapping[str, Attribute]
) -> Attributes:
    """PS3.18 section 10.6.3.3: what a search of `level` answers by default; of what is `stored` those of the tables."""
    known = {tag: stored[tag] for tag in (*REQUIRED[level], *OPTIONAL[level]) if tag in stored}
    return query_result(level, study, series, instance, known, path(study, series, instance))


def path(study: Study, series: Series | None, instance: Instance | None) -> str:
    """Where an object is below the base URL of the service."""
    return (
        f"/studies/{study.study_instance_uid}"
        + (f"/series/{series.series_instance_uid}" if series is not None else "")
        + (f"/instances/{instance.sop_instance_uid}" if instance is not None else "")
    )


def lines(attributes: Mapping[str, Attribute]) -> bytes:
    """A DICOM JSON object with one attribute a line; keys become ascending."""
    return b"{%b}" % b",\n".join(b'"%b":%b' % (tag.encode(), orjson.dumps(attributes[tag])) for tag in sorted(attributes))


def merged(above: bytes, own: bytes) -> bytes:
    """Two results as one. What both have is taken from `own`, unless that is without a value."""
    found = dict(_by_tag(above))
    for line in own[1:-1].split(b",\n"):
        if len(line) > 21 or line[:10] not in found:  # "00080005":{"vr":"CS"}
            found[line[:10]] = line
    return b"{%b}" % b",\n".join(sorted(found.values()))


@lru_cache(maxsize=256)
def _by_tag(body: bytes) -> Mapping[bytes, bytes]:
    return {line[:10]: line for line in body[1:-1].split(b",\n")}


def located(body: bytes, base: str) -> bytes:
    """`body`, any number of results, with the base URL of the service put before its paths."""
    return body.replace(_RETRIEVE_URL, _RETRIEVE_URL + base.encode())


def bulk_located(body: bytes, instance_url: str) -> bytes:
    """Metadata of one instance with absolute bulk data URIs: stored ones are relative to the instance, `bulkdata/7FE00010`.

    In compact JSON the bytes that are replaced are nothing else than the key: inside a string the quotes would be escaped.
    """
    return body.replace(_BULK_DATA, b"%b%b/" % (_BULK_DATA, instance_url.encode()))
