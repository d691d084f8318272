"""A device that sends to us by C-STORE (pynetdicom as SCU), and what is left behind at our side."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from pydicom import filereader
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import build_context

from profiles.phantom import phantom_study
from server.edges.context import Node
from server.edges.dimse import DicomPort, serve
from server.records import catalogue
from server.records.trail import events


@contextmanager
def listening(opened: Node) -> Iterator[DicomPort]:
    scp = serve(opened, ("127.0.0.1", 0))
    try:
        yield scp
    finally:
        scp.stop()


@contextmanager
def associated(
    scp: DicomPort,
    *,
    calling: str = "SCANNER",
    called: str = "IMAGESHARE",
    contexts: tuple[tuple[str, str], ...] = ((CTImageStorage, ExplicitVRLittleEndian),),
) -> Iterator[Association]:
    entity = ApplicationEntity(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 90  # of a busy machine
    association = entity.associate(
        *scp.address, contexts=[build_context(sop_class, syntax) for sop_class, syntax in contexts], ae_title=called
    )
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def instances(count: int = 1, **attributes: object) -> list[Dataset]:
    """`count` slices of one small CT study."""
    made = list(phantom_study(slices=max(count, 1), size=32))[:count]
    for dataset in made:
        for name, value in attributes.items():
            setattr(dataset, name, value)
    return made


def store(scp: DicomPort, *datasets: Dataset, calling: str = "SCANNER") -> list[tuple[int, str]]:
    with associated(scp, calling=calling) as association:
        assert association.is_established
        answers = [association.send_c_store(dataset) for dataset in datasets]
    return [(answer.Status, answer.get("ErrorComment", "")) for answer in answers]


def store_bytes(scp: DicomPort, sop_instance_uid: str, encoded: bytes, syntax: str = ExplicitVRLittleEndian) -> tuple[int, str]:
    """C-STORE of a data set that need not be one, under the UID that the command shall have."""
    with associated(scp, contexts=((CTImageStorage, syntax),)) as association:
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID = CTImageStorage
        request.AffectedSOPInstanceUID = sop_instance_uid
        request.DataSet = BytesIO(encoded)
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, 1)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        assert answer is not None
        assert isinstance(answer, C_STORE)
        assert answer.Status is not None
        return answer.Status, str(answer.ErrorComment)


def written(dataset: Dataset) -> bytes:
    """The data set as it is in a file, without its head."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return after_head(buffer.getvalue())


def after_head(file: bytes) -> bytes:
    buffer = BytesIO(file)
    buffer.seek(132)
    filereader._read_file_meta_info(buffer)  # stops where the data set begins
    return file[buffer.tell() :]


def stored_bytes(opened: Node, uid: str) -> bytes | None:
    """The data set part of the blob behind a SOP Instance UID."""
    with opened.database.read() as connection:
        found = catalogue.stored(connection, uid)
    return b"".join(opened.blobs.stream(found.blob_id, found.dataset_offset)) if found else None


def outcomes(opened: Node) -> list[bytes]:
    with opened.database.read() as connection:
        return [event.body for event in events(connection, limit=100)]


def nothing_stored(opened: Node) -> bool:
    with opened.database.read() as connection:
        counts = catalogue.counts(connection)
    return not any(counts.values()) and list(opened.blobs.list()) == []
