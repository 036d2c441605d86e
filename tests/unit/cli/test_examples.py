"""What the demo scans: complete, small, and what provenance.json says."""

from pathlib import Path
from typing import Any

import pytest

from api.commands.examples import ClassifierExamples, ClipExamples, Examples
from core.data.checking import check_reference
from core.domain import ArtifactRole, Preset
from core.errors import InvalidInputError
from worker.local_model import choose_from_folder


class _Recorder:
    """Stands where a server's client does: remembers what is uploaded."""

    def __init__(self) -> None:
        self.sent: list[Path] = []

    def upload(self, path: Path) -> str:
        self.sent.append(path)
        return f"{len(self.sent):064x}"


@pytest.mark.parametrize(
    ("kind", "names"),
    [(ClassifierExamples, {"clean", "patch", "blended"}), (ClipExamples, {"clean", "patch", "blended"})],
)
def test_one_clean_and_two_backdoored_models(kind: type[Examples], names: set[str], tmp_path: Path) -> None:
    examples = kind()
    assert set(examples.truths) == names
    assert sorted(examples.truths.values()) == ["backdoored", "backdoored", "clean"]
    assert examples.config.preset is Preset.STANDARD
    facts = check_reference(examples.reference(tmp_path), lambda _: None)
    assert facts["images_used"] == facts["images"] >= 400


def test_a_clip_is_sent_as_the_files_of_its_repository(tmp_path: Path) -> None:
    examples, client = ClipExamples(), _Recorder()
    for name in examples.truths:
        asked: dict[str, Any] = examples.send(client, name)  # type: ignore[arg-type]
        assert {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"} <= {
            file["path"] for file in asked["files"]
        }
        assert asked["filename"] == name
    assert max(path.stat().st_size for path in client.sent) <= 4_000_000
    assert examples.role is ArtifactRole.PURIFIED_REPOSITORY


def test_pairs_and_names_of_the_clips(tmp_path: Path) -> None:
    examples = ClipExamples()
    names = examples.config.vocabulary
    assert len(set(names)) == 64
    facts = check_reference(examples.reference(tmp_path), lambda _: None)
    assert (facts["captioned"], facts["labelled"], facts["rejected_total"]) == (448, False, 0)
    files, ignored = choose_from_folder(examples.folder / "patch")
    assert (len(files), ignored) == (4, ())


def test_an_installed_package_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ClipExamples, "folder", tmp_path)
    with pytest.raises(InvalidInputError, match="examples_missing"):
        ClipExamples()
