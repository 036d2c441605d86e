import pytest
import torch

from core.config import ScanConfig
from core.context import RunContext
from core.inversion.ascent import ascend, objective
from core.inversion.particles import DUAL_BOUNDS, Bank, Images, Moments, fit, frozen
from core.inversion.run import Run
from core.triggers.additive import AdditiveOperator
from core.triggers.base import randomise
from tests.support.planted import CLASSES, SHAPE, TARGET, planted


def bank_of(targets: list[int | None], spread: float = 0.02) -> Bank:
    operator = AdditiveOperator(len(targets), SHAPE)
    randomise(operator, torch.Generator().manual_seed(0), spread)
    return Bank.create(operator, targets, CLASSES)


def images_of(count: int = 96) -> Images:
    reference = planted(True).reference
    return Images(reference.pixels[:count], reference.labels[:count])


def run(bank: Bank, steps: int, flip_rate: float = 0.85, residual: bool = False, batch_size: int = 24) -> torch.Tensor:
    model = planted(True).model
    with frozen(model):
        return fit(
            model,
            bank,
            images_of(),
            steps=steps,
            batch_size=batch_size,
            flip_rate=flip_rate,
            generator=torch.Generator().manual_seed(1),
            on_step=lambda _: None,
            residual=residual,
        )


def test_fitting_lowers_the_loss() -> None:
    bank = bank_of([TARGET])
    first = float(run(bank, 4))
    for _ in range(3):
        last = float(run(bank, 8))
    assert last < 0.5 * first


def test_the_prior_weight_is_driven_by_the_flip_rate() -> None:
    always, never = bank_of([TARGET]), bank_of([TARGET])
    run(always, 30, flip_rate=-1.0)
    run(never, 30, flip_rate=1.1)
    assert float(always.prior_weight) > 0.1 > float(never.prior_weight)
    run(never, 60, flip_rate=1.1)
    assert never.prior_weight.item() == pytest.approx(DUAL_BOUNDS[0])


def test_targeted_transitions_are_fixed_and_learned_ones_move() -> None:
    bank = bank_of([TARGET, None])
    before = bank.transition.clone()
    run(bank, 6)
    assert torch.equal(bank.transition[0], before[0])
    assert not torch.equal(bank.transition[1], before[1])
    assert torch.allclose(bank.transition[1].sum(-1), torch.ones(CLASSES), atol=1e-5)


@pytest.mark.parametrize("family", ["tiled", "additive", "warp"])
def test_a_fork_draws_the_same_numbers_and_leaves_the_generator_where_a_fit_would(family: str) -> None:
    suspect, images = planted(True).model, images_of(40)

    def fresh() -> Run:
        config = ScanConfig().inversion
        return Run(suspect, config, torch.Generator().manual_seed(3), RunContext(), images, images, planned=1.0)

    in_turn, beside = fresh(), fresh()
    with frozen(suspect):
        first, second = in_turn.bank(family, [TARGET]), beside.bank(family, [TARGET])
        own = beside.fork(second, 7, 24)
        assert torch.equal(in_turn.fit(first, 7, 24), beside.fit(second, 7, 24, generator=own))
    assert torch.equal(in_turn.generator.get_state(), beside.generator.get_state())


def test_a_residual_helps_the_samples_along() -> None:
    plain, helped = bank_of([0], 0.0), bank_of([0], 0.0)
    with_residual = float(run(helped, 24, residual=True, batch_size=96))
    assert with_residual < float(run(plain, 24, batch_size=96))


def test_all_images_processed_are_reported() -> None:
    counted: list[int] = []
    model = planted(True).model
    fit(
        model,
        bank_of([0, 1]),
        images_of(20),
        steps=3,
        batch_size=50,
        flip_rate=0.8,
        generator=torch.Generator().manual_seed(0),
        on_step=counted.append,
    )
    assert counted == [40, 40, 40]  # two particles, and no batch is larger than the set
    model.module.zero_grad(set_to_none=True)


def test_frozen_restores_what_was_trainable() -> None:
    module = planted(True).model.module
    module.linear.bias.requires_grad_(False)
    try:
        with frozen(planted(True).model):
            assert not any(parameter.requires_grad for parameter in module.parameters())
        assert [name for name, p in module.named_parameters() if not p.requires_grad] == ["linear.bias"]
    finally:
        module.linear.bias.requires_grad_(True)


def test_ascent_never_falls_for_either_kind_of_component() -> None:
    model = planted(True).model
    for target in (TARGET, None):
        bank = bank_of([target])
        with frozen(model):
            start = objective(model, bank, images_of()).item()
            history = ascend(model, bank, images_of(), 8)
            end = objective(model, bank, images_of()).item()
        assert history[0] == start
        assert history[-1] == end
        assert history == sorted(history)
        assert end > start


def test_moments_step_as_adam_does_whatever_is_pruned_between() -> None:
    generator = torch.Generator().manual_seed(0)
    bank = bank_of([0, 1, 2])
    pattern = bank.operator.pattern
    theirs = torch.nn.Parameter(pattern.detach()[[1]].clone())
    adam = torch.optim.Adam([theirs], lr=0.02, betas=(0.5, 0.9))
    gradients = torch.randn(5, 3, *SHAPE, generator=generator)
    for number, gradient in enumerate(gradients):
        theirs.grad = gradient[[1]].clone()
        adam.step()
        rows = gradient if number < 3 else gradient[[1]]
        if number == 3:
            bank = bank.select([1])
        bank.moments.step(list(bank.operator.parameters()), [rows], 0.02)
    assert torch.allclose(bank.operator.pattern, theirs, atol=1e-6)


def test_a_restart_forgets_the_moments_and_sets_the_weight() -> None:
    bank = bank_of([TARGET])
    run(bank, 2)
    assert bank.moments.steps == 2
    bank.restart(bank.operator, 3.0)
    assert bank.moments.steps == 0
    assert float(bank.prior_weight) == 3.0
    assert all(float(moment.abs().sum()) == 0.0 for moment in Moments.of(bank.operator).first)
