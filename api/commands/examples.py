"""The examples that `assay demo` scans: where they are, how they are sent, and what comes back."""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from api.client import Client
from api.commands.unpack import unpack_repository
from api.reference_zip import zip_folder
from core.config import ScanConfig
from core.domain import ArtifactRole, Preset
from core.errors import InvalidInputError
from worker.local_model import choose_from_folder

ROOT = Path(__file__).resolve().parents[2]


class Examples(ABC):
    """One set of examples, all of one kind.

    Raises:
        InvalidInputError: `examples_missing`: an installed package instead of a source checkout.
    """

    folder: ClassVar[Path]
    #: The module that says what the purified weights are worth, in a process of its own.
    measured_by: ClassVar[str]
    #: The file of a scan with the purified weights.
    role: ClassVar[ArtifactRole]

    def __init__(self) -> None:
        path = self.folder / "provenance.json"
        if not path.is_file():
            raise InvalidInputError(
                "examples_missing", "The example models are not here.", "Run the demo in a checkout of the source."
            )
        self._models: Mapping[str, Any] = json.loads(path.read_text())["models"]

    @property
    def truths(self) -> dict[str, str]:
        """Name -> "clean" or "backdoored"."""
        return {name: entry["truth"] for name, entry in self._models.items()}

    @abstractmethod
    def reference(self, scratch: Path) -> Path:
        """The reference set as one file, made in `scratch` where there is none."""

    @abstractmethod
    def send(self, client: Client, name: str) -> dict[str, Any]:
        """Uploads a model; an api.schemas.ModelRef as JSON."""

    @abstractmethod
    def keep(self, client: Client, sha256: str, name: str, build_dir: Path) -> Path:
        """Downloads the purified weights of a model; where they are."""

    @property
    def config(self) -> ScanConfig:
        """What is asked for."""
        return ScanConfig.for_preset(Preset.STANDARD)


class ClassifierExamples(Examples):
    """Fashion-MNIST classifiers, one file each."""

    folder = ROOT / "examples" / "fashion-mnist"
    measured_by = "examples.measure"
    role = ArtifactRole.PURIFIED_SAFETENSORS

    def reference(self, scratch: Path) -> Path:
        """See `Examples`."""
        path = scratch / "reference.zip"
        zip_folder(self.folder / "reference", path)
        return path

    def send(self, client: Client, name: str) -> dict[str, Any]:
        """See `Examples`."""
        weights = self.folder / f"{name}.safetensors"
        return {"blob": client.upload(weights), "filename": weights.name}

    def keep(self, client: Client, sha256: str, name: str, build_dir: Path) -> Path:
        """See `Examples`."""
        path = build_dir / f"{name}-purified.safetensors"
        client.download(sha256, path)
        return path


class ClipExamples(Examples):
    """CLIPs of captioned scenes, an open_clip repository each."""

    folder = ROOT / "examples" / "clip"
    measured_by = "examples.measure_clip"
    role = ArtifactRole.PURIFIED_REPOSITORY

    def reference(self, scratch: Path) -> Path:
        """See `Examples`."""
        return self.folder / "reference.tar"

    def send(self, client: Client, name: str) -> dict[str, Any]:
        """See `Examples`."""
        files, _ = choose_from_folder(self.folder / name)
        sent = [{"path": path, "blob": client.upload(location)} for path, location in files.items()]
        return {"files": sent, "filename": name}

    def keep(self, client: Client, sha256: str, name: str, build_dir: Path) -> Path:
        """See `Examples`."""
        archive, target = build_dir / f"{name}-purified.zip", build_dir / f"{name}-purified"
        client.download(sha256, archive)
        shutil.rmtree(target, ignore_errors=True)  # of an earlier demo
        unpack_repository(archive, target)
        return target

    @property
    def config(self) -> ScanConfig:
        """See `Examples`."""
        names = (self.folder / "vocabulary.txt").read_text().splitlines()
        return ScanConfig.for_preset(Preset.STANDARD, vocabulary=tuple(names))
