"""A reference set as a model of images and texts is given it: captions, else classes as names, else images alone."""

from pathlib import Path

import pytest

from core.data.reading import DecodedReference, read_pairs
from core.data.reference import load_report, save_reference
from core.errors import InvalidInputError
from tests.support.checkpoints import png, zip_of


def _read(files: dict[str, bytes], tmp_path: Path, vocabulary: tuple[str, ...] = ()) -> DecodedReference:
    return read_pairs(
        zip_of(files, tmp_path / "r.zip"),
        vocabulary=vocabulary,
        channels=3,
        choose_size=lambda native: native or (32, 32),
        on_progress=lambda fraction: None,
    )


def _in_folders(*folders: str) -> dict[str, bytes]:
    return {f"{folder}/{i}.png": png(i) for folder in folders for i in range(6)}


def test_captions_follow_their_images(tmp_path: Path) -> None:
    files = {f"{i:02}.png": png(i) for i in range(12)} | {f"{i:02}.txt": f"picture {i}".encode() for i in range(12)}
    files["03.png"] = b"damaged"
    decoded = _read(files, tmp_path, ("one", "two"))
    assert decoded.captions == tuple(f"picture {i}" for i in range(12) if i != 3)
    assert decoded.labels is None
    assert len(decoded.pixels) == 11
    report = decoded.report
    assert (report["labelled"], report["captioned"], report["class_names"]) == (True, 11, ["one", "two"])
    assert report["rejected_total"] == 1
    save_reference(decoded, tmp_path)
    saved = load_report(tmp_path)
    assert saved is not None
    assert saved["captions"] == list(decoded.captions)


def test_captions_come_before_folders(tmp_path: Path) -> None:
    files = _in_folders("cat", "dog")
    table = "\n".join(f"{name},a {name.partition('/')[0]}" for name in files)
    decoded = _read(files | {"captions.csv": table.encode()}, tmp_path)
    assert decoded.captions is not None
    assert set(decoded.captions) == {"a cat", "a dog"}
    assert decoded.labels is None


def test_class_folders_are_the_names_of_targets(tmp_path: Path) -> None:
    decoded = _read(_in_folders("traffic_light", "dog"), tmp_path)
    assert decoded.report["class_names"] == ["dog", "traffic light"]
    assert decoded.labels is not None
    assert decoded.labels.tolist() == [0] * 6 + [1] * 6
    assert decoded.captions is None
    assert decoded.report["labelled"] is True
    decoded = _read(_in_folders("10-dog", "2-cat"), tmp_path)
    assert decoded.report["class_names"] == ["cat", "dog"]
    assert decoded.labels is not None
    assert decoded.labels.tolist() == [1] * 6 + [0] * 6


def test_labels_that_are_no_names(tmp_path: Path) -> None:
    for files in (
        _in_folders("0", "1"),
        {f"{i}.png": png(i) for i in range(10)} | {"labels.csv": b"".join(b"%d.png,only\n" % i for i in range(10))},
    ):
        decoded = _read(files, tmp_path)
        assert decoded.labels is None
        assert (decoded.report["labelled"], decoded.report["class_names"]) == (False, [])


def test_folders_are_matched_with_the_vocabulary(tmp_path: Path) -> None:
    vocabulary = ("a car", "Traffic Light", "dog", "cat")
    decoded = _read(_in_folders("traffic_light", "dog"), tmp_path, vocabulary)
    assert decoded.labels is not None
    assert set(decoded.labels.tolist()) == {1, 2}
    assert decoded.report["class_names"] == list(vocabulary)
    assert decoded.report["classes_missing"] == [0, 3]
    by_index = _read(_in_folders("3", "0"), tmp_path, vocabulary)
    assert by_index.labels is not None
    assert set(by_index.labels.tolist()) == {0, 3}


def test_folders_that_the_vocabulary_does_not_know(tmp_path: Path) -> None:
    """As many names as the vocabulary has would be matched by order for a classifier: not here."""
    for folders in (("horse", "cow"), ("dog", "cow")):
        with pytest.raises(InvalidInputError) as caught:
            _read(_in_folders(*folders), tmp_path, ("dog", "cat"))
        assert caught.value.code == "reference_labels_do_not_fit"
        assert "cow" in caught.value.detail
