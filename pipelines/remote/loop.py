"""One event loop in a thread of its own, for all servers: what is on its way goes on while a verifier computes."""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import lru_cache
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
CLOSING = 2.0  # seconds that requests on their way get to close their connections when the process ends


class Loop:
    """Started when it is first needed; ends with the process."""

    def __init__(self) -> None:
        self.loop, self.clients = asyncio.new_event_loop(), set[httpx.AsyncClient]()
        self.thread = threading.Thread(target=self.loop.run_forever, name="openai", daemon=True)
        self.thread.start()
        atexit.register(self.close)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Cancelling the future cancels the work."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = self.start(work)
        try:
            return future.result()
        except BaseException:  # a Ctrl-C while somebody waits
            future.cancel()
            raise

    def closes(self, owner: object, client: httpx.AsyncClient) -> None:
        """Closes the client's connections when its owner is gone, or the process ends."""
        self.clients.add(client)
        weakref.finalize(owner, self._drop, client).atexit = False

    def _drop(self, client: httpx.AsyncClient) -> None:
        self.clients.discard(client)
        if not self.loop.is_closed():
            self.start(client.aclose())

    def close(self) -> None:
        if not self.loop.is_closed():
            asyncio.run_coroutine_threadsafe(_close_all(list(self.clients)), self.loop)
            self.thread.join(CLOSING)
            if not self.thread.is_alive():
                self.loop.close()


async def _close_all(clients: list[httpx.AsyncClient]) -> None:
    own = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not own]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for client in clients:
        await client.aclose()
    await asyncio.get_running_loop().shutdown_asyncgens()
    asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)


@lru_cache(maxsize=1)
def shared() -> Loop:
    return Loop()


__all__ = ["Loop", "shared"]
