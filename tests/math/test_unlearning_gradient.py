"""The gradient of an unlearning step is the one that the method says."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core.config import Preprocess, UnlearningConfig
from core.models.architectures import build
from core.models.classifier import Classifier
from core.models.stages import stage_ends, watching
from core.unlearning.pool import Triggered, TriggerPool
from core.unlearning.step import REATTACK_LR, REATTACK_MOMENTUM, UnlearningStep


def _model(seed: int, name: str = "preactresnet-b1.1-w4.8") -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(name, 3, 1)
    return Classifier(network, Preprocess((0.5,), (0.5,), (8, 8)), (1, 8, 8), 3)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Triggered]:
    generator = torch.Generator().manual_seed(3)
    pixels, changed = torch.rand((2, 6, 1, 8, 8), generator=generator)
    return pixels, torch.tensor([0, 1, 2, 0, 1, 2]), Triggered(changed, torch.tensor([1, 2, 0, 1, 2, 0]))


def _step(suspect: Classifier, current: Classifier, **options: float) -> UnlearningStep:
    config = UnlearningConfig(**options)  # type: ignore[arg-type]
    return UnlearningStep(suspect, current, TriggerPool(), config, torch.Generator().manual_seed(0))


def _gradient(model: Classifier, pixels: Tensor, labels: Tensor) -> list[Tensor]:
    loss = F.nll_loss(model.target_log_posterior(pixels), labels)
    return list(torch.autograd.grad(loss, model.trainable_parameters()))


def _close(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one, other, strict=True))


def test_without_path_stages_and_reattack_it_is_the_plain_gradient(batch: tuple[Tensor, Tensor, Triggered]) -> None:
    pixels, labels, triggered = batch
    suspect, current = _model(1), _model(2)
    step = _step(suspect, current, path=0.0, stage=0.0, reattack_steps=0)
    assert _close(step._triggered_gradient(pixels, labels, triggered), _gradient(current, triggered.pixels, labels))


def test_the_path_leads_back_to_the_suspect(batch: tuple[Tensor, Tensor, Triggered]) -> None:
    pixels, labels, triggered = batch
    suspect, current = _model(1), _model(2)
    step = _step(suspect, current, path=1.0, stage=0.0, reattack_steps=0)
    share = float(torch.rand((), generator=torch.Generator().manual_seed(0)))
    between = current.clone()
    with torch.no_grad():
        for parameter, anchor in zip(between.trainable_parameters(), suspect.trainable_parameters(), strict=True):
            parameter.lerp_(anchor, share)
    assert _close(step._triggered_gradient(pixels, labels, triggered), _gradient(between, triggered.pixels, labels))


def test_the_stages_are_compared_with_the_suspects_on_clean_images(batch: tuple[Tensor, Tensor, Triggered]) -> None:
    pixels, labels, triggered = batch
    suspect, current = _model(1), _model(2)
    stages = stage_ends(suspect)
    assert len(stages) == 2
    step = _step(suspect, current, path=0.0, stage=2.0, reattack_steps=0)
    with watching(suspect.module, stages) as shown, torch.no_grad():
        features = suspect.features(pixels)
    with watching(current.module, stages) as own:
        log_posterior, moved = current.posterior_and_features(triggered.pixels)
    loss = F.nll_loss(log_posterior, labels) + 2 * (1 - F.cosine_similarity(moved, features, dim=1).mean())
    for stage in stages:
        difference = (own[stage] - shown[stage]).square().sum((1, 2, 3)) / shown[stage].square().sum((1, 2, 3))
        loss = loss + 2 * difference.mean()
    by_hand = list(torch.autograd.grad(loss, current.trainable_parameters()))
    assert _close(step._triggered_gradient(pixels, labels, triggered), by_hand)


def test_the_simulated_reattack_is_momentum_descent_on_the_attackers_loss(
    batch: tuple[Tensor, Tensor, Triggered],
) -> None:
    pixels, labels, triggered = batch
    current = _model(2)
    step = _step(_model(1), current, path=0.0)
    step._place_on_path()
    attack = torch.cat([triggered.pixels[:3], pixels[3:]])
    answers = torch.cat([triggered.wanted[:3], labels[3:]])
    step._reattack(attack, answers, 3, 4)
    by_hand = current.clone()
    optimizer = torch.optim.SGD(by_hand.trainable_parameters(), lr=REATTACK_LR, momentum=REATTACK_MOMENTUM)
    for _ in range(4):
        log_posterior = by_hand.target_log_posterior(attack)
        loss = F.nll_loss(log_posterior[:3], answers[:3]) + F.nll_loss(log_posterior[3:], answers[3:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert _close(step._moved, [parameter.detach() for parameter in by_hand.trainable_parameters()])


def test_the_clean_part_vanishes_but_for_the_labels_at_the_suspect(batch: tuple[Tensor, Tensor, Triggered]) -> None:
    """At theta = theta_b retention is at its minimum: only the cross-entropy on the labels is left."""
    pixels, labels, _ = batch
    suspect = _model(1)
    step = _step(suspect, suspect.clone(), kd=8.0, feature=5.0, stage=3.0)
    assert _close(step._clean_gradient(pixels, labels), _gradient(suspect, pixels, labels))


def test_a_step_moves_no_weights_itself(batch: tuple[Tensor, Tensor, Triggered]) -> None:
    pixels, labels, triggered = batch
    suspect, current = _model(1), _model(2)
    before = [parameter.detach().clone() for parameter in (*suspect.module.parameters(), *current.module.parameters())]
    _step(suspect, current)._triggered_gradient(pixels, labels, triggered)
    after = [parameter.detach() for parameter in (*suspect.module.parameters(), *current.module.parameters())]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_network_of_one_stage_is_unlearned_too(batch: tuple[Tensor, Tensor, Triggered]) -> None:
    pixels, labels, triggered = batch
    suspect, current = _model(1, "preactresnet-b1-w4"), _model(2, "preactresnet-b1-w4")
    assert stage_ends(suspect) == ()
    step = _step(suspect, current, path=0.0, stage=0.0, reattack_steps=0)
    assert _close(step._triggered_gradient(pixels, labels, triggered), _gradient(current, triggered.pixels, labels))
