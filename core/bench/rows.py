"""Results as JSON lines: one line per measured thing, appended as soon as it is known, so that a run can go on."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from core.errors import InvalidInputError

Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """What rows of all kinds share. Fractions are in [0, 1]."""

    data: str
    model: str
    attack: str
    method: str
    seed: int

    @property
    def key(self) -> Key:
        """What may be measured once."""
        return (self.data, self.model, self.attack, self.seed, self.method)

    @property
    def cell(self) -> Key:
        """The cell of the suite, of which there is one model for each seed."""
        return (self.data, self.model, self.attack)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises InvalidInputError unless the fields are exactly these."""
        names = {item.name for item in fields(cls)}
        if set(value) != names:
            odd = ", ".join(sorted(set(value) ^ names))
            raise InvalidInputError("bench_rows_unreadable", f"A line of results has missing or unknown fields: {odd}.")
        return cls(**value)


@dataclass(frozen=True, slots=True)
class PurifyRow(_Row):
    """One suspect after one method.

    Rates of an attack with several triggers are means over them; `detail` has each.

    Attributes:
        acc_before, asr_before: of the suspect. acc, asr, ra: after the method.
        asr_clean, ra_clean: of a clean model of the same kind under the same trigger.
        reattack: "worst" over the grid of learning rates and steps, "perturbed", and the same of the clean model as
            "worst_clean" and "perturbed_clean".
        passes: images through a forward and backward pass.
        wall_s, peak_rss_bytes: of the method alone, in a process of its own.
        detail: cpu_s, what the method tells about itself, rates and curves by trigger.
    """

    acc_before: float
    acc: float
    asr_before: float
    asr: float
    ra: float
    asr_clean: float
    ra_clean: float
    reattack: Mapping[str, float]
    passes: int
    wall_s: float
    peak_rss_bytes: int
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DetectRow(_Row):
    """One model under one detector.

    Attributes:
        attack: "clean" for a clean model.
        suspicious: the detector's own threshold is passed.
        verdict: in the detector's own words.
        score: grows with suspicion. p_value: null without a calibration.
        target: the class named first; null if none, or if it depends on the source.
        named: whether that is a true target; null for a clean model.
        passes, wall_s, peak_rss_bytes: as in PurifyRow.
        detail: as there; also `asr` of the planted trigger (null for a clean model), targets, true_targets.
    """

    suspicious: bool
    verdict: str
    score: float
    p_value: float | None
    target: int | None
    named: bool | None
    passes: int
    wall_s: float
    peak_rss_bytes: int
    detail: Mapping[str, Any] = field(default_factory=dict)


R = TypeVar("R", bound=_Row)


class RowFile(Generic[R]):
    """Rows in a file of JSON lines. One process writes; a line cut off by its end is dropped.

    Args:
        path: created with the first row.
        kind: what a line is.

    Raises:
        InvalidInputError: a complete line is not a row of this kind.
    """

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path, self._kind = path, kind
        self._rows: dict[Key, R] = {}
        if path.exists():
            self._read()

    def __iter__(self) -> Iterator[R]:
        """In an order that does not depend on that of the work."""
        return iter(sorted(self._rows.values(), key=lambda row: [str(part) for part in row.key]))

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: Key) -> R | None:
        return self._rows.get(key)

    def append(self, row: R) -> None:
        """Keep `row`, on the disk before this returns; a second one of the same key is a bug."""
        if row.key in self._rows:
            raise ValueError(f"{row.key} is measured twice")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row.to_json()) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._rows[row.key] = row

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = self._kind.from_json(json.loads(line))
            except json.JSONDecodeError as error:
                raise InvalidInputError(
                    "bench_rows_unreadable", f"Line {number} of {self.path.name} is not JSON.", "Remove the line."
                ) from error
            self._rows[row.key] = row
