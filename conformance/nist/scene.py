"""What every step of a run has at hand: the target, the wire, the patients, the schemas, image files, SAML assertions."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from conformance.nist.patients import Patients
from conformance.nist.replies import Schemas
from conformance.nist.results import NotRun
from conformance.nist.target import Target
from conformance.nist.wire import Wire

_ACTORS = {"reg_xua": "registry", "rep_xua": "repository", "rg_xua": "responding_gateway", "rg(xca)_xua": "responding_gateway"}


@dataclass(frozen=True)
class Scene:
    """The surroundings of a run. `images` is the toolkit's ImageCache."""

    target: Target
    wire: Wire
    patients: Patients
    images: Path
    schemas: Schemas | None = None

    def assertion(self, test: str, collections: tuple[str, ...], endpoint: str) -> bytes:
        """The SAML assertion for a request to an endpoint; empty where none is asked for. Raises `NotRun` where it is, and there is none."""
        actors = {actor for name, actor in _ACTORS.items() if name in collections}
        name = test.partition("_")[2] if endpoint.partition(".")[0] in actors else ""
        if not name and not self.target.saml.always and not actors:
            return b""
        return self._made(name or "valid", required=bool(name))

    def _made(self, name: str, *, required: bool) -> bytes:
        saml = self.target.saml
        if name in saml.files:
            return self.target.path(saml.files[name]).read_bytes()
        if saml.command:
            try:
                done = subprocess.run(saml.argv(name), cwd=self.target.folder, capture_output=True, check=True, timeout=60)
            except (OSError, subprocess.SubprocessError) as error:
                raise NotRun(f"the [saml] command gave no assertion for {name}: {type(error).__name__}") from None
            return done.stdout
        if required:
            raise NotRun(f"the endpoints file has no source of SAML assertions ([saml]) for {name}")
        return b""

    def standard_images(self, folder: str) -> list[bytes]:
        """The files of a folder of the ImageCache's standard images. Raises `NotRun` where it is not there."""
        path = self.images / "std" / folder.strip()
        files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else []
        if not files:
            raise NotRun(f"the images {folder} are not in {self.images / 'std'}")
        return [each.read_bytes() for each in files]
