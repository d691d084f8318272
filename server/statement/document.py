"""The template with its tables."""

import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from server import sending
from server.statement import configuration, content, network, web

_TEMPLATE: Final = Path(__file__).with_name("template.md")
_NAME = re.compile(r"\{\{([\w.]+)\}\}")
_HEADING = re.compile(r"^(##+) (.+)$", re.MULTILINE)
_TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "version": lambda: version("imageshare"),
    "ae_title": lambda: configuration.setting("ae_title"),
    "send_title": lambda: sending.CALLING,
    "dicom_port": lambda: configuration.setting("dicom_port"),
    **{
        made.__name__: made
        for made in (
            network.network_overview, network.implementation, network.associations, network.rejections, network.accepted_contexts,
            network.identifier_syntaxes, network.extended_negotiation, network.proposed_contexts, network.models, network.query_limits,
            network.store_statuses, network.query_statuses, network.managed_statuses, network.general_statuses,
            network.commitment_reasons, web.web_overview, web.resources, web.statuses, web.failure_reasons, web.media_types,
            web.search_limits, web.workitem_states, web.workitem_attributes, web.event_channel, configuration.settings, configuration.peer, configuration.tls, configuration.audited,
            content.storage_count, content.syntax_count, content.storage_classes, content.transfer_syntaxes, content.character_sets,
            content.query_attributes, content.read_attributes, content.corrected_attributes, content.directory_records,
            content.worklist_attributes, content.performed_step_rules, content.manifest_attributes,
        )
    },
}  # fmt: skip


def statement() -> str:
    """PS3.2 annex N: the Conformance Statement of this version, in Markdown.

    Raises `KeyError` where the template names a table that is not made, ValueError where one is made and not named.
    """
    text = _TEMPLATE.read_text()
    wanted = set(_NAME.findall(text)) - {"contents"}
    if unused := _TABLES.keys() - wanted:
        raise ValueError(f"the template does not show {', '.join(sorted(unused))}")
    tables = {name: _TABLES[name]() for name in wanted} | {"contents": _contents(text)}
    return _NAME.sub(lambda found: tables[found[1]], text)


def _contents(text: str) -> str:
    """The headings as a list of links."""
    return "\n".join(f"{'  ' * (len(depth) - 2)}- [{title}](#{_anchor(title)})" for depth, title in _HEADING.findall(text))


def _anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
