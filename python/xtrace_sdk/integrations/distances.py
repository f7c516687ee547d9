"""Encrypted distances in blocks, while the answer that holds them still arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final

from xtrace_sdk import wire
from xtrace_sdk.errors import InputError
from xtrace_sdk.integrations.answers import Answer
from xtrace_sdk.integrations.transport import Arriving

# Of a block, unless it is the last: fewer would keep no core busy, more would be in memory twice.
_FEWEST_ROWS: Final = 1024
_MOST_ROWS: Final = 8192

Range = tuple[int, int] | None


def unpacked(answer: Answer, chunks: int, width: int, limits: Range) -> wire.Distances:
    """The whole answer, rows of `chunks` ciphertexts of `width` bytes. Raises UnexpectedAnswerError."""
    try:
        found = wire.unpack_distances(answer.body, answer.content_type, chunks=chunks, width=width)
    except InputError as error:
        raise answer.unexpected(str(error)) from None
    answer.check_ids(found.ids, limits)
    return found


async def blocks(
    request: Callable[[], Coroutine[Any, Any, Answer]],
    arriving: Arriving,
    chunks: int,
    width: int,
    limits: Range,
    manifests: list[str | None] | None = None,
) -> AsyncGenerator[wire.Distances]:
    """The answer of `request`, whose body comes through `arriving`, in blocks of rows.

    Columns come in blocks as they arrive, their ids ascending; any other form as one block at the end. When
    the connection breaks and the request is repeated, rows that were given out are not given out again. The
    answer goes on arriving while a block is worked on. `manifests` takes the header of that name of every
    answer that rows came from. Raises UnexpectedAnswerError and what `request` does.
    """
    task = asyncio.create_task(request())
    task.add_done_callback(lambda _: arriving.news.set())
    reader: wire.ColumnsReader | None = None
    head: Answer | None = None
    last = -1
    try:
        ended = False
        while not ended:
            arriving.took(busy=False)
            await arriving.news.wait()
            arriving.news.clear()
            ended = task.done()
            if ended:
                task.result()
            if arriving.head is not head:
                head = arriving.head
                if manifests is not None and head is not None:
                    manifests.append(head.headers.get(wire.MANIFEST_HEADER))
                reader = wire.ColumnsReader(chunks, width)
            if head is None or reader is None or wire.COLUMNS not in head.content_type:
                continue
            try:
                # Repeated in the meantime, the request has another head, and another body.
                while arriving.head is head:
                    found = reader.take(arriving.content, _FEWEST_ROWS, _MOST_ROWS)
                    if not found.ids.size:
                        break
                    head.check_ids(found.ids, limits)
                    if found.ids[0] <= last:
                        new = found.ids > last
                        found = wire.Distances(found.ids[new], found.products[new], found.records[new])
                    if found.ids.size:
                        last = int(found.ids[-1])
                        arriving.took(busy=True)
                        yield found
                if ended:
                    reader.finish(arriving.content)
            except InputError as error:
                raise head.unexpected(str(error)) from None
        answer = task.result()
        if wire.COLUMNS not in answer.content_type:
            yield await asyncio.to_thread(unpacked, answer, chunks, width, limits)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
