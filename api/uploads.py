"""Request bodies on their way to the disk: bounded memory, and network, hash and disk at work at the same time.

The event loop gathers the body into blocks; a worker thread hashes and writes one block while the next is being
received. At most three blocks of a request are in memory, however large it is and however slow the disk: a body that
nobody takes stops being read from the network.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.requests import ClientDisconnect, Request

from api.problems import ProblemError
from core.errors import TooLargeError

BLOCK_BYTES = 2 * 1024 * 1024
STALL_S = 60.0  # a client that sends nothing for this long is given up


def too_large(limit: int) -> TooLargeError:
    """The problem for a body of more than `limit` bytes."""
    return TooLargeError(
        "too_large",
        f"The upload is larger than the limit of {limit} bytes.",
        "The limit is the setting ASSAY_MAX_UPLOAD_BYTES of the server.",
    )


def declared_length(request: Request) -> int | None:
    """Content-Length, or None for a chunked body."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


async def blocks(request: Request, limit: int, stall_s: float = STALL_S) -> AsyncIterator[bytes]:
    """The request body in blocks of at least BLOCK_BYTES (the last one may be smaller).

    What had arrived when the client went away or stalled is yielded before the error is raised.

    Raises:
        TooLargeError: at byte `limit` + 1, also without a Content-Length.
        ProblemError: the client stalled (408) or went away before the end (400).
    """
    declared = declared_length(request)
    if declared is not None and declared > limit:
        raise too_large(limit)
    parts: list[bytes] = []
    held = total = 0
    stream = request.stream()
    failure: ProblemError | None = None
    while True:
        try:
            async with asyncio.timeout(stall_s):
                part = await anext(stream, None)
        except TimeoutError:
            failure = ProblemError(
                408, "upload_stalled", f"No byte arrived for {stall_s:.0f} s.", headers={"Connection": "close"}
            )
            break
        except ClientDisconnect:
            failure = ProblemError(400, "upload_truncated", "The body ended before its declared length.")
            break
        if part is None:
            break
        total += len(part)
        if total > limit:
            raise too_large(limit)
        parts.append(part)
        held += len(part)
        if held >= BLOCK_BYTES:
            yield b"".join(parts)
            parts, held = [], 0
    if parts:
        yield b"".join(parts)
    if failure is not None:
        raise failure


async def pump(source: AsyncIterator[bytes], consume: Callable[[bytes], object]) -> None:
    """Feed `source` to the blocking `consume`, one call at a time and in order, while the next block is gathered."""
    running: asyncio.Future[object] | None = None
    loop = asyncio.get_running_loop()
    try:
        async for block in source:
            if running is not None:
                await running
            running = loop.run_in_executor(None, consume, block)
        if running is not None:
            await running
    finally:
        # The thread may still hold the open file: nobody may clean up before it is done with it.
        if running is not None and not running.done():
            await asyncio.wait([running])


async def read_small(request: Request, limit: int) -> bytes:
    """A whole body that must be small (JSON)."""
    return b"".join([block async for block in blocks(request, limit)])
