"""Every way to come by targets, from the files to the model and its labelled images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.config import ScanConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.errors import InvalidInputError, UnsupportedError
from core.models.intake import intake
from core.models.loading import LoadedSuspect, load_suspect
from tests.support.clip_layouts import LONE, NAMES, SIDE, open_clip_vit
from tests.support.layouts import source_of

COUNT = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_clip_vit(tmp_path_factory.mktemp("model")).path


def _images(folder: Path, path: Callable[[int], str], captions: Callable[[int], str] | None = None) -> Path:
    generator = np.random.default_rng(1)
    rows = ["file,caption"]
    for number in range(COUNT):
        file = folder / path(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(file)
        if captions is not None:
            rows.append(f"{path(number)},{captions(number)}")
    if captions is not None:
        (folder / "captions.csv").write_text("\n".join(rows))
    return folder


def _loaded(model: Path, images: Path | None, work: Path, **config: object) -> tuple[LoadedSuspect, ReferenceSet]:
    asked = ScanConfig(**config)  # type: ignore[arg-type]
    intake(source_of(model), images, asked, work / "intake", RunContext())
    suspect = load_suspect(work / "intake", asked)
    reference = suspect.reference()
    assert reference is not None
    return suspect, reference


def _source(suspect: LoadedSuspect) -> str:
    described = suspect.describe("0" * 64, "m").vocabulary
    assert described is not None
    assert described.size == len(described.names) == suspect.model.num_targets
    return described.source


def _own_answers(suspect: LoadedSuspect, reference: ReferenceSet) -> torch.Tensor:
    with torch.no_grad():
        return suspect.model.target_log_posterior(reference.pixels).argmax(1)


def test_captions_are_targets(model: Path, tmp_path: Path) -> None:
    images = _images(tmp_path / "r", "{}.png".format, lambda i: f"a {NAMES[i % 3]}")
    suspect, reference = _loaded(model, images, tmp_path)
    assert _source(suspect) == "captions"
    assert reference.labelled
    assert reference.texts is not None
    assert torch.allclose(reference.texts.norm(dim=1), torch.ones(COUNT))
    names = [reference.class_names[label] for label in reference.labels.tolist()]
    assert sorted(names) == sorted(f"a {NAMES[i % 3]}" for i in range(COUNT))
    assert torch.allclose(suspect.model.anchors[reference.labels], reference.texts, atol=1e-6)
    assert suspect.texts is not None
    assert len(suspect.texts.coverage) == 1


def test_a_vocabulary_labels_captions_by_their_nearest_target(model: Path, tmp_path: Path) -> None:
    images = _images(tmp_path / "r", "{}.png".format, lambda i: NAMES[i % 3])
    suspect, reference = _loaded(model, images, tmp_path, vocabulary=NAMES[::-1], templates=("{}",))
    assert _source(suspect) == "request"
    counts = reference.labels.bincount(minlength=3)
    assert counts.tolist() == [COUNT // 3] * 3
    assert reference.class_names == NAMES[::-1]


def test_too_many_captions_are_clustered_and_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.models.clip.vocabulary.MAX_CAPTIONS", 2)
    images = _images(tmp_path / "r", "{}.png".format, lambda i: f"a {NAMES[i % 3]}")
    suspect, reference = _loaded(model, images, tmp_path)
    assert _source(suspect) == "caption clusters"
    assert suspect.model.num_targets == COUNT // 4
    assert set(reference.class_names) <= {f"a {name}" for name in NAMES}
    assert suspect.texts is not None
    assert "clusters of captions" in suspect.texts.coverage[0]


def test_class_folders_are_targets_and_labels(model: Path, tmp_path: Path) -> None:
    images = _images(tmp_path / "r", lambda i: f"{NAMES[i % 3].replace(' ', '_')}/{i}.png")
    suspect, reference = _loaded(model, images, tmp_path)
    assert _source(suspect) == "class names"
    assert (reference.labelled, reference.texts) == (True, None)
    assert reference.class_names == tuple(sorted(NAMES))
    assert reference.labels.bincount().tolist() == [COUNT // 3] * 3


def test_images_alone_are_grouped_and_labelled_by_the_suspect(model: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for file in model.iterdir():  # no text is read, so no tokenizer is missed
        if "token" not in file.name:
            (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    images = _images(tmp_path / "r", "{}.png".format)
    suspect, reference = _loaded(tmp_path / "model", images, tmp_path)
    assert _source(suspect) == "image clusters"
    assert reference.class_names[:2] == ("group 0", "group 1")
    assert not reference.labelled
    assert torch.equal(reference.labels, _own_answers(suspect, reference))
    assert suspect.texts is not None
    assert len(suspect.texts.coverage) == 3


def test_texts_without_a_tokenizer_are_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for file in model.iterdir():
        if "token" not in file.name:
            (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UnsupportedError) as caught:
        _loaded(tmp_path / "model", None, tmp_path, vocabulary=NAMES)
    assert caught.value.code == "unsupported_tokenizer"


def test_neither_names_nor_images(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        _loaded(model, None, tmp_path)
    assert caught.value.code == "invalid_vocabulary"


def test_an_activation_that_nothing_tells(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    case = LONE[0](tmp_path / "model")
    images = _images(tmp_path / "r", "{}.png".format)
    with pytest.raises(UnsupportedError, match="QuickGELU") as caught:
        _loaded(case.path, images, tmp_path)
    assert caught.value.code == "unsupported_architecture"
