"""What can go wrong with a Hub, each with a code of its own. No text holds an address, a token or a server's words."""

from core.errors import AssayError


class HubError(AssayError):
    """Something about a Hub repository. Codes start with `hub_`.

    Attributes:
        retry_after_s: how long the Hub asked to be left alone; 0 if it did not say.
    """

    http_status = 502
    retry_after_s: float = 0.0


class HubMissingError(HubError):
    """`hub_repository_not_found`, `hub_revision_not_found`, `hub_file_not_found` or `hub_offline_missing`."""

    http_status = 404


class HubDeniedError(HubError):
    """`hub_gated` or `hub_unauthorized`."""

    http_status = 403


class HubTooLargeError(HubError):
    """`hub_file_too_large` or `hub_model_too_large`."""

    http_status = 413


class HubContentError(HubError):
    """`hub_no_model`, `hub_files_missing`, ...: the repository holds nothing that could be scanned."""

    http_status = 422


class HubBrokenError(HubError):
    """`hub_digest_mismatch`, `hub_redirect_refused` or `hub_invalid_answer`: trying again will hardly help."""


class HubTruncatedError(HubError):
    """`hub_file_truncated`: the transfer ended early."""

    retryable = True


class HubUnavailableError(HubError):
    """`hub_unavailable`: no connection, no answer, or an error of the Hub's own."""

    http_status = 503
    retryable = True


class HubStoppedError(HubError):
    """`hub_stopped`: whoever asked for the bytes does not want them any more. Never seen from outside."""

    def __init__(self) -> None:
        super().__init__("hub_stopped", "The transfer was stopped.")


class HubRateLimitedError(HubError):
    """`hub_rate_limited`: too many requests for the Hub's taste."""

    http_status = 503
    retryable = True

    def __init__(self, retry_after_s: float = 0.0) -> None:
        wait = f" It asks to wait for {retry_after_s:.0f} s." if retry_after_s else ""
        super().__init__(
            "hub_rate_limited",
            f"The Hub answers that there were too many requests.{wait}",
            "Wait, or give the organisation a token of its own: assay hub-token set.",
        )
        self.retry_after_s = retry_after_s
