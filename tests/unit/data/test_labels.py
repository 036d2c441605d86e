"""Labels from folders and tables."""

from collections.abc import Callable

import pytest

from core.data.labels import Labelling, find_labels, match_labels
from core.errors import InvalidInputError


def _read(
    names: list[str], table: str | bytes = "", num_classes: int = 3, class_names: tuple[str, ...] = ()
) -> Labelling:
    content = table.encode() if isinstance(table, str) else table
    reader: Callable[[str], bytes] = lambda name: content  # noqa: E731
    return match_labels(find_labels(tuple(sorted(names)), reader), num_classes, class_names)


FOLDERS: dict[str, tuple[list[str], list[int] | None]] = {
    "indices": (["0/a.png", "1/b.jpg", "2/c.webp", "2/d.JPEG"], [0, 1, 2, 2]),
    "padded indices": (["00000/a.png", "00002/b.png"], [0, 2]),
    "indices with names": (["0-cat/a.png", "1_dog/b.png", "2 bird/c.png"], [0, 1, 2]),
    "some classes only": (["2/a.png", "0/b.png"], [0, 2]),
    "names in order": (["cat/a.png", "ant/b.png", "dog/c.png"], [0, 1, 2]),
    "one folder around": (["set/1/a.png", "set/0/b.png"], [0, 1]),
    "two folders around": (["a/b/cat/a.png", "a/b/ant/b.png", "a/b/dog/c.png"], [0, 1, 2]),
    "images further down": (["0/x/y/a.png", "1/b.png"], [0, 1]),
    "flat": (["a.png", "b.png"], None),
    "flat in a folder": (["images/a.png", "images/b.png"], None),
    "one class": (["2/a.png", "2/b.png"], [2, 2]),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders(case: str) -> None:
    names, labels = FOLDERS[case]
    labelling = _read(names)
    assert labelling.images == sorted(names)
    assert labelling.labels == labels
    assert labelling.rejected == []


def test_class_names() -> None:
    assert _read(["0-cat/a.png", "2_dog/b.png"]).class_names == ("cat", "1", "dog")
    assert _read(["b/a.png", "a/b.png", "c/c.png"]).class_names == ("a", "b", "c")
    assert "alphabetical" in _read(["b/a.png", "a/b.png", "c/c.png"]).mapping
    assert "index" in _read(["0/a.png"]).mapping
    assert _read(["0/a.png", "1/b.png"]).class_names == ()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cat/a.png", "dog/b.png"], ["3 classes", "2 folders", "cat, dog"]),
        (["a/a.png", "b/b.png", "c/c.png", "d/d.png"], ["4 folders"]),
        (["0/a.png", "3/b.png"], ["0 to 2", "3"]),
        (["1-cat/a.png", "1-dog/b.png"], ["two folders", "1-cat, 1-dog"]),
        (["0/a.png", "cat/b.png"], ["some folders are class indices", "cat"]),
        (["-1/a.png", "0/b.png"], ["-1 is none"]),
        (["0/a.png", "1.5e3x/b.png", "nan/c.png"], ["nan is none"]),
        (["\u0663/a.png", "0/b.png"], ["\u0663 is none"]),
    ],
)
def test_folders_that_do_not_fit(names: list[str], words: list[str]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        _read(names)
    assert caught.value.code == "reference_labels_do_not_fit"
    assert all(word in caught.value.detail for word in words)
    assert "'0' to 'K-1'" in caught.value.hint


TABLES: dict[str, tuple[list[str], str, list[int]]] = {
    "with a header": (["a.png", "b.png"], "filename,label\na.png,2\nb.png,0\n", [2, 0]),
    "without": (["a.png", "b.png"], "a.png,2\nb.png,0\n", [2, 0]),
    "columns the other way": (["a.png", "b.png"], "label,filename\n2,a.png\n0,b.png\n", [2, 0]),
    "more columns": (["a.png"], "id,file,label\n7,a.png,1\n", [1]),
    "names": (["a.png", "b.png", "c.png"], "a.png,dog\nb.png,ant\nc.png,cat\n", [2, 0, 1]),
    "in a folder": (["images/a.png", "images/b.png"], "images/a.png,1\n./images/b.png,2\n", [1, 2]),
    "base names": (["images/a.png", "images/b.png"], "a.png,1\nb.png,2\n", [1, 2]),
    "byte order mark and blank lines": (["a.png"], "\ufefffilename,label\r\n\r\na.png,1\r\n", [1]),
    "quoted": (["a, b.png"], 'filename,label\n"a, b.png",1\n', [1]),
}


@pytest.mark.parametrize("case", TABLES)
@pytest.mark.parametrize("around", ["", "set/"])
def test_tables(case: str, around: str) -> None:
    names, table, labels = TABLES[case]
    labelling = _read([around + name for name in [*names, "labels.csv"]], table)
    assert labelling.labels == labels
    assert labelling.images == [around + name for name in names]


def test_rows_out_of_range_are_named() -> None:
    with pytest.raises(InvalidInputError) as caught:
        _read(["a.png", "b.png", "c.png", "labels.csv"], "filename,label\na.png,1\nb.png,3\nc.png,12\n")
    assert caught.value.code == "reference_labels_do_not_fit"
    assert "row 3 (3), row 4 (12)" in caught.value.detail


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("a.png,1\na.png,2\n", "row 2: 'a.png' has two labels"),
        ("a.png\n", "row 1: expected filename,label"),
        ("a.png,\n", "row 1: expected filename,label"),
        (b"\xff\xfe\x00a", "cannot be read"),
    ],
)
def test_bad_tables(table: str | bytes, words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        _read(["a.png", "labels.csv"], table)
    assert caught.value.code == "invalid_reference_labels"
    assert words in caught.value.detail


def test_names_in_a_table_must_be_as_many_as_the_classes() -> None:
    with pytest.raises(InvalidInputError, match="2 labels: cat, dog"):
        _read(["a.png", "b.png", "labels.csv"], "a.png,cat\nb.png,dog\n")


def test_what_is_left_over_is_told() -> None:
    labelling = _read(["a.png", "b.png", "notes.txt", "labels.csv"], "a.png,1\ngone.png,2\n")
    assert labelling.images == ["a.png"]
    assert [str(reject) for reject in labelling.rejected] == [
        "notes.txt: not PNG, JPEG or WEBP",
        "b.png: no row in labels.csv",
        "labels.csv, row 2: there is no image 'gone.png'",
    ]
    (reject,) = _read(["0/a.png", "b.png"]).rejected
    assert (str(reject), reject.code) == ("b.png: outside of the class folders", "label_missing")


def test_a_row_that_fits_two_images_gives_neither_a_label() -> None:
    labelling = _read(["x/a.png", "y/a.png", "b.png", "labels.csv"], "a.png,1\nb.png,2\n")
    assert labelling.images == ["b.png"]
    assert [reject.code for reject in labelling.rejected] == ["label_ambiguous"] * 2
    assert _read(["x/a.png", "y/a.png", "labels.csv"], "x/a.png,1\ny/a.png,2\n").labels == [1, 2]


MODEL = ("tench, Tinca tinca", "Gold Fish", "911 turbo")


@pytest.mark.parametrize(
    ("folders", "labels", "matched_by"),
    [
        (["tench", "gold_fish"], [1, 0], "name"),
        (["TINCA TINCA", "911-Turbo"], [2, 0], "name"),
        (["0", "2"], [0, 2], "index"),
        (["0-tench", "1-gold fish"], [0, 1], "index"),
        (["n01", "n02", "n03"], [0, 1, 2], "order"),
    ],
)
def test_names_of_the_model(folders: list[str], labels: list[int], matched_by: str) -> None:
    labelling = _read([f"{folder}/{i}.png" for i, folder in enumerate(folders)], class_names=MODEL)
    assert sorted(labelling.labels or []) == sorted(labels)
    assert labelling.matched_by == matched_by
    assert labelling.class_names == MODEL


def test_numbers_are_indices_also_where_classes_are_called_by_numbers() -> None:
    assert _read(["0/a.png", "1/b.png"], class_names=("2", "1", "0")).labels == [0, 1]


def test_names_that_contradict_the_model_are_told() -> None:
    labelling = _read(["0-goldfish/a.png", "1-gold fish/b.png"], class_names=MODEL)
    assert labelling.mapping.endswith("otherwise: 0-goldfish")


@pytest.mark.parametrize(
    ("folders", "words"), [(["tench", "shark"], "no class shark"), (["tench", "gold fish", "x"], "no class x")]
)
def test_names_the_model_does_not_have(folders: list[str], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        _read([f"{folder}/{i}.png" for i, folder in enumerate(folders)], class_names=MODEL)


def test_two_classes_of_one_name() -> None:
    with pytest.raises(InvalidInputError, match="several classes called crane"):
        _read(["crane/a.png", "owl/b.png"], class_names=("crane", "Crane", "owl"))
