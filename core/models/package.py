"""How the weights lay in the files of a model, what else goes back with them, and how to write it all again."""

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from core.manifest import Manifest, ManifestFile
from core.models.export import export_original, export_safetensors
from core.models.layout import Layout
from core.models.repository.names import Role, role_of

LAYOUT_FILE, KEPT_DIR = "layout.json", "kept"
#: The earliest date a zip archive can hold: equal files give equal archives.
_DATE = (1980, 1, 1, 0, 0, 0)
_ZIP64_FROM = 1 << 31


@dataclass(frozen=True, slots=True)
class Part:
    """One file with weights: its path within the model, and how they lay in it."""

    path: str
    layout: Layout


@dataclass(frozen=True, slots=True)
class Package:
    """All files that go back.

    Attributes:
        parts: the checkpoint, or its shards.
        copies: further files with the same weights.
        kept: paths of the files that go back unchanged; file `n` of them is `kept/n` in the intake folder.
        alone: one file was handed over, not a folder.
    """

    parts: tuple[Part, ...]
    copies: tuple[Part, ...] = ()
    kept: tuple[str, ...] = ()
    alone: bool = True

    @property
    def first(self) -> Layout:
        """Of the only file, or the first shard."""
        return self.parts[0].layout

    @property
    def auxiliary(self) -> list[str]:
        """Keys of tensors that are carried along unchanged."""
        return [key for part in self.parts for key in part.layout.auxiliary]

    @property
    def dropped(self) -> list[str]:
        """What was left out of the files, as dotted names."""
        return [name for part in self.parts for name in part.layout.dropped]

    def rounded(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` (by the network's own keys) in the precision that the files hold it in, as far as they do."""
        names = [
            (part.layout.module_key(key), part.layout.dtype(dtype))
            for part in self.parts
            for key, dtype in part.layout.keys
        ]
        return {key: state[key].to(dtype) for key, dtype in names if key in state}

    def save(self, intake_dir: Path, kept: Mapping[str, Path]) -> None:
        """Writes layout.json, and copies the files in `kept` (path -> where it is), for `load`."""
        value = {
            "parts": [[part.path, part.layout.to_json()] for part in self.parts],
            "copies": [[part.path, part.layout.to_json()] for part in self.copies],
            "kept": list(self.kept),
            "alone": self.alone,
        }
        (intake_dir / LAYOUT_FILE).write_text(json.dumps(value, indent=2))
        if self.kept:
            (intake_dir / KEPT_DIR).mkdir()
        for number, path in enumerate(self.kept):
            shutil.copyfile(kept[path], intake_dir / KEPT_DIR / str(number))

    def kept_files(self, intake_dir: Path) -> dict[str, Path]:
        """Where `save` put the files that go back unchanged, by path."""
        return {name: intake_dir / KEPT_DIR / str(number) for number, name in enumerate(self.kept)}

    @classmethod
    def load(cls, intake_dir: Path) -> "Package":
        """Inverse of `save`."""
        value: dict[str, Any] = json.loads((intake_dir / LAYOUT_FILE).read_text())

        def parts(key: str) -> tuple[Part, ...]:
            return tuple(Part(path, Layout.from_json(layout)) for path, layout in value[key])

        return cls(parts("parts"), parts("copies"), tuple(value["kept"]), value["alone"])

    def export_plain(self, state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
        """Writes `state` as one safetensors file by the keys that the library gives it, without wrappers."""
        export_safetensors([part.layout for part in self.parts], state, path, metadata)

    def export_repository(self, state: Mapping[str, Tensor], intake_dir: Path, path: Path) -> Manifest:
        """Writes `state` and the kept files to `path`: a zip archive in the layout that was handed over.

        The archive is stored, sorted and without dates: equal weights give equal bytes.

        Returns:
            What the unpacked folder is as a model: no texts, no second copy of the weights, no folder around it all.
        """
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            files = self.kept_files(intake_dir)
            for number, part in enumerate((*self.parts, *self.copies)):
                files[part.path] = Path(folder) / str(number)
                export_original(part.layout, state, files[part.path])
            _write_zip(files, path)
            copies = {part.path for part in self.copies}
            return _manifest({name: location for name, location in files.items() if name not in copies})


def _manifest(files: Mapping[str, Path]) -> Manifest:
    entries = []
    for name, location in files.items():
        inner = PurePosixPath(name).name
        if role_of(inner)[0] is not Role.TEXT:
            with location.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            entries.append(ManifestFile(inner, digest, location.stat().st_size))
    return Manifest.of(entries)


def _write_zip(files: Mapping[str, Path], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, _DATE)
            member.create_system, member.external_attr = 3, 0o100644 << 16
            large = files[name].stat().st_size >= _ZIP64_FROM
            with files[name].open("rb") as source, archive.open(member, "w", force_zip64=large) as target:
                shutil.copyfileobj(source, target, 1 << 20)
