"""SMART App Launch 2.2, authorization: whose records, which studies, and whether the app may see them.

The steps are one address. What was chosen goes through the forms; what the last page showed is bound to the answer by its digest.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.responses import Response

from profiles.smart.scopes import parse_scope
from profiles.smart.words import Wish, wish
from server.access import break_glass
from server.access.people import passkeys
from server.edges.context import request_id
from server.edges.pages import logo
from server.edges.pages.browser import SIGN_IN, Visit, problem
from server.edges.pages.showing import sentence
from server.edges.pages.showing import translated as _
from server.edges.pages.wording import day, host_of, kinds
from server.errors import Forbidden, NotFound, Refused
from server.languages import marked
from server.work.authorizing import Asked
from server.work.choosing import PatientChoice, StudyChoice

_STAYING: Final = ("offline_access", "online_access")
_OF_MANY: Final = ("practitioner", "staff", "administrator")
_SEXES: Final = marked({"male": "male", "female": "female", "other": "sex: other"})
_OVER: Final = "this request is over; go back to the app and begin anew"


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What the person has chosen so far. `studies` are ImagingStudy ids; None: not asked yet."""

    patient: str | None = None
    studies: tuple[str, ...] | None = None
    marked: tuple[str, ...] = ()
    """Those that were chosen before, where it is asked again."""
    search: str = ""
    emergency: str = ""
    """Why a practitioner wants to see all of the record."""


def authorize(visit: Visit) -> Response:
    """`GET` and `POST /authorize/{request_id}`. Raises `StepUpNeeded` where the person has a passkey and has not used it."""
    try:
        return _authorize(visit)
    except NotFound:
        late = NotFound("an app waits ten minutes, for one answer; go back to the app and begin anew")
        return problem(visit, late, "This request is over")


def _authorize(visit: Visit) -> Response:
    asked = visit.node.authorizing.asked(visit.request.path_params["request_id"])
    if asked is None:
        raise NotFound(_OVER)
    if (elsewhere := _other_person(visit, asked)) is not None:
        return elsewhere
    answer = visit.value("answer")
    if answer == "deny":
        return _onward(visit, asked, visit.node.authorizing.deny(asked.request_id, visit.person))
    with visit.node.database.read() as connection:
        passkeys.require_key(connection, visit.person)  # before anything is chosen, which would be lost
    chosen = _chosen(visit, answer)
    if answer == "emergency":
        return _emergency(visit, asked, chosen)
    if answer == "back":
        chosen = replace(chosen, emergency="")
    elif "emergency" in visit.form:
        try:
            chosen = replace(chosen, emergency=break_glass.reason(chosen.emergency))
        except Refused as error:
            return _emergency(visit, asked, chosen, sentence(error.detail))
    if answer == "allow":
        return _allowed(visit, asked, chosen)
    return _next(visit, asked, chosen)


def _other_person(visit: Visit, asked: Asked) -> Response | None:
    """Where somebody else, or the same person anew, has to sign in first (OpenID Connect Core section 3.1.2.1, `prompt` and `max_age`)."""
    here = f"/authorize/{asked.request_id}"
    if asked.account is not None and asked.account != visit.person.account.id:
        return visit.page("other_person.html", 403, client=asked.client.name, goes_to=here)
    if visit.person.authenticated < asked.since:
        return visit.redirect(SIGN_IN, next=here, again="yes")
    return None


def _chosen(visit: Visit, answer: str) -> _Chosen:
    studies = tuple(dict.fromkeys(visit.values("study")))
    asked_studies = answer in ("studies", "allow")
    return _Chosen(
        visit.value("patient") or None, studies if asked_studies else None, studies, visit.value("search").strip()[:100],
        visit.value("emergency"),
    )  # fmt: skip


def _next(visit: Visit, asked: Asked, chosen: _Chosen, fault: str = "") -> Response:
    """The first question that has no answer yet."""
    patient = asked.patient or chosen.patient
    found = visit.node.authorizing.choices(
        asked, visit.person.account, patient=patient, search=chosen.search, emergency=chosen.emergency, address=visit.address,
        trace=request_id(visit.request),
    )  # fmt: skip
    if asked.needs_patient and patient is None:
        if len(found.patients) == 1 and not found.more and not chosen.search:
            return _next(visit, asked, replace(chosen, patient=found.patients[0].id))
        missing = _("Choose whose records this is about.") if visit.value("answer") == "patient" else ""
        return _ask(
            visit, asked, "choose_patient.html", patients=found.patients, more=found.more, search=chosen.search, fault=missing,
            emergency=chosen.emergency,
        )  # fmt: skip
    if patient is not None and not found.patients:
        if _may_break(visit, asked) and not chosen.emergency:
            return _emergency(visit, asked, chosen, is_closed=True)
        raise Forbidden("you may not see the records of this patient", frozenset([patient]))
    subject = found.patients[0] if patient is not None else None
    if asked.needs_study and subject is not None and chosen.studies is None:
        return _ask(
            visit,
            asked,
            "choose_studies.html",
            patient=subject,
            studies=[*map(_study, found.studies)],
            marked=chosen.marked,
            more=found.more_studies,
            emergency=chosen.emergency,
        )
    named = [each for each in found.studies if each.id in (chosen.studies or ())]
    return _consent(visit, asked, subject, named, chosen.emergency, fault)


def _may_break(visit: Visit, asked: Asked) -> bool:
    """Whether emergency access is offered: whether or not there is anything that it would open, which is not told."""
    return asked.is_of_one and break_glass.may(visit.person.account)


def _emergency(visit: Visit, asked: Asked, chosen: _Chosen, fault: str = "", *, is_closed: bool = False) -> Response:
    """IHE PCF section 53.4, break-glass: asks for the reason, and says what comes of it."""
    break_glass.require(visit.person.account, chosen.patient)
    named = asked.patient or chosen.patient
    subject = _known(visit, asked, named) if named is not None and not is_closed else None
    return _ask(
        visit, asked, "emergency.html", 403 if is_closed else 400 if fault else 200, fault=fault, is_closed=is_closed, patient=chosen.patient,
        is_chosen=named is not None, subject=subject, marked=chosen.marked, reason=chosen.emergency,
        minutes=visit.settings.access_token_seconds // 60,
    )  # fmt: skip


def _known(visit: Visit, asked: Asked, patient: str) -> PatientChoice | None:
    """The patient, where the person may be told of it without an emergency."""
    found = visit.node.authorizing.choices(
        asked, visit.person.account, patient=patient, address=visit.address, trace=request_id(visit.request)
    )
    return next(iter(found.patients), None)


def _consent(
    visit: Visit, asked: Asked, patient: PatientChoice | None, studies: list[StudyChoice], emergency: str, fault: str
) -> Response:
    known = [each.id for each in studies]
    named = patient.id if patient is not None else None
    wishes = [wish(word) for word in asked.scopes if word not in _STAYING]
    return _ask(
        visit, asked, "consent.html", 400 if fault else 200, patient=patient, studies=[*map(_study, studies)], fault=fault,
        shown=visit.node.authorizing.digest(asked, visit.person, patient=named, studies=known, emergency=emergency),
        emergency=emergency,
        wishes=[_told(each) for each in wishes if not _is_context(each)],
        contexts=[_told(each) for each in wishes if _is_context(each)],
        offline="offline_access" in asked.scopes and not emergency, online="online_access" in asked.scopes and not emergency,
        minutes=visit.settings.access_token_seconds // 60, days=visit.settings.refresh_token_days,
        left=_left(visit, [each.word for each in wishes]),
    )  # fmt: skip


def _left(visit: Visit, words: list[str]) -> frozenset[str]:
    """What is checked: all that is asked, or what the person has left where the page comes back."""
    return frozenset(visit.values("scope") if visit.value("answer") == "allow" else words)


def _allowed(visit: Visit, asked: Asked, chosen: _Chosen) -> Response:
    stay = visit.value("stay") == "yes"
    scopes = [*visit.values("scope"), *(word for word in asked.scopes if stay and word in _STAYING)]
    try:
        onward = visit.node.authorizing.approve(
            asked.request_id, visit.person, scopes=scopes, patient=asked.patient or chosen.patient, shown=visit.value("shown"),
            studies=chosen.studies or (), offline=stay, only_these=visit.value("only") == "yes", emergency=chosen.emergency, address=visit.address,
            trace=request_id(visit.request),
        )  # fmt: skip
    except Refused as error:
        return _next(visit, asked, chosen, sentence(error.detail))
    return _onward(visit, asked, onward)


def _onward(visit: Visit, asked: Asked, url: str) -> Response:
    """Back to the app, by a page that goes on by itself.

    A redirect of our form's POST would have to be named in `form-action`, with all that the app redirects to in turn: browsers look at the whole chain.
    """
    return visit.page("onward.html", client=asked.client.name, onward=url)


def _ask(visit: Visit, asked: Asked, template: str, status: int = 200, **values: Any) -> Response:
    client = asked.client
    return visit.page(
        template, status, **{"fault": "", "emergency": "", "may_break": _may_break(visit, asked), **values}, client=client.name, logo=logo.address(visit, client), host=host_of(asked.redirect_uri),
        action=f"/authorize/{asked.request_id}", about=lambda each: _about(visit, each),
    )  # fmt: skip


def _about(visit: Visit, patient: PatientChoice) -> list[str]:
    """What tells the patient from others. Patients and proxies choose among their own few, whom they know."""
    born = [_("born {date}").format(date=day(patient.birth_date))] if patient.birth_date else []
    if visit.person.account.kind not in _OF_MANY:
        return born
    sex = [_(_SEXES[patient.sex])] if patient.sex in _SEXES else []
    return [*born, *sex, *(_("number {number}").format(number=each) for each in patient.numbers)]


def _study(choice: StudyChoice) -> dict[str, str]:
    said = kinds(choice.modalities)
    return {
        "id": choice.id, "title": choice.description or said or _("Imaging study"), "kind": said if choice.description else "",
        "date": choice.date, "place": choice.institution,
    }  # fmt: skip


def _told(each: Wish) -> dict[str, Any]:
    return {"word": each.word, "sentence": each.sentence.said(_), "warnings": [warning.said(_) for warning in each.warnings]}


def _is_context(each: Wish) -> bool:
    """Whether an app cannot do without: it says what is open, not what may be seen."""
    return parse_scope(each.word) is None and each.word.startswith("launch")
