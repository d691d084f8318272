"""What Orthanc and we answer to the same requests about the same real files: QIDO-RS, metadata, frames, sizes of rendered images.

Where the answers differ, `EXPLAINED` says why; a difference that no rule there explains is a failure, of ours until shown otherwise.
"""

import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from peers.corpus import PYDICOM, SHARED, File, corpus, rounds
from peers.dicomweb import Site, parts, site
from peers.orthanc import Orthanc, orthanc
from PIL import Image

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
BULK = "bulk data"
STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
Attributes = dict[str, dict[str, Any]]

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:.*:UserWarning")]


@dataclass(frozen=True)
class Both:
    """The two servers, the files that both took, and all metadata by SOP Instance UID: ours, theirs."""

    ours: Site
    theirs: Orthanc
    files: list[File]
    metadata: tuple[dict[str, Attributes], dict[str, Attributes]]

    def get(self, path: str, accept: str) -> tuple[requests.Response, requests.Response]:
        return self.ours.get(path, accept), _get(self.theirs, path, accept)

    def found(self, path: str, key: str) -> tuple[dict[str, Attributes], dict[str, Attributes]]:
        ours, theirs = self.get(path, "application/dicom+json")
        return _by(key, ours.json()), _by(key, theirs.json())


def _get(server: Orthanc, path: str, accept: str) -> requests.Response:
    return requests.get(f"{server.http}/dicom-web{path}", headers={"Accept": accept}, timeout=60)


def _by(key: str, results: list[Attributes]) -> dict[str, Attributes]:
    found = {result[key]["Value"][0]: result for result in results}
    assert len(found) == len(results)
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    if not PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb plugin is not installed (Debian: apt-get install orthanc-dicomweb)")
    folder = tmp_path_factory.mktemp("differential")
    files, _ = corpus(*(each for each in (PYDICOM, SHARED / "dicom", SHARED / "nist" / "ImageCache") if each.exists()))
    together = next(rounds(files))
    web = {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"}
    settings: dict[str, object] = {"Plugins": [str(PLUGIN)], "DicomWeb": web, "DefaultEncoding": "Utf8"}
    with orthanc(folder / "orthanc", {}, **settings) as theirs, site(folder / "data") as ours:
        taken = [file for file in together if requests.post(f"{theirs.http}/instances", file.body, timeout=60).status_code == 200]
        assert len(taken) >= len(together) - 2
        answer = ours.store(file.body for file in taken)
        assert answer.status_code == 200, answer.text
        ours.publish()
        yield Both(ours, theirs, taken, _metadata(ours, theirs, taken))


def _metadata(ours: Site, theirs: Orthanc, files: list[File]) -> tuple[dict[str, Attributes], dict[str, Attributes]]:
    made: tuple[dict[str, Attributes], dict[str, Attributes]] = ({}, {})
    for study in {file.study for file in files}:
        path = f"/studies/{study}/metadata"
        answers = ours.get(path, "application/dicom+json"), _get(theirs, path, "application/dicom+json")
        for all_of_it, answer in zip(made, answers, strict=True):
            all_of_it.update(_by(INSTANCE, answer.json()))
    return made


# --- what may differ, and why


@dataclass(frozen=True)
class Difference:
    """One attribute of one answer; `values` are what the instances say that it is made from, where they are several."""

    tag: str
    vr: str
    ours: Any
    theirs: Any
    values: list[Any]


def _numbers(value: Any) -> list[float] | None:
    try:
        return [float(each) for each in value]
    except (TypeError, ValueError):
        return None


def _nearly(difference: Difference) -> bool:
    ours, theirs = _numbers(difference.ours), _numbers(difference.theirs)
    return ours is not None and theirs is not None and ours == pytest.approx(theirs, rel=1e-6, abs=1e-12)


def _japanese(value: Any) -> bool:
    return bool(re.search("[\u3040-\u30ff\u4e00-\u9fff\uff61-\uff9f]", str(value)))


EXPLAINED: dict[str, Callable[[Difference], bool]] = {
    "the character set is that of the answer, which each writes in its own": lambda d: d.tag == "00080005",
    "the address is that of each server": lambda d: d.tag == "00081190",
    # PS3.18 annex F.2.5 leaves it to the server what is sent in place; 1.10 has none of what is compressed.
    "a long value stands for itself there and is a BulkDataURI here": lambda d: d.ours == BULK,
    "padding belongs to no value (PS3.5 section 6.2)": lambda d: d.ours == _stripped(d.theirs),
    "the old forms of dates and times are sent as the new (PS3.5 section 6.2)": lambda d: (
        d.vr in ("DA", "TM") and str(d.ours) == re.sub(r"(?<=\d)[.:](?=\d\d\b)", "", str(d.theirs))
    ),
    "a float that is almost none is 0 there": _nearly,
    "ST, LT and UT have one value, whatever is in it (PS3.5 section 6.4)": lambda d: (
        d.vr in ("ST", "LT", "UT")
        and d.ours != BULK
        and "\\".join(each or "" for each in d.theirs).rstrip() == "".join(d.ours).rstrip()
    ),
    "0x5C is a Yen sign in ISO_IR 13, and a backslash between values all the same (PS3.5 section 6.1.2.3)": lambda d: (
        "\xa5" in str(d.theirs) or (d.vr in ("DS", "IS") and d.theirs == [])
    ),
    "dcmtk does not convert ISO 2022 where the first character set is ISO_IR 13": lambda d: d.vr == "PN" and _japanese(d.ours),
    "a private creator is LO also where the file says UN: dcmtk knows it, we send what the file says": lambda d: (
        d.tag[4:6] == "00" and int(d.tag[:4], 16) % 2 == 1
    ),
    "a series without Modality has OT (PS3.3 section C.7.3.1: type 1)": lambda d: (
        d.tag in ("00080060", "00080061") and "OT" in d.ours and d.theirs == []
    ),
    "an image has one frame where it does not say": lambda d: (d.tag, d.ours, d.theirs) == ("00280008", [1], []),
    "the instances disagree: each server has one that says so": lambda d: d.ours in d.values and d.theirs in d.values,
}


def _plain(attribute: dict[str, Any] | None) -> Any:
    """A value without what says the same in other words: empty values at the end, empty groups of names; None where there is none."""
    if attribute is None:
        return None
    if "BulkDataURI" in attribute or "InlineBinary" in attribute:
        return BULK
    found = [_plain_value(value) for value in attribute.get("Value", [])]
    while found and found[-1] in (None, {}, ""):
        found.pop()
    return found


def _plain_value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value.keys() & {"Alphabetic", "Ideographic", "Phonetic"}:
        return {group: name for group, name in value.items() if name}
    return {tag: plain for tag, each in value.items() if (plain := _plain(each)) != []}


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {group: _stripped(name) for group, name in value.items()}
    if isinstance(value, list):
        return [_stripped(each) for each in value]
    return value.strip(" ") if isinstance(value, str) else value


def unexplained(
    ours: Mapping[str, Attributes],
    theirs: Mapping[str, Attributes],
    values: Callable[[str, str], list[Any]] = lambda uid, tag: [],
) -> list[tuple[str, str, Any, Any]]:
    """The differences between two answers: UID, path of tags, our value, theirs; without those that `EXPLAINED` has."""
    assert ours.keys() == theirs.keys()
    return [
        (uid, path, difference.ours, difference.theirs)
        for uid in ours
        for path, difference in _differences(ours[uid], theirs[uid], partial(values, uid))
        if not any(rule(difference) for rule in EXPLAINED.values())
    ]


def _differences(ours: Attributes, theirs: Attributes, values: Callable[[str], list[Any]]) -> Iterator[tuple[str, Difference]]:
    """We have all that they have. What is more here is no difference: they know fewer attributes of studies, and leave out empty items."""
    for tag, other in theirs.items():
        one = ours.get(tag)
        if one is not None and one["vr"] == other["vr"] == "SQ" and len(one.get("Value", [])) == len(other.get("Value", [])):
            for number, (item, its) in enumerate(zip(one.get("Value", []), other.get("Value", []), strict=True)):
                yield from ((f"{tag}[{number}].{path}", each) for path, each in _differences(item, its, lambda _: []))
        elif (_plain(one) or []) != (_plain(other) or []):
            yield tag, Difference(tag, (one or other)["vr"], _plain(one) or [], _plain(other) or [], values(tag))


# --- the comparison


def _said(both: Both) -> Callable[[str, str], list[Any]]:
    """What the instances of a study say of it and of its series, and those of a patient of the patient: by any UID among them, and tag."""
    shared = {tag for result in both.found("/series?includefield=all", SERIES)[0].values() for tag in result}
    owners: dict[str, tuple[str, str]] = {}
    said: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for each in both.metadata[0].values():
        study, patient = each[STUDY]["Value"][0], f"patient {_plain(each.get('00100020'))}"
        owners.update({each[key]["Value"][0]: (study, patient) for key in (STUDY, SERIES, INSTANCE)})
        for tag in shared:
            said[patient if tag.startswith("0010") else study, tag].append(_plain(each.get(tag)) or [])
    return lambda uid, tag: said[owners[uid][tag.startswith("0010")], tag]


@pytest.mark.parametrize(("path", "key"), [("/studies", STUDY), ("/series", SERIES), ("/instances", INSTANCE)])
def test_searches_find_the_same(both: Both, path: str, key: str) -> None:
    ours, theirs = both.found(f"{path}?includefield=all", key)
    assert unexplained(ours, theirs, _said(both)) == []


@pytest.mark.parametrize(
    "query", ["Modality=MR", "PatientID=*1*", "StudyDate=20040101-20101231", "Modality=CT&PatientSex=O", "SeriesNumber=1"]
)
def test_the_same_keys_find_the_same(both: Both, query: str) -> None:
    ours, theirs = both.found(f"/series?{query}", SERIES)
    assert ours.keys() == theirs.keys() != set()


def test_metadata_are_the_same(both: Both) -> None:
    assert len(both.metadata[0]) == len(both.files)
    assert unexplained(*both.metadata) == []


def _images(both: Both) -> Iterator[tuple[str, int]]:
    """Path and number of frames, of the first two images of each series."""
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for file in both.files:
        seen[file.series, file.syntax] += 1
        if seen[file.series, file.syntax] <= 2 and "00280010" in both.metadata[0][file.uid]:
            frames = both.metadata[0][file.uid].get("00280008", {}).get("Value") or [1]
            yield f"/studies/{file.study}/series/{file.series}/instances/{file.uid}", int(frames[0])


def test_frames_are_the_same_bytes(both: Both) -> None:
    """The first and the last frame. Where Orthanc has none (big-endian, deflated, HTJ2K, damaged), there is nothing to compare."""
    same, wrong = 0, {}
    for path, count in _images(both):
        for number in {1, count}:
            ours, theirs = both.get(f"{path}/frames/{number}", FRAMES)
            if theirs.status_code != 200:
                continue
            if ours.status_code == 200 and parts(ours)[0][1] == parts(theirs)[0][1]:
                same += 1
            else:
                wrong[path, number] = ours.status_code
    assert wrong == {}
    assert same > 50


def test_rendered_images_have_the_same_size(both: Both) -> None:
    same, wrong = 0, {}
    for path, count in _images(both):
        ours, theirs = both.get(f"{path}/frames/{count}/rendered", "image/png")
        if theirs.status_code != 200:
            continue
        if ours.status_code == 200 and Image.open(io.BytesIO(ours.content)).size == Image.open(io.BytesIO(theirs.content)).size:
            same += 1
        else:
            wrong[path, count] = ours.text[:200] if ours.status_code != 200 else ours.status_code
    assert wrong == {}
    assert same > 50
