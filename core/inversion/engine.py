"""Blind inversion: the one EM engine behind SuspectModel.

Target hypotheses are explicit mixture components. All of them are screened with little effort, the most probable
survive and are refined; beside them runs a component whose target depends on the source class.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core import devices
from core.config import InversionConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.inversion.measure import answers, choose_windows, energy_at, flips
from core.inversion.particles import Bank, Images, fit, frozen
from core.inversion.posterior import mutual_information
from core.inversion.result import Evidence, InversionResult, InvertedTrigger
from core.models.protocol import SuspectModel
from core.triggers.base import ParticleOperator, randomise
from core.triggers.registry import TRIGGERS
from core.triggers.tiled import TiledOperator

#: Families in which every target is a hypothesis, and those with a learned transition.
TARGETED, LEARNED = ("tiled", "additive"), ("tiled", "additive", "warp")
#: Share of the reference set that triggers are measured on and not fitted on.
HELD_OUT = 0.25
#: Components within this factor of the least energy are kept, and at most so many.
KEEP_WITHIN, KEEP_MOST = 2.0, 6
_SPREAD = {"tiled": 0.5, "additive": 0.01, "patch": 0.5, "warp": 0.01}
_HALF = 0.5


@dataclass(slots=True)
class _Found:
    """A refined component and what was measured on held-out images."""

    bank: Bank  # of one particle
    family: str
    energy: float
    flip_rate: float
    half_energy: float
    information: float
    restart: int


@dataclass(slots=True)
class _Run:
    """What all phases share."""

    model: SuspectModel
    config: InversionConfig
    generator: torch.Generator
    ctx: RunContext
    fit_on: Images
    held_out: Images
    total: float
    images: int = 0
    found: list[_Found] = field(default_factory=list)
    energies: dict[str, Tensor] = field(default_factory=dict)

    def step(self, images: int) -> None:
        self.images += images
        self.ctx.progress(min(0.99, self.images / self.total))

    @property
    def classes(self) -> int:
        return self.model.num_targets

    def bank(self, family: str, targets: Sequence[int | None]) -> Bank:
        operator: ParticleOperator = TRIGGERS.get(family)(len(targets), self.model.input_shape)
        randomise(operator, self.generator, _SPREAD[family])
        return Bank.create(operator.to(self.fit_on.pixels.device), targets, self.classes)


def invert(
    model: SuspectModel, reference: ReferenceSet, config: InversionConfig, *, seed: int, ctx: RunContext
) -> InversionResult:
    """Find the least-energy triggers that the suspect obeys.

    Args:
        model: the suspect, in evaluation mode.
        reference: clean images (N >= 8) in pixel space, on the model's device.
        config: budget and prior.
        seed: everything random depends on it and on nothing else.
        ctx: progress goes there at every step, and it may stop the run.

    Returns:
        Surviving components, most suspicious first, and the evidence for all hypotheses.

    Raises:
        CanceledError: the context asked to stop.
    """
    generator = torch.Generator().manual_seed(seed)
    with frozen(model):
        fit_on, held_out = _split(model, reference, seed)
        run = _Run(model, config, generator, ctx, fit_on, held_out, _planned(model.num_targets, config))
        for restart in range(config.restarts):
            for family in TARGETED:
                _targeted(run, family, restart)
            for family in LEARNED:
                _learned(run, family, restart)
        return _result(run)


def _split(model: SuspectModel, reference: ReferenceSet, seed: int) -> tuple[Images, Images]:
    parts = reference.split(HELD_OUT, seed)
    return _images(model, parts[0]), _images(model, parts[1])


def _images(model: SuspectModel, part: ReferenceSet) -> Images:
    return Images(part.pixels, answers(model, part.pixels))


def _planned(classes: int, config: InversionConfig) -> float:
    """Images the run will process, for progress only."""
    targeted = config.screen_steps * classes + config.refine_steps * min(config.survivors, classes)
    learned = config.screen_steps + config.refine_steps
    return config.restarts * config.batch_size * float(len(TARGETED) * targeted + len(LEARNED) * learned)


def _fit(run: _Run, bank: Bank, steps: int, residual: bool = False) -> None:
    fit(
        run.model,
        bank,
        run.fit_on,
        steps=steps,
        batch_size=run.config.batch_size,
        flip_rate=run.config.flip_rate,
        generator=run.generator,
        on_step=run.step,
        residual=residual,
    )


def _targeted(run: _Run, family: str, restart: int) -> None:
    """Screen all targets in chunks, keep the survivors, refine and measure them."""
    size = devices.bank_size(run.fit_on.pixels.device)
    banks: list[Bank] = []
    energies: list[Tensor] = []
    targets = list(range(run.classes))
    for start in range(0, run.classes, size):
        bank = run.bank(family, targets[start : start + size])
        _fit(run, bank, run.config.screen_steps)
        if isinstance(bank.operator, TiledOperator):
            choose_windows(run.model, bank, run.held_out)
        banks.append(bank)
        energies.append(energy_at(run.model, bank, run.held_out, run.config.flip_rate)[0])
    screened = torch.cat(energies).cpu()
    known = run.energies.setdefault(family, torch.full((run.classes,), float("inf")))
    order = screened.argsort().tolist()
    for target in order[: run.config.survivors]:
        bank = banks[target // size].select([target % size])
        screened[target] = _refine(run, bank, family, restart)
    torch.minimum(known, screened, out=known)


def _learned(run: _Run, family: str, restart: int) -> None:
    """One component whose target depends on the source."""
    bank = run.bank(family, [None])
    _fit(run, bank, run.config.screen_steps)
    if isinstance(bank.operator, TiledOperator):
        choose_windows(run.model, bank, run.held_out)
    _refine(run, bank, family, restart)


def _refine(run: _Run, bank: Bank, family: str, restart: int) -> float:
    if isinstance(bank.operator, TiledOperator):
        bank.operator = bank.operator.to_patch()
    _fit(run, bank, run.config.refine_steps)
    energy, strength, rate = energy_at(run.model, bank, run.held_out, run.config.flip_rate)
    half, _, _ = energy_at(run.model, bank, run.held_out, _HALF)
    with torch.no_grad():
        bank.operator.scale.mul_(strength)
    answer = flips(run.model, bank, run.held_out)
    moved = answer.answers[0] != run.held_out.sources
    information = mutual_information(run.held_out.sources[moved], answer.answers[0][moved], run.classes)
    run.found.append(_Found(bank, family, float(energy), float(rate), float(half), information, restart))
    return float(energy)


def _result(run: _Run) -> InversionResult:
    found = sorted(run.found, key=lambda item: item.energy)
    best: dict[tuple[str, int | None], _Found] = {}
    for item in found:
        best.setdefault((item.family, item.bank.targets[0]), item)
    kept = list(best.values())
    kept = [item for item in kept if item.energy <= KEEP_WITHIN * kept[0].energy][:KEEP_MOST]
    logits = torch.tensor([-item.energy / max(kept[0].energy, 1e-6) for item in kept])
    weights = torch.softmax(2.0 * logits, 0).tolist()
    triggers = tuple(
        InvertedTrigger(
            item.bank.operator.freeze(),
            item.bank.targets[0],
            item.bank.transition[0].detach().cpu(),
            item.energy,
            item.flip_rate,
            weight,
        )
        for item, weight in zip(kept, weights, strict=True)
    )
    evidence = tuple(
        Evidence(i.family, i.bank.targets[0], i.energy, i.flip_rate, i.half_energy, i.information, i.restart)
        for i in found
    )
    coverage = (
        f"operators: {', '.join(TARGETED)} for each of {run.classes} targets; "
        f"{', '.join(LEARNED)} with a source-dependent target",
        f"{run.config.restarts} restarts, {len(run.fit_on)} images fitted on, {len(run.held_out)} held out",
    )
    run.ctx.progress(1.0)
    return InversionResult(triggers, run.energies, (), run.images, coverage, evidence)
