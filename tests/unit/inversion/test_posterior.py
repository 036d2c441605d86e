import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.inversion.posterior import (
    accumulate,
    e_step,
    fixed_transition,
    m_step_transition,
    mutual_information,
    uniform_transition,
)


@settings(max_examples=25, deadline=None)
@given(classes=st.integers(2, 12), batch=st.integers(1, 20), seed=st.integers(0, 10_000))
def test_responsibilities_sum_to_one_and_never_name_the_source(classes: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    log_posterior = (4 * torch.randn(1, batch, classes, generator=generator)).log_softmax(-1)
    sources = torch.randint(classes, (1, batch), generator=generator)
    rows = uniform_transition(1, classes)[0][sources]
    responsibility, marginal = e_step(log_posterior, rows.log())
    assert torch.allclose(responsibility.sum(-1), torch.ones(1, batch), atol=1e-5)
    assert float(responsibility.gather(-1, sources[..., None]).abs().max()) == 0.0
    direct = (rows * log_posterior.exp()).sum(-1).log()
    assert torch.allclose(marginal, direct, atol=1e-4)


def test_images_of_the_target_class_have_nowhere_to_go() -> None:
    transition = fixed_transition([2], 4)
    responsibility, marginal = e_step(torch.zeros(1, 1, 4).log_softmax(-1), transition[:, 2][:, None].log())
    assert float(responsibility.sum()) == 0.0
    assert bool(torch.isinf(marginal).all())
    assert float(transition.diagonal(dim1=1, dim2=2).abs().max()) == 0.0


@pytest.mark.parametrize("balanced", [True, False])
@settings(max_examples=25, deadline=None)
@given(classes=st.integers(3, 12), seed=st.integers(0, 10_000))
def test_transitions_normalise_with_zero_diagonal(balanced: bool, classes: int, seed: int) -> None:
    counts = 10 * torch.rand(2, classes, classes, generator=torch.Generator().manual_seed(seed)).pow(6)
    transition = m_step_transition(counts, balanced)
    assert torch.allclose(transition.sum(-1), torch.ones(2, classes), atol=1e-5)
    assert float(transition.diagonal(dim1=1, dim2=2).abs().max()) == 0.0
    assert float(transition.min()) >= 0.0


def test_a_label_shift_is_learned_from_few_counts() -> None:
    shift = torch.roll(torch.eye(6), 1, dims=1)
    transition = m_step_transition(5 * shift[None])
    assert transition[0].argmax(-1).tolist() == [1, 2, 3, 4, 5, 0]
    assert float((transition[0] * shift).sum(-1).min()) > 0.8


def test_balance_keeps_one_easy_class_from_taking_everything() -> None:
    counts = torch.zeros(1, 5, 5)
    counts[:, :, 3] = 4.0
    assert float(m_step_transition(counts, balanced=False)[0, :3, 3].min()) > 0.9
    assert float(m_step_transition(counts)[0, :, 3].sum()) < 1.5


def test_accumulate_counts_by_source() -> None:
    responsibility = torch.tensor([[[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.2, 0.8]]])
    counts = accumulate(torch.tensor([[0, 1, 0]]), responsibility, torch.tensor([[1.0, 1.0, 0.0]]))
    assert counts[0].tolist() == [[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 0.0]]


def test_mutual_information_of_a_bijection_is_its_entropy() -> None:
    sources = torch.arange(10).repeat(40)
    expected = torch.log(torch.tensor(10.0)).item()
    assert mutual_information(sources, (sources + 1) % 10, 10) == pytest.approx(expected, abs=0.02)


def test_mutual_information_of_one_target_is_nothing() -> None:
    sources = torch.arange(10).repeat(40)
    assert mutual_information(sources, torch.full_like(sources, 3), 10) == 0.0
    assert mutual_information(sources[:0], sources[:0], 10) == 0.0


def test_independent_answers_carry_little_information() -> None:
    generator = torch.Generator().manual_seed(0)
    sources, answers = torch.randint(10, (2, 200), generator=generator)
    assert mutual_information(sources, answers, 10) < 0.08
