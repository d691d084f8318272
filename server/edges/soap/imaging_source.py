"""The Imaging Document Source: Retrieve Imaging Document Set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from starlette.requests import Request

from ihe import rad69
from ihe.ebrs import RegistryError
from ihe.iti43 import DocumentRequest
from ihe.soap import Envelope
from profiles.audit_event import RAD_69, AuditedEntity
from profiles.vocabulary import DICOM, DICOM_UID_SYSTEM
from server.access.decisions import Decision
from server.edges import context
from server.edges.soap import document_set
from server.edges.soap.document_set import Document
from server.edges.soap.transaction import Answer, Transaction
from server.errors import Busy, ImageShareError, NotFound, StorageFull
from server.records.catalogue import StoredInstance
from server.store.blobs import BlobStore
from server.work import retrieve
from server.work.spool import Sized, Spool


def _retrieve(request: Request, decision: Decision, envelope: Envelope) -> Answer:
    """RAD TF-2 section 4.69.4.1.3: each instance in a transfer syntax of the list, or an error that names it. Raises `RegistryRefusal`.

    As it was stored where that is listed, but with an empty preamble (`retrieve.part10`); else transcoded without loss, all of it before the
    first byte.
    """
    node = context.node(request)
    decision.require_taking()
    asked = rad69.parse_request(envelope.body)
    documents = list(dict.fromkeys(asked.documents()))
    errors = document_set.refuse_foreign([wanted for _, _, wanted in documents], node.installation.imaging_source)
    ours = [each for each in documents if each[2].repository_unique_id == node.installation.imaging_source]
    with node.database.read() as connection:
        uids = list({wanted.document_unique_id: None for _, _, wanted in ours})
        visible = retrieve.visible(connection, decision, uids)
        withheld = retrieve.withheld(connection, [each for each in uids if each not in visible])
    found: list[_Found] = []
    spool = Spool(node.blobs)
    try:
        for study, series, wanted in ours:
            try:
                found.append(_found(node.blobs, spool, visible, (study, series, wanted), asked.transfer_syntaxes))
            except RegistryError as error:
                errors.append(error)
        return replace(document_set.answer(request, RAD_69, _documents(found), errors, spool.close), withheld=withheld)
    except BaseException:
        spool.close()
        raise


_Found = tuple[DocumentRequest, StoredInstance, Sized]


def _found(
    blobs: BlobStore,
    spool: Spool,
    visible: Mapping[str, StoredInstance],
    asked: tuple[str, str, DocumentRequest],
    syntaxes: Sequence[str],
) -> _Found:
    """Raises the `RegistryError` for an instance that is not there or not to be had in any of `syntaxes`, `StorageFull`."""
    study, series, wanted = asked
    uid = wanted.document_unique_id
    instance = visible.get(uid)
    if instance is None or (instance.study_uid, instance.series_uid) != (study, series):
        raise RegistryError("XDSDocumentUniqueIdError", "there is no such instance in this study and series", uid)
    if not document_set.is_whole(blobs, instance.blob_id, instance.size):
        raise document_set.damaged(wanted)
    try:
        return wanted, instance, spool.sized(instance, syntaxes)
    except StorageFull:
        raise
    except Busy as error:
        raise RegistryError("XDSRepositoryBusy", error.detail, uid) from None
    except NotFound:
        raise document_set.damaged(wanted) from None
    except ImageShareError as error:
        raise RegistryError("XDSRepositoryError", error.detail, uid) from None


def _documents(found: Sequence[_Found]) -> list[Document]:
    counts = Counter(study for _, study in {(instance.uid, instance.study_uid) for _, instance, _ in found})
    told = {
        study: AuditedEntity(system=DICOM_UID_SYSTEM, identifier=f"urn:oid:{study}", details=(("instances", str(count)),))
        for study, count in counts.items()
    }
    return [
        Document(wanted, DICOM, sized.size, instance.patient, told[instance.study_uid], instance.blob_id, sized.read)
        for wanted, instance, sized in found
    ]


RETRIEVE_IMAGING_DOCUMENT_SET = Transaction(
    action=rad69.REQUEST_ACTION,
    response_action=rad69.RESPONSE_ACTION,
    subtype=RAD_69,
    kind="export",
    actor="Repository",
    mtom=True,
    answer=_retrieve,
    failed=document_set.failed,
    asked=document_set.asked,
)
