"""Every real file at hand, all the way round: in by C-STORE and by STOW-RS, out by WADO-RS, RAD-69, C-GET and C-MOVE, byte for byte.

Files that contradict each other (one SOP Instance UID with other bytes, one study for two patients) go into rounds of their own, each
with an empty server, on each database engine. What is refused is refused for a reason of the file, and stands in a table here.
"""

import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from peers.corpus import PYDICOM, SHARED, File, corpus, read, rounds
from peers.dicomweb import multipart, parts
from peers.imageshare import node, publish_all
from peers.querying import Archive as DicomArchive
from peers.querying import got, identifier, moved, storescp
from peers.scanner import listening
from peers.xds import LOOPBACK, SOURCE, Archive, retrieved
from starlette.testclient import TestClient

from ihe import rad69
from profiles.query_retrieve import STUDY_ROOT
from server.app import create_app
from server.edges.context import Node
from server.outbound import cstore

pytestmark = pytest.mark.postgresql_is_deep
Databases = Callable[[], AbstractContextManager[str]]
WHOLE = 'multipart/related; type="application/dicom"; transfer-syntax=*'

NO_SERIES = "SeriesInstanceUID is missing or empty; it is required (PS3.3 section C.7.3.1, type 1)"
NO_UID = "SOPInstanceUID is missing or empty; it is required (PS3.3 section C.12.1, type 1)"
CUT = "truncated: the data set ends inside an element (PS3.5 section 7.1)"
REFUSED = {
    NO_SERIES: (
        "palettes/fall.dcm", "palettes/hotiron.dcm", "palettes/hotmetalblue.dcm", "palettes/pet.dcm", "palettes/pet20step.dcm",
        "palettes/spring.dcm", "palettes/summer.dcm", "palettes/winter.dcm", "test_files/JPEGLSNearLossless_08.dcm",
        "test_files/JPEGLSNearLossless_16.dcm", "test_files/SC_rgb_jls_lossy_line.dcm", "test_files/SC_rgb_jls_lossy_sample.dcm",
        "pydicom_data/HTJ2KLossless_08_RGB.dcm", "pydicom_data/HTJ2K_08_RGB.dcm", "pydicom_data/JLSL_16_15_1_1F.dcm",
    ),
    NO_UID: (
        "charset_files/chrSQEncoding.dcm", "charset_files/chrSQEncoding1.dcm", "test_files/UN_sequence.dcm",
        "test_files/empty_charset_LEI.dcm", "test_files/nested_priv_SQ.dcm", "test_files/no_meta_group_length.dcm",
        "test_files/priv_SQ.dcm", "dicomdirtests/DICOMDIR", "dicomdirtests/DICOMDIR-bigEnd", "dicomdirtests/DICOMDIR-empty.dcm",
        "dicomdirtests/DICOMDIR-implicit", "dicomdirtests/DICOMDIR-nopatient", "dicomdirtests/DICOMDIR-reordered",
        "TINY_ALPHA/DICOMDIR",
    ),
    CUT: ("test_files/MR_truncated.dcm", "test_files/rtplan_truncated.dcm", "dicomdirtests/DICOMDIR-nooffset"),
    "no preamble": (
        "test_files/ExplVR_BigEndNoMeta.dcm", "test_files/ExplVR_LitEndNoMeta.dcm", "test_files/no_meta.dcm", "test_files/rtstruct.dcm",
        "pydicom_data/JLSN_RGB_ILV0.dcm",
    ),
    "the File Meta Information has no TransferSyntaxUID (PS3.10 section 7.1)": ("test_files/meta_missing_tsyntax.dcm",),
    "SOPInstanceUID: a UID is numbers joined by dots, at most 64 characters (PS3.5 section 9.1)": ("pydicom_data/bad_sequence.dcm",),
}  # fmt: skip
"""Why a file is no instance."""

OTHER_UID = "0xA900 Data Set Does Not Match SOP Class: the SOP Instance UID announced is not that of the dataset"
REFUSED_BY_C_STORE = {
    OTHER_UID: (
        "charset_files/chrJapMulti.dcm", "charset_files/chrJapMultiExplicitIR6.dcm", "test_files/badVR.dcm", "test_files/rtdose.dcm",
        "test_files/rtdose_1frame.dcm", "test_files/rtdose_expb.dcm", "test_files/rtdose_expb_1frame.dcm", "test_files/rtplan.dcm",
        "test_files/sm_image_dots.dcm", "test_files/sm_image_grayscale.dcm", "test_files/sm_image_grayscale_reversed.dcm",
        "test_files/sm_image_numbers.dcm",
    )
}  # fmt: skip
"""Files whose File Meta Information is of another instance than their data set: STOW-RS goes by the data set, C-STORE announces the former."""

MANY = 200
"""A round of so many files is asked for over the network in part: hundreds of slices of one kind say no more than a few."""

UNKNOWN_TO_DCMTK = ("1.2.840.10008.1.2.4.20", "1.2.840.10008.1.2.8.1")
"""Transfer syntaxes (how they begin) that dcmtk's storescp does not accept: HTJ2K, deflated frames. They are transcoded for it."""


def _why(table: Mapping[str, Sequence[str]], refused: dict[str, str]) -> None:
    """Asserts that what is refused is in the table, and that with its reason."""
    assert refused.items() <= {name: reason for reason, names in table.items() for name in names}.items()


def _even(data: bytes) -> bytes:
    """PS3.5 section 7.1.1: what goes over a DICOM association is of even length. A few of the files are not."""
    return data + b"\0" * (len(data) % 2)


def _one_of_each_kind(stored: list[File]) -> list[File]:
    """All of the smallest studies that have among them each pair of SOP Class and Transfer Syntax."""
    sizes = Counter(file.study for file in stored)
    chosen: set[str] = set()
    seen: set[tuple[str, str]] = set()
    for file in sorted(stored, key=lambda each: sizes[each.study]):
        if (file.sop_class, file.syntax) not in seen:
            chosen.add(file.study)
            seen |= {(each.sop_class, each.syntax) for each in stored if each.study == file.study}
    return [file for file in stored if file.study in chosen]


def _by_stow(client: TestClient, files: list[File]) -> dict[str, File]:
    kind = 'multipart/related; type="application/dicom"; boundary=cut'
    body = multipart((file.body for file in files), "cut")
    answer = client.post("/dicomweb/studies", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    return {file.uid: file for file in files}


def _by_c_store(opened: Node, folder: Path, files: list[File]) -> dict[str, File]:
    paths = {folder / f"{number}.dcm": file for number, file in enumerate(files)}
    for path, file in paths.items():
        path.write_bytes(file.body)
    with listening(opened) as scp:
        told = list(cstore.send(paths, *scp.address, called="IMAGESHARE", calling="TEST"))
    refused = {paths[each.path].name: each.reason for each in told if not each.ok}
    _why(REFUSED_BY_C_STORE, refused)
    return {paths[each.path].uid: paths[each.path] for each in told if each.ok}


def _wado(client: TestClient, stored: list[File]) -> dict[str, bytes]:
    found = []
    for study in {file.study for file in stored}:
        answer = client.get(f"/dicomweb/studies/{study}", headers={"Accept": WHOLE})
        assert answer.status_code == 200
        found += [data for _, data in parts(answer)]  # type: ignore[arg-type]
    return {read(data).uid: data for data in found}


def _rad69(opened: Node, stored: list[File]) -> dict[str, bytes]:
    wanted = [(file.study, file.series, file.uid) for file in stored]
    request = Archive(opened).images_request(wanted, sorted({file.syntax for file in stored}))
    answer, documents = retrieved(Archive(opened).post(SOURCE, rad69.REQUEST_ACTION, request))
    assert answer.errors == ()
    return documents


def _by_network(opened: Node, folder: Path, stored: list[File], program: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What comes by C-GET to pynetdicom and by C-MOVE to dcmtk, by SOP Instance UID, as data sets."""
    asked = identifier("STUDY", StudyInstanceUID=sorted({file.study for file in stored}))
    pairs = [(sop_class, [syntax]) for sop_class, syntax in sorted({(file.sop_class, file.syntax) for file in stored})]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    with listening(opened) as scp, storescp(program, number, folder / "moved", "+B", "+xa", "-pm") as arrived:
        archive = DicomArchive(opened, scp.address[1])
        archive.know("DEST", number)
        answers, brought = got(archive, asked, pairs, model=STUDY_ROOT.get)
        assert (answers[-1][0].Status, len(brought)) == (0, len(stored))
        final, _ = moved(archive, asked, "DEST")[-1]
        assert (final.Status, final.NumberOfCompletedSuboperations) == (0, len(stored)), final
        files = [read(path.read_bytes()) for path in arrived.iterdir()]
    return {uid: data for uid, _, data in brought}, {file.uid: file.dataset for file in files}


def _round(folder: Path, database_url: str, files: list[File], *, stow: bool, storescp: Path | None) -> int:
    """Returns how many went round."""
    with node(folder / "data", database_url) as opened:
        headers = {"Authorization": f"Bearer {opened.tokens.issue(client='test', scope='system/*.cruds')}"}
        client = TestClient(create_app(opened), base_url="http://127.0.0.1:8080", client=LOOPBACK, headers=headers)
        sent = _by_stow(client, files) if stow else _by_c_store(opened, folder, files)
        publish_all(opened)
        stored = list(sent.values())
        datasets = {uid: file.dataset if stow else _even(file.dataset) for uid, file in sent.items()}
        for found in (_wado(client, stored), _rad69(opened, stored)):
            if stow:
                assert found == {uid: file.sent for uid, file in sent.items()}
            assert {uid: read(body).dataset for uid, body in found.items()} == datasets
        if storescp is not None:
            wanted = stored if len(stored) < MANY else _one_of_each_kind(stored)
            even = {file.uid: _even(datasets[file.uid]) for file in wanted}
            brought, arrived = _by_network(opened, folder, wanted, storescp)
            assert brought == even
            assert arrived.keys() == even.keys()
            same = {file.uid for file in wanted if not file.syntax.startswith(UNKNOWN_TO_DCMTK)}
            assert {uid: arrived[uid] for uid in same} == {uid: even[uid] for uid in same}
        return len(sent)


def _all_round(folder: Path, databases: Databases, files: list[File], storescp: Path) -> None:
    """What came by STOW-RS is asked for over the network on one engine, what came by C-STORE on the other."""
    went = {False: 0, True: 0}
    for number, together in enumerate(rounds(files)):
        for stow in went:
            (folder / f"{number}-{stow}").mkdir()
            with databases() as database_url:
                network = storescp if stow == database_url.startswith("sqlite") else None
                went[stow] += _round(folder / f"{number}-{stow}", database_url, together, stow=stow, storescp=network)
    assert went[True] == len(files)
    assert went[False] >= len(files) - len(REFUSED_BY_C_STORE[OTHER_UID])


def test_pydicoms_own_files(tmp_path: Path, databases: Databases, dcmtk: Callable[[str], Path]) -> None:
    files, refused = corpus(PYDICOM)
    assert len(files) > 150
    _why(REFUSED, refused)
    _all_round(tmp_path, databases, files, dcmtk("storescp"))


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
@pytest.mark.parametrize("folder", ["nist/ImageCache", "dicom"])
def test_the_files_of_others(tmp_path: Path, databases: Databases, folder: str, dcmtk: Callable[[str], Path]) -> None:
    files, refused = corpus(SHARED / folder)
    assert len(files) > 60
    _why(REFUSED, refused)
    _all_round(tmp_path, databases, files, dcmtk("storescp"))
