"""Chapters 3 and 5: one access decision for all faces, and the audit trail of everything that the demo did."""

from collections import Counter
from typing import Any

from server.demo.scene import Scene, plural
from server.demo.story import require, table
from server.demo.web import Json, Web

_REFUSED = ("4", "8")
_SHOWN = ("110104", "ITI-18", "ITI-43", "RAD-69", "RAD-107", "RAD-108", "RAD-129", "search", "read")


def tell_access(scene: Scene) -> None:
    """Without a token 401; with another patient's 403 behind FHIR and DICOMweb alike; with one's own, one's own."""
    scene.story.chapter("3 · One access decision")
    study = f"/fhir/ImagingStudy/{scene.imaging_study['id']}"
    doors = {
        "FHIR read": (study, {}),
        "FHIR search": ("/fhir/ImagingStudy", {"patient": scene.patient}),
        "QIDO": (f"/dicomweb/studies/{scene.study_uid}/series", {}),
        "WADO": (f"/dicomweb/studies/{scene.study_uid}/metadata", {}),
    }
    with scene.story.step("Without a token") as told:
        _all(scene, None, doors, 401)
        told.say(f"401 from {', '.join(doors)}")
    stranger = scene.token_later("patient/*.rs", scene.other_patient or "somebody-else", "other-patient")
    owner = scene.token_later("patient/*.rs", scene.patient, "own-app")
    with scene.story.step("With another patient's token") as told:
        _all(scene, stranger.result(), doors, 403)
        told.say(f"403 from {', '.join(doors)}")
    with scene.story.step("With the patient's own token") as told:
        own = Web(scene.server.http, owner.result())
        try:
            visible = [study["subject"]["reference"] for study in own.pages("ImagingStudy", _count="50")]
        finally:
            own.close()
        require(visible and set(visible) == {f"Patient/{scene.patient}"}, "the patient's token shows other patients' studies")
        told.say(f"a search finds {len(visible)} of {len({i.study for i in scene.sent.values()})} studies: the patient's own")
        told.look_at(f'imageshare token --scope "patient/*.rs" --patient {scene.patient}')


def tell_audit(scene: Scene, since: str) -> None:
    """IHE BALP: everything above, read back from the trail."""
    scene.story.chapter("5 · One audit trail")
    with scene.story.step("FHIR AuditEvent (IHE BALP)") as told:
        events = list(scene.web.pages("AuditEvent", date=f"ge{since}", _count="500"))
        rows = Counter((_who(event), _what(event), _outcome(event)) for event in events)
        seen = {coding["code"] for event in events for coding in event["subtype"]}
        missing = [code for code in _SHOWN if code not in seen]
        require(not missing, f"the trail has nothing of {', '.join(missing)}")
        refused = [row for row in rows if row[2] != "done"]
        require(any(who == "other-patient" for who, _, _ in refused), "the refused patient is not in the trail")
        require(any(who == "anonymous" for who, _, _ in refused), "the requests without token are not in the trail")
        told.say(f"{plural(len(events), 'event')} since the demo began, {sum(rows[row] for row in refused)} of them refusals")
        told.look_at("GET /fhir/AuditEvent?_count=50")
        lines = [(who, what, outcome, str(count)) for (who, what, outcome), count in sorted(rows.items())]
        told.show(table(("who", "what", "outcome", "times"), lines, lambda row: "" if row[2] == "done" else "red"))


def _all(scene: Scene, token: str | None, doors: dict[str, tuple[str, dict[str, str]]], wanted: int) -> None:
    client = Web(scene.server.http, token)
    try:
        for door, (path, parameters) in doors.items():
            status = client.status(path, **parameters)
            require(status == wanted, f"{door} answered {status} instead of {wanted}")
    finally:
        client.close()


def _who(event: Json) -> str:
    """The agent that asked."""
    asked: list[dict[str, Any]] = [agent for agent in event["agent"] if agent.get("requestor")] or event["agent"]
    who = asked[0].get("who", {})
    return str(who.get("identifier", {}).get("value") or who.get("display") or who.get("reference") or "?")


def _what(event: Json) -> str:
    """IHE transactions by number and name, interactions by name."""
    coding = event["subtype"][-1]
    name = coding.get("display", coding["code"])
    return (
        f"{coding['code']} {name}" if "-" in coding["code"] and coding["code"] != name and coding["code"][-1].isdigit() else name
    )


def _outcome(event: Json) -> str:
    return "refused" if event.get("outcome") in _REFUSED else "done"
