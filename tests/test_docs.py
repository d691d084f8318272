"""The documents say what is: links lead somewhere, settings are settings, commands are commands, modules are there."""

import contextlib
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer
import typer.main
from typer.core import TyperGroup

from server import doctor, sending
from server.cli import app
from server.settings import load

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = ROOT / "README.md"
FLOORS = ("conformance", "server", "ihe", "profiles")

# typer.Exit is no error; all that it says of a command line is of this type, which it does not export by name.
(UsageError,) = typer.BadParameter.__bases__

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def _fences(document: Path, *languages: str) -> list[str]:
    """The code blocks in one of these languages; "" for those that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def _prose(document: Path) -> str:
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def _code(document: Path) -> list[str]:
    """What stands between backticks in the text."""
    return re.findall(r"`([^`\n]+)`", _prose(document))


def _lines(document: Path) -> list[str]:
    """What a reader types: the lines of the shell blocks without their comments, and what the text quotes."""
    typed = [line for block in _fences(document, "", "sh", "bash", "console") for line in block.splitlines()]
    return [re.sub(r"\s+#.*", "", line).strip() for line in typed]


def _anchors(document: Path) -> set[str]:
    """The headings as GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.+)$", _prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_there_are_documents() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "architecture.md"} <= {path.name for path in DOCUMENTS}


@every_document
def test_links_and_images_lead_somewhere(document: Path) -> None:
    broken = []
    for link in re.findall(r"\[[^\]]*\]\(<?([^)\s>]+)", _prose(document)):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue  # the web is not asked
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


@every_document
def test_settings_are_settings(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Settings` forbids what it does not know."""
    monkeypatch.delenv("IMAGESHARE_CONFIG", raising=False)
    for number, block in enumerate(_fences(document, "toml")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "imageshare.toml").write_text(block)
        assert load(data=folder).model_fields_set > {"data"}


def test_the_readme_shows_settings() -> None:
    assert _fences(README, "toml")


@every_document
def test_variables_are_variables(document: Path) -> None:
    named = re.findall(r"\bIMAGESHARE_[A-Z_]*[A-Z]\b(?!\*)", document.read_text())
    ours = [name for name in named if not name.startswith("IMAGESHARE_TEST_")]
    assert doctor.unknown_variables(dict.fromkeys(ours, "")) <= {sending.CALLING}  # which is an AE title


def _parse(arguments: list[str]) -> str:
    """Every command and option on the way is read as it would be, and nothing is run. The path of the command."""
    command = typer.main.get_command(app)
    context: typer.Context | None = None
    while True:
        context = command.make_context(command.name, arguments, parent=context)
        arguments = [*context._protected_args, *context.args]
        if not isinstance(command, TyperGroup) or not arguments:
            assert arguments == []
            return context.command_path
        _, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command = found


def _commands(document: Path) -> list[str]:
    typed = [found[1] for line in _lines(document) if (found := re.search(r"(?:^|\$\()imageshare\s([^)|&>]*)", line))]
    quoted = [code.removeprefix("imageshare ") for code in _code(document) if code.startswith("imageshare ")]
    # In the text, a command's name alone stands for the command.
    return typed + [command if " " in command else f"{command} --help" for command in quoted]


@every_document
def test_commands_are_commands(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").mkdir()
    for command in _commands(document):
        with contextlib.suppress(typer.Exit):  # after --help and --version
            try:
                _parse(shlex.split(command))
            except UsageError as error:
                pytest.fail(f"imageshare {command}: {error}")


def test_wrong_commands_are_found() -> None:
    assert len(_commands(README)) > 5
    assert _parse(["token", "--scope", "x"]) == "imageshare token"
    for wrong in (["tokens"], ["token"], ["token", "--scope", "x", "--colour"], ["doctor", "x"], ["serve", "ftp"]):
        with pytest.raises(UsageError):
            _parse(wrong)


@every_document
def test_make_has_its_targets(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [found[1] for text in (*_lines(document), *_code(document)) if (found := re.match(r"make ([a-z-]+)", text))]
    assert set(named) <= targets


@every_document
def test_paths_are_there(document: Path) -> None:
    pattern = rf"(?:{'|'.join((*FLOORS, 'tests', 'docs'))})/[\w./-]*"
    named = [code for code in _code(document) if re.fullmatch(pattern, code)]
    missing = [path for path in named if not (ROOT / path).exists() and not list(ROOT.glob(f"{path}.py"))]
    assert missing == []


def _exists(name: str) -> bool:
    """A module, or something in one; the text leaves out `server.`."""
    for start in (name, f"server.{name}"):
        module, _, rest = start, "", ""
        while module:
            try:
                found: object = importlib.import_module(module)
            except ModuleNotFoundError:
                module, _, last = module.rpartition(".")
                rest = f"{last}.{rest}".rstrip(".")
                continue
            for attribute in filter(None, rest.split(".")):
                found = getattr(found, attribute, None)
            if found is not None:
                return True
            break
    return False


@every_document
def test_modules_are_there(document: Path) -> None:
    inner = [path.name for path in (ROOT / "server").iterdir() if path.is_dir() and not path.name.startswith("_")]
    pattern = rf"(?:{'|'.join((*FLOORS, *inner))})(?:\.\w+)+"
    named = [code.removesuffix("()") for code in _code(document)]
    assert [name for name in named if re.fullmatch(pattern, name) and not name.endswith(".py") and not _exists(name)] == []


def test_names_that_are_not_there_are_found() -> None:
    assert _exists("edges.context.decision")
    assert _exists("profiles.header")
    assert not _exists("edges.context.indecision")
    assert not _exists("profiles.headers")


@every_document
def test_tests_are_there(document: Path) -> None:
    """`folder/test_file.py::test_name`, below `tests/`."""
    named = [code.partition("::") for code in _code(document) if re.fullmatch(r"[\w/]+\.py::\w+", code)]
    missing = [
        f"{path}::{name}" for path, _, name in named
        if not (file := ROOT / "tests" / path).exists() or not re.search(rf"^(?:async )?def {name}\(", file.read_text(), re.MULTILINE)
    ]  # fmt: skip
    assert missing == []


def test_every_abuse_case_has_its_place() -> None:
    """In docs/security.md, each with a test, or the words that there is none."""
    text = (ROOT / "docs" / "security.md").read_text()
    cases = re.split(r"^### ", text.partition("\n## The abuse cases")[2].partition("\n## ")[0], flags=re.MULTILINE)[1:]
    numbers = [found for case in cases for found in re.match(r"(\d+)(?: to (\d+))?\. ", case).groups() if found]  # type: ignore[union-attr]
    assert numbers == [*map(str, [*range(1, 8), *range(10, 26)])]
    assert [case[:30] for case in cases if "::test_" not in case and " yet" not in case] == []


def _map(floor: str) -> set[str]:
    """Modules and folders in the map of a floor in architecture.md. A name without folder is where the first one of its row is; rows with
    `...` go on in the folder of the row above.
    """
    document = (ROOT / "docs" / "architecture.md").read_text()
    text = re.split(r"^(?:Below `|## )", document.partition(f"\nBelow `{floor}/`")[2], flags=re.MULTILINE)[0]
    found, whole = set(), ""
    for cell in re.findall(r"^\| ([^|]*`[^|]*) \|", text, re.MULTILINE):
        names = re.findall(r"`([\w/.]+)`", cell)
        folder = whole if cell.startswith("...") else names[0].rstrip("/").rpartition("/")[0]
        paths = (name if "/" in name.rstrip("/") else f"{folder}/{name}" for name in names)
        found |= {path.strip("/").removesuffix(".py") for path in paths}
        whole = names[0].rstrip("/") if names[0].endswith("/") else whole
    return found


@pytest.mark.parametrize("floor", ["server", "ihe", "profiles"])
def test_every_module_is_in_the_map(floor: str) -> None:
    """By its name, or by the folder that it is in. What is not there any more is not in the map."""
    named = _map(floor)
    modules = [path.relative_to(ROOT / floor) for path in (ROOT / floor).rglob("*.py") if not path.stem.startswith("__")]
    assert [str(each) for each in modules if not {str(each.with_suffix("")), *map(str, each.parents)} & named] == []
    assert {name for name in named if not (ROOT / floor / name).is_dir() and not (ROOT / floor / f"{name}.py").is_file()} == set()
