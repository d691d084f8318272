"""Retrieving images (SMART Imaging Access, Specification: Retrieving images; DICOM PS3.18 section 10.4)."""

import re
from typing import Final

from conformance.smart.imaging import (
    METADATA,
    SCOPE,
    SLOW,
    WHOLE,
    address,
    denied,
    dicom_parts,
    instance_of,
    retrieved,
)
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System

_RETRIEVING: Final = "SMART Imaging Access, Retrieving images"
AREA = Area("imaging_retrieve", _RETRIEVING)
case = AREA.case


def _offered(status: int, what: str) -> None:
    """Skips the case where what is only recommended is not there."""
    if status in (404, 405, 406, 415, 501):
        raise Skipped(f"{what}: not offered ({status})")
    check(status == 200, f"{what}: status {status}")


@case("study", "A whole study comes with transfer-syntax=*, by the Endpoint of its search")
def _(system: System) -> None:
    study, token = system.target.study("a"), system.token(SCOPE)
    answer = retrieved(system, token, study, at=address(system, token, study))
    check(answer.status_code == 200, f"status {answer.status_code}: {answer.text[:200]}")
    found = dicom_parts(answer)
    check(not study.instances or len(found) == study.instances, f"{len(found)} instances instead of {study.instances}")
    check(all(each[128:132] == b"DICM" for each in found), "a part is no DICOM file")


@case("content-type", "It says multipart/related; type=application/dicom")
def _(system: System) -> None:
    kind = retrieved(system, system.token(SCOPE), system.target.study("a")).headers.get("content-type", "")
    check(kind.startswith("multipart/related"), f"Content-Type is {kind}")
    check(re.search(r'type="?application/dicom"?', kind), f"its type is not application/dicom: {kind}")


@case("own-uids", "Every instance of it is of this study")
def _(system: System) -> None:
    study = system.target.study("a")
    for each in dicom_parts(retrieved(system, system.token(SCOPE), study)):
        check(study.uid.encode() in each, "an instance does not have the study's UID")


@case("quoted", "Quotes around the type in Accept change nothing", source="RFC 2387 section 3.1")
def _(system: System) -> None:
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    answer = retrieved(system, system.token(SCOPE), system.target.study("a"), accept=accept)
    check(answer.status_code == 200, f"status {answer.status_code}")


@case("series", "A series comes by itself")
def _(system: System) -> None:
    study = system.target.study("a")
    if not study.series:
        raise Skipped("the target file names no series")
    answer = retrieved(system, system.token(SCOPE), study, f"/series/{study.series[0]}")
    _offered(answer.status_code, "series")
    found = dicom_parts(answer)
    check(found and all(study.series[0].encode() in each for each in found), "an instance is of another series")


@case("instance", "An instance comes by itself")
def _(system: System) -> None:
    study = system.target.study("a")
    series, instance = instance_of(study)
    answer = retrieved(system, system.token(SCOPE), study, f"/series/{series}/instances/{instance}")
    _offered(answer.status_code, "instance")
    found = dicom_parts(answer)
    check(len(found) == 1 and instance.encode() in found[0], f"{len(found)} parts")


@case("frames", "A frame comes by itself")
def _(system: System) -> None:
    study = system.target.study("a")
    series, instance = instance_of(study)
    accept = "multipart/related; type=application/octet-stream; transfer-syntax=*"
    answer = retrieved(system, system.token(SCOPE), study, f"/series/{series}/instances/{instance}/frames/1", accept=accept)
    _offered(answer.status_code, "frames")
    check(len(dicom_parts(answer)) == 1, "it is not one part")


@case("frame-beyond", "A frame that there is not is an error of the client", source="DICOM PS3.18 section 10.4.3.2")
def _(system: System) -> None:
    study = system.target.study("a")
    series, instance = instance_of(study)
    accept = "multipart/related; type=application/octet-stream; transfer-syntax=*"
    answer = retrieved(system, system.token(SCOPE), study, f"/series/{series}/instances/{instance}/frames/99999", accept=accept)
    check(400 <= answer.status_code < 500, f"status {answer.status_code}")


def _rendered(id: str, title: str, path: str, *kinds: str) -> None:
    for kind in kinds:

        @case(f"{id}-{kind.partition('/')[2]}", f"{title} as {kind}")
        def _(system: System, kind: str = kind) -> None:
            study = system.target.study("a")
            series, instance = instance_of(study)
            where = path.format(series=series, instance=instance)
            answer = retrieved(system, system.token(SCOPE), study, where, accept=kind)
            _offered(answer.status_code, "rendered")
            found = answer.headers.get("content-type", "")
            check(found.startswith((kind, "multipart/related")), f"Content-Type is {found}")


_rendered("rendered", "A picture of an instance", "/series/{series}/instances/{instance}/rendered", "image/jpeg", "image/png")
_rendered("thumbnail", "A thumbnail of the study", "/thumbnail", "image/jpeg")
_rendered("frame-rendered", "A picture of a frame", "/series/{series}/instances/{instance}/frames/1/rendered", "image/jpeg")


@case("metadata-study", "Metadata of the study are DICOM JSON, an object for each instance")
def _(system: System) -> None:
    study = system.target.study("a")
    answer = retrieved(system, system.token(SCOPE), study, "/metadata", accept=METADATA)
    _offered(answer.status_code, "metadata")
    found = answer.json()
    check(not study.instances or len(found) == study.instances, f"{len(found)} objects")
    check(all(each["0020000D"]["Value"] == [study.uid] for each in found), "an object is of another study")


@case("metadata-series", "So are those of a series")
def _(system: System) -> None:
    study = system.target.study("a")
    if not study.series:
        raise Skipped("the target file names no series")
    answer = retrieved(system, system.token(SCOPE), study, f"/series/{study.series[0]}/metadata", accept=METADATA)
    _offered(answer.status_code, "metadata")
    check(all(each["0020000E"]["Value"] == [study.series[0]] for each in answer.json()), "an object is of another series")


@case("metadata-instance", "And those of an instance")
def _(system: System) -> None:
    study = system.target.study("a")
    series, instance = instance_of(study)
    answer = retrieved(system, system.token(SCOPE), study, f"/series/{series}/instances/{instance}/metadata", accept=METADATA)
    _offered(answer.status_code, "metadata")
    check([each["00080018"]["Value"] for each in answer.json()] == [[instance]], "it is another instance")


@case("metadata-no-pixels", "Metadata have no pixels in them", source="DICOM PS3.18 section 10.4.1.1.2")
def _(system: System) -> None:
    answer = retrieved(system, system.token(SCOPE), system.target.study("a"), "/metadata", accept=METADATA)
    _offered(answer.status_code, "metadata")
    check(not any("InlineBinary" in each.get("7FE00010", {}) for each in answer.json()), "PixelData are inline")


@case("bulk-urls", "Bulk data of metadata are at this server", source="DICOM PS3.18 section 10.4.1.1.5")
def _(system: System) -> None:
    study, token = system.target.study("a"), system.token(SCOPE)
    base = address(system, token, study)
    answer = retrieved(system, token, study, "/metadata", accept=METADATA)
    _offered(answer.status_code, "metadata")
    urls = re.findall(r'"BulkDataURI"\s*:\s*"([^"]+)"', answer.text)
    from urllib.parse import urljoin, urlsplit

    wrong = [each for each in urls if urlsplit(urljoin(base + "/", each)).netloc != urlsplit(base).netloc]
    check(not wrong, f"elsewhere: {wrong[:2]}")


@case("transcoding", "Explicit VR Little Endian comes where it is asked for")
def _(system: System) -> None:
    study = system.target.study("a")
    series, instance = instance_of(study)
    accept = "multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    answer = retrieved(system, system.token(SCOPE), study, f"/series/{series}/instances/{instance}", accept=accept)
    _offered(answer.status_code, "transcoding")
    check(b"1.2.840.10008.1.2.1\x00" in dicom_parts(answer)[0][:1000], "it is in another transfer syntax")


@case("unacceptable", "What cannot be sent is 406", source="DICOM PS3.18 section 10.4.3.2")
def _(system: System) -> None:
    answer = retrieved(system, system.token(SCOPE), system.target.study("a"), accept="application/x-kit")
    check(answer.status_code in (406, 415), f"status {answer.status_code}")


@case("not-kept", "Images are not kept by anybody on the way", source="RFC 9111 section 3.5")
def _(system: System) -> None:
    told = retrieved(system, system.token(SCOPE), system.target.study("a"), "/metadata", accept=METADATA).headers
    check(any(each in told.get("cache-control", "") for each in ("no-store", "private", "no-cache")) , "Cache-Control lets them be shared")  # fmt: skip


@case("no-token", "Without a token nothing comes: 401 with WWW-Authenticate", source="SMART Imaging Access, Token validation")
def _(system: System) -> None:
    study, token = system.target.study("a"), system.token(SCOPE)
    answer = retrieved(system, None, study, at=address(system, token, study))
    check(answer.status_code == 401, f"status {answer.status_code}")
    check("bearer" in answer.headers.get("www-authenticate", "").lower(), "no WWW-Authenticate: Bearer")


@case("wrong-token", "Nor with one that is none", source="SMART Imaging Access, Token validation")
def _(system: System) -> None:
    study, token = system.target.study("a"), system.token(SCOPE)
    answer = retrieved(system, "kit-no-token", study, at=address(system, token, study))
    check(answer.status_code == 401, f"status {answer.status_code}")


@case("token-in-url", "Nor with one in the URL", source="RFC 6750 section 2.3")
def _(system: System) -> None:
    study, token = system.target.study("a"), system.token(SCOPE)
    url = f"{address(system, token, study)}/studies/{study.uid}"
    for name in ("access_token", "token"):
        answer = system.wire.get(url, params={name: token}, headers={"Accept": WHOLE})
        denied(answer, what=f"?{name}=")


@case("unknown-study", "A study that there is not is a refusal that says nothing")
def _(system: System) -> None:
    study, token = system.target.study("a"), system.token(SCOPE)
    answer = system.wire.get(f"{address(system, token, study)}/studies/1.2.3.4.5.6.7.8.9", token=token, headers={"Accept": WHOLE})
    check(answer.status_code in (403, 404), f"status {answer.status_code}")


@case("retry", "A study that has to be fetched is 503 with Retry-After")
def _(system: System) -> None:
    pending = next((each for each in system.target.studies if each.pending), None)
    if pending is None:
        raise Skipped("the target file has no study that is pending")
    answer = retrieved(system, system.token(SCOPE), pending)
    check(answer.status_code == SLOW, f"status {answer.status_code}")
    check(re.fullmatch(r"\d+", answer.headers.get("retry-after", "")), f"Retry-After is {answer.headers.get('retry-after')!r}")


@case("head-or-nothing", "HEAD shows no more than GET", source="RFC 9110 section 9.3.2")
def _(system: System) -> None:
    study = system.target.study("b", seen_by="")
    token = system.token(SCOPE)
    base = address(system, token, system.target.study("a"))
    answer = system.wire.ask("HEAD", f"{base}/studies/{study.uid}", token=token, headers={"Accept": WHOLE})
    check(answer.status_code in (401, 403, 404, 405), f"status {answer.status_code}")
