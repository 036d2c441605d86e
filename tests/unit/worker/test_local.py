import hashlib
from pathlib import Path

import pytest

from core.config import ScanConfig
from core.domain import Verdict
from core.errors import AssayError, CanceledError, EngineError, InvalidInputError, UnsafeError, UnsupportedError
from tests.support.children import fake_children, write_script
from worker.local import error_from, reference_digest, scan_locally
from worker.local_model import model_file
from worker.protocol import ErrorInfo


def scan(tmp_path: Path, reference: Path | None = None, should_stop=lambda: False, **script: object):
    model = write_script(tmp_path / "model.json", log=str(tmp_path / "log"), **script)
    work = tmp_path / "work"
    work.mkdir()
    events: list[object] = []
    report, result = scan_locally(
        model_file(model),
        reference,
        ScanConfig(),
        events.append,
        should_stop,
        work,
        threads=1,
        commands=fake_children(),
    )
    return report, result, events


def test_a_report_and_its_files_come_back(tmp_path: Path) -> None:
    report, result, events = scan(tmp_path)
    assert report.detection.verdict is Verdict.BACKDOORED
    assert report.model.filename == "model.json"
    assert report.model.sha256 == hashlib.sha256((tmp_path / "model.json").read_bytes()).hexdigest()
    artifact = report.artifacts[0]
    assert hashlib.sha256((result / artifact.filename).read_bytes()).hexdigest() == artifact.sha256
    assert {"event": "stage", "stage": "verifying"} in events
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["result"]


def test_a_folder_is_a_reference_set(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "1.png").write_bytes(b"1")
    report, _, _ = scan(tmp_path, folder)
    assert report.reference_set is not None
    assert report.reference_set.sha256 == reference_digest(folder)


def test_the_digest_of_a_folder_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    digests = []
    for i, (name, content) in enumerate((("a", b"1"), ("a", b"1"), ("a", b"2"), ("b", b"1"))):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / name).write_bytes(content)
        digests.append(reference_digest(folder))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_stopping_raises_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CanceledError):
        scan(tmp_path, should_stop=lambda: (tmp_path / "log").exists(), stages={"inverting": 60})
    assert list((tmp_path / "work").iterdir()) == []


def test_a_failure_raises_with_its_code_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnsafeError) as caught:
        scan(tmp_path, fail={"code": "unsafe_pickle", "detail": "It runs code.", "hint": "Do not."})
    assert (caught.value.code, caught.value.detail, caught.value.hint) == ("unsafe_pickle", "It runs code.", "Do not.")
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [("unsupported_architecture", UnsupportedError), ("unsafe_pickle", UnsafeError), ("out_of_memory", EngineError)],
)
def test_codes_tell_the_kind_of_error(code: str, kind: type[AssayError]) -> None:
    assert type(error_from(ErrorInfo(code=code, detail="x"))) is kind


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_model_must_be_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError):
        model_file(tmp_path / name)


@pytest.mark.parametrize("tamper", ["artifact", "digest", "schema", "link"])
def test_a_result_that_does_not_add_up_is_refused(tmp_path: Path, tamper: str) -> None:
    with pytest.raises(EngineError) as caught:
        scan(tmp_path, tamper=tamper)
    assert caught.value.code == "invalid_result"
