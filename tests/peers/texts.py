"""Every text that a page may show, and the catalogues with what each is in another language: `python -m peers.texts` brings them up to date.

Texts are in templates (`_`, `trans`), in the code of the pages (`_`, `translated`, `marked`), in errors that pages say in a sentence, and in tables that others
have too. A text is English, and is its own key.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from profiles import anatomy, audit_words, modalities
from profiles.smart import words
from server import errors
from server.languages import DOMAIN, FOLDER, LANGUAGES, SOURCE
from server.work import access_history

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = ROOT / "server" / "edges" / "pages"
_SAID: Final = (
    "server/edges/pages", "server/work/portal", "server/access/people", "server/edges/operations/elsewhere.py", "server/access/shares.py",
    "server/access/viewing.py", "server/access/rights.py", "server/access/codes.py", "server/access/break_glass.py", "server/edges/smart/oauth.py", "server/access/ehr_launch.py", "server/work/bringing", "server/store/quarantine.py",
    "server/access/oauth/authorization_code.py", "server/access/oauth/issuing.py", "server/work/authorizing.py", "server/edges/context.py", "server/work/notices.py",
)  # fmt: skip
"""Where errors are raised that pages show."""
_MARKS: Final = frozenset({"_", "translated", "marked"})
_OPTIONS: Final = {"trim_blocks": "true", "lstrip_blocks": "true", "newstyle_gettext": "true"}
_PLACE: Final = re.compile(r"%\((\w+)\)s|\{(\w*)\}|<[^>]+>")
Text = str | tuple[str, str]
"""A text, or one with its plural."""


def places(text: str) -> set[str]:
    """What a text has of places and markup: a translation has the same."""
    return {found[0] for found in _PLACE.finditer(text)}


def used() -> dict[Text, set[str]]:
    """Every text with the files that it is in."""
    found: dict[Text, set[str]] = {}
    for text, place in (*_of_templates(), *_of_code(), *_of_tables()):
        if text and (isinstance(text, tuple) or text.strip()):
            found.setdefault(text, set()).add(place)
    return found


def _of_templates() -> Iterator[tuple[Text, str]]:
    for file in sorted((PAGES / "templates").iterdir()):
        with file.open("rb") as source:
            for _line, function, text, _comments in babel_extract(source, ("_", "gettext", "ngettext"), (), _OPTIONS):
                said: Any = text
                yield ((said[0], said[1]) if function == "ngettext" else said if isinstance(said, str) else said[0]), _named(file)


def _of_code() -> Iterator[tuple[Text, str]]:
    for path in _SAID:
        folder = ROOT / path
        for file in sorted(folder.glob("*.py")) if folder.is_dir() else [folder]:
            if not file.exists():
                continue
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            known = vars(importlib.import_module(name))
            for call in ast.walk(ast.parse(file.read_text())):
                if isinstance(call, ast.Call):
                    yield from ((text, _named(file)) for text in _of_call(call, known))


def _of_call(call: ast.Call, known: dict[str, Any]) -> Iterator[str]:
    """Those that are marked, and what errors say."""
    name = call.func.id if isinstance(call.func, ast.Name) else call.func.attr if isinstance(call.func, ast.Attribute) else ""
    kind = known.get(name)
    is_error = isinstance(kind, type) and issubclass(kind, errors.ImageShareError)
    if name in _MARKS or is_error or name in ("__init__", "problem_page"):
        for argument in call.args:
            yield from _strings(argument, known)


def _strings(expression: ast.expr, known: dict[str, Any]) -> Iterator[str]:
    """What stands there, as far as that is known before anything runs."""
    if isinstance(expression, ast.IfExp):
        yield from (*_strings(expression.body, known), *_strings(expression.orelse, known))
        return
    try:
        value = eval(compile(ast.Expression(expression), "", "eval"), known)
    except Exception:  # noqa: BLE001 it has what only a request knows
        return
    values = value.values() if isinstance(value, dict) else (value,)
    yield from (each for each in values if isinstance(each, str))


def _of_tables() -> Iterator[tuple[Text, str]]:
    sentences = [vars(words)[name] for name in ("EVERYTHING", "WRITES", "DELETES", "OFFLINE", "MANY", "UNKNOWN")]
    for table in (
        [each.text for each in sentences], [each.text for each in words._OTHERS.values()], words._TYPES.values(), words._DOES.values(),
        _phrases(words), _phrases(audit_words), *_tables(audit_words),
        [audit_words._ARRIVED, audit_words._LEFT, audit_words._USED, audit_words._RECORDS, audit_words._OTHERS],
        [access_history.PATIENT, access_history.ANOTHER, access_history.WITH_LINK, access_history.SHARED],
        ["this server", "somebody who was not signed in", "this website", "a professional"],
        [modalities.modality(each).display or "" for each in modalities.meanings()],
        [display.lower() for _code, display in anatomy._REGIONS.values()],
        [each.detail for each in _errors_of_classes()],
    ):  # fmt: skip
        yield from ((each, "profiles") for each in table)


def _tables(module: Any) -> Iterator[list[str]]:
    for name in ("_INTERACTIONS", "_TRANSACTIONS", "_SENT", "_OPERATIONS", "_TYPES", "_PURPOSES"):
        yield [*vars(module)[name].values()]


def _phrases(module: Any) -> Iterator[str]:
    """`Phrase("...")` in a module's functions."""
    for call in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Phrase":
            yield from _strings(call.args[0], vars(module))


def _errors_of_classes() -> Iterator[errors.ImageShareError]:
    """Errors that say themselves what they are about."""
    for kind in (errors.TooManyAttempts, errors.SignInRefused, errors.NotFound):
        try:
            yield kind(1) if kind is errors.TooManyAttempts else kind()  # type: ignore[call-arg]
        except TypeError:
            continue


def _named(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def po(language: str) -> Path:
    return FOLDER / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def catalogue(language: str) -> Catalog:
    """As it is in its file; empty where there is none."""
    if not po(language).exists():
        return Catalog(locale=language)
    with po(language).open("rb") as source:
        return read_po(source, locale=language)


def renewed(language: str) -> bytes:
    """The catalogue's file with all texts that are used, and no other; those that are new have no translation yet."""
    known = catalogue(language)
    made = Catalog(
        locale=language,
        fuzzy=False,
        project="imageshare",
        header_comment="# Texts of the pages. `make texts` keeps the keys up to date.",
    )
    made.creation_date = made.revision_date = None  # type: ignore[assignment]
    for text, found in sorted(used().items(), key=lambda each: (sorted(each[1]), str(each[0]))):
        before: Message | None = known.get(text[0] if isinstance(text, tuple) else text)
        made.add(text, before.string if before is not None and isinstance(before.id, tuple) == isinstance(text, tuple) else None, locations=[(each, 0) for each in sorted(found)])  # fmt: skip
    written = BytesIO()
    write_po(written, made, width=0, include_lineno=False)
    return b"".join(line for line in written.getvalue().splitlines(keepends=True) if not line.startswith((b'"POT-', b'"PO-Rev', b'"Generated', b'"Last-', b'"Report-')))  # fmt: skip


if __name__ == "__main__":
    for each in LANGUAGES:
        if each != SOURCE:
            po(each).parent.mkdir(parents=True, exist_ok=True)
            po(each).write_bytes(renewed(each))
