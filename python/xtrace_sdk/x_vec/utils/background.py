"""CPU-bound work beside an event loop, and many calls at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    from xtrace_sdk._core import Progress

T = TypeVar("T")


class _Abandoned(BaseException):
    """Raised inside a worker thread whose caller has gone."""


async def in_thread(work: Callable[[Progress], T], label: str, total: int, *, quiet: bool = True) -> T:
    """Run ``work(progress)`` in a worker thread, with a progress bar unless `quiet`.

    `work` passes `progress` on to the core, or calls it now and then with (done, total). When the caller is
    cancelled (Ctrl-C, for one), the next such call ends the work.
    """
    cancelled = threading.Event()

    def run() -> T:
        with tqdm(total=total, desc=label, unit=" chunks", disable=quiet, leave=False) as bar:

            def progress(done: int, _total: int) -> None:
                if cancelled.is_set():
                    raise _Abandoned
                bar.update(done - bar.n)

            return work(progress)

    try:
        return await asyncio.to_thread(run)
    except asyncio.CancelledError:
        cancelled.set()
        raise


async def gather(calls: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all calls, in order. After a failure the others are cancelled, then it is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
