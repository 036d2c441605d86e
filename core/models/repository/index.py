"""The index of a sharded checkpoint: which file holds which tensor."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from core.errors import InvalidInputError
from core.models.safety.json_rules import parse_config
from core.models.safety.limits import DEFAULT
from core.models.source import SourceFile
from core.models.tensor_checks import MAX_TENSORS

_SHARD = re.compile(r"[A-Za-z0-9_.-]{1,100}\.(safetensors|bin)")
_LIMITS = replace(DEFAULT, config_bytes=8 << 20)  # a line for each tensor
_HINT = "Save the model again with save_pretrained, and upload all of its files."


@dataclass(frozen=True, slots=True)
class Index:
    """What an index file says.

    Attributes:
        path: of the index file.
        weight_map: key -> file name.
    """

    path: str
    weight_map: Mapping[str, str]

    @property
    def shards(self) -> list[str]:
        """File names, sorted."""
        return sorted(set(self.weight_map.values()))

    def check_shards(self, found: Mapping[str, Iterable[str]]) -> None:
        """Every tensor is in the one shard the index says, and there is no other.

        Args:
            found: file name -> keys in it.

        Raises:
            InvalidInputError: `invalid_index`: names the tensor and the shard.
        """
        seen: dict[str, str] = {}
        for shard, keys in found.items():
            for key in keys:
                if key in seen:
                    raise _invalid(self.path, f"{key[:120]!r} is in {seen[key]} and in {shard}")
                seen[key] = shard
                if key not in self.weight_map:
                    raise _invalid(self.path, f"{shard} holds {key[:120]!r}, which the index does not name")
                if self.weight_map[key] != shard:
                    raise _invalid(self.path, f"{key[:120]!r} is in {shard}, not in {self.weight_map[key]}")
        for key, shard in self.weight_map.items():
            if key not in seen:
                raise _invalid(self.path, f"{shard} does not hold {key[:120]!r}")


def read_index(file: SourceFile) -> Index:
    """Reads and checks an index file.

    Raises:
        InvalidInputError: `invalid_config` (not strict JSON), `invalid_index`.
    """
    with file.location.open("rb") as stream:
        data = stream.read(_LIMITS.config_bytes + 1)
    value = parse_config(data, file.path, _LIMITS).get("weight_map")
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_TENSORS:
        raise _invalid(file.path, f"weight_map is no object with 1 to {MAX_TENSORS} entries")
    suffix = ".safetensors" if ".safetensors" in file.path else ".bin"
    for key, shard in value.items():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard) or not shard.endswith(suffix):
            raise _invalid(file.path, f"{key[:120]!r} is said to be in {str(shard)[:80]!r}, which is no shard's name")
    return Index(file.path, value)


def _invalid(path: str, what: str) -> InvalidInputError:
    return InvalidInputError("invalid_index", f"{path}: {what}.", _HINT)
