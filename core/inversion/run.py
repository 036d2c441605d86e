"""What all phases of one inversion share: the suspect, the images, the budget and the counters."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import torch
from torch import Tensor

from core.config import InversionConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.errors import InvalidInputError
from core.inversion.measure import FlipCurve, choose_windows, flip_curve
from core.inversion.particles import Bank, Images, draws, fit
from core.inversion.result import Evidence
from core.models.protocol import SuspectModel
from core.triggers.base import ParticleOperator, randomise
from core.triggers.registry import TRIGGERS
from core.triggers.tiled import TiledOperator

#: What source-dependent components are steered to: an image near a class border is sent to the wrong neighbour.
SOURCE_FLIP_RATE = 0.6
#: A pattern that flips so many images through one window is a local trigger: its patch stays there. Others may grow.
LOCAL = 0.25
#: Standard deviation of the starting points.
_SPREAD = {"tiled": 0.5, "additive": 0.01, "smooth": 0.02, "warp": 0.01, "blend": 0.1}
_WINDOWS = 4  # tried for the best
_CHUNK = 256


@dataclass(slots=True)
class Candidate:
    """A screened component of one particle."""

    bank: Bank
    loss: float
    restart: int
    window_flip: float = 0.0
    curve: FlipCurve | None = None

    @property
    def target(self) -> int | None:
        """The hypothesis; None where it depends on the source."""
        return self.bank.targets[0]

    def energy(self, flip_rate: float) -> float:
        """At equal flip rate; infinite if not measured."""
        return float("inf") if self.curve is None else float(self.curve.at(flip_rate)[0])


@dataclass(slots=True)
class Found:
    """A refined component and what was measured on held-out images."""

    bank: Bank  # of one particle
    evidence: Evidence


@dataclass(slots=True)
class Run:
    """One inversion.

    Attributes:
        fit_on, held_out: triggers are fitted on the one and measured on the other.
        planned: images it will process, for progress only.
        images: through a forward and backward pass so far. looked: through a forward pass only.
        found: refined components, of all families.
        energies: family -> (K,) least energy per target, infinite where not measured.
        skipped: families of components that were screened and, for stronger evidence elsewhere, not refined.
    """

    model: SuspectModel
    config: InversionConfig
    generator: torch.Generator
    ctx: RunContext
    fit_on: Images
    held_out: Images
    planned: float
    images: int = 0
    looked: int = 0
    found: list[Found] = field(default_factory=list)
    energies: dict[str, Tensor] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    _counting: Lock = field(default_factory=Lock, repr=False)

    @property
    def classes(self) -> int:
        """K."""
        return self.model.num_targets

    def step(self, images: int) -> None:
        """Count, report, and stop if asked to; from any thread."""
        with self._counting:
            self.images += images
            self.ctx.progress(min(0.99, self.images / self.planned))

    def bank(self, family: str, targets: Sequence[int | None]) -> Bank:
        """Fresh particles."""
        operator: ParticleOperator = TRIGGERS.get(family)(len(targets), self.model.input_shape)
        randomise(operator, self.generator, _SPREAD[family])
        return Bank.create(operator.to(self.fit_on.pixels.device), targets, self.classes)

    def flip_rate(self, bank: Bank) -> float:
        """What a component is steered to."""
        return self.config.flip_rate if bank.targets[0] is not None else SOURCE_FLIP_RATE

    def fork(self, bank: Bank, steps: int, batch_size: int) -> torch.Generator:
        """What `fit` with these arguments draws from when it runs beside others: the very numbers it would have drawn
        in turn. Our own generator is then where it would be afterwards."""
        own = self.generator.clone_state()
        for _ in draws(bank.operator, len(self.fit_on), steps, min(batch_size, len(self.fit_on)), self.generator):
            pass
        return own

    def fit(
        self,
        bank: Bank,
        steps: int,
        batch_size: int,
        *,
        residual: bool = False,
        decay: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(M,) mean negative log-marginals of the last steps, with the energies on top.

        Args:
            generator: from `fork`, else our own.

        Raises:
            InvalidInputError: the suspect answered with something that is not a number.
        """
        losses = fit(
            self.model,
            bank,
            self.fit_on,
            steps=steps,
            batch_size=batch_size,
            flip_rate=self.flip_rate(bank),
            generator=generator or self.generator,
            on_step=self.step,
            residual=residual,
            decay=decay,
        )
        losses = losses + bank.operator.energies().detach()
        if not bool(losses.isfinite().all()):
            raise _not_finite("on slightly changed images")
        return losses

    def settle(self, candidate: Candidate) -> None:
        """A screened component as it stands: in its best window, with its flip curve."""
        bank = candidate.bank
        if isinstance(bank.operator, TiledOperator):
            tile = bank.operator
            patch = tile.to_patch()
            if candidate.window_flip >= LOCAL:
                tile.confine(patch)
            bank.operator = patch
        candidate.curve = self.curve(bank)

    def through_best_window(self, candidate: Candidate) -> float:
        """Look for the window that flips most, and note how much that is; zero for operators without windows."""
        if isinstance(candidate.bank.operator, TiledOperator):
            candidate.window_flip = float(choose_windows(self.model, candidate.bank, self.held_out, _WINDOWS))
            self.looked += _WINDOWS * len(self.held_out)
        return candidate.window_flip

    def curve(self, bank: Bank) -> FlipCurve:
        """Flip rates on the held-out images around the rate the bank is steered to."""
        curve = flip_curve(self.model, bank, self.held_out, self.flip_rate(bank))
        self.looked += curve.rates.numel() * len(self.held_out)
        return curve


def images_of(model: SuspectModel, part: ReferenceSet) -> Images:
    """The images of `part` with the suspect's own answers.

    Raises:
        InvalidInputError: one of the answers is not a number.
    """
    sources = []
    with torch.no_grad():
        for pixels in torch.split(part.pixels, _CHUNK):
            log_posterior = model.target_log_posterior(pixels)
            if bool(log_posterior.isnan().any()):
                raise _not_finite("on the reference images")
            sources.append(log_posterior.argmax(-1))
    return Images(part.pixels, torch.cat(sources))


def _not_finite(where: str) -> InvalidInputError:
    return InvalidInputError(
        "outputs_not_finite",
        f"The model's outputs {where} are not finite numbers.",
        "Check the weights for NaN and infinite values, and the preprocessing.",
    )
