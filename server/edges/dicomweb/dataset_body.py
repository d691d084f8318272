"""A request body that is one data set: DICOM JSON or Native DICOM XML (PS3.18 sections 8.7.3.2 and 11.1.3)."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import orjson
from pydicom.datadict import dictionary_VR
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from ihe import multipart
from profiles import dicom_xml
from profiles.data_set_writer import ModelError, encode
from profiles.dicom_json import Attributes
from profiles.part10 import keyword
from profiles.vocabulary import DICOM_JSON, DICOM_XML
from server.edges.dicomweb import accept
from server.errors import MalformedBody, TooLarge, UnsupportedMediaType

_MOST: Final = 1 << 20
_TAG: Final = re.compile(r"[0-9A-F]{8}")


async def data_set(request: Request, *, optional: bool = False) -> Attributes:
    """The attributes of the one data set of the body, checked value by value; with `optional` none where there is no body.

    Raises `TooLarge`, `UnsupportedMediaType` and `MalformedBody`.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST:
            raise TooLarge("a workitem or what is said of one has at most 1 MiB")
    if optional and not body.strip():
        return {}
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("the body is taken without a Content-Encoding")
    return await run_in_threadpool(_parsed, request.headers.get("content-type", DICOM_JSON), body)


def _parsed(type_: str, body: bytes) -> Attributes:
    try:
        return _checked(_read(type_, body))
    except orjson.JSONDecodeError:
        raise MalformedBody("the body is no JSON") from None
    except (dicom_xml.DicomXmlError, ModelError, multipart.MultipartError) as error:
        raise MalformedBody(f"the body is not one data set: {error}") from None


def _read(content_type: str, body: bytes) -> object:
    parsed = multipart.media_type(content_type)
    if parsed.type in (DICOM_JSON, accept.JSON):
        return orjson.loads(body)
    if parsed.type == DICOM_XML:
        return dicom_xml.parse(body)
    if parsed.type == accept.MULTIPART:
        return _read(*_part(content_type, body))
    raise UnsupportedMediaType(f'the body is {DICOM_JSON}, {DICOM_XML} or {accept.MULTIPART}; type="{DICOM_XML}"')


def _part(content_type: str, body: bytes) -> tuple[str, bytes]:
    """Type and content of the only part. A part in a part is none that is taken."""
    splitter = multipart.Splitter(multipart.boundary_of(content_type), part_limit=1)
    type_, content = "", b""
    for event in splitter.feed(body):
        if isinstance(event, multipart.PartStart):
            type_ = event.content_type or multipart.media_type(content_type).parameters.get("type", "")
        elif isinstance(event, multipart.PartData):
            content += event.data
    splitter.close()
    if multipart.media_type(type_).type == accept.MULTIPART:
        raise UnsupportedMediaType(f"the part is {DICOM_XML} or {DICOM_JSON}")
    return type_, content


def _checked(given: object) -> Attributes:
    """PS3.18 section F.2.2: an object, or an array with one."""
    if isinstance(given, list):
        if len(given) != 1:
            raise MalformedBody("the body has one data set: an object, or an array with one object")
        (given,) = given
    if not isinstance(given, dict) or not all(isinstance(value, dict) for value in given.values()):
        raise MalformedBody("a data set is an object whose members are attributes (PS3.18 section F.2.2)")
    found = {str(tag).upper(): value for tag, value in given.items()}
    if len(found) != len(given) or not all(_TAG.fullmatch(tag) for tag in found):
        raise MalformedBody("an attribute is named once, by a tag of eight hexadecimal digits (PS3.18 section F.2.2)")
    kept = {tag: value for tag, value in sorted(found.items()) if not tag.startswith(("0000", "0002"))}
    encode(kept, {})  # refuses what is no value of its VR, and what is nested too deep
    _require_known(kept)
    return kept


def _require_known(attributes: Attributes) -> None:
    """PS3.6 table 6-1: an attribute has the VR that is registered for it. A NUL is in no text, and in no column of a database."""
    for tag, attribute in attributes.items():
        vr = str(attribute.get("vr"))
        registered = _registered(tag)
        if registered and vr not in registered:
            raise MalformedBody(f"{keyword(int(tag, 16))} ({tag[:4]},{tag[4:]}) is of VR {' or '.join(registered)}")
        for value in _values(attribute):
            if vr == "SQ" and isinstance(value, dict):
                _require_known(value)
            elif any("\0" in part for part in _texts(value)):
                raise MalformedBody(f"({tag[:4]},{tag[4:]}) has a NUL in its text")


@lru_cache(maxsize=4096)
def _registered(tag: str) -> tuple[str, ...]:
    try:
        return tuple(dictionary_VR(int(tag, 16)).split(" or "))
    except KeyError:  # private, or newer than the dictionary
        return ()


def _values(attribute: Mapping[str, object]) -> list[object]:
    """The values of an attribute; none where it has none."""
    found = attribute.get("Value")
    return found if isinstance(found, list) else []


def _texts(value: object) -> list[str]:
    parts = value.values() if isinstance(value, dict) else [value]
    return [part for part in parts if isinstance(part, str)]
