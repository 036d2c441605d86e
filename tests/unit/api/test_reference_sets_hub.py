"""Reference sets from data sets of a local Hub, through the real client; and from a mirror."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.archives import parquet_of
from tests.support.checkpoints import png, reference_zip
from tests.support.http import Harness, app_client, is_problem, sha256, temp_files
from tests.support.hub import Fault, LocalHub, local_hub, settings_for

IMAGES = {f"test/{i % 2}/{i:02}.png": png(i) for i in range(12)}


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with local_hub() as running:
        yield running


@pytest.fixture(scope="module")
def app(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Harness]]:
    with app_client(tmp_path_factory.mktemp("hub") / "data", **settings_for(hub)) as made:
        yield made


def make(app: tuple[TestClient, Harness], name: str, **source: Any) -> Any:
    return app[0].post("/v1/reference-sets", json={"name": name, **source})


def test_a_folder_of_images(hub: LocalHub, app: tuple[TestClient, Harness]) -> None:
    commit = hub.publish("datasets/org/shirts", {**IMAGES, "train/0/x.png": png(99), "README.md": b"x"})
    answer = make(app, "shirts", hub="org/shirts", split="test")
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["source"] == {
        "hub": "org/shirts",
        "revision": "main",
        "commit": commit,
        "split": "test",
        "images": 12,
        "images_available": 12,
    }
    assert (made["facts"]["images_used"], made["facts"]["label_kind"]) == (12, "index")
    assert app[0].head(f"/v1/blobs/{made['sha256']}").status_code == 200
    assert make(app, "shirts", hub="org/shirts", revision=commit, split="test").status_code == 200


def test_an_archive(hub: LocalHub, app: tuple[TestClient, Harness], tmp_path: Path) -> None:
    archive = reference_zip(tmp_path / "r.zip", 20).read_bytes()
    hub.publish("datasets/org/zipped", {"data/test.zip": archive, "data/train.zip": b"other"})
    made = make(app, "zipped", hub="org/zipped", split="test").json()
    assert made["sha256"] == sha256(archive)
    assert made["source"]["archive"] == "data/test.zip"


def test_pairs_in_parquet_files(hub: LocalHub, app: tuple[TestClient, Harness], tmp_path: Path) -> None:
    """As the Hub keeps them: parts of a split, images as {bytes, path}, a caption beside each."""
    rows = {
        "image": [{"bytes": png(i), "path": None} for i in range(30)],
        "text": [f"one of {i % 5}" for i in range(30)],
    }
    part = parquet_of(rows, tmp_path / "part.parquet").read_bytes()
    names = [f"data/{split}-0000{i}-of-00002.parquet" for split in ("test", "train") for i in range(2)]
    hub.publish("datasets/org/pairs", {name: part if name == names[0] else b"PAR1 other" for name in names})
    made = make(app, "pairs", hub="org/pairs", split="test").json()
    assert made["sha256"] == sha256(part)
    assert (made["source"]["archive"], made["source"]["archives_available"]) == (names[0], 2)
    facts = made["facts"]
    assert (facts["images_used"], facts["labelled"], facts["captioned"], facts["captions_distinct"]) == (
        30,
        False,
        30,
        5,
    )


def test_what_the_hub_has_to_say(hub: LocalHub, app: tuple[TestClient, Harness]) -> None:
    hub.publish("org/model", {"a.png": b"x"})
    is_problem(make(app, "x", hub="org/model"), 404, "hub_repository_not_found")  # a model is no data set
    hub.publish("datasets/org/tables", {"data/test-0.arrow": b"ARROW1"})
    assert "Arrow" in is_problem(make(app, "x", hub="org/tables"), 422, "hub_no_images")["detail"]
    hub.publish("datasets/org/broken", {"data/test-0.parquet": b"PAR1 and nothing else"})
    is_problem(make(app, "x", hub="org/broken"), 422, "invalid_parquet")
    is_problem(make(app, "x", hub="org/tables", revision="v9"), 404, "hub_revision_not_found")
    is_problem(make(app, "x", hub="org/na--me"), 422, "invalid_hub_reference")
    for body in ({"split": "test", "blob": "0" * 64}, {"hub": "org/tables", "split": "../x"}, {"hub": "nothing"}):
        is_problem(make(app, "x", **body), 422, "invalid_request")


@pytest.mark.parametrize("fault", [Fault(wrong=True), Fault(surplus=b"more")], ids=["changed", "longer"])
def test_bytes_that_are_not_those_listed(hub: LocalHub, app: tuple[TestClient, Harness], fault: Fault) -> None:
    hub.publish("datasets/org/changed", IMAGES)
    hub.fail("test/0/00.png", fault)
    is_problem(make(app, "changed", hub="org/changed"), 502, "hub_digest_mismatch")
    assert temp_files(app[1]) == []
    assert list((app[1].services.settings.data_dir / "work").iterdir()) == []


def test_a_mirror(tmp_path: Path) -> None:
    for path, data in IMAGES.items():
        target = tmp_path / "mirror" / "datasets" / "org" / "shirts" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    with app_client(tmp_path / "data", hub_mirror=tmp_path / "mirror") as app:
        made = make(app, "shirts", hub="org/shirts", split="test")
        assert made.status_code == 201, made.text
        assert made.json()["facts"]["images_used"] == 12
