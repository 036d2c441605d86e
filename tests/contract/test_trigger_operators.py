"""What every registered trigger operator promises."""

import pytest
import torch

from core.triggers.base import TRIGGERS, ParticleOperator, randomise
from core.triggers.protocol import TriggerOperator
from core.triggers.registry import BUILT_IN

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 24, 40)]


def make(name: str, particles: int = 1, shape: tuple[int, int, int] = (3, 32, 32), seed: int = 0) -> ParticleOperator:
    operator = TRIGGERS.get(name)(particles, shape)
    randomise(operator, torch.Generator().manual_seed(seed), 0.3)
    return operator


def images(batch: int, shape: tuple[int, int, int] = (3, 32, 32)) -> torch.Tensor:
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(7))


def test_every_built_in_operator_is_registered_under_its_name() -> None:
    assert {operator.name for operator in BUILT_IN} == set(TRIGGERS)
    assert all(TRIGGERS.get(operator.name) is operator for operator in BUILT_IN)


@pytest.mark.parametrize("name", list(TRIGGERS))
class TestOperator:
    def test_one_particle_fulfils_the_protocol(self, name: str) -> None:
        operator = make(name)
        assert isinstance(operator, TriggerOperator)
        assert operator.name == name

    @pytest.mark.parametrize("shape", SHAPES)
    def test_pixels_keep_shape_and_range(self, name: str, shape: tuple[int, int, int]) -> None:
        operator = make(name, shape=shape)
        with torch.no_grad():
            for parameter in operator.parameters():
                parameter.mul_(20.0)
            changed = operator.apply(images(4, shape))
        assert changed.shape == (4, *shape)
        assert float(changed.min()) >= 0.0
        assert float(changed.max()) <= 1.0

    def test_gradients_reach_every_parameter(self, name: str) -> None:
        operator = make(name)
        operator.apply(images(4)).square().sum().backward()
        for parameter in operator.parameters():
            assert parameter.grad is not None
            assert float(parameter.grad.abs().sum()) > 0

    def test_energy_gradient_is_finite_at_the_start(self, name: str) -> None:
        operator = TRIGGERS.get(name)(2, (3, 32, 32))
        operator.energies().sum().backward()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in operator.parameters())

    def test_energy_is_a_scalar_and_grows_with_strength(self, name: str) -> None:
        operator = make(name)
        before = operator.energy().detach()
        operator.scale.mul_(2.0)
        assert before.shape == ()
        assert before.item() > 0
        assert operator.energy().item() == pytest.approx(2 * before.item(), rel=1e-5)

    def test_a_bank_is_its_particles(self, name: str) -> None:
        bank = make(name, particles=3)
        pixels = images(5)
        together = bank.render(pixels.expand(3, 5, 3, 32, 32))
        for particle in range(3):
            alone = bank.select([particle])
            assert torch.allclose(together[particle], alone.apply(pixels), atol=1e-6)
            assert torch.allclose(bank.energies()[particle], alone.energy())

    def test_selected_particles_share_nothing(self, name: str) -> None:
        bank = make(name, particles=2)
        before = bank.render(images(2).expand(2, 2, 3, 32, 32)).detach().clone()
        chosen = bank.select([1])
        with torch.no_grad():
            for parameter in chosen.parameters():
                parameter.add_(1.0)
        assert torch.equal(bank.render(images(2).expand(2, 2, 3, 32, 32)), before)

    def test_a_bank_of_several_refuses_a_single_effect(self, name: str) -> None:
        with pytest.raises(ValueError, match="select one"):
            make(name, particles=2).apply(images(1))

    def test_strength_zero_changes_nothing(self, name: str) -> None:
        operator = make(name)
        pixels = images(3)
        placement = operator.draw(3, torch.Generator().manual_seed(0))
        unchanged = operator.render(pixels[None], torch.zeros(1, 3), placement)[0]
        assert torch.allclose(unchanged, pixels, atol=1e-5)

    def test_frozen_operators_take_no_gradient(self, name: str) -> None:
        operator = make(name).freeze()
        assert not operator.apply(images(1)).requires_grad
