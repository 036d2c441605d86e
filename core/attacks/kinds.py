"""Triggers and attacks from what `described.describe` wrote."""

from collections.abc import Callable, Mapping
from typing import Any

from core.attacks.imagewise import Pieces, Quantised, Residual, Warp
from core.attacks.poisoning import Attack
from core.attacks.triggers import ImageTrigger, LowFrequency, Optimised, Signal, Trigger

#: What reads which kind.
KINDS: Mapping[str, Callable[..., ImageTrigger]] = {
    "patch": Trigger,
    "grid": Trigger,
    "blended": Trigger,
    "signal": Signal,
    "low-frequency": LowFrequency,
    "warp": Warp,
    "residual": Residual,
    "quantised": Quantised,
    "pieces": Pieces,
    "optimised": Optimised,
}


def trigger_from_json(values: Mapping[str, Any]) -> ImageTrigger:
    """The trigger that was described as `values`.

    Raises:
        KeyError: its kind is unknown.
        TypeError: the values are not those of its kind.
    """
    fields = {name: _value(value) for name, value in values.items()}
    return KINDS[values["kind"]](**fields)


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return trigger_from_json(value)
    return tuple(value) if isinstance(value, list) else value


def attack_from_json(values: Mapping[str, Any]) -> Attack:
    """The attack that was described as `values`; raises as `trigger_from_json`."""
    fields = dict(values) | {
        name: tuple(trigger_from_json(trigger) for trigger in values[name])
        for name in ("triggers", "planted", "covers")
        if name in values
    }
    return Attack(**fields | {"targets": tuple(values["targets"])})
