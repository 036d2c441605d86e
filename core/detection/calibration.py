"""Thresholds, fixed on models that no claim is made about, and where they come from."""

import json
from dataclasses import dataclass
from pathlib import Path

_COMMITTED = Path(__file__).with_name("calibration.json")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds of the statistics and their provenance.

    Attributes:
        identifier: names this calibration in reports.
        thresholds: statistic name -> threshold.
        band: scores in [1 - band, 1) are too close to call.
        clean_models, backdoored_models: how many it was fixed on.
        note: which models, in words.
    """

    identifier: str
    thresholds: dict[str, float]
    band: float
    clean_models: int
    backdoored_models: int
    note: str

    @classmethod
    def load(cls, path: Path = _COMMITTED) -> "Calibration":
        """The committed calibration, or another of the same form."""
        value = json.loads(path.read_text())
        return cls(
            identifier=value["identifier"],
            thresholds={name: float(threshold) for name, threshold in value["thresholds"].items()},
            band=float(value["band"]),
            clean_models=int(value["clean_models"]),
            backdoored_models=int(value["backdoored_models"]),
            note=value["note"],
        )
