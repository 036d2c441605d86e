"""References to a repository of a Hub: `hf-hub:org/name@revision`. Checked by shape before anything is asked.

Models and data sets are repositories of two kinds. Where a repository is given as text, that of a data set is written
as in its address on the Hub: `datasets/org/name`.
"""

import re
from dataclasses import dataclass

from core.errors import InvalidInputError

SCHEME = "hf-hub:"
DEFAULT_REVISION = "main"
REPO_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
REVISION_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}"

_DATASETS = "datasets/"
_REPO = re.compile(REPO_PATTERN)
_REVISION = re.compile(REVISION_PATTERN)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubRef:
    """What somebody wrote down: a repository, and a branch, a tag or a commit of it.

    Args:
        repo: org/name.
        is_dataset: whether it is a data set, not a model.

    Raises (on construction):
        InvalidInputError: `invalid_hub_reference`.
    """

    repo: str
    revision: str = DEFAULT_REVISION
    is_dataset: bool = False

    def __post_init__(self) -> None:
        owner_and_name = self.repo.split("/")
        if not _REPO.fullmatch(self.repo) or any(_odd(part) for part in owner_and_name):
            raise _invalid(f"{self.repo[:100]!r} is no repository: it must be org/name.")
        if not _REVISION.fullmatch(self.revision) or ".." in self.revision or "//" in self.revision:
            raise _invalid(f"{self.revision[:100]!r} is no revision: it must be a branch, a tag or a commit.")

    @classmethod
    def parse(cls, text: str) -> "HubRef":
        """`hf-hub:org/name` or `hf-hub:org/name@revision`. Raises as the constructor."""
        if not text.startswith(SCHEME):
            raise _invalid(f"It does not begin with {SCHEME}")
        repo, at, revision = text.removeprefix(SCHEME).partition("@")
        return cls(repo, revision) if at else cls(repo)

    @property
    def address(self) -> str:
        """The repository as text that says its kind."""
        return f"{_DATASETS}{self.repo}" if self.is_dataset else self.repo

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repo.split("/")[1]

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}@{self.revision}"


def kind_and_name(address: str) -> tuple[str, str]:
    """("dataset" or "model", org/name) of HubRef.address."""
    bare = address.removeprefix(_DATASETS)
    return ("model", address) if bare == address else ("dataset", bare)


def is_commit(text: str) -> bool:
    """Whether `text` names a commit in full: 40 lower-case hexadecimal digits."""
    return _COMMIT.fullmatch(text) is not None


def _odd(part: str) -> bool:
    return ".." in part or "--" in part or part.endswith((".", "-", ".git"))


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "invalid_hub_reference",
        f"The reference to a Hub repository is not valid. {detail}",
        "Write hf-hub:org/name@revision, for instance hf-hub:google/vit-base-patch16-224@main.",
    )
