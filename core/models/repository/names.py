"""What the files of a repository are, by their names alone."""

import re
from enum import StrEnum
from pathlib import PurePosixPath

CONFIG, PREPROCESSOR, OPEN_CLIP_CONFIG = "config.json", "preprocessor_config.json", "open_clip_config.json"
INDEX_SUFFIX = ".index.json"
PROCESSOR = "processor_config.json"
#: What a model of images and texts prepares both with, beside PREPROCESSOR; on the Hub they make up its model too.
TEXT_FILES = (
    "added_tokens.json",
    "merges.txt",
    PROCESSOR,
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)

#: Weights of a repository by name, in the order in which the libraries prefer them.
TRANSFORMERS_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TIMM_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
_CHECKPOINT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".th", ".pth.tar", ".pt.tar")
_TEXT = re.compile(r"(readme|license|licence|notice|citation|model_?card|authors)([._-].*)?", re.IGNORECASE)
_TRAINING = re.compile(
    r"(optimizer|optim|scheduler|scaler|rng_state|random_states|training_args|trainer_state)([._-].*)?", re.IGNORECASE
)
_EMA = re.compile(r"(^|[._-])ema([._-]|$)", re.IGNORECASE)
_CODE_SUFFIXES = (".py", ".pyc", ".so", ".sh", ".ipynb", ".dll", ".exe", ".js")
_FOREIGN = {
    ".h5": "Keras weights",
    ".msgpack": "Flax weights",
    ".onnx": "an ONNX model",
    ".gguf": "a GGUF model",
    ".tflite": "a TensorFlow Lite model",
    ".npz": "NumPy arrays",
    ".npy": "NumPy arrays",
    ".ot": "weights for Rust",
    ".pkl": "a Python pickle",
    ".pickle": "a Python pickle",
    ".zip": "an archive",
    ".tar": "an archive",
    ".gz": "an archive",
    ".7z": "an archive",
}


class Role(StrEnum):
    """What a file is to a scan."""

    CONFIG = "config"
    TEXT = "text"
    CHECKPOINT = "checkpoint"
    TEXTS = "texts"
    IGNORED = "ignored"


def role_of(path: str) -> tuple[Role, str]:
    """The role of a file at the top of a repository, and for ignored ones why, in plain words."""
    name = path.lower()
    if path in (CONFIG, PREPROCESSOR, OPEN_CLIP_CONFIG) or ("/" not in path and path.endswith(INDEX_SUFFIX)):
        return Role.CONFIG, ""
    if path in TEXT_FILES:
        return Role.TEXTS, ""
    if "/" in path:
        return Role.IGNORED, "in a folder below the model's: not part of the model"
    suffix = PurePosixPath(name).suffix
    if _TRAINING.fullmatch(name):
        return Role.IGNORED, "state of the training: not needed for the weights, not opened"
    if is_checkpoint(name):
        if _EMA.search(name.rpartition(".")[0]):
            return Role.IGNORED, "averaged copy of the weights: not scanned"
        return Role.CHECKPOINT, ""
    if suffix in _CODE_SUFFIXES:
        return Role.IGNORED, "code: never run, not opened"
    if suffix in _FOREIGN:
        return Role.IGNORED, f"{_FOREIGN[suffix]}: not scanned, not opened"
    if _TEXT.fullmatch(name):
        return Role.TEXT, ""
    return Role.IGNORED, "not needed to load the model, not opened"


def is_checkpoint(name: str) -> bool:
    """Whether a file of this name may hold weights that can be read."""
    return name.lower().endswith(_CHECKPOINT_SUFFIXES)
