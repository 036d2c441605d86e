"""The engine on tiny trained models: what is planted is found, what is not planted is not."""

from dataclasses import replace

import pytest
import torch

from core.config import InversionConfig
from core.context import RunContext
from core.detection.calibration import Calibration
from core.detection.detector import detect
from core.domain import Verdict
from core.errors import CanceledError, InvalidInputError
from core.inversion import screening
from core.inversion.engine import LEARNED, TARGETED, invert
from core.inversion.measure import flips
from core.inversion.particles import Bank, Images
from core.inversion.result import InversionResult
from core.triggers.patch import PatchOperator
from tests.support.planted import CLASSES, TARGET, Planted, planted, stamp

QUICK = InversionConfig(restarts=1, screen_batch=24, batch_size=24, screen_steps=32, refine_steps=24, survivors=2)


@pytest.fixture(scope="module")
def backdoored() -> Planted:
    return planted(True)


@pytest.fixture(scope="module")
def clean() -> Planted:
    return planted(False)


@pytest.fixture(scope="module")
def found(backdoored: Planted) -> InversionResult:
    return invert(backdoored.model, backdoored.reference, QUICK, seed=0, ctx=RunContext())


@pytest.fixture(scope="module")
def found_on_clean(clean: Planted) -> InversionResult:
    return invert(clean.model, clean.reference, QUICK, seed=0, ctx=RunContext())


def test_the_models_are_what_the_tests_take_them_for(backdoored: Planted, clean: Planted) -> None:
    assert backdoored.accuracy > 0.9
    assert backdoored.attack_success > 0.9
    assert clean.accuracy > 0.9
    assert clean.attack_success < 0.3


def test_the_planted_trigger_is_recovered_with_its_target(found: InversionResult) -> None:
    first = found.triggers[0]
    assert first.target == TARGET
    assert first.flip_rate >= 0.8
    runner_up = min(item.energy for item in found.evidence if item.target not in (TARGET, None))
    assert first.energy < 0.6 * runner_up


def test_the_inverted_trigger_works_on_images_never_seen(backdoored: Planted, found: InversionResult) -> None:
    trigger = found.triggers[0]
    pixels = backdoored.reference.pixels
    answers = backdoored.model.target_log_posterior(trigger.operator.apply(pixels)).argmax(-1)
    assert float((answers == TARGET).float().mean()) > 0.8
    assert not trigger.operator.energy().requires_grad


def test_verdicts_name_the_backdoor_and_leave_the_clean_model_alone(
    backdoored: Planted, clean: Planted, found: InversionResult, found_on_clean: InversionResult
) -> None:
    # Networks of this kind are in no committed calibration; on clean ones no small pattern works.
    models = {f"clean-{number}": {"tile_energy": 2.0} for number in range(10)}
    calibration = Calibration("test", "test/1", {"tinynetwork/grey": models})
    guilty = detect(backdoored.model, found, backdoored.reference, calibration=calibration)
    innocent = detect(clean.model, found_on_clean, clean.reference, calibration=calibration)
    assert guilty.verdict is Verdict.BACKDOORED
    assert guilty.targets[0].target == TARGET
    assert innocent.verdict is not Verdict.BACKDOORED
    assert innocent.score < guilty.score


def test_same_seed_same_figures(backdoored: Planted) -> None:
    short = replace(QUICK, screen_steps=4, refine_steps=4)
    first, second, other = (
        invert(backdoored.model, backdoored.reference, short, seed=seed, ctx=RunContext()) for seed in (5, 5, 6)
    )
    assert first.evidence == second.evidence
    assert first.bound_history == second.bound_history
    assert first.evidence != other.evidence


def test_the_figures_do_not_depend_on_the_number_of_threads(backdoored: Planted) -> None:
    short, before = replace(QUICK, screen_steps=4, refine_steps=4), torch.get_num_threads()
    torch.set_num_threads(1)  # as for any small network
    try:
        alone, together = (
            invert(backdoored.model, backdoored.reference, short, seed=5, ctx=RunContext(threads=threads))
            for threads in (1, 3)
        )
    finally:
        torch.set_num_threads(before)
    assert alone.evidence == together.evidence
    assert alone.images_processed == together.images_processed


def test_the_bound_does_not_fall(found: InversionResult, found_on_clean: InversionResult) -> None:
    for result in (found, found_on_clean):
        history = torch.tensor(result.bound_history)
        assert len(history) > 1
        assert bool((history.diff() >= 0).all())


def test_weights_and_transitions_normalise(found: InversionResult) -> None:
    assert sum(trigger.weight for trigger in found.triggers) == pytest.approx(1.0)
    assert [t.energy for t in found.triggers] == sorted(t.energy for t in found.triggers)
    for trigger in found.triggers:
        assert trigger.transition.shape == (CLASSES, CLASSES)
        assert float(trigger.transition.diagonal().abs().max()) == 0.0
        rows = trigger.transition.sum(-1)
        expected = torch.ones(CLASSES)
        if trigger.target is not None:
            expected[trigger.target] = 0.0
        assert torch.allclose(rows, expected, atol=1e-4)


def test_every_target_is_looked_at(found: InversionResult) -> None:
    for energies in found.energy_by_target.values():
        assert energies.shape == (CLASSES,)
        assert int(energies.argmin()) in range(CLASSES)


def test_the_suspect_is_left_as_it_was(backdoored: Planted, found: InversionResult) -> None:
    assert all(parameter.requires_grad for parameter in backdoored.model.module.parameters())
    assert all(parameter.grad is None for parameter in backdoored.model.module.parameters())
    assert all(parameter.is_contiguous() for parameter in backdoored.model.module.parameters())


def test_a_stop_is_obeyed_at_the_next_step(backdoored: Planted) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    with pytest.raises(CanceledError):
        invert(backdoored.model, backdoored.reference, QUICK, seed=0, ctx=RunContext(should_stop=should_stop))
    assert asked == 4
    assert all(parameter.requires_grad for parameter in backdoored.model.module.parameters())


def test_progress_rises_to_one(backdoored: Planted) -> None:
    events: list[float] = []

    def emit(event: object) -> None:
        assert isinstance(event, dict)
        events.append(event["fraction"])

    short = replace(QUICK, screen_steps=4, refine_steps=4)
    invert(backdoored.model, backdoored.reference, short, seed=0, ctx=RunContext(emit=emit))
    assert events == sorted(events)
    assert events[-1] == 1.0
    assert len(events) > 20


def test_with_many_targets_a_short_look_keeps_the_true_one(
    backdoored: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "MANY", 3)
    result = invert(backdoored.model, backdoored.reference, QUICK, seed=1, ctx=RunContext())
    assert result.triggers[0].target == TARGET


def test_too_few_images_are_refused_and_few_are_used_twice(backdoored: Planted) -> None:
    short = replace(QUICK, screen_steps=2, refine_steps=2)
    with pytest.raises(InvalidInputError, match="reference_too_small"):
        invert(backdoored.model, backdoored.reference.subset(torch.arange(7)), short, seed=0, ctx=RunContext())
    ten = invert(backdoored.model, backdoored.reference.subset(torch.arange(10)), short, seed=0, ctx=RunContext())
    assert "10 images fitted on, 10 held out" in ten.coverage[-1]


def test_flips_are_counted_where_there_is_somewhere_to_go(backdoored: Planted) -> None:
    pixels, labels = backdoored.reference.pixels, backdoored.reference.labels
    operator = PatchOperator(1, backdoored.model.input_shape)
    with torch.no_grad():
        operator.mask_logit.fill_(-20.0)
        operator.mask_logit[..., -4:-1, -4:-1] = 20.0
        operator.pattern_logit.copy_((stamp(torch.zeros(1, *backdoored.model.input_shape)) - 0.5) * 40)
    bank = Bank.create(operator, [TARGET], CLASSES)
    counted = flips(backdoored.model, bank, Images(pixels, labels))
    assert int(counted.counted.sum()) == int((labels != TARGET).sum())
    assert float(counted.rate) == pytest.approx(backdoored.attack_success, abs=0.02)


def test_outputs_that_are_not_finite_are_refused(backdoored: Planted) -> None:
    broken = backdoored.model.clone()
    with torch.no_grad():
        broken.module.linear.bias[0] = float("nan")
    with pytest.raises(InvalidInputError, match="outputs_not_finite"):
        invert(broken, backdoored.reference, QUICK, seed=0, ctx=RunContext())


def test_outputs_that_break_under_a_change_are_refused(backdoored: Planted) -> None:
    broken = backdoored.model.clone()
    whole = broken.module.forward
    clean = set(backdoored.reference.pixels.flatten(1).double().sum(1).tolist())

    def forward(x: torch.Tensor) -> torch.Tensor:
        known = all(total in clean for total in (x.detach() * 1.0).flatten(1).double().sum(1).tolist())
        return whole(x) if known else whole(x) * float("nan")

    broken.module.forward = forward
    broken.normalise = lambda pixels: pixels
    with pytest.raises(InvalidInputError, match="slightly changed"):
        invert(broken, backdoored.reference, QUICK, seed=0, ctx=RunContext())


def test_the_budget_covers_what_is_spent(found: InversionResult, found_on_clean: InversionResult) -> None:
    planned = sum(screening.budget(CLASSES, QUICK, family) for family in TARGETED) + screening.blend_budget(QUICK)
    planned += sum(screening.source_budget(QUICK, family) for family in LEARNED)
    for result in (found, found_on_clean):
        assert 0.4 * planned < result.images_processed < 1.2 * planned
        assert result.images_looked > 0


def test_what_was_not_refined_is_said(
    backdoored: Planted, found: InversionResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("not refined" in line for line in found.coverage)
    monkeypatch.setattr(screening, "STRONG", 1.0)
    monkeypatch.setattr(screening, "HOPELESS", 1.1)
    cheaper = invert(backdoored.model, backdoored.reference, QUICK, seed=0, ctx=RunContext())
    assert cheaper.triggers[0].target == TARGET
    assert cheaper.images_processed < found.images_processed
    assert any("not refined" in line for line in cheaper.coverage)
