"""The certificate, with the true trigger standing in for an inverted one."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from core.context import RunContext
from core.data.reference import ReferenceSet
from core.domain import Preset
from core.evaluation.certificate import certify
from core.inversion.result import InvertedTrigger
from core.models.classifier import Classifier
from core.report.schema import Certificate
from tests.support.planted import CLASSES, TARGET, fine_tuned, planted, shapes, stamp


class _Stamp(nn.Module):
    name = "stamp"

    def apply(self, pixels: Tensor) -> Tensor:
        return stamp(pixels)

    def energy(self) -> Tensor:
        return torch.tensor(1.0)


class _Nothing(_Stamp):
    name = "nothing"

    def apply(self, pixels: Tensor) -> Tensor:
        return pixels


def _trigger(operator: nn.Module) -> InvertedTrigger:
    transition = torch.zeros(CLASSES, CLASSES)
    transition[:, TARGET] = 1
    transition[TARGET] = 0
    return InvertedTrigger(operator, TARGET, transition, 1.0, 1.0, 1.0)  # type: ignore[arg-type]


def _images(count: int, seed: int) -> ReferenceSet:
    pixels, labels = shapes(count, seed)
    return ReferenceSet(pixels, labels, labelled=True)


def _certify(model: Classifier, control: Classifier | None = None, **options: object) -> Certificate | None:
    arguments = {"preset": Preset.STANDARD, "seed": 0, "ctx": RunContext(), "control": control} | options
    triggers = arguments.pop("triggers", (_trigger(_Nothing()), _trigger(_Stamp())))
    attackers = arguments.pop("attackers", _images(100, 51))
    return certify(model, triggers, attackers, _images(100, 52), **arguments)  # type: ignore[arg-type]


def test_it_shows_what_sleeps_beside_a_clean_model() -> None:
    done: list[float] = []
    ctx = RunContext(emit=lambda event: done.append(event["fraction"]))
    certificate = _certify(fine_tuned(planted(True)).model, planted(False).model, ctx=ctx)
    assert certificate is not None
    assert (certificate.operator, certificate.target) == ("stamp", TARGET), "the trigger that works best is used"
    assert certificate.purified.worst > 0.9
    assert certificate.control is not None
    assert certificate.control_missing == ""
    first = [resistance.curves[1].points[0].flip_rate for resistance in (certificate.purified, certificate.control)]
    assert first[0] > first[1] + 0.3
    assert certificate.purified.perturbed > certificate.control.perturbed + 0.3
    points = [point for curve in certificate.purified.curves for point in curve.points]
    assert certificate.purified.worst == max(point.flip_rate for point in points)
    assert len(certificate.purified.curves) == 3
    assert (done == sorted(done), done[-1]) == (True, 1.0)


def test_a_missing_control_is_said() -> None:
    certificate = _certify(planted(False).model, preset=Preset.FAST)
    assert certificate is not None
    assert certificate.control is None
    assert "No clean model" in certificate.control_missing
    assert Certificate.model_validate_json(certificate.model_dump_json()) == certificate


def test_same_seed_same_certificate() -> None:
    first, second = (_certify(planted(False).model, preset=Preset.FAST, seed=4) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("options", [{"triggers": ()}, {"attackers": _images(35, 53)}])
def test_nothing_to_attack_with(options: dict[str, object]) -> None:
    assert _certify(planted(False).model, **options) is None


def test_a_trigger_that_has_nowhere_to_send_images_is_left_out() -> None:
    stuck = replace(_trigger(_Stamp()), transition=torch.zeros(CLASSES, CLASSES))
    assert _certify(planted(False).model, triggers=(stuck,)) is None
