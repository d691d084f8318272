"""Chapter 5: the audit trail of everything that the demo did."""

from collections import Counter
from typing import Final

from server.demo import app
from server.demo.scene import Scene, plural
from server.demo.story import require, table
from server.demo.web import Json

_REFUSED = ("4", "8")
_SHOWN = ("110104", "ITI-18", "ITI-43", "RAD-69", "RAD-107", "RAD-108", "RAD-129", "ITI-71", "search", "read")
_BY_APP: Final = f"the patient, by {app.CLIENT_ID}"


def tell(scene: Scene, since: str) -> None:
    """IHE BALP: everything above, read back from the trail."""
    scene.story.chapter("6 · One audit trail")
    with scene.story.step("FHIR AuditEvent (IHE BALP)") as told:
        events = list(scene.web.pages("AuditEvent", date=f"ge{since}", _count="500"))
        rows = Counter((_who(event, scene), _what(event), _outcome(event)) for event in events)
        seen = {coding["code"] for event in events for coding in event["subtype"]}
        missing = [code for code in _SHOWN if code not in seen]
        require(not missing, f"the trail has nothing of {', '.join(missing)}")
        refused = [row for row in rows if row[2] != "done"]
        if scene.other_patient:
            require(any(who == _BY_APP for who, _, _ in refused), "what the app was refused is not in the trail")
        require(any(who == "anonymous" for who, _, _ in refused), "the requests without token are not in the trail")
        told.say(f"{plural(len(events), 'event')} since the demo began, {sum(rows[row] for row in refused)} of them refusals")
        told.look_at("GET /fhir/AuditEvent?_count=50")
        lines = [(who, what, outcome, str(count)) for (who, what, outcome), count in sorted(rows.items())]
        told.show(table(("who", "what", "outcome", "times"), lines, lambda row: "" if row[2] == "done" else "red"))


def _who(event: Json, scene: Scene) -> str:
    """The agent that asked; of the patient also whether by the app."""
    agents: list[Json] = event["agent"]
    who = next((agent for agent in agents if agent.get("requestor")), agents[0]).get("who", {})
    if who.get("reference") == f"Patient/{scene.patient}" or _identifier(who) == scene.account:
        return _BY_APP if any(_identifier(agent.get("who", {})) == app.CLIENT_ID for agent in agents) else "the patient"
    return str(_identifier(who) or who.get("display") or who.get("reference") or "?")


def _identifier(who: Json) -> str:
    return str(who.get("identifier", {}).get("value", ""))


def _what(event: Json) -> str:
    """IHE transactions by number and name, interactions by name."""
    coding = event["subtype"][-1]
    name = coding.get("display", coding["code"])
    return (
        f"{coding['code']} {name}" if "-" in coding["code"] and coding["code"] != name and coding["code"][-1].isdigit() else name
    )


def _outcome(event: Json) -> str:
    return "refused" if event.get("outcome") in _REFUSED else "done"
