"""The grammar of references."""

import pytest

from core.errors import InvalidInputError
from core.hub.reference import HubRef, is_commit


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("hf-hub:org/name", "org/name", "main"),
        ("hf-hub:timm/resnet18.a1_in1k@v1.0", "timm/resnet18.a1_in1k", "v1.0"),
        ("hf-hub:a/b@refs/pr/1", "a/b", "refs/pr/1"),
        ("hf-hub:a/b@" + "0" * 40, "a/b", "0" * 40),
    ],
)
def test_references(text: str, repo: str, revision: str) -> None:
    ref = HubRef.parse(text)
    assert (ref.repo, ref.revision, ref.name) == (repo, revision, repo.split("/")[1])
    assert HubRef.parse(str(ref)) == ref


@pytest.mark.parametrize(
    "text",
    [
        "org/name",
        "hf-hub:",
        "hf-hub:name",
        "hf-hub:a/b/c",
        "hf-hub:a/b@",
        "hf-hub:a/b@-x",
        "hf-hub:a/b@x y",
        "hf-hub:a/b@../x",
        "hf-hub:a/b@x//y",
        "hf-hub:../b",
        "hf-hub:a/..",
        "hf-hub:a/b..c",
        "hf-hub:a--b/c",
        "hf-hub:a/b.git",
        "hf-hub:a/b.",
        "hf-hub:a/b\n",
        "hf-hub:a/ü",
        "hf-hub:a/b?x=1",
        "hf-hub:a/b#x",
        "hf-hub:a/%2e%2e",
        "hf-hub:http://x/y",
        "hf-hub:" + "a" * 97 + "/b",
        "hf-hub:a/b@" + "x" * 201,
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidInputError, match="invalid_hub_reference"):
        HubRef.parse(text)


def test_commits() -> None:
    assert is_commit("0123456789abcdef0123456789abcdef01234567")
    assert not any(is_commit(text) for text in ("main", "0" * 39, "0" * 41, "G" * 40, "A" * 40))
