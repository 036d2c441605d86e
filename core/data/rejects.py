"""What is not used of a reference set, and why: one entry for a file or a row."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reject:
    """Something that is left out.

    Attributes:
        file: the member, or `labels.csv, row 7`.
        code: stable; begins with `image_`, `label_`, `caption_` or `member_`.
        reason: in plain words.
    """

    file: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


class _RejectedError(ValueError):
    """Something is not used.

    Args:
        code: see Reject.
        reason: in plain words.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class ImageRejectedError(_RejectedError):
    """One image is not used."""


class CaptionRejectedError(_RejectedError):
    """One caption is not used."""


class MemberUnreadableError(ImageRejectedError):
    """One member of the archive or folder cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__("member_unreadable", reason)
