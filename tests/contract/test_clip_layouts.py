"""Models of images and texts: the same function as in their own library, and back in the files they came in."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from core.config import ScanConfig
from core.context import RunContext
from core.domain import ModelKind
from core.models.export import export_original
from core.models.intake import intake
from core.models.loading import LoadedSuspect, load_suspect
from tests.support.clip_keymap import to_open_clip, to_transformers
from tests.support.clip_layouts import (
    FOLDERS,
    LONE,
    MEAN,
    NAMES,
    SIDE,
    STD,
    Both,
    ClipCase,
    network_config,
    network_of,
    transformers_network,
)
from tests.support.layouts import source_of
from worker.local_model import choose_from_folder, folder_manifest

Make = Callable[[Path], ClipCase]
TEMPLATES = ("{}", "a {}")


def _made(make: Make, tmp_path: Path) -> ClipCase:
    folder = tmp_path / "upload"
    folder.mkdir()
    return make(folder)


def _opened(path: Path, intake_dir: Path, pairs: Path | None = None) -> LoadedSuspect:
    config = ScanConfig(vocabulary=NAMES, templates=TEMPLATES)
    intake(source_of(path), pairs, config, intake_dir, RunContext())
    return load_suspect(intake_dir, config)


def _pairs(folder: Path, right: Both, wrong: Both) -> Path:
    """Noise with captions that the network in use finds likelier than its twin with the other activation does."""
    folder.mkdir()
    pixels = np.random.default_rng(3).integers(0, 256, (48, SIDE, SIDE, 3), dtype=np.uint8)
    images = _normalised(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)

    @torch.no_grad()
    def log_posterior(both: Both) -> Tensor:
        found, texts = (normalize(rows, dim=1) for rows in (both.images(images), both.texts(NAMES)))
        return torch.log_softmax(both.scale * found @ texts.T, 1)

    labels = (log_posterior(right) - log_posterior(wrong)).argmax(1).tolist()
    rows = ["file,caption"]
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        Image.fromarray(picture).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{NAMES[label]}")
    (folder / "captions.csv").write_text("\n".join(rows))
    return folder


def _normalised(pixels: Tensor) -> Tensor:
    shift, width = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return (pixels - shift) / width


def _inputs() -> Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def _assert_same(suspect: LoadedSuspect, both: Both) -> None:
    expected = normalize(both.images(_normalised(_inputs())), dim=1)
    assert torch.allclose(suspect.model.features(_inputs()), expected, atol=1e-5)
    prompts = torch.stack([normalize(both.texts([t.format(name) for name in NAMES]), dim=1) for t in TEMPLATES])
    anchors = normalize(prompts.mean(0), dim=1)
    log_posterior = torch.log_softmax(both.scale * expected @ anchors.T, 1)
    assert torch.allclose(suspect.model.target_log_posterior(_inputs()), log_posterior, atol=1e-3)
    assert both.scale == pytest.approx(suspect.model.scale, rel=1e-3)


def _moved(suspect: LoadedSuspect) -> LoadedSuspect:
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in suspect.model.trainable_parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return suspect


@pytest.mark.parametrize("make", FOLDERS, ids=lambda make: make.__name__)
def test_folders_are_read_and_come_back(make: Make, tmp_path: Path) -> None:
    case = _made(make, tmp_path)
    before = case.load(case.path)
    suspect = _opened(case.path, tmp_path / "intake")
    _assert_same(suspect, before)
    described = suspect.describe("0" * 64, "model")
    assert described.kind is ModelKind.CLIP
    assert described.vocabulary is not None
    assert (described.vocabulary.source, described.vocabulary.size) == ("request", len(NAMES))

    moved = _moved(suspect)
    archive = tmp_path / "purified-repository.zip"
    state = moved.export_state(moved.model)
    manifest = moved.package.export_repository(state, tmp_path / "intake", archive)
    back = tmp_path / "back"
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(back)
    after = case.load(back)
    assert {file.name for file in back.iterdir()} == {file.name for file in case.path.iterdir()}
    assert folder_manifest(choose_from_folder(back)[0]).to_bytes() == manifest.to_bytes()
    with torch.no_grad():
        assert torch.equal(after.texts(NAMES), before.texts(NAMES))
        assert not torch.allclose(after.images(_inputs()), before.images(_inputs()), atol=1e-5)
    again = _opened(back, tmp_path / "again")
    published = moved.as_published(moved.model)
    with torch.no_grad():
        assert torch.allclose(again.model.features(_inputs()), published.features(_inputs()), atol=1e-6)


@pytest.mark.parametrize("make", LONE, ids=lambda make: make.__name__)
def test_lone_checkpoints_are_told_by_their_keys_and_come_back(make: Make, tmp_path: Path) -> None:
    case = _made(make, tmp_path)
    before = case.load(case.path)
    assert case.other is not None
    suspect = _opened(case.path, tmp_path / "intake", _pairs(tmp_path / "pairs", before, case.other()))
    assert suspect.inspection["architecture_source"] == "inferred"
    _assert_same(suspect, before)

    moved = _moved(suspect)
    back = tmp_path / "back" / case.path.name
    back.parent.mkdir()
    export_original(moved.package.first, moved.export_state(moved.model), back)
    after = case.load(back)
    with torch.no_grad():
        assert torch.equal(after.texts(NAMES), before.texts(NAMES))
        assert not torch.allclose(after.images(_inputs()), before.images(_inputs()), atol=1e-5)


@torch.no_grad()
def test_the_two_layouts_of_one_vision_transformer_are_one_function(tmp_path: Path) -> None:
    ours, theirs = network_of(network_config()), transformers_network()
    pixels, tokens = _inputs(), torch.randint(1, 40, (4, 16), generator=torch.Generator().manual_seed(1))
    tokens[:, 9] = network_config()["text_cfg"]["vocab_size"] - 1
    pooled = theirs.get_image_features(pixel_values=pixels).pooler_output
    assert torch.allclose(ours.encode_image(pixels), pooled, atol=1e-5)  # type: ignore[operator]
    written = theirs.get_text_features(input_ids=tokens).pooler_output
    assert torch.allclose(ours.encode_text(tokens), written, atol=1e-5)  # type: ignore[operator]


def test_the_key_map_goes_both_ways_without_loss() -> None:
    state = network_of(network_config()).state_dict()
    there = to_transformers(state)
    back = to_open_clip(there)
    assert there.keys() == transformers_network().state_dict().keys()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())


def test_the_text_tower_comes_back_bit_for_bit(tmp_path: Path) -> None:
    case = _made(FOLDERS[0], tmp_path)
    moved = _moved(_opened(case.path, tmp_path / "intake"))
    plain = tmp_path / "plain.safetensors"
    moved.package.export_plain(moved.export_state(moved.model), plain, {})
    before, after = load_file(case.path / "open_clip_model.safetensors"), load_file(plain)
    assert before.keys() == after.keys()
    differing = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key.partition(".")[0] for key in differing} == {"visual"}
