"""Which files of a data set become a reference set."""

import pytest

from core.hub.datasets import MAX_IMAGES, choose_images
from core.hub.errors import HubContentError
from core.hub.reference import HubRef, kind_and_name
from core.hub.source import HubFile


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path, 10, None, None) for path in paths]


IMAGES = files("README.md", "test/0/a.png", "test/1/b.JPEG", "test/labels.csv", "train/0/c.webp", "data/test/2/d.png")


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("test", ["0/a.png", "1/b.JPEG", "2/d.png", "labels.csv"]),
        ("train", ["0/c.webp"]),
        (None, ["data/test/2/d.png", "test/0/a.png", "test/1/b.JPEG", "train/0/c.webp"]),
    ],
)
def test_images_below_a_folder(split: str | None, names: list[str]) -> None:
    choice = choose_images(IMAGES, split)
    assert [name for name, _ in choice.files] == names
    assert not choice.is_archive


def test_many_images_are_thinned_out_evenly() -> None:
    choice = choose_images(files(*(f"{i % 10}/{i:05}.png" for i in range(2_500))), None)
    assert choice.available == 2_500
    assert 800 < len(choice.files) <= MAX_IMAGES
    assert {name[0] for name, _ in choice.files} == set("0123456789")


@pytest.mark.parametrize("split", ["test", "val"])
def test_an_archive(split: str) -> None:
    choice = choose_images(files("data/my-test.zip", "data/val/images.zip", "train.zip"), split)
    assert choice.is_archive
    assert split in choice.files[0][0]


@pytest.mark.parametrize(
    ("paths", "split", "code", "words"),
    [
        (["a.zip", "b.zip"], None, "hub_archive_ambiguous", "a.zip, b.zip"),
        (["data/test-0.parquet", "data/train-0.parquet"], None, "hub_archive_ambiguous", "train-0.parquet"),
        (["data/test.zip", "data/test.parquet"], "test", "hub_archive_ambiguous", "2 archives"),
        (["data/test-00000.arrow"], None, "hub_no_images", "1 Arrow"),
        (["train/a.png"], "test", "hub_no_images", "in 'test'"),
        ([], None, "hub_no_images", "neither"),
    ],
)
def test_nothing_to_choose(paths: list[str], split: str | None, code: str, words: str) -> None:
    with pytest.raises(HubContentError) as caught:
        choose_images(files(*paths), split)
    assert caught.value.code == code
    assert words in caught.value.detail


@pytest.mark.parametrize(
    ("paths", "split", "chosen", "available"),
    [
        (["data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet"], None, "-00000-of", 2),
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], "test", "data/test", 1),
        (["default/train/0001.parquet", "default/train/0000.parquet", "default/test/0000.parquet"], "train", "0000", 2),
        (["pairs_10.tar", "pairs_2.tar", "README.md", "assets/cover.png"], None, "pairs_10", 2),
    ],
)
def test_of_several_parts_the_first(paths: list[str], split: str | None, chosen: str, available: int) -> None:
    choice = choose_images(files(*paths), split)
    assert choice.is_archive
    assert choice.available == available
    assert chosen in choice.files[0][0]


def test_texts_come_with_their_images() -> None:
    paths = [f"test/{i}.png" for i in range(12)] + [f"test/{i}.txt" for i in range(12)]
    choice = choose_images(files(*paths, "test/notes.txt", "test/captions.csv", "train/1.txt"), "test")
    assert sorted(name for name, _ in choice.files) == sorted(
        [*(path.removeprefix("test/") for path in paths), "captions.csv"]
    )
    assert choice.available == 12


def test_kinds_of_repositories() -> None:
    assert kind_and_name(HubRef("org/name").address) == ("model", "org/name")
    assert kind_and_name(HubRef("org/name", is_dataset=True).address) == ("dataset", "org/name")
    assert kind_and_name(HubRef("datasets/name").address) == ("dataset", "name")
