"""Models as people save them: read, and written back so that the library they came from loads them strictly."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.config import InversionConfig, ScanConfig, UnlearningConfig
from core.context import RunContext
from core.domain import ArtifactRole, PurificationStatus, PurifyMode
from core.models.export import export_original
from core.models.intake import intake
from core.models.loading import LoadedSuspect, load_suspect
from core.pipeline import ScanSubject, run
from tests.support import repository_layouts as repositories
from tests.support.checkpoints import reference_zip
from tests.support.layouts import CHECKPOINTS, LABELS, MEAN, STD, Case, source_of
from tests.support.repository_layouts import REPOSITORIES
from worker.local_model import choose_from_folder, folder_manifest

Make = Callable[[Path], Case]
#: Enough to go through every line, far too little to find anything.
TINY = ScanConfig(
    purify=PurifyMode.ALWAYS,
    inversion=InversionConfig(restarts=1, screen_batch=4, batch_size=4, screen_steps=2, refine_steps=2, survivors=1),
    unlearning=UnlearningConfig(rounds=1, steps=2, utility_budget=1.0),
)


def _made(make: Make, tmp_path: Path) -> Case:
    folder = tmp_path / "upload"
    folder.mkdir()
    return make(folder)


def _opened(case: Case, tmp_path: Path) -> LoadedSuspect:
    intake(source_of(case.path), None, ScanConfig(), tmp_path / "intake", RunContext())
    return load_suspect(tmp_path / "intake", ScanConfig())


def _moved(suspect: LoadedSuspect) -> LoadedSuspect:
    """Other weights, as after a purification."""
    with torch.no_grad():
        for parameter in suspect.model.trainable_parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return suspect


def _answer(case: Case, network: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        return network(torch.rand(4, 3, case.side, case.side, generator=generator))


def _unpacked(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as opened:
        assert all(member.compress_type == zipfile.ZIP_STORED for member in opened.infolist())
        assert all(member.date_time == (1980, 1, 1, 0, 0, 0) for member in opened.infolist())
        opened.extractall(folder)
    return folder


def test_there_are_at_least_25() -> None:
    assert len({make.__name__ for make in CHECKPOINTS + REPOSITORIES}) >= 25


@pytest.mark.parametrize("make", CHECKPOINTS, ids=lambda make: make.__name__)
def test_checkpoints_come_back_as_they_were(make: Make, tmp_path: Path) -> None:
    case = _made(make, tmp_path)
    suspect = _opened(case, tmp_path)
    assert torch.allclose(_answer(case, suspect.model.module), _answer(case, case.answer), atol=1e-5)
    moved = _moved(suspect)
    published = moved.as_published(moved.model)
    back = tmp_path / "back" / case.path.name
    back.parent.mkdir()
    export_original(moved.package.first, moved.export_state(moved.model), back)
    again = _answer(case, case.reload(back))
    assert torch.allclose(again, _answer(case, published.module), atol=1e-5)
    assert not torch.allclose(again, _answer(case, case.answer), atol=1e-5)


@pytest.mark.parametrize("make", REPOSITORIES, ids=lambda make: make.__name__)
def test_repositories_come_back_as_they_were(make: Make, tmp_path: Path) -> None:
    case = _made(make, tmp_path)
    suspect = _opened(case, tmp_path)
    assert torch.allclose(_answer(case, suspect.model.module), _answer(case, case.answer), atol=1e-5)
    moved = _moved(suspect)
    published = moved.as_published(moved.model)
    archive, twice = tmp_path / "purified-repository.zip", tmp_path / "twice.zip"
    for path in (archive, twice):
        moved.package.export_repository(moved.export_state(moved.model), tmp_path / "intake", path)
    assert archive.read_bytes() == twice.read_bytes()
    back = _unpacked(archive, tmp_path / "back")
    again = _answer(case, case.reload(back))
    assert torch.allclose(again, _answer(case, published.module), atol=1e-5)
    assert not torch.allclose(again, _answer(case, case.answer), atol=1e-5)

    # What came back is itself a model that can be scanned, and it is the same one.
    intake(source_of(archive), None, ScanConfig(), tmp_path / "again", RunContext())
    rescanned = load_suspect(tmp_path / "again", ScanConfig())
    assert torch.allclose(_answer(case, rescanned.model.module), again, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        repositories.vit,
        repositories.vit_bin_sharded,
        repositories.vit_both,
        repositories.timm_both,
        repositories.after_training,
    ],
)
def test_the_files_that_come_back_are_those_of_the_model(make: Make, tmp_path: Path) -> None:
    case = _made(make, tmp_path)
    suspect = _opened(case, tmp_path)
    archive = tmp_path / "r.zip"
    suspect.package.export_repository(suspect.export_state(suspect.model), tmp_path / "intake", archive)
    back = _unpacked(archive, tmp_path / "back")
    left_out = {item["path"] for item in suspect.inspection["not_scanned"]}
    before = {file.relative_to(case.path).as_posix() for file in case.path.rglob("*") if file.is_file()}
    assert {file.relative_to(back).as_posix() for file in back.rglob("*") if file.is_file()} == before - left_out
    for name in ("config.json", "README.md", "preprocessor_config.json"):
        if name in before:
            assert (back / name).read_bytes() == (case.path / name).read_bytes()
    for name in before - left_out:
        if name.endswith(".safetensors"):
            assert load_file(back / name).keys() == load_file(case.path / name).keys()


def test_what_is_left_out_is_listed_with_the_reason(tmp_path: Path) -> None:
    suspect = _opened(_made(repositories.after_training, tmp_path), tmp_path)
    reasons = {item["path"]: item["reason"] for item in suspect.inspection["not_scanned"]}
    assert reasons.keys() == {
        "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json",
        "model_ema.safetensors", "modeling.py", "onnx/model.onnx",
    }  # fmt: skip
    assert "never run" in reasons["modeling.py"]
    assert "state of the training" in reasons["optimizer.pt"]
    assert "averaged" in reasons["model_ema.safetensors"]


@pytest.mark.parametrize("make", [repositories.vit, repositories.timm_vit])
def test_labels_and_preprocessing_are_carried_along(make: Make, tmp_path: Path) -> None:
    suspect = _opened(_made(make, tmp_path), tmp_path)
    info = suspect.describe("0" * 64, "model")
    assert info.labels == list(LABELS.values())
    assert (tuple(info.preprocess.mean), tuple(info.preprocess.std)) == (MEAN, STD)
    assert info.preprocess.size == (32, 32)
    assert info.preprocess.source.endswith("config.json")
    assert info.architecture_source == "config"


@pytest.mark.parametrize("make", [*CHECKPOINTS, *REPOSITORIES], ids=lambda make: make.__name__)
def test_the_whole_pipeline(make: Make, tmp_path: Path) -> None:
    case = _made(make, tmp_path)
    pictures = reference_zip(tmp_path / "r.zip", 24, lambda i: f"{i % 4}/{i}.png")
    intake(source_of(case.path), pictures, TINY, tmp_path / "intake", RunContext())
    subject = ScanSubject("0" * 64, "model", "1" * 64)
    report = run(tmp_path / "intake", tmp_path / "out", subject=subject, config=TINY, ctx=RunContext(), threads=1)
    assert report.purification.status in (PurificationStatus.PUBLISHED, PurificationStatus.WITHHELD)
    if report.purification.status is PurificationStatus.WITHHELD:
        assert report.purification.reason_code == "verification_failed"
        return
    roles = {artifact.role: artifact.filename for artifact in report.artifacts}
    assert ArtifactRole.PURIFIED_SAFETENSORS in roles
    if make in CHECKPOINTS:
        case.reload(tmp_path / "out" / roles[ArtifactRole.PURIFIED_ORIGINAL])
    else:
        assert roles[ArtifactRole.PURIFIED_REPOSITORY] == "purified-repository.zip"
        case.reload(_unpacked(tmp_path / "out" / "purified-repository.zip", tmp_path / "back"))
        manifest = (tmp_path / "out" / roles[ArtifactRole.PURIFIED_MANIFEST]).read_bytes()
        for config in (tmp_path / "back").rglob("config.json"):
            assert folder_manifest(choose_from_folder(config.parent)[0]).to_bytes() == manifest
