"""From the configurations of a repository to what a scan needs to know of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.errors import InvalidInputError, UnsupportedError
from core.models.architectures import timm_configs, transformers_zoo
from core.models.architectures.blueprint import Blueprint
from core.models.clip.blueprint import CHANNELS, ClipBlueprint
from core.models.clip.tokenizers import TokenizerRules
from core.models.repository.labels import timm_labels, transformers_labels
from core.models.repository.layouts import Repository, RepositoryKind
from core.models.repository.names import CONFIG, OPEN_CLIP_CONFIG, PREPROCESSOR
from core.models.repository.preprocess import (
    Preprocessing,
    open_clip_preprocessing,
    timm_preprocessing,
    transformers_preprocessing,
)

_KNOWN_OF_TIMM_TEXT = """
architecture architectures do_pooling dtype first_conv global_pool initializer_range label_descriptions label_names
labels model_args model_type num_classes num_features pretrained_cfg problem_type torch_dtype transformers_version
"""
_KNOWN_OF_TIMM = frozenset(_KNOWN_OF_TIMM_TEXT.split())


@dataclass(frozen=True, slots=True)
class Plan:
    """What the configurations say.

    Attributes:
        blueprint: the network.
        labels: class names by index; empty if nobody says.
        preprocessing: of the images.
        ignored_fields: fields of config.json that were not taken.
        tokenizer: of a model of images and texts.
    """

    blueprint: Blueprint | ClipBlueprint
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    ignored_fields: tuple[str, ...]
    tokenizer: TokenizerRules | None = None


def make_plan(repository: Repository) -> Plan:
    """Reads the configurations of a repository.

    Raises:
        InvalidInputError: `invalid_config`.
        UnsupportedError: `unsupported_architecture`, `unsupported_config`, `unsupported_text_model`,
            also for models of images and texts.
    """
    if repository.kind is RepositoryKind.OPEN_CLIP:
        return _open_clip_plan(repository)
    if repository.is_clip:
        return _texts_plan(repository)
    if repository.kind is RepositoryKind.TRANSFORMERS:
        return _transformers_plan(repository)
    return _timm_plan(repository)


def _open_clip_plan(repository: Repository) -> Plan:
    where = repository.root + OPEN_CLIP_CONFIG
    config = repository.config.get("model_cfg")
    if not isinstance(config, Mapping):
        raise InvalidInputError("invalid_config", f"{where}: model_cfg is no object.", "Correct the file.")
    blueprint, _ = ClipBlueprint.checked("open_clip", config, f"{where}, model_cfg")
    said = open_clip_preprocessing(repository.config.get("preprocess_cfg"), where)
    return Plan(blueprint, (), said, (), blueprint.tokenizer_rules(config))


def _texts_plan(repository: Repository) -> Plan:
    """Of a model of images and texts of transformers."""
    where = repository.root + CONFIG
    blueprint, ignored = ClipBlueprint.checked("transformers", repository.config, where)
    said = transformers_preprocessing(repository.preprocessor, repository.root + PREPROCESSOR, CHANNELS)
    return Plan(blueprint, (), said, ignored, blueprint.tokenizer_rules(blueprint.options))


def _transformers_plan(repository: Repository) -> Plan:
    config = repository.config
    where = repository.root + CONFIG
    model_type = config["model_type"]
    if not isinstance(model_type, str):
        raise InvalidInputError("invalid_config", f"{where}: model_type is not a word.", "Correct the file.")
    problem = config.get("problem_type")
    if problem not in (None, "single_label_classification"):
        raise UnsupportedError(
            "unsupported_config",
            f"{where}: problem_type is {str(problem)[:60]!r}; a scan needs one class for each image.",
            "Only classifiers with one label per image can be scanned.",
        )
    checked = transformers_zoo.check_config(model_type, config, where)
    variant = transformers_zoo.choose_class(model_type, config.get("architectures"))
    classes, labels = transformers_labels(config, where)
    channels = checked.taken.get("num_channels", 3)
    said = transformers_preprocessing(repository.preprocessor, repository.root + PREPROCESSOR, channels)
    blueprint = Blueprint("transformers", model_type, variant, checked.taken, classes, channels, said.bgr)
    return Plan(blueprint, labels, said, checked.ignored)


def _timm_plan(repository: Repository) -> Plan:
    config = repository.config
    where = repository.root + CONFIG
    name = timm_configs.check_name(config["architecture"], where)
    arguments = config.get("model_args") or {}
    nested = config.get("pretrained_cfg")
    pretrained: Mapping[str, Any] = nested if isinstance(nested, Mapping) else config
    if not isinstance(arguments, Mapping):
        raise InvalidInputError("invalid_config", f"{where}: model_args is no object.", "Correct the file.")
    options = timm_configs.check_arguments(arguments, f"{where}, model_args")
    classes, labels = timm_labels(config, where)
    if classes is None:
        raise InvalidInputError("invalid_config", f"{where}: num_classes is missing.", "Add it.")
    channels = arguments.get("in_chans", _channels(pretrained))
    if channels not in (1, 3):
        raise UnsupportedError(
            "unsupported_input_channels", f"The network takes {channels} channels; 1 and 3 can be scanned."
        )
    said = timm_preprocessing(config, where, channels)
    if pretrained.get("fixed_input_size") is True and "img_size" not in options and said.declared.size:
        options["img_size"] = said.declared.size
    pool = pretrained.get("global_pool")
    if isinstance(pool, str) and "global_pool" not in options:
        options |= timm_configs.check_arguments({"global_pool": pool}, where)
    if isinstance(side := options.get("img_size"), int | tuple | list) and said.declared.size is None:
        said = replace(said, declared=replace(said.declared, size=_both(side)))
    ignored = tuple(sorted(key for key in config if nested is not None and key not in _KNOWN_OF_TIMM))
    return Plan(Blueprint("timm", name, "", options, classes, channels), labels, said, ignored)


def _channels(pretrained: Mapping[str, Any]) -> Any:
    size = pretrained.get("input_size")
    return size[0] if isinstance(size, list) and len(size) == 3 else 3


def _both(side: Any) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else (side[0], side[-1])
