"""Which files make up a model."""

import json

import pytest

from core.hub.errors import HubContentError
from core.hub.selection import TEXT_SIDE, Choice, choose
from core.hub.source import SMALL_BYTES, HubFile
from core.models.repository.names import TEXT_FILES

JUNK = [".gitattributes", "README.md", "modeling_x.py", "flax_model.msgpack", "tf_model.h5", "onnx/model.onnx"]


def chosen(*paths: str, contents: dict[str, object] | None = None, sizes: dict[str, int] | None = None) -> Choice:
    held = {path: json.dumps(value).encode() for path, value in (contents or {}).items()}
    sizes = {**{path: len(data) for path, data in held.items()}, **(sizes or {})}
    files = [HubFile(path, sizes.get(path, 10), None, None) for path in [*paths, *JUNK]]
    return choose(files, lambda file: held.get(file.path, b"{}"))


def names(*paths: str, contents: dict[str, object] | None = None) -> list[str]:
    return [file.path for file in chosen(*paths, contents=contents).files]


BOTH_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (("config.json", *BOTH_WEIGHTS), ["config.json", "model.safetensors"]),
        (
            ("config.json", "preprocessor_config.json", "model.safetensors", "tokenizer.json"),
            ["config.json", "model.safetensors", "preprocessor_config.json"],
        ),
        (("config.json", "pytorch_model.bin"), ["config.json", "pytorch_model.bin"]),
        (("config.json", "model.safetensors", "model.fp16.safetensors"), ["config.json", "model.safetensors"]),
        (("config.json", "model.safetensors", "sub/model.safetensors"), ["config.json", "model.safetensors"]),
        (
            ("open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "vocab.json"),
            ["open_clip_config.json", "open_clip_model.safetensors", "vocab.json"],
        ),
        (
            ("config.json", "open_clip_config.json", "pytorch_model.bin", "open_clip_model.safetensors"),
            ["open_clip_config.json", "open_clip_model.safetensors"],
        ),
        (
            ("config.json", "open_clip_config.json", "model.safetensors", "open_clip_model.safetensors"),
            ["config.json", "model.safetensors"],
        ),
        (("open_clip_config.json", "open_clip_pytorch_model.bin"),) * 2,
        (("resnet.safetensors",),) * 2,
    ],
)
def test_layouts(paths: tuple[str, ...], expected: list[str]) -> None:
    assert names(*paths) == list(expected)


def test_everything_else_is_named_as_ignored() -> None:
    found = chosen("config.json", *BOTH_WEIGHTS)
    assert list(found.ignored) == sorted([*JUNK, "pytorch_model.bin"])


def test_text_sides_bring_their_tokenizer() -> None:
    companions = ("merges.txt", "processor_config.json", "tokenizer.json", "vocab.json")
    paths = ("config.json", "model.safetensors", *companions, "spiece.model")
    assert names(*paths, contents={"config.json": {"model_type": "vit"}}) == ["config.json", "model.safetensors"]
    assert names(*paths, contents={"config.json": {"model_type": "clip"}}) == [
        "config.json",
        "merges.txt",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "vocab.json",
    ]


def test_a_text_side_is_the_same_on_the_hub_and_in_an_upload() -> None:
    assert set(TEXT_SIDE) == set(TEXT_FILES)


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = "model.safetensors.index.json"


def index(*shards: object) -> dict[str, object]:
    return {INDEX: {"weight_map": {f"w{i}": shard for i, shard in enumerate(shards)}}}


def test_shards_are_those_of_the_index() -> None:
    extra = "model-00003-of-00003.safetensors"
    found = chosen("config.json", INDEX, *SHARDS, extra, contents=index(*SHARDS, SHARDS[0]))
    assert [file.path for file in found.files] == ["config.json", *SHARDS, INDEX]
    assert extra in found.ignored


def test_shards_of_pickles_only_without_safetensors() -> None:
    shard, bin_index = "pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"
    contents = {bin_index: {"weight_map": {"w": shard}}}
    assert names("config.json", bin_index, shard, contents=contents) == ["config.json", shard, bin_index]
    both = names("config.json", bin_index, shard, INDEX, *SHARDS, contents=contents | index(*SHARDS))
    assert both == ["config.json", *SHARDS, INDEX]


def test_a_missing_shard_is_named() -> None:
    with pytest.raises(HubContentError, match=SHARDS[1]) as caught:
        chosen("config.json", INDEX, SHARDS[0], contents=index(*SHARDS))
    assert caught.value.code == "hub_files_missing"


@pytest.mark.parametrize(
    "value",
    [
        {INDEX: {}},
        {INDEX: []},
        {INDEX: {"weight_map": []}},
        {INDEX: {"weight_map": {}}},
        index(1),
        index("../model-00001-of-00001.safetensors"),
        index("README.md"),
        index("model-00001-of-00002.safetensors\n"),
        index(["model-00001-of-00002.safetensors"]),
        index(*[f"model-{i:05d}-of-00999.safetensors" for i in range(501)]),
    ],
)
def test_an_index_that_is_none(value: dict[str, object]) -> None:
    with pytest.raises(HubContentError, match="hub_invalid_index"):
        chosen("config.json", INDEX, *SHARDS, contents=value)


def test_a_giant_index_is_not_read() -> None:
    with pytest.raises(HubContentError, match="hub_invalid_index"):
        chosen("config.json", INDEX, *SHARDS, sizes={INDEX: SMALL_BYTES + 1})


@pytest.mark.parametrize(
    ("paths", "word"),
    [
        ((), "flax_model.msgpack"),
        (("config.json",), "tf_model.h5"),
        (("model.pth",), "model.pth"),
        (("a.safetensors", "b.safetensors"), "flax_model"),
        (("sub/config.json", "sub/model.safetensors"), "flax_model"),
        (("config.json", "adapter_model.safetensors"), "flax_model"),
    ],
)
def test_no_model_at_all(paths: tuple[str, ...], word: str) -> None:
    with pytest.raises(HubContentError, match=word) as caught:
        chosen(*paths)
    assert caught.value.code == "hub_no_model"


def test_no_model_and_nothing_like_it() -> None:
    files = [HubFile("README.md", 1, None, None)]
    with pytest.raises(HubContentError, match="neither"):
        choose(files, lambda _: b"")
    with pytest.raises(HubContentError, match="no weights"):
        choose([*files, HubFile("config.json", 1, None, None)], lambda _: b"{}")
