"""From an upload to a loaded suspect."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from core.config import Preprocess, ScanConfig
from core.context import RunContext
from core.data.reference import load_reference
from core.domain import ModelKind
from core.errors import CanceledError, InvalidInputError, UnsupportedError
from core.models.intake import intake
from core.models.loading import load_suspect
from core.models.source import Source
from tests.support.checkpoints import CONTAINERS, TINY, png, reference_zip, run_intake, save, tiny_network, zip_of
from tests.support.layouts import source_of
from tests.support.repository_layouts import vit


def _inspection(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "inspection.json").read_text())
    return value


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_upload_becomes_a_suspect(container: str, tmp_path: Path) -> None:
    network = tiny_network()
    model = save(network.state_dict(), tmp_path / "m", container)
    folder = run_intake(model, tmp_path / "intake", reference_zip(tmp_path / "r.zip"))
    assert load_file(folder / "weights.safetensors").keys() == network.state_dict().keys()

    suspect = load_suspect(folder, ScanConfig())
    reference = load_reference(folder, suspect.model)
    assert reference is not None
    assert reference.labelled
    assert len(reference) == 20
    assert sorted(reference.labels.tolist()) == sorted(list(range(10)) * 2)
    normalised = suspect.model.normalise(reference.pixels)
    expected = torch.log_softmax(network(normalised), 1)
    assert torch.allclose(suspect.model.target_log_posterior(reference.pixels), expected, atol=1e-5)

    info = suspect.describe("ab", "m.pth")
    assert (info.container, info.architecture, info.architecture_source) == (container, TINY, "inferred")
    assert info.input_shape == (3, 32, 32)
    assert info.size_bytes == model.stat().st_size
    about = suspect.describe_reference("cd")
    assert about is not None
    assert (about.images, about.images_used, about.classes_present) == (20, 20, 10)


def test_without_a_reference_set(tmp_path: Path) -> None:
    model = save(tiny_network().state_dict(), tmp_path / "m", "torch-zip")
    folder = run_intake(model, tmp_path / "intake")
    suspect = load_suspect(folder, ScanConfig())
    assert load_reference(folder, suspect.model) is None
    assert suspect.describe_reference(None) is None
    assert suspect.reference_accuracy is None
    assert suspect.model.input_shape == (3, 32, 32)


def test_unlabelled_images_get_the_suspects_labels(tmp_path: Path) -> None:
    model = save(tiny_network().state_dict(), tmp_path / "m", "torch-zip")
    folder = run_intake(model, tmp_path / "intake", reference_zip(tmp_path / "r.zip", name=lambda i: f"{i}.png"))
    suspect = load_suspect(folder, ScanConfig())
    reference = load_reference(folder, suspect.model)
    assert reference is not None
    assert not reference.labelled
    assert torch.equal(reference.labels, suspect.model.target_log_posterior(reference.pixels).argmax(1))
    assert suspect.reference_accuracy is None


def test_grey_images_for_an_rgb_network_and_the_other_way(tmp_path: Path) -> None:
    for channels, mode in ((1, "RGB"), (3, "L")):
        model = save(tiny_network(in_channels=channels).state_dict(), tmp_path / f"m{channels}", "torch-zip")
        reference = reference_zip(tmp_path / f"r{channels}.zip", mode=mode, side=28)
        folder = run_intake(model, tmp_path / f"intake{channels}", reference)
        assert load_file(folder / "reference.safetensors")["pixels"].shape == (20, channels, 28, 28)


@pytest.mark.parametrize(
    ("side", "config", "metadata", "size", "source"),
    [
        (28, {}, None, [28, 28], "reference images"),
        (64, {}, None, [64, 64], "reference images"),
        (100, {}, None, [32, 32], "architecture"),
        (48, {}, {"preprocess": '{"mean": [0.5], "std": [0.5], "size": [40, 40]}'}, [40, 40], "checkpoint metadata"),
        (48, {"preprocess": Preprocess((0.5,), (0.5,), (36, 36))}, {"size": "[40, 40]"}, [36, 36], "request"),
    ],
)
def test_input_size(side: int, config: Any, metadata: Any, size: list[int], source: str, tmp_path: Path) -> None:
    model = save(tiny_network().state_dict(), tmp_path / "m", "safetensors", metadata)
    folder = run_intake(model, tmp_path / "intake", reference_zip(tmp_path / "r.zip", side=side), **config)
    inspection = _inspection(folder)
    assert (inspection["input_size"], inspection["input_size_source"]) == (size, source)
    assert list(load_file(folder / "reference.safetensors")["pixels"].shape[2:]) == size


@pytest.mark.parametrize(("name", "size"), [("torchvision:resnet18", [28, 28]), ("cifar_vgg11", [32, 32])])
def test_images_too_small_for_the_poolings_are_enlarged(name: str, size: list[int], tmp_path: Path) -> None:
    model = save(tiny_network(name).state_dict(), tmp_path / "m", "torch-zip")
    folder = run_intake(model, tmp_path / "intake", reference_zip(tmp_path / "r.zip", side=28))
    assert _inspection(folder)["input_size"] == size
    assert load_suspect(folder, ScanConfig()).model.input_shape == (3, *size)


@pytest.mark.parametrize(
    ("metadata", "mean"),
    [
        ({"preprocess": '{"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.4, 0.4]}'}, (0.1, 0.2, 0.3)),
        ({"mean": "[0.1, 0.2, 0.3]", "std": "[1, 1, 1]"}, (0.1, 0.2, 0.3)),
        ({"mean": "0.25", "std": "0.5"}, (0.25,)),
    ],
)
def test_preprocess_from_the_checkpoint(metadata: dict[str, str], mean: tuple[float, ...], tmp_path: Path) -> None:
    model = save(tiny_network().state_dict(), tmp_path / "m", "safetensors", metadata)
    suspect = load_suspect(run_intake(model, tmp_path / "intake"), ScanConfig())
    assert suspect.model.preprocess.mean == mean
    assert suspect.preprocess_source == "checkpoint metadata"


@pytest.mark.parametrize(
    "metadata", [{"mean": "[1, 2]", "std": "[1, 2]"}, {"mean": "[" * 3000, "std": "0"}, {"std": "1"}]
)
def test_senseless_metadata_is_ignored(metadata: dict[str, str], tmp_path: Path) -> None:
    model = save(tiny_network().state_dict(), tmp_path / "m", "safetensors", metadata)
    folder = run_intake(model, tmp_path / "intake")
    assert _inspection(folder)["declared"]["mean"] is None


def test_preprocess_from_a_layer_in_front(tmp_path: Path) -> None:
    state = {f"1.{key}": value for key, value in tiny_network().state_dict().items()}
    state |= {"0.mean": torch.tensor([0.4, 0.5, 0.6]), "0.std": torch.tensor([0.2, 0.25, 0.3])}
    model = save(state, tmp_path / "m", "torch-zip")
    suspect = load_suspect(run_intake(model, tmp_path / "intake"), ScanConfig())
    assert suspect.model.preprocess.std == pytest.approx((0.2, 0.25, 0.3))
    assert suspect.export_state(suspect.model).keys() >= {"0.mean", "0.std"}


def test_image_size_beside_the_weights(tmp_path: Path) -> None:
    content = {"model": tiny_network().state_dict(), "img_size": [48, 48, 3]}
    folder = run_intake(save(content, tmp_path / "m", "torch-zip"), tmp_path / "intake")
    assert _inspection(folder)["input_size"] == [48, 48]


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess((0.5, 0.5), (1.0, 1.0), (32, 32)),
        Preprocess((0.5,), (0.0,), (32, 32)),
        Preprocess((float("nan"),), (1.0,), (32, 32)),
        Preprocess((0.5,), (1.0,), (0, 32)),
    ],
)
def test_a_requested_preprocess_must_fit(preprocess: Preprocess, tmp_path: Path) -> None:
    model = save(tiny_network().state_dict(), tmp_path / "m", "torch-zip")
    with pytest.raises(InvalidInputError) as caught:
        run_intake(model, tmp_path / "intake", preprocess=preprocess)
    assert caught.value.code == "invalid_preprocess"


def test_vision_transformers_fix_the_size(tmp_path: Path) -> None:
    model = save(tiny_network("timm:test_vit@32").state_dict(), tmp_path / "m", "torch-zip")
    folder = run_intake(model, tmp_path / "intake", reference_zip(tmp_path / "r.zip", side=28))
    assert _inspection(folder)["input_size"] == [32, 32]
    assert _inspection(folder)["input_size_source"] == "architecture"
    with pytest.raises(InvalidInputError, match="made for images of"):
        run_intake(model, tmp_path / "again", preprocess=Preprocess((0.5,), (0.5,), (28, 28)))


def test_old_files_without_counters_load_and_come_back_without(tmp_path: Path) -> None:
    state = {key: value for key, value in tiny_network().state_dict().items() if "num_batches" not in key}
    folder = run_intake(save(state, tmp_path / "m", "torch-legacy"), tmp_path / "intake")
    suspect = load_suspect(folder, ScanConfig())
    assert [key for key, _ in suspect.package.first.keys] == list(state)


def test_half_precision_weights_are_scanned_in_single_precision(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in tiny_network().state_dict().items()}
    suspect = load_suspect(run_intake(save(state, tmp_path / "m", "torch-zip"), tmp_path / "i"), ScanConfig())
    assert {parameter.dtype for parameter in suspect.model.trainable_parameters()} == {torch.float32}

    changed = suspect.model.clone()
    with torch.no_grad():
        changed.trainable_parameters()[0].mul_(1 + 1e-5)  # less than half precision can tell
    published = suspect.as_published(changed)
    assert torch.equal(published.trainable_parameters()[0], suspect.model.trainable_parameters()[0])
    assert not torch.equal(changed.trainable_parameters()[0], suspect.model.trainable_parameters()[0])


@pytest.mark.parametrize("name", ["cifar_resnet-b1.1-w8.16-fc-maxpool", "cifar_resnet-b1.1-w8.16-fc"])
def test_labels_tell_networks_with_the_same_keys_apart(name: str, tmp_path: Path) -> None:
    network = tiny_network(name)
    images = [png(i) for i in range(40)]
    arrays = [np.array(Image.open(io.BytesIO(image))) for image in images]
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255
    head = network.get_submodule("fc")
    with torch.no_grad():  # random networks favour one class: level the classes out
        head.bias -= network((pixels - 0.5) / 0.5).mean(0)
        labels = network((pixels - 0.5) / 0.5).argmax(1).tolist()
    assert len(set(labels)) > 3
    table = "".join(f"{i}.png,{label}\n" for i, label in enumerate(labels)).encode()
    files = {f"{i}.png": image for i, image in enumerate(images)} | {"labels.csv": table}
    metadata = {"mean": "[0.5]", "std": "[0.5]"}
    model = save(network.state_dict(), tmp_path / "m", "safetensors", metadata)
    suspect = load_suspect(run_intake(model, tmp_path / "i", zip_of(files, tmp_path / "r.zip")), ScanConfig())
    assert suspect.describe("", "").architecture == name
    assert suspect.reference_accuracy == 1.0


def test_the_kind_may_not_contradict_the_files(tmp_path: Path) -> None:
    model = save(tiny_network().state_dict(), tmp_path / "m", "torch-zip")
    with pytest.raises(UnsupportedError) as caught:
        run_intake(model, tmp_path / "intake", kind=ModelKind.CLIP)
    assert caught.value.code == "unsupported_kind"


def test_a_vocabulary_is_not_for_classifiers(tmp_path: Path) -> None:
    model = save(tiny_network().state_dict(), tmp_path / "m", "torch-zip")
    with pytest.raises(InvalidInputError) as caught:
        run_intake(model, tmp_path / "intake", vocabulary=("cat", "dog"))
    assert caught.value.code == "invalid_vocabulary"


def test_cancellation(tmp_path: Path) -> None:
    model = save(tiny_network().state_dict(), tmp_path / "m", "torch-zip")
    with pytest.raises(CanceledError):
        intake(
            Source.single(model, "m.pth"), None, ScanConfig(), tmp_path / "intake", RunContext(should_stop=lambda: True)
        )


def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    events: list[float] = []
    model = save(tiny_network().state_dict(), tmp_path / "m", "torch-zip")
    ctx = RunContext(emit=lambda event: events.append(event["fraction"]) if "fraction" in event else None)
    intake(Source.single(model, "m.pth"), reference_zip(tmp_path / "r.zip"), ScanConfig(), tmp_path / "intake", ctx)
    assert events == sorted(events)
    assert len(events) >= 3


def test_images_are_cropped_as_the_model_says(tmp_path: Path) -> None:
    """A frame around the picture is what the model's own centre crop leaves out."""
    folder = tmp_path / "model"
    folder.mkdir()
    vit(folder)
    framed = np.full((80, 80, 3), 255, dtype=np.uint8)
    framed[20:60, 20:60] = 0
    buffer = io.BytesIO()
    Image.fromarray(framed).save(buffer, "PNG")
    images = zip_of({f"{i % 4}/{i}.png": buffer.getvalue() for i in range(12)}, tmp_path / "r.zip")
    whole = {"do_center_crop": False, "size": {"height": 32, "width": 32}}
    cropped = {"do_center_crop": True, "size": {"shortest_edge": 64}, "crop_size": {"height": 32, "width": 32}}
    brightest = []
    for number, fields in enumerate((whole, cropped)):
        path = folder / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        out = tmp_path / str(number)
        intake(source_of(folder), images, ScanConfig(), out, RunContext())
        reference = load_reference(out)
        assert reference is not None
        assert reference.class_names == ("cat", "dog", "owl", "yak")
        brightest.append(float(reference.pixels[..., 2:-2, 2:-2].max()))
    assert brightest[0] > 0.9
    assert brightest[1] < 0.1


@pytest.mark.parametrize(
    ("folders", "labels", "matched_by"),
    [(["yak", "Cat"], [0, 3], "name"), (["1", "2"], [1, 2], "index"), (["a", "b", "c", "d"], [0, 1, 2, 3], "order")],
)
def test_a_reference_set_is_matched_with_the_models_own_names(
    folders: list[str], labels: list[int], matched_by: str, tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    vit(folder)
    archive = reference_zip(tmp_path / "r.zip", 20, lambda i: f"{folders[i % len(folders)]}/{i}.png")
    intake(source_of(folder), archive, ScanConfig(), tmp_path / "intake", RunContext())
    about = load_suspect(tmp_path / "intake", ScanConfig()).describe_reference("ab")
    assert about is not None
    assert (about.matched_by, about.classes_present) == (matched_by, len(folders))
    assert about.classes_missing == [i for i in range(4) if i not in labels]
    reference = load_reference(tmp_path / "intake")
    assert reference is not None
    assert sorted(set(reference.labels.tolist())) == labels
    assert reference.class_names == ("cat", "dog", "owl", "yak")
