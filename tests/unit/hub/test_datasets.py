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
        (["data/test-00000.parquet"], None, "hub_no_images", "1 Parquet"),
        (["train/a.png"], "test", "hub_no_images", "in 'test'"),
        ([], None, "hub_no_images", "neither"),
    ],
)
def test_nothing_to_choose(paths: list[str], split: str | None, code: str, words: str) -> None:
    with pytest.raises(HubContentError) as caught:
        choose_images(files(*paths), split)
    assert caught.value.code == code
    assert words in caught.value.detail


def test_kinds_of_repositories() -> None:
    assert kind_and_name(HubRef("org/name").address) == ("model", "org/name")
    assert kind_and_name(HubRef("org/name", is_dataset=True).address) == ("dataset", "org/name")
    assert kind_and_name(HubRef("datasets/name").address) == ("dataset", "name")
