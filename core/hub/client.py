"""A Hub over the network, through huggingface_hub. Importing it takes a while: only who needs the network does."""

import functools
import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import httpx2
import huggingface_hub
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, disable_progress_bars

from core.errors import AssayError
from core.hub.errors import (
    HubBrokenError,
    HubDeniedError,
    HubMissingError,
    HubRateLimitedError,
    HubTooLargeError,
    HubTruncatedError,
)
from core.hub.reference import HubRef, is_commit, kind_and_name
from core.hub.source import MAX_LISTED, FileAt, HubFile, ShouldStop, Sink
from core.hub.transport import Allowed, Call, HubTransport, asked_to_wait, calling, origin_of, unavailable

PUBLIC_ENDPOINT = "https://huggingface.co"
#: Where the public Hub keeps its files.
PUBLIC_HOSTS = ("huggingface.co", ".huggingface.co", "hf.co", ".hf.co")

#: Seconds a question may take; and how long trying again may go on, for questions and for transfers.
ASK_LIMIT_S, ASK_PATIENCE_S, FETCH_PATIENCE_S = 30.0, 8.0, 30.0
#: Longest answer to a question: a page of a listing, or a small file.
MAX_ANSWER_BYTES = 32 * 2**20
#: Files without a digest that are read for it, and for how long.
MEASURED_BYTES, MEASURE_LIMIT_S = 256 * 2**20, 60.0
#: What is lost when a transfer breaks off; the client's own block is ten times as large.
BLOCK_BYTES = 2**20
#: A transfer that began anew so often gets nowhere.
_MAX_RESTARTS = 3

_SHA256 = re.compile(r"[0-9a-f]{64}")


class NetworkHub:
    """See HubSource.

    Args:
        endpoint: base address of a Hub.
        redirect_hosts: where it may send us for files, besides itself; see transport.Allowed. The public Hub's own
            hosts are known.
    """

    def __init__(self, endpoint: str, redirect_hosts: tuple[str, ...]) -> None:
        self._endpoint = endpoint.rstrip("/")
        hosts = redirect_hosts + (PUBLIC_HOSTS if self._endpoint == PUBLIC_ENDPOINT else ())
        self._allowed = Allowed(origin_of(httpx2.URL(self._endpoint)), hosts)
        _prepare_client()
        self._api = HfApi(endpoint=self._endpoint, token=False)

    @property
    def endpoint(self) -> str:
        return self._endpoint

    def commit(self, ref: HubRef, token: str | None) -> str:
        kind, name = kind_and_name(ref.address)
        with self._asking(), _translated(ref.repo, ref.revision):
            found = self._api.repo_info(name, repo_type=kind, revision=ref.revision, token=token or False).sha
        if not isinstance(found, str) or not is_commit(found):
            raise _invalid_answer("It names no commit for the revision.")
        return found

    def files(self, repo: str, commit: str, token: str | None) -> list[HubFile]:
        listed: list[HubFile] = []
        kind, name = kind_and_name(repo)
        with self._asking(), _translated(repo, commit):
            entries = self._api.list_repo_tree(
                name, repo_type=kind, recursive=True, revision=commit, token=token or False
            )
            for entry in entries:
                if isinstance(entry, RepoFile):
                    listed.append(_to_file(entry))
                if len(listed) > MAX_LISTED:
                    raise HubTooLargeError(
                        "hub_model_too_large", f"The repository {repo} has more than {MAX_LISTED} files."
                    )
        return listed

    def read(self, where: FileAt, token: str | None) -> bytes:
        buffer = _Buffer()
        with self._asking():
            self._get(where, token, buffer)
        return buffer.getvalue()

    def digest(self, where: FileAt, token: str | None) -> str | None:
        """The public Hub keeps no such files; of those of other servers, moderate ones are read and forgotten."""
        if where.file.size_bytes > MEASURED_BYTES:
            return None
        measure = _Measure()
        with calling(Call(self._allowed, lambda: False, ASK_PATIENCE_S, MEASURE_LIMIT_S, None)):
            self._get(where, token, measure)
        return measure.hexdigest()

    def fetch(self, where: FileAt, token: str | None, sink: Sink, should_stop: ShouldStop) -> None:
        with calling(Call(self._allowed, should_stop, FETCH_PATIENCE_S, None, None)):
            self._get(where, token, sink)

    def _get(self, where: FileAt, token: str | None, sink: Sink) -> None:
        """The client's own transfer, which goes on where a broken one ended."""
        kind, name = kind_and_name(where.repo)
        url = hf_hub_url(name, where.file.path, repo_type=kind, revision=where.commit, endpoint=self._endpoint)
        with _translated(where.repo, where.commit, where.file):
            http_get(
                url,
                cast("BinaryIO", _SinkFile(sink, where.file)),
                resume_size=sink.size,
                headers=build_hf_headers(token=token or False),
                expected_size=where.file.size_bytes,
                displayed_filename=where.file.path[-40:],
            )
        if sink.size != where.file.size_bytes:
            raise _truncated(where.file)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        with calling(Call(self._allowed, lambda: False, ASK_PATIENCE_S, ASK_LIMIT_S, MAX_ANSWER_BYTES)):
            yield


class _Buffer:
    """A Sink in memory."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def size(self) -> int:
        return len(self._data)

    def write(self, data: bytes) -> None:
        self._data += data

    def rollback(self, size: int) -> None:
        del self._data[size:]

    def getvalue(self) -> bytes:
        return bytes(self._data)


class _Measure:
    """A Sink that keeps nothing but the SHA-256."""

    def __init__(self) -> None:
        self._hash, self.size = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)

    def rollback(self, size: int) -> None:
        if size:
            raise _invalid_answer("It starts over in the middle of a file.")
        self._hash, self.size = hashlib.sha256(), 0

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class _SinkFile:
    """A Sink as the client's transfer sees it: a file that is appended to, and cut back when a server starts over."""

    def __init__(self, sink: Sink, file: HubFile) -> None:
        self._sink, self._file = sink, file
        self._position = sink.size
        self._restarts = 0

    def write(self, data: bytes) -> int:
        if self._sink.size + len(data) > self._file.size_bytes:
            raise HubBrokenError(
                "hub_digest_mismatch",
                f"The Hub sends more than the {self._file.size_bytes} bytes it announced for {self._file.path}.",
                "The file is not the one the repository lists. Ask its owner, or try another mirror.",
            )
        self._sink.write(data)
        self._position = self._sink.size
        return len(data)

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset
        return offset

    def truncate(self, size: int | None = None) -> int:
        self._restarts += 1
        if self._restarts > _MAX_RESTARTS:
            raise _truncated(self._file)
        self._sink.rollback(self._position)
        return self._position


class _LastingClient(httpx2.Client):
    """The library closes its one client whenever a connection fails. Transfers of other threads go on here."""

    def close(self) -> None:
        """Left to the end of the process; the pool drops broken connections by itself."""


@functools.cache
def _prepare_client() -> None:
    """Once per process: our transport below the client, and nothing of it on anybody's terminal or in a log.

    Its messages hold signed addresses.
    """
    client = _LastingClient(transport=HubTransport(), follow_redirects=True)
    huggingface_hub.set_client_factory(lambda: client)
    constants.DOWNLOAD_CHUNK_SIZE = BLOCK_BYTES
    disable_progress_bars()
    for name in ("huggingface_hub", "httpx2"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _to_file(entry: RepoFile) -> HubFile:
    sha256 = entry.lfs.sha256 if entry.lfs is not None else None
    if type(entry.size) is not int or entry.size < 0 or not (sha256 is None or _SHA256.fullmatch(sha256)):
        raise _invalid_answer("A file of the listing has no size, or an impossible digest.")
    return HubFile(entry.path, entry.size, sha256, entry.blob_id if sha256 is None else None)


@contextmanager
def _translated(repo: str, revision: str, file: HubFile | None = None) -> Iterator[None]:
    """The client's exceptions as our errors. Their texts hold addresses and what the server liked to say: left out."""
    try:
        yield
    except AssayError:
        raise
    except GatedRepoError as error:
        raise HubDeniedError(
            "hub_gated",
            f"Access to {repo} is gated, and not granted to whoever asks here.",
            "Ask for access on the repository's page, then: assay hub-token set --org ORG.",
        ) from error
    except DisabledRepoError as error:
        raise HubDeniedError("hub_disabled", f"The Hub has disabled access to {repo}.") from error
    except RevisionNotFoundError as error:
        raise HubMissingError(
            "hub_revision_not_found", f"{repo} has no revision {revision!r}.", "Name a branch, a tag or a commit of it."
        ) from error
    except EntryNotFoundError as error:
        name = file.path if file is not None else "the listing"
        raise HubMissingError("hub_file_not_found", f"{repo} has no {name} at {revision}.") from error
    except RepositoryNotFoundError as error:
        raise _no_repository(repo) from error
    except HfHubHTTPError as error:
        raise _of_status(error, repo) from error
    except (httpx2.TooManyRedirects, httpx2.DecodingError, httpx2.InvalidURL, httpx2.StreamError) as error:
        raise _invalid_answer(f"({type(error).__name__})") from error
    except httpx2.RequestError as error:
        raise unavailable(f"({type(error).__name__})") from error
    except OSError as error:
        if error.errno is not None or file is None:  # the disk's own
            raise
        raise _truncated(file) from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _invalid_answer(f"({type(error).__name__})") from error


def _of_status(error: HfHubHTTPError, repo: str) -> AssayError:
    status = error.response.status_code
    if status == 401:
        return HubDeniedError(
            "hub_unauthorized",
            f"The Hub does not let us read {repo}: it is private, or the token is not valid (any more).",
            "Set a token that may read it: assay hub-token set --org ORG.",
        )
    if status == 403:
        return HubDeniedError(
            "hub_unauthorized",
            f"The Hub does not let the organisation's token read {repo}.",
            "Set a token that may read it: assay hub-token set --org ORG.",
        )
    if status == 404:
        return _no_repository(repo)
    if status == 429:
        return HubRateLimitedError(asked_to_wait(error.response))
    if status == 408 or status >= 500:
        return unavailable(f"It answers with status {status}.")
    return _invalid_answer(f"It answers with status {status}.")


def _no_repository(repo: str) -> HubMissingError:
    return HubMissingError(
        "hub_repository_not_found",
        f"The Hub knows no model repository {repo}, or keeps it from whoever asks here.",
        "Check its name. For a private one: assay hub-token set --org ORG.",
    )


def _truncated(file: HubFile) -> HubTruncatedError:
    return HubTruncatedError(
        "hub_file_truncated", f"The transfer of {file.path} ended before its {file.size_bytes} bytes.", "Try again."
    )


def _invalid_answer(why: str) -> HubBrokenError:
    return HubBrokenError(
        "hub_invalid_answer", f"The Hub's answer is not one of a Hub. {why}", "Is ASSAY_HUB_ENDPOINT the right address?"
    )
