"""Hyper-parameters of a scan: what the verdict depends on. Deployment settings live in core/settings.py.

Torch-free, so that the API can compute a digest without the engine. Energies and norms are in
resolution-free units: fractions of the image area, and root-mean-square pixel change.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from core.domain import ModelKind, Preset, PurifyMode

_AUTO = "auto"


@dataclass(frozen=True, slots=True)
class InversionConfig:
    """Budget and prior of the blind inversion (E and M steps)."""

    restarts: int = 1
    screen_batch: int = 16
    batch_size: int = 32  # while refining
    screen_steps: int = 24  # per local hypothesis: two thirds for all targets, the rest for the likely ones
    refine_steps: int = 24  # per surviving hypothesis
    survivors: int = 3
    flip_rate: float = 0.85  # what the dual-controlled prior weight steers to


@dataclass(frozen=True, slots=True)
class UnlearningConfig:
    """The outer problem and its utility guard."""

    rounds: int = 3
    steps: int = 80  # a round
    batch_size: int = 64
    lr: float = 0.01
    path: float = 0.9  # rho: how far back to the suspect the triggered loss is taken
    reattack_steps: int = 8  # simulated re-attack, at most
    kd: float = 8.0
    feature: float = 5.0
    stage: float = 3.0  # distance of the stages' outputs from the suspect's, on clean and on triggered images
    utility_budget: float = 0.05  # largest loss of accuracy (or agreement) that is published


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Pixel space [0, 1] to model input: resize to `size`, then (x - mean) / std per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]  # height, width

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Preprocess":
        height, width = value["size"]
        return cls(tuple(map(float, value["mean"])), tuple(map(float, value["std"])), (int(height), int(width)))


@dataclass(frozen=True, slots=True)
class ScanConfig:
    """Everything, besides the files and the engine version, that a scan's result depends on."""

    kind: ModelKind | None = None  # None: "auto"
    architecture: str = "auto"
    preprocess: Preprocess | None = None  # None: "auto"
    purify: PurifyMode = PurifyMode.AUTO
    preset: Preset = Preset.STANDARD
    seed: int = 0
    vocabulary: tuple[str, ...] = ()  # names of the targets of a CLIP; empty: taken from the reference set
    templates: tuple[str, ...] = ()  # prompts around a name, each with one `{}`; empty: the usual ones
    inversion: InversionConfig = field(default_factory=InversionConfig)
    unlearning: UnlearningConfig = field(default_factory=UnlearningConfig)

    @classmethod
    def for_preset(cls, preset: Preset, **options: Any) -> "ScanConfig":
        """The configuration a preset stands for; `options` are the other fields."""
        inversion, unlearning = _PRESETS[preset]
        return cls(preset=preset, inversion=inversion, unlearning=unlearning, **options)

    def to_json(self) -> dict[str, Any]:
        value = asdict(self) | {"kind": self.kind or _AUTO}
        return json.loads(json.dumps(value))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ScanConfig":
        """Inverse of to_json: the child process rebuilds exactly what was submitted."""
        preprocess = value["preprocess"]
        return cls(
            kind=None if value["kind"] == _AUTO else ModelKind(value["kind"]),
            architecture=value["architecture"],
            preprocess=None if preprocess is None else Preprocess.from_json(preprocess),
            purify=PurifyMode(value["purify"]),
            preset=Preset(value["preset"]),
            seed=value["seed"],
            vocabulary=tuple(value.get("vocabulary", ())),
            templates=tuple(value.get("templates", ())),
            inversion=InversionConfig(**value["inversion"]),
            unlearning=UnlearningConfig(**value["unlearning"]),
        )

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON form."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


_PRESETS: dict[Preset, tuple[InversionConfig, UnlearningConfig]] = {
    Preset.FAST: (InversionConfig(screen_steps=20, refine_steps=16, survivors=2), UnlearningConfig(rounds=1, steps=40)),
    Preset.STANDARD: (InversionConfig(), UnlearningConfig()),
    Preset.THOROUGH: (
        InversionConfig(restarts=3, screen_batch=24, batch_size=48, screen_steps=32, refine_steps=64, survivors=5),
        UnlearningConfig(steps=160),
    ),
}
