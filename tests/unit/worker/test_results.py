from pathlib import Path

import pytest

from core.domain import ArtifactRole
from core.errors import EngineError
from core.report.schema import ArtifactInfo
from worker.results import artifact_path


def artifact(filename: str) -> ArtifactInfo:
    return ArtifactInfo(
        role=ArtifactRole.TRIGGER_IMAGE, sha256="0" * 64, size_bytes=1, filename=filename, media_type="image/png"
    )


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/etc/passwd", "../outcome.json", "a/b.png", "report.json", "a\0b", "a/", "./a"]
)
def test_an_artifact_is_a_plain_name_in_the_result_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError):
        artifact_path(tmp_path, artifact(name))


def test_ordinary_names_pass(tmp_path: Path) -> None:
    assert artifact_path(tmp_path, artifact("trigger-0.png")) == tmp_path / "trigger-0.png"
