"""Our method as the benchmark composes it, at a budget of seconds."""

import pytest
import torch

from core import config
from core.bench.methods import DETECTING, NONE, OURS, PURIFYING, Treated, judge, treat
from core.bench.modes import MODES
from core.bench.work import certify_treated
from core.config import InversionConfig, UnlearningConfig
from core.domain import Preset
from tests.support.planted import Planted, planted

SHORT = (
    InversionConfig(restarts=1, batch_size=16, screen_steps=1, refine_steps=1, survivors=1),
    UnlearningConfig(rounds=1, batch_size=32),
)


@pytest.fixture(scope="module")
def suspect() -> Planted:
    return planted(True)


@pytest.fixture(scope="module")
def treated(suspect: Planted) -> Treated:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config._PRESETS, Preset.FAST, SHORT)
        return treat(OURS, suspect.model, suspect.reference, Preset.FAST, 0)


def test_ours_changes_a_copy_and_says_what_it_did(suspect: Planted, treated: Treated) -> None:
    before, after = suspect.model.state_dict_for_export(), treated.model.state_dict_for_export()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert treated.passes > 100
    assert {"engine", "preset", "verdict", "accepted", "rounds"} <= set(treated.detail)
    assert treated.triggers


def test_the_certificate_has_the_control_that_only_a_benchmark_knows(suspect: Planted, treated: Treated) -> None:
    detail = certify_treated(treated, planted(False).model, suspect.reference, Preset.FAST, 0)
    assert detail["certificate"]["control"]["worst"] >= 0
    assert detail["certificate"]["control_missing"] == ""
    assert certify_treated(Treated(suspect.model, 0, {}), suspect.model, suspect.reference, Preset.FAST, 0) == {}


def test_none_leaves_everything_as_it_is(suspect: Planted) -> None:
    treated = treat(NONE, suspect.model, suspect.reference, Preset.FAST, 0)
    assert treated.model is suspect.model
    assert (treated.passes, treated.triggers) == (0, ())


def test_our_detection_has_a_p_value(suspect: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(config._PRESETS, Preset.FAST, SHORT)
    judged = judge(OURS, suspect.model, suspect.reference, Preset.FAST, 0)
    assert judged.p_value is not None
    assert 0 <= judged.p_value <= 1
    assert judged.suspicious == (judged.verdict == "backdoored")
    assert judged.passes > 50


def test_every_published_defence_is_in_the_tables() -> None:
    from core.baselines.registry import DETECTORS, PURIFIERS

    assert set(PURIFYING) == {NONE, OURS, *PURIFIERS}
    assert set(DETECTING) == {OURS, *(f"{OURS}-{mode}" for mode in MODES), *DETECTORS}


def test_unknown_methods(suspect: Planted) -> None:
    with pytest.raises(KeyError, match="nonsense"):
        treat("nonsense", suspect.model, suspect.reference, Preset.FAST, 0)
