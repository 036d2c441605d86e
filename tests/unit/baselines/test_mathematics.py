"""The parts of the published methods whose result is known beforehand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.baselines.anomaly import anomaly_indices
from core.baselines.anp import sensitive_first
from core.baselines.ft_sam import adaptive_perturbation
from core.baselines.generator import TriggerGenerator
from core.baselines.i_bau import hypergradient
from core.baselines.nad import attention
from core.baselines.neural_cleanse import _CostControl
from core.baselines.neurons import Neurons, prune
from core.baselines.sau import jensen_shannon, shared_loss
from core.config import Preprocess
from core.models.classifier import Classifier
from core.models.stages import stage_ends
from tests.support.checkpoints import tiny_network
from tests.support.planted import planted


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestSharpness:
    @given(rho=st.floats(0.1, 10))
    def test_the_perturbation_has_the_radius_in_units_of_the_weights(self, rho: float) -> None:
        weights, slopes = [draw(3, 4), draw(5, seed=1)], [draw(3, 4, seed=2), draw(5, seed=3)]
        moves = adaptive_perturbation(weights, slopes, rho)
        norm = math.sqrt(
            sum(float((move / weight).square().sum()) for move, weight in zip(moves, weights, strict=True))
        )
        assert norm == pytest.approx(rho)

    def test_no_other_perturbation_of_that_radius_raises_the_loss_more(self) -> None:
        weight, slope = draw(6), draw(6, seed=1)
        (best,) = adaptive_perturbation([weight], [slope], 2.0)
        others = weight * 2.0 * torch.nn.functional.normalize(draw(500, 6, seed=2), dim=1)
        assert float(best @ slope) >= float((others @ slope).max())

    def test_without_a_slope_nothing_moves(self) -> None:
        (move,) = adaptive_perturbation([draw(4)], [torch.zeros(4, dtype=torch.float64)], 2.0)
        assert not move.any()


class TestHypergradient:
    """G(d, w) = d'Ad/2 - d'Bw has the minimum d = A^-1 B w; H(d, w) = |d - c|^2/2 + |w|^2/2."""

    def setup_method(self) -> None:
        root = draw(3, 3)
        self.a, self.b, self.c = root @ root.T + torch.eye(3, dtype=torch.float64), draw(3, 2, seed=1), draw(3, seed=2)
        self.w = draw(2, seed=3).requires_grad_(True)

    def test_it_is_the_explicit_derivative_on_a_quadratic(self) -> None:
        eta = 1 / float(torch.linalg.matrix_norm(self.a, 2))
        delta = torch.linalg.solve(self.a, self.b @ self.w).detach().requires_grad_(True)
        inner = delta @ self.a @ delta / 2 - delta @ self.b @ self.w
        (slope,) = torch.autograd.grad(inner, delta, create_graph=True)
        outer = (delta - self.c).square().sum() / 2 + self.w.square().sum() / 2
        (implicit,) = hypergradient(delta - eta * slope, delta, outer, [self.w], 400)

        through = torch.linalg.solve(self.a, self.b @ self.w)
        explicit = (through - self.c).square().sum() / 2 + self.w.square().sum() / 2
        assert torch.allclose(implicit, torch.autograd.grad(explicit, self.w)[0], atol=1e-8)

    def test_one_step_is_one_step_of_the_inner_descent_differentiated(self) -> None:
        delta = draw(3, seed=4).requires_grad_(True)
        mapped = delta - 0.1 * (self.a @ delta - self.b @ self.w)
        outer = delta.square().sum() + 3 * self.w.sum()
        (slope,) = hypergradient(mapped, delta, outer, [self.w], 1)
        assert torch.allclose(slope, 3.0 + 0.1 * self.b.T @ (2 * delta.detach()))


class TestAnomalyIndex:
    VALUES = torch.tensor([80.0, 75.0, 9.0, 90.0, 70.0, 85.0, 77.0, 82.0, 79.0, 88.0])

    @given(scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
    def test_it_has_no_scale_and_no_origin(self, scale: float, shift: float) -> None:
        moved = anomaly_indices(self.VALUES.double() * scale + shift)
        assert torch.allclose(moved, anomaly_indices(self.VALUES.double()), rtol=1e-6)

    def test_only_the_small_one_stands_out(self) -> None:
        indices = anomaly_indices(self.VALUES)
        assert int(indices.argmax()) == 2
        assert indices.max() > 2
        assert indices.sort().values[-2] < 2

    def test_a_large_one_is_no_anomaly(self) -> None:
        assert anomaly_indices(-self.VALUES).max() < 2

    def test_equal_values_have_none(self) -> None:
        assert not anomaly_indices(torch.ones(5)).any()


class TestSharedAdversaries:
    def test_the_divergence_is_bounded_symmetric_and_zero_for_equals(self) -> None:
        one, other = draw(8, 5).log_softmax(1), draw(8, 5, seed=1).log_softmax(1)
        between = jensen_shannon(one, other)
        assert torch.allclose(between, jensen_shannon(other, one))
        assert (between > 0).all()
        assert (between <= math.log(2)).all()
        assert torch.allclose(jensen_shannon(one, one), torch.zeros(8, dtype=torch.float64), atol=1e-12)
        far = torch.tensor([[0.0, -60.0]]), torch.tensor([[-60.0, 0.0]])
        assert float(jensen_shannon(*far)) == pytest.approx(math.log(2))

    def test_only_what_the_suspect_gets_wrong_counts(self) -> None:
        posterior = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]).log()
        labels = torch.tensor([0, 0])
        assert float(shared_loss(posterior, torch.tensor([0, 1]), labels)) == pytest.approx(
            -math.log(1 - 0.8), rel=1e-4
        )
        assert float(shared_loss(posterior, labels, labels)) == 0.0


def test_attention_is_where_the_layer_is_active_whatever_its_scale() -> None:
    features = draw(2, 4, 3, 3)
    seen = attention(features)
    assert seen.shape == (2, 9)
    assert torch.allclose(seen.norm(dim=1), torch.ones(2), atol=1e-6)
    assert torch.allclose(attention(7 * features), seen, atol=1e-6)
    tokens = features.flatten(2).transpose(1, 2)
    assert torch.allclose(attention(tokens), seen, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "channels", "side", "expected"),
    [
        ("preactresnet-b1.1.1-w16.32.64", 3, 32, ("layer1", "layer2", "layer3")),
        ("wrn-16-1", 3, 32, None),
        ("cifar_vgg11_bn", 3, 32, None),
        ("timm:test_convnext", 1, 32, None),
        ("timm:test_vit@32/8", 1, 32, ("blocks.1", "blocks.3", "blocks.5")),
    ],
)
def test_stages_of_every_kind_of_network(
    network: str, channels: int, side: int, expected: tuple[str, ...] | None
) -> None:
    preprocess = Preprocess((0.5,) * channels, (0.5,) * channels, (side, side))
    model = Classifier(tiny_network(network, 4, channels), preprocess, (channels, side, side), 4)
    ends = stage_ends(model)
    assert 2 <= len(ends) <= 3
    assert len(set(ends)) == len(ends)
    assert expected is None or ends == expected
    assert not any(layer._forward_hooks for layer in model.module.modules())


class TestNeurons:
    def test_without_noise_the_network_is_the_same(self) -> None:
        model, pixels = planted(True).model.clone(), torch.rand(4, 1, 16, 16)
        neurons = Neurons(model)
        before = model.target_log_posterior(pixels)
        with neurons.attached():
            assert torch.allclose(model.target_log_posterior(pixels), before, atol=1e-6)
        assert [layer.path for layer in neurons.layers] == ["bn1", "bn2", "bn3"]

    def test_a_mask_of_zero_is_what_pruning_leaves(self) -> None:
        model, pixels = planted(True).model.clone(), torch.rand(4, 1, 16, 16)
        neurons = Neurons(model)
        with torch.no_grad():
            neurons.layers[1].mask[[2, 5]] = 0.0
        with neurons.attached():
            masked = model.target_log_posterior(pixels)
        weight = model.module.get_parameter("bn2.weight").clone()
        for neuron in (2, 5):
            prune(model, neurons.layers[1], neuron)
        assert torch.allclose(model.target_log_posterior(pixels), masked, atol=1e-5)
        left = model.module.get_parameter("bn2.weight")
        assert not left[[2, 5]].any()
        assert torch.equal(left[6:], weight[6:])

    def test_the_smallest_masks_go_first_and_among_equals_the_earlier(self) -> None:
        neurons = Neurons(planted(True).model.clone())
        means = [mask.detach().clone() for mask in neurons.masks]
        with torch.no_grad():
            neurons.layers[0].mask[3] = 0.2
            neurons.layers[1].mask[[7, 4]] = 0.0
        means[1][7], means[1][4] = 0.5, 0.3
        first = [(layer.path, neuron) for layer, neuron in sensitive_first(neurons, means)][:3]
        assert first == [("bn2", 4), ("bn2", 7), ("bn1", 3)]

    def test_networks_without_normalisation_lose_channels_and_keep_the_head(self) -> None:
        model = Classifier(
            tiny_network("timm:test_convnext", 4, 1), Preprocess((0.5,), (0.5,), (32, 32)), (1, 32, 32), 4
        )
        paths = [layer.path for layer in Neurons(model).layers]
        assert paths
        assert not any(path.startswith("head.fc") for path in paths)


class TestCost:
    def test_it_rises_while_the_trigger_works_and_falls_while_it_does_not(self) -> None:
        control = _CostControl()
        for _ in range(5):
            control.update(0.995)
        first = control.cost
        assert first == pytest.approx(1e-3)
        for _ in range(5):
            control.update(1.0)
        assert control.cost == pytest.approx(1.5e-3)
        for _ in range(5):
            control.update(0.9)
        assert control.cost == pytest.approx(1.5e-3 / 1.5**1.5)

    def test_only_a_row_of_looks_counts(self) -> None:
        control = _CostControl()
        for success in [1.0, 1.0, 1.0, 1.0, 0.5] * 4:
            control.update(success)
        assert control.cost == 0.0


def test_the_generator_starts_near_the_identity_and_keeps_the_bound() -> None:
    torch.manual_seed(0)
    pixels = 0.3 + 0.4 * torch.rand(4, 3, 13, 14)
    generator = TriggerGenerator(3, 0.1)

    def change() -> Tensor:
        return (generator(pixels) - pixels).square().mean((1, 2, 3)).sqrt()

    assert (change() < 0.09).all()
    with torch.no_grad():
        generator.last.weight.mul_(1000)
    assert (change() <= 0.1001).all()
    assert (change() > 0.05).all()
