"""Are these weights those of this network? By keys and shapes alone."""

from dataclasses import dataclass

from torch import nn

from core.errors import UnsupportedError
from core.models.architectures.base import Shapes

#: Counters that old files lack; torch fills them in.
_OPTIONAL = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a network is not the one, for the error text.

    Attributes:
        name: the candidate.
        missing: keys the network has and the checkpoint lacks.
        unexpected: the other way round.
        differing: "key: checkpoint shape, network shape".
    """

    name: str
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()

    @property
    def distance(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.differing)

    def describe(self) -> str:
        """At most a few keys of each kind."""
        parts = []
        for label, keys in (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", self.differing),
        ):
            if keys:
                parts.append(f"{len(keys)} {label} ({', '.join(key[:80] for key in keys[:3])})")
        return f"{self.name}: " + "; ".join(parts)


def compare(name: str, own: Shapes, shapes: Shapes) -> Misfit:
    """Key by key; `distance` 0 means that a strict load succeeds."""
    return Misfit(
        name,
        tuple(key for key in own if key not in shapes and not key.endswith(_OPTIONAL)),
        tuple(key for key in shapes if key not in own),
        tuple(f"{key} {shapes[key]} instead of {own[key]}" for key in own if key in shapes and shapes[key] != own[key]),
    )


def shapes_of(module: nn.Module) -> Shapes:
    """Of all its parameters and buffers, by key."""
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def must_fit(name: str, module: nn.Module, shapes: Shapes, hint: str) -> None:
    """Checks that weights of these shapes, by the network's own keys, are this network's, all and no other.

    Raises:
        UnsupportedError: `unsupported_architecture`: says what differs.
    """
    misfit = compare(name, shapes_of(module), shapes)
    if misfit.distance:
        raise UnsupportedError(
            "unsupported_architecture", f"The weights do not fit the network. {misfit.describe()}.", hint
        )
