"""Answers that must be the same wherever they are given: what does not exist, and what belongs to somebody else."""

from core.errors import NotFoundError


def scan_not_found() -> NotFoundError:
    """The one answer for scans that do not exist and for other organisations' scans."""
    return NotFoundError("scan_not_found", "There is no such scan.")


def model_not_found() -> NotFoundError:
    """The one answer for models that do not exist and for other organisations' models."""
    return NotFoundError("model_not_found", "There is no such model.")


def blob_not_found(path: str = "") -> NotFoundError:
    """The one answer for blobs that do not exist and for blobs only other organisations have.

    Args:
        path: what the caller wanted to use it as.
    """
    what = f" for {path}" if path else ""
    return NotFoundError(
        "blob_not_found", f"There is no such blob{what}.", "Send the file first: PUT /v1/blobs/{sha256}."
    )
