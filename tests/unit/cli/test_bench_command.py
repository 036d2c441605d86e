"""`assay bench` as it is used wrongly; right use is in tests/unit/bench."""

from pathlib import Path

import pytest

from api.cli import run


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["purify", "--methods", "ft,nonsense"], "no such method: nonsense"),
        (["detect", "--methods", "ft"], "no such method: ft"),
        (["purify", "--data", "imagenet"], "no data set imagenet"),
        (["purify", "--suite", "huge"], "huge"),
        (["purify", "--shard", "3/2"], "i/n"),
        (["zoo", "--shard", "one"], "i/n"),
        (["purify", "--reference", "50"], "50"),
        (["detect", "--seeds", "0"], "greater than or equal to 1"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *arguments, "--out", str(tmp_path / "out")]) == 64
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_data_set_names_the_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_DATASETS_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    assert run(["bench", "purify", "--data", "cifar10", "--suite", "smoke", "--out", str(out)]) == 3
    said = capsys.readouterr().err
    assert "dataset_missing" in said
    assert "ASSAY_DATASETS_DIR" in said
    assert not out.exists()
