"""Purification end to end on a tiny model."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from core.config import InversionConfig, UnlearningConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.errors import CanceledError, InvalidInputError
from core.evaluation.metrics import accuracy, predict, triggered_rates
from core.evaluation.reattack import reattack_curve
from core.inversion.result import InversionResult
from core.models.architectures import build
from core.models.protocol import SuspectModel
from core.unlearning.purify import Purified, frozen_teacher, purify

LOOK = InversionConfig(restarts=1, batch_size=16, screen_steps=1, refine_steps=1, survivors=1)
CONFIG = UnlearningConfig(rounds=2, steps=80, batch_size=32)


def _run(planted: Any, config: UnlearningConfig = CONFIG, **options: Any) -> Purified:
    def settled(model: SuspectModel, _: InversionResult) -> bool:
        return model is not planted.model  # convicted before, acquitted after one round

    arguments = {"seed": 0, "ctx": RunContext(), "is_settled": settled, "reference": planted.reference} | options
    reference = arguments.pop("reference")
    return purify(planted.model, planted.inversion, reference, config, LOOK, **arguments)


@pytest.fixture(scope="module")
def purified(planted: Any) -> Purified:
    return _run(planted)


def _asr(model: SuspectModel, planted: Any) -> float:
    test = planted.test
    return triggered_rates(model.target_log_posterior, test.pixels, test.labels, planted.trigger, planted.target_of)[0]


def test_the_backdoor_is_gone_and_accuracy_stays(planted: Any, purified: Purified) -> None:
    test = planted.test
    before = accuracy(planted.model.target_log_posterior, test.pixels, test.labels)
    assert _asr(planted.model, planted) > 0.9
    assert _asr(purified.model, planted) < 0.1
    assert accuracy(purified.model.target_log_posterior, test.pixels, test.labels) >= before - 0.03
    assert purified.accepted
    assert purified.settled
    assert (purified.rounds, purified.reason) == (1, "")
    assert purified.back == 0.0
    assert purified.inverted_flip < 0.1
    assert purified.utility.measure == "accuracy"
    assert purified.utility.images == 40


def test_it_comes_back_more_slowly_than_after_plain_unlearning(planted: Any, purified: Purified) -> None:
    """Without path term, stages and simulated re-attack the same trigger is re-activated sooner."""
    plain = _run(planted, replace(CONFIG, path=0.0, stage=0.0, reattack_steps=0))
    attackers, test = planted.test.subset(torch.arange(100)), planted.test.subset(torch.arange(100, 400))
    curves = [
        reattack_curve(
            model,
            attackers,
            test,
            planted.trigger,
            planted.target_of,
            lr=0.01,
            seed=1,
            ctx=RunContext(),
            steps=(10, 20),
        )
        for model in (purified.model, plain.model)
    ]
    assert sum(curves[0].values()) < 0.8 * sum(curves[1].values())


def test_weights_load_strictly_and_statistics_stay(planted: Any, purified: Purified) -> None:
    state, before = purified.model.state_dict_for_export(), planted.model.state_dict_for_export()
    build("preactresnet-b1.1-w6.12", 4, 1).load_state_dict(state, strict=True)
    assert list(state) == list(before)
    assert any(not torch.equal(state[name], before[name]) for name in state)
    for name in state:
        assert state[name].dtype == before[name].dtype
        if "running" in name:
            assert torch.equal(state[name], before[name])


def test_same_seed_same_weights_other_seed_others(planted: Any) -> None:
    short = replace(CONFIG, steps=4, rounds=1)
    states = [_run(planted, short, seed=seed).model.state_dict_for_export() for seed in (7, 7, 8)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_the_suspect_is_left_alone(planted: Any) -> None:
    before = {name: value.clone() for name, value in planted.model.state_dict_for_export().items()}
    _run(planted, replace(CONFIG, steps=4, rounds=1))
    after = planted.model.state_dict_for_export()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_rounds_go_on_until_settled(planted: Any) -> None:
    looks: list[int] = []

    def third_time(_: SuspectModel, found: InversionResult) -> bool:
        looks.append(found.images_processed)
        return len(looks) == 3  # the first look is the suspect's own

    result = _run(planted, replace(CONFIG, steps=4, rounds=4), is_settled=third_time)
    assert (result.rounds, result.settled) == (2, True)
    assert result.images_processed > sum(looks[1:]) > 0
    result = _run(planted, replace(CONFIG, steps=4, rounds=2), is_settled=lambda *_: False)
    assert (result.rounds, result.settled) == (2, False)


def test_an_acquitted_model_is_taught_waves_too(planted: Any) -> None:
    usual, broad = (
        _run(planted, replace(CONFIG, steps=4, rounds=1), is_settled=lambda *_, answer=answer: answer)
        for answer in (False, True)
    )
    pairs = zip(usual.model.trainable_parameters(), broad.model.trainable_parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)


def test_a_budget_that_is_exceeded_is_said_and_not_accepted(planted: Any) -> None:
    result = _run(planted, replace(CONFIG, steps=8, rounds=1, lr=30.0, utility_budget=0.0))
    assert not result.accepted
    assert result.utility.after is not None
    assert result.utility.after < result.utility.before
    assert "more than the budget" in result.reason


def test_without_labels_it_is_agreement(planted: Any) -> None:
    pixels = planted.reference.pixels
    answers = predict(planted.model.target_log_posterior, pixels)
    unlabelled = ReferenceSet(pixels, answers, labelled=False)
    result = _run(planted, replace(CONFIG, rounds=1), reference=unlabelled)
    assert result.utility.measure == "agreement_with_suspect"
    assert result.utility.before == 1.0
    assert _asr(result.model, planted) < 0.1


@pytest.mark.parametrize("after", [1, 20, 120])
def test_it_stops_when_asked(planted: Any, after: int) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    with pytest.raises(CanceledError):
        _run(planted, ctx=RunContext(should_stop=should_stop))
    assert asked == after + 1


def test_progress_rises_to_one(planted: Any) -> None:
    events: list[float] = []
    ctx = RunContext(emit=lambda event: events.append(event["fraction"]) if event["event"] == "progress" else None)
    _run(planted, replace(CONFIG, steps=4, rounds=2), ctx=ctx, is_settled=lambda *_: False)
    assert events == sorted(events)
    assert events[-1] == 1.0
    assert len(events) > 5


def test_too_few_images_or_nothing_found_is_refused(planted: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        _run(planted, reference=planted.reference.subset(torch.arange(8)))
    assert caught.value.code == "reference_too_small"
    nothing = InversionResult((), {}, (), 0)
    with pytest.raises(InvalidInputError) as caught:
        purify(
            planted.model,
            nothing,
            planted.reference,
            CONFIG,
            LOOK,
            seed=0,
            ctx=RunContext(),
            is_settled=lambda *_: True,
        )
    assert caught.value.code == "nothing_to_unlearn"


def test_the_teacher_shares_what_it_can_with_the_suspect(planted: Any) -> None:
    suspect = planted.model.clone()
    before = suspect.state_dict_for_export()
    teacher = frozen_teacher(suspect)
    for own, taught in zip(suspect.module.parameters(), teacher.module.parameters(), strict=True):
        assert (own.data_ptr() == taught.data_ptr()) == (own.dim() != 4)
        assert own.is_contiguous()
    assert torch.allclose(
        teacher.target_log_posterior(planted.test.pixels[:8]),
        suspect.target_log_posterior(planted.test.pixels[:8]),
        atol=1e-4,
    )
    assert all(torch.equal(before[key], value) for key, value in suspect.state_dict_for_export().items())
