"""One client of `scale.py`, in a process of its own: ours, or the original in its own environment.

Both offer the documented calls. Where ours has a better way to do the same (a streaming ingest, arrays
instead of lists of numbers), each takes its own best one. JSON requests on stdin, one a line; JSON answers on
stdout.
"""

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

OURS = hasattr(DataLoader, "ingest")


class Client:
    """Keeps texts, vectors and keys between requests; only the work named in a request is in the clock."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def start(
        self, texts: str, bits: str, count: int, key_len: int, alpha_len: int
    ) -> dict[str, float | int]:
        self.texts = [json.loads(line) for line in Path(texts).read_text().splitlines()[:count]]
        self.bits = np.load(bits)[:count]
        began = time.perf_counter()
        client = PaillierLookupClient(embed_len=self.bits.shape[1], key_len=key_len, alpha_len=alpha_len)
        self.context = ExecutionContext(client, PassphraseKeyProvider("a passphrase for figures"))
        client.encrypt_vec_batch(self.bits[:1].tolist())  # all tables are there
        self.before = resident()
        return {"build": time.perf_counter() - began}

    def connect(self, url: str, org_id: str, api_key: str, admin_key: str) -> dict[str, Any]:
        self.close()
        self.integration = XTraceIntegration(org_id, api_key, admin_key, url, url)
        self.retriever = Retriever(self.context, self.integration)
        return {}

    def ingest(self) -> dict[str, Any]:
        return self._run(self._ingest())

    async def _ingest(self) -> dict[str, Any]:
        forget_peak()
        self.kb_id = (await self.integration.create_kb("scale"))["id"]
        loader = DataLoader(self.context, self.integration)
        chunks = [{"chunk_content": text} for text in self.texts]
        answer: dict[str, Any] = {}
        began, cpu = time.perf_counter(), time.process_time()
        if OURS:
            rows = iter(self.bits)

            async def embedded(contents: list[str]) -> list[np.ndarray]:  # before, outside this clock
                return [next(rows) for _ in contents]

            await loader.ingest(chunks, embedded, self.kb_id, disable_progress=True)
            answer["requests"] = self.integration.traffic.seconds
            answer["sent"] = self.integration.traffic.sent
        else:
            await self.context.save_to_remote(self.integration)
            index, db = await loader.load_data_from_memory_batch(chunks, list(self.bits), True)
            answer["encrypt"] = time.perf_counter() - began
            await loader.dump_db(db, index, self.kb_id)
            answer["requests"] = time.perf_counter() - began - answer["encrypt"]
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        return {"seconds": seconds, "cpu": cpu, "memory": self.peak(), **answer}

    def search(self, row: int) -> dict[str, Any]:
        """Every distance from one stored vector, by the steps of a search; wrong distances are an error."""
        return self._run(self._search(row))

    async def _search(self, row: int) -> dict[str, Any]:
        forget_peak()
        query = self.bits[row]
        homomorphic = self.context.homomorphic
        first: list[float] = []
        began, cpu = time.perf_counter(), time.process_time()
        if OURS:
            encrypted = homomorphic.encrypt_to_array(query[None])[0]
            sent = time.perf_counter()
            parts: list[tuple[np.ndarray, np.ndarray]] = []
            blocks = self.integration.compute_hamming_distances_blocks(encrypted, self.context.id, self.kb_id)
            answered, decoding = 0.0, 0.0
            async for ids, rows, _records in blocks:
                begun = time.perf_counter()
                answered = answered or begun
                parts.append((ids, await asyncio.to_thread(homomorphic.decode_from_array, rows)))
                first.append(time.perf_counter())
                decoding += first[-1] - begun
            ids, distances = (np.concatenate(part) for part in zip(*parts, strict=True))
        else:
            encrypted = homomorphic.encrypt_vec_one(query.tolist())
            sent = time.perf_counter()
            pairs = await self.integration.compute_hamming_distances(encrypted, self.context.id, self.kb_id)
            answered = time.perf_counter()
            ids = np.array([chunk_id for chunk_id, _cipher in pairs])
            one = homomorphic.decode_hamming_client_batch([cipher for _id, cipher in pairs[:1]])
            first.append(time.perf_counter())
            rest = homomorphic.decode_hamming_client_batch([cipher for _id, cipher in pairs[1:]])
            distances = np.array(one + rest)
            decoding = time.perf_counter() - answered
        done, cpu, memory = time.perf_counter(), time.process_time() - cpu, self.peak()
        expected = (self.bits != query).sum(axis=1)
        if ids.tolist() != list(range(1, len(expected) + 1)) or (distances != expected).any():
            raise ValueError("wrong distances")
        return {
            "encrypt": sent - began,
            "answer": answered - sent,
            "first": first[0] - began,
            "last": done - began,
            "decode": decoding,
            "last_cpu": cpu,
            "checked": len(expected),
            "memory": memory,
        }

    def retrieve(self, row: int, k: int) -> dict[str, Any]:
        """What a user waits for: the `k` nearest texts, decrypted."""
        return self._run(self._retrieve(row, k))

    async def _retrieve(self, row: int, k: int) -> dict[str, Any]:
        query = self.bits[row]
        began = time.perf_counter()
        ids = await self.retriever.nn_search_for_ids(query, k=k, kb_id=self.kb_id)
        chunks = await self.retriever.retrieve_and_decrypt(ids, kb_id=self.kb_id)
        seconds = time.perf_counter() - began
        found = (self.bits[np.array(ids) - 1] != query).sum(axis=1)
        best = np.partition((self.bits != query).sum(axis=1), k - 1)[:k]
        texts = [self.texts[chunk_id - 1] for chunk_id in ids]
        if sorted(found) != sorted(best) or [chunk["chunk_content"] for chunk in chunks] != texts:
            raise ValueError("wrong texts")
        return {"seconds": seconds}

    def close(self) -> dict[str, Any]:
        if hasattr(self, "integration"):
            self._run(self.integration.close())
        return {}

    def peak(self) -> int:
        """The most bytes since `forget_peak`, beyond what texts, vectors and keys take."""
        return resident("VmHWM") - self.before

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)


def resident(field: str = "VmRSS") -> int:
    """Bytes of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    client = Client()
    for line in sys.stdin:
        request = json.loads(line)
        operation: Callable[..., dict[str, Any]] = getattr(client, request.pop("op"))
        try:
            answer = operation(**request)
        except Exception:  # noqa: BLE001 - reported to the harness, which stops the run
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    client.close()


if __name__ == "__main__":
    main()
