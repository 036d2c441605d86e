"""Blind inversion: the one EM engine behind SuspectModel.

Target hypotheses are explicit mixture components, pruned in succession: every restart screens all of them with little
effort, the more probable ones are continued, the best of those are refined. Beside them run components whose target
depends on the source class, with a learned transition.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core import devices
from core.config import InversionConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.errors import InvalidInputError
from core.inversion.ascent import ascend
from core.inversion.measure import FlipCurve, answers, choose_windows, flip_curve, flips
from core.inversion.particles import Bank, Images, fit, frozen
from core.inversion.posterior import mutual_information
from core.inversion.result import Evidence, InversionResult, InvertedTrigger
from core.models.protocol import SuspectModel
from core.triggers.base import ParticleOperator, randomise
from core.triggers.registry import TRIGGERS
from core.triggers.tiled import TiledOperator

#: Families in which every target is a hypothesis, and those with a source-dependent target.
TARGETED, LEARNED = ("tiled", "additive", "smooth", "warp"), ("tiled", "additive")
#: Share of the reference set that triggers are measured on and not fitted on.
HELD_OUT = 0.25
#: With more targets than this, a short look at all of them decides which so many are screened.
MANY = 32
#: Fewer reference images than this cannot be fitted and measured on.
FEWEST_IMAGES = 8
#: Targets continued after the first screening beyond the final survivors.
CONTINUED = 1
#: Families that screen once and refine one survivor, whatever the budget: few parameters, so restarts agree.
MINOR = ("smooth", "warp")
#: What source-dependent components are steered to: an image near a class border is sent to the wrong neighbour.
SOURCE_FLIP_RATE = 0.6
#: A pattern that flips so many images through one window is a local trigger: its patch stays there. Others may grow.
LOCAL = 0.5
#: A source-dependent component that moves fewer images than this after screening is not refined, nor is a local one
#: unless it is the best.
PROMISING = 0.1
#: Components within this factor of the least energy are kept, and at most so many.
KEEP_WITHIN, KEEP_MOST = 2.0, 6
_SPREAD = {"tiled": 0.5, "additive": 0.01, "patch": 0.5, "smooth": 0.02, "warp": 0.01}
#: Share of the screening steps a family needs: dense triggers show after few.
_SCREENING = {"tiled": 1.0, "additive": 0.7, "smooth": 0.7, "warp": 0.7}
_HALF = 0.5
#: Prior weight that refinement starts from.
REFINE_WEIGHT = 3.0
_ASCENT_STEPS, _ASCENT_IMAGES = 6, 64


@dataclass(slots=True)
class _Found:
    """A refined component and what was measured on held-out images."""

    bank: Bank  # of one particle
    evidence: Evidence


@dataclass(slots=True)
class _Candidate:
    """A screened component of one particle."""

    bank: Bank
    loss: float
    restart: int
    window_flip: float = 0.0
    curve: FlipCurve | None = None

    def energy(self, flip_rate: float) -> float:
        """At equal flip rate; infinite if not measured."""
        return float("inf") if self.curve is None else float(self.curve.at(flip_rate)[0])


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

    @property
    def classes(self) -> int:
        return self.model.num_targets

    def step(self, images: int) -> None:
        self.images += images
        self.ctx.progress(min(0.99, self.images / self.total))

    def bank(self, family: str, targets: Sequence[int | None]) -> Bank:
        """Fresh particles."""
        operator: ParticleOperator = TRIGGERS.get(family)(len(targets), self.model.input_shape)
        randomise(operator, self.generator, _SPREAD[family])
        return Bank.create(operator.to(self.fit_on.pixels.device), targets, self.classes)

    def flip_rate(self, bank: Bank) -> float:
        """What a component is steered to."""
        return self.config.flip_rate if bank.targets[0] is not None else SOURCE_FLIP_RATE

    def fit(self, bank: Bank, steps: int, batch_size: int, residual: bool = False) -> Tensor:
        """(M,) mean negative log-marginals."""
        return fit(
            self.model,
            bank,
            self.fit_on,
            steps=steps,
            batch_size=batch_size,
            flip_rate=self.flip_rate(bank),
            generator=self.generator,
            on_step=self.step,
            residual=residual,
        )


def invert(
    model: SuspectModel, reference: ReferenceSet, config: InversionConfig, *, seed: int, ctx: RunContext
) -> InversionResult:
    """Find the least-energy triggers that the suspect obeys.

    Args:
        model: the suspect, in evaluation mode.
        reference: clean images (N >= FEWEST_IMAGES) in pixel space, on the model's device. Where a held-out part would
            be smaller than that, triggers are measured on the images they were fitted on.
        config: budget and prior.
        seed: everything random depends on it and on nothing else.
        ctx: progress goes there at every step, and it may stop the run.

    Returns:
        Surviving components, most suspicious first, and the evidence for all hypotheses.

    Raises:
        InvalidInputError: fewer reference images than that.
        CanceledError: the context asked to stop.
    """
    if len(reference) < FEWEST_IMAGES:
        raise InvalidInputError(
            "reference_too_small",
            f"{len(reference)} reference images are too few to look for a trigger with.",
            "Give some tens of images per class.",
        )
    generator = torch.Generator().manual_seed(seed)
    with frozen(model), devices.fast_inference(model.module, reference.pixels.device):
        fit_part, held_out_part = reference.split(HELD_OUT, seed)
        if len(held_out_part) < FEWEST_IMAGES:
            fit_part = held_out_part = reference
        fit_on, held_out = _images(model, fit_part), _images(model, held_out_part)
        run = _Run(model, config, generator, ctx, fit_on, held_out, _planned(model.num_targets, config))
        for family in TARGETED:
            _targeted(run, family)
        for family in LEARNED:
            _learned(run, family)
        return _result(run)


def _images(model: SuspectModel, part: ReferenceSet) -> Images:
    return Images(part.pixels, answers(model, part.pixels))


def _planned(classes: int, config: InversionConfig) -> float:
    """Images the run will process, for progress only."""
    images = 0.0
    for family in TARGETED:
        restarts, survivors = (1, 1) if family in MINOR else (config.restarts, min(config.survivors, classes))
        if classes > MANY:
            images += restarts * classes * _screen_steps(config, family) * config.screen_batch / 4
        screened = min(classes, MANY)
        images += _screen_steps(config, family) * config.screen_batch * (restarts * screened + survivors + CONTINUED)
        images += survivors * config.refine_steps * config.batch_size
    return images + len(LEARNED) * config.restarts * config.screen_steps * config.batch_size


def _screen_steps(config: InversionConfig, family: str) -> int:
    """Of one of the two screening passes."""
    return max(1, round(config.screen_steps / 2 * _SCREENING[family]))


def _screen(run: _Run, family: str, restart: int) -> dict[int, _Candidate]:
    """Fresh particles for all targets; where there are very many, a short look decides which are screened in full."""
    steps, batch = _screen_steps(run.config, family), run.config.screen_batch
    banks = [run.bank(family, chunk) for chunk in _chunks(run, range(run.classes))]
    if run.classes <= MANY:
        return _pass(run, banks, steps, batch, restart)
    looked = _pass(run, banks, max(1, steps // 2), max(1, batch // 2), restart)
    likely = sorted(looked, key=lambda target: looked[target].loss)[:MANY]
    return _pass(run, [looked[target].bank for target in likely], steps, batch, restart)


def _chunks(run: _Run, targets: Sequence[int]) -> list[Sequence[int]]:
    size = devices.bank_size(run.fit_on.pixels.device)
    return [targets[start : start + size] for start in range(0, len(targets), size)]


def _pass(run: _Run, banks: list[Bank], steps: int, batch: int, restart: int) -> dict[int, _Candidate]:
    """Fit every bank for a few steps; its particles by target."""
    found: dict[int, _Candidate] = {}
    for bank in banks:
        losses = run.fit(bank, steps, batch) + bank.operator.energies().detach()
        for row, (target, loss) in enumerate(zip(bank.targets, losses.tolist(), strict=True)):
            if target is not None:
                found[target] = _Candidate(bank.select([row]), loss, restart)
    return found


def _targeted(run: _Run, family: str) -> None:
    """Screen all targets in every restart, continue the more probable, refine and measure the best."""
    config = run.config
    steps = _screen_steps(config, family)
    restarts, survivors = (1, 1) if family in MINOR else (config.restarts, config.survivors)
    best: dict[int, _Candidate] = {}
    for restart in range(restarts):
        for target, candidate in _screen(run, family, restart).items():
            if target not in best or candidate.loss < best[target].loss:
                best[target] = candidate
    energies = torch.full((run.classes,), float("inf"))
    continued = sorted(best, key=lambda target: best[target].loss)[: survivors + CONTINUED]
    for target in continued:
        run.fit(best[target].bank, steps, config.screen_batch)
        _settle(run, best[target])
        energies[target] = best[target].energy(config.flip_rate)
    ranked = sorted(continued, key=lambda target: float(energies[target]))[:survivors]
    for rank, target in enumerate(ranked):
        # A local pattern that does next to nothing through its best window is worth one refinement, not several.
        if rank == 0 or family != TiledOperator.name or best[target].window_flip >= PROMISING:
            energies[target] = _refine(run, best[target], family)
    run.energies[family] = energies


def _learned(run: _Run, family: str) -> None:
    """Components whose target depends on the source; the most probable restart is refined."""
    config = run.config
    candidates = []
    for restart in range(config.restarts):
        bank = run.bank(family, [None])
        loss = float(run.fit(bank, config.screen_steps, config.batch_size) + bank.operator.energies().detach())
        candidates.append(_Candidate(bank, loss, restart))
    candidate = min(candidates, key=lambda item: item.loss)
    _settle(run, candidate)
    _refine(run, candidate, family)


def _settle(run: _Run, candidate: _Candidate) -> None:
    """A screened component as it stands: in its best window, with its flip curve."""
    bank = candidate.bank
    if isinstance(bank.operator, TiledOperator):
        tile = bank.operator
        candidate.window_flip = float(choose_windows(run.model, bank, run.held_out))
        bank.operator = patch = tile.to_patch()
        if candidate.window_flip >= LOCAL:
            tile.confine(patch)
    candidate.curve = flip_curve(run.model, bank, run.held_out, run.flip_rate(bank))


def _refine(run: _Run, candidate: _Candidate, family: str) -> float:
    """Spend the larger budget on one settled component; returns its energy on held-out images.

    The component stays as it was if refinement did not make it cheaper.
    """
    bank, config, curve = candidate.bank, run.config, candidate.curve
    assert curve is not None
    information = _information(run, bank)
    wanted = run.flip_rate(bank)
    if bank.targets[0] is not None or float(curve.rates.nan_to_num(nan=-1.0).max()) >= PROMISING:
        before = bank.select([0])
        # Screening lowers the weight of the prior until the trigger works; refinement starts where it shrinks again.
        bank.prior_weight.fill_(REFINE_WEIGHT)
        # The residual takes over what each image can be talked into anyway: natural directions get dearer by it.
        run.fit(bank, config.refine_steps, config.batch_size, residual=True)
        refined = flip_curve(run.model, bank, run.held_out, wanted)
        if float(refined.at(wanted)[0]) < candidate.energy(wanted):
            curve = refined
        else:
            bank = before
    energy, strength, rate = curve.at(wanted)
    half, _, _ = curve.at(_HALF)
    with torch.no_grad():
        bank.operator.scale.mul_(strength)
    found = Evidence(
        family=family,
        target=bank.targets[0],
        energy=float(energy),
        flip_rate=float(rate),
        half_energy=float(half),
        information=information,
        window_flip=candidate.window_flip,
        restart=candidate.restart,
    )
    run.found.append(_Found(bank, found))
    return float(energy)


def _information(run: _Run, bank: Bank) -> float:
    given = flips(run.model, bank, run.held_out).answers[0]
    moved = given != run.held_out.sources
    share = float(moved.float().mean())
    return share * mutual_information(run.held_out.sources[moved], given[moved], run.classes)


def _result(run: _Run) -> InversionResult:
    found = sorted(run.found, key=lambda item: item.evidence.energy)
    least = found[0].evidence.energy
    kept = [item for item in found if item.evidence.energy <= KEEP_WITHIN * least][:KEEP_MOST]
    some = Images(run.fit_on.pixels[:_ASCENT_IMAGES], run.fit_on.sources[:_ASCENT_IMAGES])
    history = ascend(run.model, kept[0].bank.select([0]), some, _ASCENT_STEPS)
    ratios = torch.tensor([item.evidence.energy / max(least, 1e-6) for item in kept])
    weights = torch.softmax(-2.0 * ratios, 0).tolist()
    triggers = tuple(
        InvertedTrigger(
            item.bank.operator.freeze(),
            item.bank.targets[0],
            item.bank.transition[0].detach().cpu(),
            item.evidence.energy,
            item.evidence.flip_rate,
            weight,
        )
        for item, weight in zip(kept, weights, strict=True)
    )
    coverage = (
        f"operators {', '.join(TARGETED)}: all {run.classes} targets screened",
        f"operators {', '.join(LEARNED)}: target depending on the source class",
        f"{run.config.restarts} restarts, {len(run.fit_on)} images fitted on, {len(run.held_out)} held out",
    )
    run.ctx.progress(1.0)
    evidence = tuple(item.evidence for item in found)
    return InversionResult(triggers, run.energies, tuple(history), run.images, coverage, evidence)
