"""The pump between the network and the disk."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from api.uploads import pump


async def source(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number])


def test_blocks_arrive_in_order_and_one_at_a_time() -> None:
    seen: list[int] = []
    busy = threading.Lock()

    def consume(block: bytes) -> None:
        assert busy.acquire(blocking=False)
        time.sleep(0.001)
        seen.append(block[0])
        busy.release()

    asyncio.run(pump(source(50), consume))
    assert seen == list(range(50))


def test_receiving_goes_on_while_a_block_is_consumed() -> None:
    events: list[str] = []

    async def slow_source() -> AsyncIterator[bytes]:
        for number in range(3):
            events.append(f"received {number}")
            yield bytes([number])

    def consume(block: bytes) -> None:
        time.sleep(0.05)
        events.append(f"consumed {block[0]}")

    asyncio.run(pump(slow_source(), consume))
    assert events.index("received 1") < events.index("consumed 0")
    assert events[-1] == "consumed 2"


def test_an_error_of_the_consumer_stops_the_source() -> None:
    def consume(block: bytes) -> None:
        if block[0] == 2:
            raise OSError("disk")

    received: list[int] = []

    async def counted() -> AsyncIterator[bytes]:
        async for block in source(1000):
            received.append(block[0])
            yield block

    with pytest.raises(OSError, match="disk"):
        asyncio.run(pump(counted(), consume))
    assert len(received) < 10


def test_an_error_of_the_source_waits_for_the_consumer() -> None:
    """Whoever cleans up may close the file only when the thread is done with it."""
    done = threading.Event()

    def consume(_: bytes) -> None:
        time.sleep(0.1)
        done.set()

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionError

    async def run() -> bool:
        with pytest.raises(ConnectionError):
            await pump(broken(), consume)
        return done.is_set()

    assert asyncio.run(run())
