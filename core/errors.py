"""Every error Assay raises on purpose: a stable code, what happened, and what to do about it."""

from typing import ClassVar


class AssayError(Exception):
    """Base of all deliberate errors.

    Args:
        code: stable snake_case identifier, the same in the API, the registry and the CLI.
        detail: what happened, in plain words, without secrets or host paths.
        hint: what the caller can do now; empty if there is nothing to do.
    """

    #: HTTP status that says the same thing.
    http_status: ClassVar[int] = 500
    #: Whether running the same job again can help.
    retryable: ClassVar[bool] = False

    def __init__(self, code: str, detail: str, hint: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.hint = hint


class InvalidInputError(AssayError):
    """The request or a file in it is wrong."""

    http_status = 422


class UnsupportedError(InvalidInputError):
    """Well-formed, but nothing this version can scan. Codes start with `unsupported_`."""


class UnsafeError(InvalidInputError):
    """Opening it would execute or smuggle something. Codes start with `unsafe_`."""


class UnauthorizedError(AssayError):
    """No key, or one that is not valid (any more)."""

    http_status = 401


class ForbiddenError(AssayError):
    """A valid key without the needed scope."""

    http_status = 403


class NotFoundError(AssayError):
    """There is no such thing, or not for this organisation: the answer is the same."""

    http_status = 404


class ConflictError(AssayError):
    """The thing is in a state that does not allow this."""

    http_status = 409


class LockedError(AssayError):
    """Somebody else is working on the thing at this moment."""

    http_status = 423
    retryable = True


class TooLargeError(AssayError):
    """Over a size limit."""

    http_status = 413


class QuotaError(AssayError):
    """The organisation has used up what it may use."""

    http_status = 429


class StorageFullError(AssayError):
    """No room left on the disk."""

    http_status = 507
    retryable = True


class UnavailableError(AssayError):
    """Something Assay depends on is away for the moment."""

    http_status = 503
    retryable = True


class IntegrityError(AssayError):
    """Stored bytes are not the bytes that were stored."""

    http_status = 500


class EngineError(AssayError):
    """The computation itself failed."""

    http_status = 500


class CanceledError(AssayError):
    """The scan was canceled; raised inside the engine at the next step after the request."""

    http_status = 409

    def __init__(self) -> None:
        super().__init__("canceled", "The scan was canceled.")
