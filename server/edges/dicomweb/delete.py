"""Removing what was stored: DELETE as Google, Microsoft and dcm4chee offer it (PS3.18 has none), and rejection (IHE RAD IOCM).

DELETE /studies/{study}[/series/{series}[/instances/{instance}]]                       gone for good
POST   /studies/{study}[/series/{series}[/instances/{instance}]]/reject/113001^DCM     hidden, as dcm4chee has it
POST   /studies/{study}[/series/{series}[/instances/{instance}]]/restore               shown again
"""

import re

from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REST_DELETE, REST_UPDATE
from server.access.decisions import Decision, Interaction
from server.edges import context
from server.edges.dicomweb import targets
from server.edges.dicomweb.answers import answering
from server.errors import Forbidden, MalformedQuery
from server.records import catalogue
from server.work.reconcile import Actor, Reconciler, Target
from server.work.retrieve import STUDY_TYPE, hidden

_REASON = re.compile(r"(\d{6})(\^DCM)?")


@answering("delete", REST_DELETE)
def delete(request: Request) -> Response:
    """204 when the rows are gone and committed; the files go right after. What is deleted cannot be sent again until it is restored."""
    actor = permitted(request, Interaction.DELETE)
    reconciler(request).purge(target(request), actor=actor)
    return Response(status_code=204)


@answering("delete", REST_DELETE)
def reject(request: Request) -> Response:
    """IHE RAD TF-1 IOCM by request instead of by note: 204, and every face passes over the instances."""
    actor = permitted(request, Interaction.DELETE)
    found = _REASON.fullmatch(request.path_params["code"])
    if found is None:
        raise MalformedQuery("the reason is a code of PS3.16 CID 7011 such as 113001^DCM")
    reconciler(request).reject(target(request), reason=found[1], actor=actor)
    return Response(status_code=204)


@answering("update", REST_UPDATE)
def restore(request: Request) -> Response:
    """The reverse of a rejection; after a delete it lets the same instances be sent again. 204."""
    actor = permitted(request, Interaction.UPDATE)
    reconciler(request).restore(target(request), actor=actor)
    return Response(status_code=204)


def permitted(request: Request, interaction: Interaction) -> Actor:
    """Raises `Forbidden` for who may not do this to every patient: what is removed here is removed for all."""
    decision = context.decision(request)
    decision.require(STUDY_TYPE, interaction)
    if decision.patients(STUDY_TYPE, interaction) is not None:
        raise Forbidden(f"this needs a system/ or user/ scope for {STUDY_TYPE} that includes '{interaction.value}'")
    _require_told(request, decision, interaction)
    return Actor(context.client(request), request_id=context.request_id(request), token_id=decision.token_id)


def _require_told(request: Request, decision: Decision, interaction: Interaction) -> None:
    """Raises `Unseen` for a study that consents withhold, whole or in part."""
    uid = targets.uid(request, "study")
    if uid is not None and not decision.is_by_patient(STUDY_TYPE, interaction):
        with context.reading(request) as connection:
            patient = catalogue.study_patient(connection, uid)
            if not decision.sees_study(connection, interaction, uid):
                raise hidden(connection, decision, interaction, uid, targets.uid(request, "series"), patient)


def target(request: Request) -> Target:
    """What the URL names. Raises `MalformedQuery`."""
    study = targets.uid(request, "study")
    assert study is not None
    return Target(study, targets.uid(request, "series"), targets.uid(request, "instance"))


def reconciler(request: Request) -> Reconciler:
    """What changes the node's studies."""
    node = context.node(request)
    return Reconciler(node.settings, node.database, node.blobs, node.installation, node.trail)
