"""A sample of the corpus over HTTP, through the real child: clean failures, and a service that goes on."""

import json
import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.hostile.corpus import formats, pickles, safetensors, tensors, zips
from tests.hostile.corpus.case import CANARY_FILE, Case
from tests.support.serving import serving

SAMPLE = [
    next(case for case in module.CASES if case.name == name)
    for module, name in (
        (pickles, "calls os.system"),
        (pickles, "lists 200,000 deep"),
        (pickles, "in front of rubbish"),
        (pickles, "a whole network"),
        (formats, "GGUF"),
        (zips, "another archive behind"),
        (tensors, "2^40 elements over one"),
        (zips, "a bomb"),
        (safetensors, "truncated"),
    )
]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with serving(tmp_path_factory.mktemp("serve") / "data") as (client, _):
        yield client


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_a_hostile_file_is_a_clean_failure(http: httpx2.Client, case: Case) -> None:
    content = case.content if isinstance(case.content, bytes) else case.content()
    answer = http.post("/v1/scans", files={"model": (case.filename, content)}, data={"preset": "fast"})
    assert answer.status_code == 202, answer.text
    scan = answer.json()
    until = time.monotonic() + 60
    while scan["state"] in ("queued", "running") and time.monotonic() < until:
        scan = http.get(f"/v1/scans/{scan['id']}", params={"wait": 10}).json()
    assert scan["state"] == "failed"
    assert scan["error"]["code"] == case.code
    assert all(word in scan["error"]["detail"] for word in case.words)
    assert "/tmp" not in json.dumps(scan["error"])
    assert not CANARY_FILE.exists()
    assert http.get("/readyz").status_code == 200
