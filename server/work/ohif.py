"""OHIF, a viewer of others (npm `@ohif/app`, MIT), which an installation may have beside its own: unpacked into the data folder, trimmed, and patched.

The package is built to be served at `/`. Here it is served below `/ohif`, wherever the server itself is published, and under a Content-Security-Policy:
the absolute addresses in it become relative to the script that asks, and what runs inline is in a file of ours (`edges/pages/static/ohif.js`).
"""

import base64
import gzip
import hashlib
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from server.errors import Refused
from server.settings import Settings

VERSION: Final = "3.13.2"
PACKAGE: Final = f"@ohif/app@{VERSION}"
INTEGRITY: Final = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
"""Of the package, as its registry says it (W3C Subresource Integrity)."""
_DIST: Final = PurePosixPath("package/dist")
_LEFT_OUT: Final = re.compile(
    r"(ort|dicom-microscopy-viewer|assets|customizations)/.*|.*\.map|_.*|.*\.json|.*\.html|app-config\.js|google\.js|sw\.js|init-service-worker\.js"
    r"|(oidc-client|polyfill|es6-shim)\.min\.js"
)
"""Models and whole slides that no mode of ours has, what names hosts of others, service workers, and the pages that ours takes the place of."""
_PATCHES: Final = {
    ".js": ((re.compile(rb'__webpack_require__\.p = "/"'), b'__webpack_require__.p = (self.PUBLIC_URL || new URL("./", self.location.href).href)'),),
    ".css": ((re.compile(rb"url\(/(?=[^/])"), b"url("),),
}  # fmt: skip
_PACKED: Final = frozenset({".js", ".css", ".wasm", ".svg"})
"""Kept compressed as well: a script of 17 MB is otherwise compressed at every visit."""
_SMALLEST_PACKED: Final = 1024

Progress = Callable[[int, int], None]
"""Is told how many bytes of how many are done."""


def folder(settings: Settings) -> Path:
    """Where it is, if it is installed."""
    return settings.data / "ohif"


def script(settings: Settings) -> str:
    """The name of the file that everything begins with; empty where it is not installed."""
    return next((each.name for each in folder(settings).glob("app.bundle.*.js")), "")


def page(settings: Settings, uid: str, share: str = "") -> str:
    """The address of a study in it, or of one in a share, below the server's root; empty where it is not installed."""
    if not script(settings):
        return ""
    return f"/ohif/viewer?StudyInstanceUIDs={uid}" + (f"&share={share}" if share else "")


def file(settings: Settings, name: str) -> Path | None:
    """One of its files; the compressed form of it stands beside it with `.gz`."""
    found = folder(settings) / name
    return found if "/" not in name and not name.startswith(".") and found.is_file() else None


def install(package: Path, settings: Settings, progress: Progress) -> int:
    """Puts the package in place of what was there, at once and whole; returns how many bytes it takes. Raises `Refused` where it is another."""
    _require_the_very_one(package)
    settings.data.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="ohif-", dir=settings.data))
    try:
        with tarfile.open(package) as archive:
            members = [*_wanted(archive)]
            total, done = sum(each.size for _, each in members), 0
            for name, member in members:
                content = archive.extractfile(member)
                assert content is not None
                _put(made / name, content.read())
                progress(done := done + member.size, total)
        made.chmod(0o755)
        _swap(made, folder(settings))
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return sum(each.stat().st_size for each in folder(settings).iterdir())


def _require_the_very_one(package: Path) -> None:
    with package.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if f"sha512-{found}" != INTEGRITY:
        raise Refused(f"this is not the package {PACKAGE}, as it was published: its SHA-512 is another")


def _wanted(archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Files by the name that they get; there are no folders among those that are kept."""
    for member in archive:
        path = PurePosixPath(member.name)
        if member.isfile() and path.name == "LICENSE":
            yield path.name, member
        elif member.isfile() and path.is_relative_to(_DIST):
            inner = path.relative_to(_DIST).as_posix()
            if "/" not in inner and not _LEFT_OUT.fullmatch(inner):
                yield inner, member


def _put(path: Path, content: bytes) -> None:
    for old, new in _PATCHES.get(path.suffix, ()):
        content = old.sub(new, content)
    path.write_bytes(content)
    if path.suffix in _PACKED and len(content) >= _SMALLEST_PACKED:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content, 9, mtime=0))


def _swap(made: Path, place: Path) -> None:
    old = made.with_name(f"{made.name}-old")
    if place.exists():
        place.rename(old)
    made.rename(place)
    shutil.rmtree(old, ignore_errors=True)
