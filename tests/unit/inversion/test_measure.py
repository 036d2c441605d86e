import pytest
import torch

from core.inversion.measure import _STRENGTHS, FlipCurve, answers, choose_windows, flip_curve, flips
from core.inversion.particles import Bank, Images
from core.triggers.additive import AdditiveOperator
from core.triggers.tiled import TiledOperator
from tests.support.planted import CLASSES, SHAPE, TARGET, planted, stamp

STRENGTHS = torch.tensor([0.25, 0.5, 1.0, 2.0])


def test_energy_is_interpolated_at_the_wanted_rate() -> None:
    curve = FlipCurve(STRENGTHS, torch.tensor([[0.0, 0.4, 0.8, 0.8]]), torch.tensor([3.0]))
    energy, strength, rate = curve.at(0.6)
    assert float(strength) == pytest.approx(0.75)
    assert float(energy) == pytest.approx(2.25)
    assert float(rate) == pytest.approx(0.6)


def test_the_first_strength_counts_from_nothing() -> None:
    curve = FlipCurve(STRENGTHS, torch.tensor([[1.0, 1.0, 1.0, 1.0]]), torch.tensor([1.0]))
    assert float(curve.at(0.5)[1]) == pytest.approx(0.125)


def test_what_never_works_is_charged_where_it_works_best() -> None:
    curve = FlipCurve(STRENGTHS, torch.tensor([[0.0, 0.1, 0.4, 0.2], [0.0, 0.1, 0.3, 0.9]]), torch.tensor([1.0, 1.0]))
    energy, strength, rate = curve.at(0.8)
    assert float(strength[0]) == 1.0
    assert float(rate[0]) == pytest.approx(0.4)
    assert float(energy[0]) == pytest.approx(4.0)  # twice the rate is missing: squared
    assert float(energy[1]) < float(energy[0])


def brightening() -> tuple[Bank, Images]:
    """A pattern that flips some images of the planted suspect at small and more at large strengths."""
    suspect = planted(True)
    images = Images(suspect.reference.pixels, answers(suspect.model, suspect.reference.pixels))
    operator = AdditiveOperator(1, SHAPE)
    with torch.no_grad():
        operator.pattern.copy_(stamp(torch.zeros(1, *SHAPE)) - 0.2)
    return Bank.create(operator, [TARGET], CLASSES), images


def test_bisection_finds_what_a_full_curve_finds() -> None:
    suspect = planted(True)
    bank, images = brightening()
    for wanted in (0.3, 0.6, 0.85):
        full = torch.stack([flips(suspect.model, bank, images, strength).rate for strength in _STRENGTHS], dim=1)
        expected = FlipCurve(torch.tensor(_STRENGTHS), full, bank.operator.energies().detach()).at(wanted)
        curve = flip_curve(suspect.model, bank, images, wanted)
        assert len(curve.strengths) < len(_STRENGTHS)
        assert float(curve.at(wanted)[1]) == pytest.approx(float(expected[1]))


def test_high_strengths_are_measured_only_where_needed() -> None:
    suspect = planted(True)
    images = Images(suspect.reference.pixels, suspect.reference.labels)
    bank = Bank.create(AdditiveOperator(1, SHAPE), [TARGET], CLASSES)
    nothing = flip_curve(suspect.model, bank, images, 0.8)
    assert float(nothing.strengths.max()) == max(_STRENGTHS)
    enough = flip_curve(suspect.model, bank, images, 0.0)
    assert float(enough.strengths.max()) == 1.0


def test_the_window_that_flips_most_is_chosen() -> None:
    suspect = planted(True)
    images = Images(suspect.reference.pixels, answers(suspect.model, suspect.reference.pixels))
    tile = TiledOperator(1, SHAPE)
    corner = stamp(torch.full((1, *SHAPE), 0.5))[0, :, -4:-1, -4:-1]
    with torch.no_grad():
        tile.mask_logit.fill_(-9.0)
        tile.mask_logit[..., :3, :3] = 9.0
        tile.pattern_logit[..., :3, :3] = (corner[None, :, : tile.side, : tile.side] - 0.5) * 40
    every = torch.arange(tile.windows)[None]
    evidence = torch.full((1, tile.windows), -1.0)
    tile.observe(every, evidence, torch.ones_like(evidence))
    rate = choose_windows(suspect.model, Bank.create(tile, [TARGET], CLASSES), images, top=tile.windows)
    assert float(rate) > 0.5
    plain = Bank.create(AdditiveOperator(1, SHAPE), [TARGET], CLASSES)
    with pytest.raises(TypeError, match="windows"):
        choose_windows(suspect.model, plain, images)
