"""Repositories as transformers and timm write them, each with the way its own library loads it."""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from safetensors.torch import load_file
from timm.models import save_for_hf

from tests.support.layouts import CLASSES, INDICES, LABELS, MEAN, STD, Answer, Case, bare
from tests.support.repositories import timm_network, transformers_network


def model_in_a_folder(folder: Path) -> Case:
    case = bare(folder)
    (folder / "README.md").write_text("# A model\n")
    return Case(folder, case.answer, lambda path: case.reload(path / "model.pth"))


# ------------------------------------------------------------------------------------------------ transformers


def _preprocessor(folder: Path, side: int = 32, **fields: Any) -> None:
    value = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(value | fields))


def _transformers(
    folder: Path, kind: str, *, dtype: torch.dtype = torch.float32, class_name: str = "", side: int = 32, **save: Any
) -> Case:
    network = transformers_network(kind, CLASSES, class_name, id2label=LABELS, label2id=INDICES)
    network.to(dtype).save_pretrained(folder, **save)
    network.float()
    _preprocessor(folder, side)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model card\n")
    loader = type(network) if class_name else transformers.AutoModelForImageClassification

    def reload(path: Path) -> Answer:
        again, info = loader.from_pretrained(path, output_loading_info=True, dtype=torch.float32)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
        assert again.config.id2label == LABELS
        assert type(again) is type(network)
        return lambda x: again.eval()(pixel_values=x).logits  # type: ignore[no-any-return]

    return Case(folder, lambda x: network(pixel_values=x).logits, reload, side)


def vit(folder: Path) -> Case:
    return _transformers(folder, "vit")


def vit_new_keys(folder: Path) -> Case:
    return _transformers(folder, "vit", save_original_format=False)


def vit_sharded(folder: Path) -> Case:
    case = _transformers(folder, "vit", max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return case


def _as_bin(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        name = file.name.replace("model", "pytorch_model", 1).replace(".safetensors", ".bin")
        torch.save(load_file(file), folder / name)
        file.unlink()
    index = folder / "model.safetensors.index.json"
    if index.exists():
        text = index.read_text().replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
        (folder / "pytorch_model.bin.index.json").write_text(text)
        index.unlink()


def vit_bin(folder: Path) -> Case:
    case = _transformers(folder, "vit")
    _as_bin(folder)
    return case


def vit_bin_sharded(folder: Path) -> Case:
    case = _transformers(folder, "vit", max_shard_size="20KB")
    _as_bin(folder)
    return case


def vit_both(folder: Path) -> Case:
    case = _transformers(folder, "vit")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    return case


def resnet_half(folder: Path) -> Case:
    return _transformers(folder, "resnet", dtype=torch.float16, side=64)


def convnext_bfloat16(folder: Path) -> Case:
    return _transformers(folder, "convnext", dtype=torch.bfloat16, side=64)


def swin(folder: Path) -> Case:
    return _transformers(folder, "swin")


def mobilenet(folder: Path) -> Case:
    return _transformers(folder, "mobilenet_v2", side=64)


def deit_with_teacher(folder: Path) -> Case:
    return _transformers(folder, "deit", class_name="DeiTForImageClassificationWithTeacher")


def after_training(folder: Path) -> Case:
    """With everything that a Trainer leaves beside the model."""
    case = _transformers(folder, "vit")
    torch.save(argparse.Namespace(learning_rate=1e-4), folder / "training_args.bin")
    torch.save({"state": {}}, folder / "optimizer.pt")
    torch.save({"last_epoch": 1}, folder / "scheduler.pt")
    torch.save({"cpu": torch.get_rng_state()}, folder / "rng_state.pth")
    (folder / "trainer_state.json").write_text("{}")
    (folder / "model_ema.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "modeling.py").write_text("raise SystemExit\n")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"\x08\x07")
    return case


def _zipped(case: Case, root: str = "") -> Case:
    folder = case.path
    inner = folder.parent / "packed"
    shutil.copytree(folder, inner / root if root else inner)
    archive = Path(shutil.make_archive(str(folder.parent / "upload"), "zip", inner))
    return Case(archive, case.answer, lambda path: case.reload(path / root if root else path), case.side)


def vit_zip(folder: Path) -> Case:
    return _zipped(_transformers(folder, "vit", max_shard_size="20KB"))


def vit_zip_in_a_folder(folder: Path) -> Case:
    return _zipped(_transformers(folder, "vit"), "my-model")


# -------------------------------------------------------------------------------------------------------- timm


def _timm(folder: Path, name: str, *, both: bool = False, safe: bool = True, side: int = 32) -> Case:
    network, _ = timm_network(name, CLASSES)
    save_for_hf(
        network,
        folder,
        model_config={"label_names": list(LABELS.values())},
        safe_serialization="both" if both else safe,
        data_config={"mean": MEAN, "std": STD, "input_size": (3, side, side)},
    )

    def reload(path: Path) -> Answer:
        again = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
        assert tuple(again.pretrained_cfg["mean"]) == MEAN
        return again  # type: ignore[no-any-return]

    return Case(folder, network, reload, side)


def timm_vit(folder: Path) -> Case:
    return _timm(folder, "vit_tiny_patch16_224")


def timm_both(folder: Path) -> Case:
    return _timm(folder, "test_resnet", both=True, side=64)


def timm_bin(folder: Path) -> Case:
    return _timm(folder, "test_convnext", safe=False, side=64)


def timm_swin(folder: Path) -> Case:
    return _timm(folder, "swin_tiny_patch4_window7_224")


def timm_zip(folder: Path) -> Case:
    return _zipped(_timm(folder, "resnet18", side=64), "resnet")


def timm_wrapper(folder: Path) -> Case:
    """A network of timm that transformers saved."""
    config = transformers.TimmWrapperConfig(architecture="test_resnet", num_labels=CLASSES)
    config.id2label, config.label2id = LABELS, INDICES
    torch.manual_seed(0)
    network = transformers.AutoModelForImageClassification.from_config(config).eval()
    network.save_pretrained(folder)

    def reload(path: Path) -> Answer:
        again, info = transformers.AutoModelForImageClassification.from_pretrained(path, output_loading_info=True)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
        return lambda x: again.eval()(pixel_values=x).logits  # type: ignore[no-any-return]

    return Case(folder, lambda x: network(pixel_values=x).logits, reload, 64)


REPOSITORIES: tuple[Callable[[Path], Case], ...] = (
    model_in_a_folder, vit, vit_new_keys, vit_sharded, vit_bin, vit_bin_sharded, vit_both, resnet_half,
    convnext_bfloat16, swin, mobilenet, deit_with_teacher, after_training, vit_zip, vit_zip_in_a_folder, timm_vit,
    timm_both, timm_bin, timm_swin, timm_zip, timm_wrapper,
)  # fmt: skip
