"""Captions: tables, files beside images, and what is wrong with single rows."""

import json

import pytest

from core.data.captions import MAX_CAPTION, clean_caption
from core.data.pairs import BESIDE, FoundCaptions, find_captions
from core.data.rejects import CaptionRejectedError, MemberUnreadableError
from core.errors import InvalidInputError


def _find(files: dict[str, str | bytes]) -> FoundCaptions | None:
    def read(name: str) -> bytes:
        content = files[name]
        return content if isinstance(content, bytes) else content.encode()

    return find_captions(tuple(sorted(files)), read)


def _found(files: dict[str, str | bytes]) -> FoundCaptions:
    found = _find(files)
    assert found is not None
    return found


def _codes(found: FoundCaptions) -> dict[str, str]:
    return {reject.file: reject.code for reject in found.rejected}


IMAGES: dict[str, str | bytes] = {"a.png": b"", "b.jpg": b"", "c.webp": b""}


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("captions.csv", 'file,caption\na.png,a red circle\nb.jpg,"a blue, small square"\nc.webp,x\n'),
        ("captions.csv", 'caption,split,file_name\na red circle,t,a.png\n"a blue, small square",t,b.jpg\nx,t,c.webp'),
        ("captions.csv", './a.png,a red circle\nb.jpg,"a blue, small square"\nc.webp,x'),
        ("captions.tsv", "filename\ttext\na.png\ta red circle\nb.jpg\ta blue, small square\nc.webp\tx\n"),
        (
            "captions.jsonl",
            '{"file_name": "a.png", "text": "a red circle"}\n\n{"image": "b.jpg", "caption": "a blue, small square"}\n'
            '{"file": "c.webp", "captions": ["x", "y"]}',
        ),
    ],
)
def test_tables(name: str, table: str) -> None:
    found = _found(IMAGES | {name: table})
    assert found.images == ["a.png", "b.jpg", "c.webp"]
    assert found.captions == ["a red circle", "a blue, small square", "x"]
    assert (found.source, found.spare, found.rejected) == (name, 0, [])


def test_a_table_inside_of_one_folder_names_paths_below_it() -> None:
    files = {"set/images/1/a.png": b"", "set/images/2/b.png": b"", "set/captions.csv": "images/1/a.png,one\nb.png,two"}
    assert _found(files).captions == ["one", "two"]


def test_files_beside_images() -> None:
    files = {
        "0001.jpg": b"",
        "0001.txt": "a red circle\n",
        "0001.json": '{"caption": "not this"}',
        "0002.png": b"",
        "0002.json": '{"key": "0002", "caption": "a blue square"}',
        "0003.png": b"",
        "0004.png": b"",
        "0004.json": '{"width": 3}',
    }
    found = _found(files)
    assert (found.images, found.captions) == (["0001.jpg", "0002.png"], ["a red circle", "a blue square"])
    assert found.source == BESIDE
    assert _codes(found) == {"0003.png": "caption_missing", "0004.json": "caption_row"}


def test_images_alone_have_no_captions() -> None:
    assert _find({"cat/a.png": b"", "dog/b.png": b"", "readme.txt": "hello"}) is None


@pytest.mark.parametrize(
    ("caption", "code"),
    [
        (b"", "caption_empty"),
        (b"  ", "caption_empty"),
        (b"a\0b", "caption_control"),
        (b"a \x1b[31mred one", "caption_control"),
        ("a \u202egnp.txt".encode(), "caption_control"),
        (b"caf\xe9", "caption_encoding"),
        (b"x" * (MAX_CAPTION + 1), "caption_too_long"),
    ],
)
def test_a_caption_that_is_not_used_is_told_by_its_row(caption: bytes, code: str) -> None:
    rows = b"file,caption\na.png," + caption + b"\nb.jpg,fine\nc.webp,fine too\n"
    found = _found(IMAGES | {"captions.csv": rows})
    assert found.captions == ["fine", "fine too"]
    assert _codes(found)["captions.csv, row 2"] == code
    beside = _found({"a.png": b"", "a.txt": caption, "b.png": b"", "b.txt": "fine"})
    assert _codes(beside) == {"a.txt": code}


def test_line_breaks_become_spaces_and_accents_are_composed() -> None:
    assert clean_caption(" a\n red\tcafe\u0301 ") == "a red café"
    with pytest.raises(CaptionRejectedError):
        clean_caption("\n")


def test_rows_that_fit_no_image_or_two() -> None:
    files: dict[str, str | bytes] = {"x/a.png": b"", "y/a.png": b"", "y/b.png": b"", "z.png": b""}
    table = "a.png,one\nb.png,two\nnowhere.png,three\nb.png,two again\nonly\n,nothing\n"
    found = _found(files | {"captions.csv": table})
    assert (found.images, found.captions, found.spare) == (["y/b.png"], ["two"], 1)
    assert _codes(found) == {
        "x/a.png": "caption_ambiguous",
        "y/a.png": "caption_ambiguous",
        "z.png": "caption_missing",
        "captions.csv, row 3": "caption_without_image",
        "captions.csv, row 5": "caption_row",
        "captions.csv, row 6": "caption_row",
    }


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", '{"file": "a.png"}', '{"text": "no file"}', '{"file": 3, "text": "x"}', "[" * 100_000]
)
def test_a_bad_line_of_json(line: str) -> None:
    good = json.dumps({"file": "b.jpg", "text": "fine"})
    found = _found(IMAGES | {"captions.jsonl": f"{line}\n{good}"})
    assert found.captions == ["fine"]
    assert _codes(found)["captions.jsonl, row 1"] == "caption_row"


@pytest.mark.parametrize("table", ["", "file,caption\n", "a.png", "\xff\xfe".encode("utf-16"), "x" * (17 << 20)])
def test_a_table_without_a_usable_row(table: str | bytes) -> None:
    with pytest.raises(InvalidInputError) as caught:
        _find(IMAGES | {"captions.csv": table})
    assert caught.value.code == "invalid_reference_captions"
    assert "captions.csv" in caught.value.detail
    assert caught.value.hint


def test_a_table_that_cannot_be_read() -> None:
    def read(name: str) -> bytes:
        raise MemberUnreadableError("damaged in the archive")

    with pytest.raises(InvalidInputError) as caught:
        find_captions(("a.png", "captions.csv"), read)
    assert caught.value.code == "invalid_reference_captions"
