import pytest

from core.domain import PurifyMode, Stage
from worker.progress import ProgressTracker


def report(tracker: ProgressTracker, stage: Stage, fraction: float) -> None:
    tracker.update({"event": "progress", "stage": stage.value, "fraction": fraction})


@pytest.mark.parametrize("purify", list(PurifyMode))
def test_progress_runs_from_zero_to_one_and_never_falls(purify: PurifyMode) -> None:
    tracker = ProgressTracker(purify)
    assert tracker.progress == 0.0
    seen = []
    for stage in Stage:
        if purify is PurifyMode.NEVER and stage in (Stage.UNLEARNING, Stage.VERIFYING):
            continue
        for fraction in (0.0, 0.5, 1.0):
            report(tracker, stage, fraction)
            seen.append(tracker.progress)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


def test_a_stage_entered_again_does_not_set_progress_back() -> None:
    tracker = ProgressTracker(PurifyMode.AUTO)
    report(tracker, Stage.INVERTING, 0.5)
    before = tracker.progress
    tracker.update({"event": "stage", "stage": "loading"})
    assert tracker.stage is Stage.LOADING
    assert tracker.progress == before


def test_half_of_a_stage_is_half_of_its_share() -> None:
    tracker = ProgressTracker(PurifyMode.AUTO)
    tracker.update({"event": "stage", "stage": "inverting"})
    start = tracker.progress
    report(tracker, Stage.INVERTING, 0.5)
    middle = tracker.progress
    report(tracker, Stage.INVERTING, 1.0)
    assert middle - start == pytest.approx(tracker.progress - middle)


def test_notes_and_stageless_progress_change_nothing() -> None:
    tracker = ProgressTracker(PurifyMode.AUTO)
    tracker.update({"event": "note", "message": "x"})
    tracker.update({"event": "progress", "stage": None, "fraction": 1.0})
    assert (tracker.stage, tracker.progress) == (Stage.FETCHING, 0.0)


def test_eta_extrapolates_but_not_too_early() -> None:
    now = [100.0]
    tracker = ProgressTracker(PurifyMode.AUTO, clock=lambda: now[0])
    report(tracker, Stage.UNLEARNING, 0.0)
    assert tracker.progress == pytest.approx(0.5)
    now[0] += 1.0
    assert tracker.eta_s is None
    now[0] += 9.0
    assert tracker.eta_s == pytest.approx(10.0)
    report(tracker, Stage.PUBLISHING, 1.0)
    assert tracker.eta_s == pytest.approx(0.0)


def test_fetching_from_a_hub_is_a_part_of_the_whole() -> None:
    plain, from_hub = ProgressTracker(PurifyMode.AUTO), ProgressTracker(PurifyMode.AUTO, fetches=True)
    for tracker in (plain, from_hub):
        report(tracker, Stage.FETCHING, 1.0)
    assert plain.progress < 0.02 < 0.1 < from_hub.progress
    report(from_hub, Stage.PUBLISHING, 1.0)
    assert from_hub.progress == pytest.approx(1.0)
