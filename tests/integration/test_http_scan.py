"""The whole way over HTTP, with the real children: good files and bad ones."""

import io
import pickle
import re
import struct
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.client import Client
from api.reference_zip import zip_folder
from core.config import ScanConfig
from core.domain import Preset, PurifyMode
from tests.support.cli import run_process
from tests.support.http import sha256
from tests.support.serving import serving

EXAMPLES = Path(__file__).parents[2] / "examples" / "fashion-mnist"
PATIENCE_S = 540.0


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A server with its embedded worker, for all tests of this module."""
    with serving(tmp_path_factory.mktemp("serve") / "data") as (client, _):
        yield client


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The examples' reference set as a zip file."""
    path = tmp_path_factory.mktemp("reference") / "reference.zip"
    zip_folder(EXAMPLES / "reference", path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def clean() -> bytes:
    return (EXAMPLES / "clean.safetensors").read_bytes()


def submit_form(
    http: httpx2.Client,
    model: bytes,
    reference: bytes | None,
    filename: str = "model.safetensors",
    **fields: str,
) -> dict[str, Any]:
    files = {"model": (filename, model)}
    if reference is not None:
        files["reference"] = ("reference.zip", reference)
    answer = http.post("/v1/scans", files=files, data={"preset": "fast", "purify": "never", **fields})
    assert answer.status_code == 202, answer.text
    scan: dict[str, Any] = answer.json()
    return scan


def wait(http: httpx2.Client, scan_id: str) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        scan: dict[str, Any] = http.get(f"/v1/scans/{scan_id}", params={"wait": 25}).json()
        if scan["state"] in ("succeeded", "failed", "canceled"):
            return scan
    raise AssertionError(f"{scan_id} did not end: {scan}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_upload_scan_report_purified_download_gate(http: httpx2.Client, reference: bytes, tmp_path: Path) -> None:
    model_path, reference_path = EXAMPLES / "patch.safetensors", tmp_path / "reference.zip"
    reference_path.write_bytes(reference)
    seen: list[tuple[str, float]] = []
    with Client(str(http.base_url)) as client:
        config = ScanConfig.for_preset(Preset.STANDARD, purify=PurifyMode.AUTO)
        submitted = client.submit(
            {"blob": client.upload(model_path), "filename": model_path.name}, client.upload(reference_path), config
        )
        scan = client.wait(submitted["id"], lambda scan: seen.append((scan["stage"], scan["progress"])))
        assert scan["state"] == "succeeded", scan["error"]
        assert scan["verdict"] == "backdoored"
        assert scan["score"] >= scan["threshold"]
        assert [progress for _, progress in seen] == sorted(progress for _, progress in seen)
        assert {"inverting", "unlearning", "verifying"} <= {stage for stage, _ in seen}

        report = client.report(scan["id"])
        assert report["detection"]["verdict"] == "backdoored"
        assert report["model"]["sha256"] == sha256(model_path.read_bytes())
        assert report["purification"]["status"] == "published", report["purification"]
        assert report["purification"]["verification"]["passed"]

        by_role = {item["role"]: item["sha256"] for item in report["artifacts"]}
        target = tmp_path / "purified.safetensors"
        client.download(by_role["purified_safetensors"], target)
        assert sha256(target.read_bytes()) == by_role["purified_safetensors"]
        assert shapes(target.read_bytes()) == shapes(model_path.read_bytes())

        suspect = client.gate(report["model"]["sha256"])
        assert (suspect.allow, suspect.reasons) == (False, ("backdoored",))
        assert client.gate(by_role["purified_safetensors"]).allow
        assert client.gate(by_role["purified_original"]).allow

        lineage = client.model(scan["model"]["id"])
        assert lineage["purified_to"][0]["sha256"] in by_role.values()
        again = client.submit({"blob": sha256(model_path.read_bytes())}, sha256(reference), config)
        assert (again["id"], again["reused"]) == (scan["id"], True)
    answer = http.get(f"/v1/artifacts/{report['model']['sha256']}")
    assert answer.headers["assay-verdict"] == "backdoored"


def shapes(safetensors: bytes) -> dict[str, Any]:
    """Names, types and shapes in a safetensors file."""
    import json

    (length,) = struct.unpack("<Q", safetensors[:8])
    header = json.loads(safetensors[8 : 8 + length])
    return {name: (item["dtype"], item["shape"]) for name, item in header.items() if name != "__metadata__"}


class _Boom:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, ("touch /tmp/assay-must-not-exist",)


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


JUNK = bytes(range(256)) * 8
BAD_MODELS = {
    "text": b"hello, I am a model",
    "empty": b"",
    "zip of junk": zip_of({"a": JUNK, "b/c": b"x"}),
    "pickle": pickle.dumps(_Boom()),
    "pickle in a torch zip": zip_of({"m/data.pkl": pickle.dumps(_Boom(), 2), "m/version": b"3\n"}),
    "truncated safetensors": struct.pack("<Q", 1000) + b'{"a":',
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_what_is_no_model_fails_with_a_reason(http: httpx2.Client, name: str) -> None:
    scan = wait(http, submit_form(http, BAD_MODELS[name], None, "model.pth")["id"])
    assert (scan["state"], scan["verdict"]) == ("failed", None)
    assert scan["error"]["code"].startswith(("unsupported_", "unsafe_", "invalid_")), scan["error"]
    assert scan["error"]["detail"]
    assert "Traceback" not in str(scan["error"])
    assert not re.search(r"(^|\s)/", scan["error"]["detail"])  # no path of the host
    assert not Path("/tmp/assay-must-not-exist").exists()
    answer = http.get("/v1/gate", params={"sha256": scan["model"]["sha256"]})
    assert (answer.json()["allow"], answer.json()["reasons"][0]["code"]) == (False, "failed")
    assert http.get(f"/v1/scans/{scan['id']}/report").status_code == 404


def relabelled(reference: bytes, folder: str) -> bytes:
    """The reference set with one class folder renamed."""
    with zipfile.ZipFile(io.BytesIO(reference)) as archive:
        first = archive.namelist()[0].split("/")[0]
        return zip_of({name.replace(first + "/", folder + "/", 1): archive.read(name) for name in archive.namelist()})


@pytest.mark.parametrize(
    ("bad", "prefix"),
    [
        ("labels", "reference_labels_do_not_fit"),
        ("junk", ("unsupported_reference", "invalid_reference")),
        ("zip of junk", ("invalid_reference", "reference_", "unsupported_reference")),
        ("damaged", "invalid_archive"),
    ],
)
def test_a_reference_set_that_does_not_fit(
    http: httpx2.Client, clean: bytes, reference: bytes, bad: str, prefix: str | tuple[str, ...]
) -> None:
    data = {
        "labels": relabelled(reference, "77-spoon"),
        "junk": JUNK,
        "zip of junk": zip_of({"0/a.png": JUNK, "1/b.png": b"x"}),
        "damaged": reference[: len(reference) // 2],
    }[bad]
    scan = wait(http, submit_form(http, clean, data)["id"])
    assert scan["state"] == "failed"
    assert scan["error"]["code"].startswith(prefix), scan["error"]
    assert scan["error"]["detail"]


def test_an_unknown_architecture(http: httpx2.Client, clean: bytes) -> None:
    scan = wait(http, submit_form(http, clean, None, architecture="skynet")["id"])
    assert (scan["state"], scan["error"]["code"]) == ("failed", "unsupported_architecture")


def test_a_running_scan_is_canceled(http: httpx2.Client, clean: bytes, reference: bytes) -> None:
    scan_id = submit_form(http, clean, reference, preset="thorough")["id"]
    end = time.monotonic() + 120
    while http.get(f"/v1/scans/{scan_id}").json()["stage"] != "inverting":
        assert time.monotonic() < end
        time.sleep(0.2)
    asked = time.monotonic()
    assert http.post(f"/v1/scans/{scan_id}/cancel").status_code == 202
    assert wait(http, scan_id)["state"] == "canceled"
    assert time.monotonic() - asked < 30  # seconds on an idle machine
    assert http.post(f"/v1/scans/{scan_id}/cancel").status_code == 202  # changes nothing
    assert http.get("/healthz").status_code == 200


def test_a_scan_survives_the_death_of_its_server(tmp_path: Path, clean: bytes, reference: bytes) -> None:
    quick = {"lease_s": 3, "renew_s": 1, "sweep_s": 1}
    with serving(tmp_path / "data", **quick) as (client, process):
        scan_id = submit_form(client, clean, reference)["id"]
        end = time.monotonic() + 120
        while client.get(f"/v1/scans/{scan_id}").json()["stage"] != "inverting":
            assert time.monotonic() < end
            time.sleep(0.2)
        process.kill()
        process.wait()
    with serving(tmp_path / "data", **quick) as (client, _):
        scan = wait(client, scan_id)
        assert (scan["state"], scan["attempt"]) == ("succeeded", 2), scan
        assert client.get(f"/v1/scans/{scan_id}/report").status_code == 200
        assert len(client.get("/v1/scans").json()["items"]) == 1


@pytest.mark.slow
def test_a_real_scan_on_the_command_line(tmp_path: Path) -> None:
    ran = run_process(
        "scan",
        EXAMPLES / "patch.safetensors",
        "--reference",
        EXAMPLES / "reference",
        "--preset",
        "fast",
        "--purify",
        "never",
        data_dir=tmp_path,
        threads=1,
        timeout_s=PATIENCE_S,
    )
    assert ran.code == 1, (ran.out, ran.err)
    assert "backdoored" in ran.out
    assert list(tmp_path.iterdir()) == []
