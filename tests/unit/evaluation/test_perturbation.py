"""A small universal perturbation on top of the trigger."""

import pytest
import torch
from torch import Tensor

from core.context import RunContext
from core.data.reference import ReferenceSet
from core.errors import CanceledError
from core.evaluation.metrics import triggered_rates
from core.evaluation.perturbation import perturbed_asr, universal_perturbation
from core.models.classifier import Classifier
from tests.support.planted import TARGET, fine_tuned, planted, shapes, stamp

RADIUS = 0.06


def _images(count: int, seed: int) -> ReferenceSet:
    pixels, labels = shapes(count, seed)
    return ReferenceSet(pixels, labels, labelled=True)


ATTACKERS, TEST = _images(150, 41), _images(200, 42)


def _wanted(labels: Tensor) -> Tensor:
    return torch.full_like(labels, TARGET)


def _asr(model: Classifier, **options: object) -> float:
    arguments = {"radius": RADIUS, "steps": 15, "restarts": 1, "seed": 0, "ctx": RunContext()} | options
    return perturbed_asr(model, ATTACKERS, TEST, stamp, _wanted, **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sleeping() -> Classifier:
    return fine_tuned(planted(True)).model


def test_it_wakes_a_sleeping_backdoor(sleeping: Classifier) -> None:
    plain, _ = triggered_rates(sleeping.target_log_posterior, TEST.pixels, TEST.labels, stamp, _wanted)
    assert _asr(sleeping) > plain + 0.1
    assert _asr(sleeping) > _asr(planted(False).model) + 0.1


def test_a_perturbation_of_nothing_is_the_plain_attack(sleeping: Classifier) -> None:
    plain, _ = triggered_rates(sleeping.target_log_posterior, TEST.pixels, TEST.labels, stamp, _wanted)
    assert _asr(sleeping, radius=0.0) == pytest.approx(plain)


def test_more_restarts_never_give_less(sleeping: Classifier) -> None:
    rates = [_asr(sleeping, steps=4, restarts=restarts) for restarts in (1, 2, 3)]
    assert rates == sorted(rates)


def test_same_seed_same_result_and_the_model_stays(sleeping: Classifier) -> None:
    before = sleeping.state_dict_for_export()
    assert _asr(sleeping, seed=3) == _asr(sleeping, seed=3)
    after = sleeping.state_dict_for_export()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in sleeping.trainable_parameters())


@pytest.mark.parametrize("start", [0, 1])
def test_within_the_radius_and_the_images_within_their_range(sleeping: Classifier, start: int) -> None:
    seen: list[tuple[float, float]] = []

    class Watched(Classifier):
        def target_log_posterior(self, pixels: Tensor) -> Tensor:
            seen.append((float(pixels.detach().min()), float(pixels.detach().max())))
            return super().target_log_posterior(pixels)

    watched = Watched(sleeping.module, sleeping.preprocess, sleeping.input_shape, sleeping.num_targets)
    found = universal_perturbation(
        watched, ATTACKERS, stamp, _wanted, radius=RADIUS, steps=10, start=start, seed=0, ctx=RunContext()
    )
    assert found.shape == (1, *sleeping.input_shape)
    assert 0.5 * RADIUS < float(found.abs().max()) <= RADIUS
    assert len(seen) == 10
    assert min(low for low, _ in seen) >= 0
    assert max(high for _, high in seen) <= 1


def test_there_must_be_images_outside_the_target_class(sleeping: Classifier) -> None:
    own = ReferenceSet(TEST.pixels[:4], torch.full((4,), TARGET), labelled=True)
    common = {"seed": 0, "ctx": RunContext()}
    with pytest.raises(ValueError, match="outside the target class"):
        perturbed_asr(sleeping, ATTACKERS, own, stamp, _wanted, **common)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="outside the target class"):
        perturbed_asr(sleeping, own, TEST, stamp, _wanted, **common)  # type: ignore[arg-type]


def test_it_stops_when_asked(sleeping: Classifier) -> None:
    with pytest.raises(CanceledError):
        _asr(sleeping, ctx=RunContext(should_stop=lambda: True))
