"""The search over target hypotheses of one operator family: successive halving, then refinement of what is left.

Every hypothesis gets a little effort, the more probable ones the rest, the best of those are refined. Hypotheses keep
their optimiser state, so that a pruned search goes on instead of starting again.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from core import devices
from core.config import InversionConfig
from core.inversion.measure import flips
from core.inversion.particles import Bank
from core.inversion.posterior import mutual_information
from core.inversion.result import Evidence
from core.inversion.run import Candidate, Found, Run
from core.triggers.tiled import TiledOperator

#: With more targets than this, a shorter look at all of them decides which so many are screened.
MANY = 20
#: How much shorter, in steps and in images a step.
SHORTER = 0.75
#: Targets continued after the first screening beyond the final survivors.
CONTINUED = 1
#: Families of dense triggers, and the one that repeats the best of them at a planted trigger's strength.
DENSE, BLEND = ("additive", "smooth"), "blend"
#: At most so many survivors of a family are refined, whatever the budget, and a family of one is screened once: it has
#: few parameters, so restarts agree. (Two of the additive ones show whether the best stands alone.)
MOST_REFINED = {"additive": 2, "smooth": 1, "warp": 1}
#: Share of the screening steps a family needs: dense triggers show after few.
_SCREENING = {"tiled": 1.0, "additive": 2 / 3, "smooth": 2 / 3, "warp": 2 / 3}
#: Share of those that every target gets. A local trigger needs most of it to show at all.
_FIRST = {"tiled": 2 / 3, "additive": 0.5, "smooth": 0.5, "warp": 0.5}
#: A local component, and a source-dependent one, that moves fewer images than this is not refined.
PROMISING, SOURCE_PROMISING = 0.1, 0.2
#: A promising local trigger that moves fewer than this gets some more steps before it is refined.
FINISHED = 0.8
#: Prior weight that refinement starts from.
REFINE_WEIGHT = 3.0
#: What the step size falls to while refining.
_DECAY = 0.25
#: Images a step, as shares of the refinement's: of those continued, and where a whole transition is learned.
_CONTINUED_BATCH, _SOURCE_BATCH = 0.75, 1.5
#: No clean model has so cheap a trigger. Once one is found, what is this many times dearer is not refined: it would
#: neither be kept nor change the verdict.
STRONG, HOPELESS = 0.35, 3.0


def budget(classes: int, config: InversionConfig, family: str) -> float:
    """Images that searching one family will put through a forward and backward pass, at most."""
    restarts, survivors = _effort(config, family)
    first, rest = _steps(config, family)
    survivors = min(survivors, classes)
    images = 0.0
    if classes > MANY:
        images += restarts * classes * first * config.screen_batch * SHORTER * SHORTER
    images += restarts * min(classes, MANY) * first * config.screen_batch
    images += (survivors + CONTINUED) * rest * round(_CONTINUED_BATCH * config.batch_size)
    return images + survivors * config.refine_steps * config.batch_size


def blend_budget(config: InversionConfig) -> float:
    """The same for the blend."""
    return config.refine_steps * config.batch_size


def source_budget(config: InversionConfig, family: str) -> float:
    """The same for one family of source-dependent components."""
    screened = config.restarts * sum(_steps(config, family)) * round(_SOURCE_BATCH * config.batch_size)
    return screened + config.refine_steps * config.batch_size


def search(run: Run, family: str) -> None:
    """Screen all targets in every restart, continue the more probable, refine and measure the best."""
    config = run.config
    restarts, survivors = _effort(config, family)
    best: dict[int, Candidate] = {}
    for restart in range(restarts):
        for target, candidate in _screen(run, family, restart).items():
            if target not in best or candidate.loss < best[target].loss:
                best[target] = candidate
    energies = torch.full((run.classes,), float("inf"))
    continued = sorted(best.values(), key=lambda item: item.loss)[: survivors + CONTINUED]
    rest, batch = _steps(config, family)[1], round(_CONTINUED_BATCH * config.batch_size)
    for candidate in continued:
        run.fit(candidate.bank, rest, batch)
        if PROMISING <= run.through_best_window(candidate) < FINISHED:
            run.fit(candidate.bank, rest, batch)
            run.through_best_window(candidate)
        run.settle(candidate)
    ranked = sorted(continued, key=lambda item: item.energy(config.flip_rate))
    for rank, candidate in enumerate(ranked):
        assert candidate.target is not None
        if rank == 0 or (rank < survivors and (family != TiledOperator.name or candidate.window_flip >= PROMISING)):
            refine(run, candidate, family)
            energies[candidate.target] = run.found[-1].evidence.energy
        else:
            energies[candidate.target] = candidate.energy(config.flip_rate)
    run.energies[family] = energies


def _effort(config: InversionConfig, family: str) -> tuple[int, int]:
    """Restarts and survivors."""
    most = MOST_REFINED.get(family, config.survivors)
    return (1, 1) if most == 1 else (config.restarts, min(most, config.survivors))


def _steps(config: InversionConfig, family: str) -> tuple[int, int]:
    """For every target, and for those continued."""
    total = config.screen_steps * _SCREENING[family]
    first = max(1, round(total * _FIRST[family]))
    return first, max(1, round(total) - first)


def _screen(run: Run, family: str, restart: int) -> dict[int, Candidate]:
    """Fresh particles for all targets; where there are very many, a shorter look decides which are screened in full."""
    steps, batch = _steps(run.config, family)[0], run.config.screen_batch
    banks = (run.bank(family, chunk) for chunk in _chunks(run, range(run.classes)))
    if run.classes <= MANY:
        return _pass(run, banks, steps, batch, restart)
    looked = _pass(run, banks, max(1, round(steps * SHORTER)), max(1, round(batch * SHORTER)), restart)
    likely = sorted(looked.values(), key=lambda item: item.loss)[:MANY]
    return _pass(run, [item.bank for item in likely], steps, batch, restart)


def _chunks(run: Run, targets: Sequence[int]) -> list[Sequence[int]]:
    size = devices.bank_size(run.fit_on.pixels.device)
    return [targets[start : start + size] for start in range(0, len(targets), size)]


def _pass(run: Run, banks: Iterable[Bank], steps: int, batch: int, restart: int) -> dict[int, Candidate]:
    """Fit every bank for a few steps, side by side where that is faster; its particles by target."""
    found: dict[int, Candidate] = {}

    def fit_one(bank: Bank, generator: torch.Generator) -> tuple[Bank, Tensor]:
        return bank, run.fit(bank, steps, batch, generator=generator)

    tasks = (partial(fit_one, bank, run.fork(bank, steps, batch)) for bank in banks)
    for bank, losses in devices.side_by_side(run.model.module, run.ctx.threads, tasks):
        for row, (target, loss) in enumerate(zip(bank.targets, losses.tolist(), strict=True)):
            if target is not None:
                found[target] = Candidate(bank.select([row]), loss, restart)
    return found


def search_source_dependent(run: Run, family: str) -> None:
    """Components whose target depends on the source; the most probable restart is refined if it moves images at all."""
    config = run.config
    steps, batch = sum(_steps(config, family)), round(_SOURCE_BATCH * config.batch_size)
    candidates = []
    for restart in range(config.restarts):
        bank = run.bank(family, [None])
        candidates.append(Candidate(bank, float(run.fit(bank, steps, batch)), restart))
    candidate = min(candidates, key=lambda item: item.loss)
    run.through_best_window(candidate)
    run.settle(candidate)
    refine(run, candidate, family)


def blend(run: Run) -> None:
    """The likeliest dense trigger once more, at the strength that such a trigger is planted with.

    Least-energy patterns have a fraction of a planted picture's norm, and drive the weights elsewhere. Nothing is
    decided here: the component is only added to what unlearning can use.
    """
    dense = [item.evidence for item in run.found if item.evidence.family in DENSE]
    likeliest = min(dense, key=lambda evidence: evidence.energy)
    bank = run.bank(BLEND, [likeliest.target])
    run.fit(bank, run.config.refine_steps, run.config.batch_size, residual=True)
    candidate = Candidate(bank, 0.0, 0)
    run.settle(candidate)
    record(run, candidate, BLEND, 0.0)


def refine(run: Run, candidate: Candidate, family: str) -> None:
    """Spend the larger budget on one settled component, unless that is pointless, and put it among what was found.

    It stays as it was if refinement did not make it cheaper on held-out images.
    """
    bank, config, curve = candidate.bank, run.config, candidate.curve
    assert curve is not None
    information = _information(run, bank)
    wanted = run.flip_rate(bank)
    if _worth_refining(run, candidate, family):
        before = bank.select([0])
        # Screening lowers the weight of the prior until the trigger works; from there on refinement shrinks it again.
        works = float(curve.rates.max()) >= wanted
        bank.restart(bank.operator, REFINE_WEIGHT if works else float(bank.prior_weight))
        # The residual takes over what each image can be talked into anyway: natural directions get dearer by it.
        run.fit(bank, config.refine_steps, config.batch_size, residual=True, decay=_DECAY)
        refined = run.curve(bank)
        if float(refined.at(wanted)[0]) < candidate.energy(wanted):
            curve = refined
        else:
            bank = before
    candidate.bank, candidate.curve = bank, curve
    record(run, candidate, family, information)


def record(run: Run, candidate: Candidate, family: str, information: float) -> None:
    """Put a component among what was found, at the strength where it flips what it was steered to.

    A blend keeps at least its opacity: that is what it is for.
    """
    assert candidate.curve is not None
    energy, strength, rate = candidate.curve.at(run.flip_rate(candidate.bank))
    with torch.no_grad():
        candidate.bank.operator.scale.mul_(strength.clamp(min=1.0) if family == BLEND else strength)
    evidence = Evidence(
        family=family,
        target=candidate.target,
        energy=float(energy),
        flip_rate=float(rate),
        information=information,
        window_flip=candidate.window_flip,
        restart=candidate.restart,
    )
    run.found.append(Found(candidate.bank, evidence))


def _worth_refining(run: Run, candidate: Candidate, family: str) -> bool:
    """Not what moves next to nothing, nor what is hopelessly dearer than what was found; a local trigger always is."""
    assert candidate.curve is not None
    if family == TiledOperator.name and candidate.target is not None:
        return candidate.window_flip >= PROMISING
    if candidate.target is None and float(candidate.curve.rates.max()) < SOURCE_PROMISING:
        return False
    least = min((item.evidence.energy for item in run.found), default=STRONG)
    if least < STRONG and candidate.energy(run.flip_rate(candidate.bank)) > HOPELESS * least:
        run.skipped.append(family)
        return False
    return True


def _information(run: Run, bank: Bank) -> float:
    """Mutual information of source and answer where answers changed, times how often they did, nats."""
    given = flips(run.model, bank, run.held_out).answers[0]
    run.looked += len(run.held_out)
    moved = given != run.held_out.sources
    share = float(moved.float().mean())
    return share * mutual_information(run.held_out.sources[moved], given[moved], run.classes)
