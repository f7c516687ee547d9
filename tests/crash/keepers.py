"""Writers that keep a manifest, and the comparison of what they keep with what is there."""

from __future__ import annotations

import hashlib
import random
import struct
import threading
import time
from typing import Any

import httpx
from servers import CONTEXT, WIDTH, Server, ciphertext, encoded, path

from xtrace_sdk import wire


class Keepers:
    """Threads that change a knowledge base with a manifest: the number and the sum of its records."""

    def __init__(self, server: Server, kb: str, count: int = 4, seed: int = 1000) -> None:
        self.faults: list[str] = []
        self.acknowledged = 0
        self.refused = 0
        self._server, self._kb = server, kb
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(random.Random(seed + at),)) for at in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _guarded(self, draw: random.Random) -> None:
        try:
            with self._server.client() as api:
                while not self._stop.is_set():
                    self._change(api, draw)
        except Exception as error:  # noqa: BLE001 - a fault of this run, not of one thread
            self.faults.append(repr(error))

    def _change(self, api: httpx.Client, draw: random.Random) -> None:
        """One change, worked out anew when it is refused and repeated when its answer is lost."""
        seen = self._send(api, "POST", path(wire.MANIFESTS), json=_of(self._kb) | {"all": True})
        if seen is None:
            return
        found = seen.json()
        rows = {row["chunk_id"]: wire.decode_record(row["record"], "record") for row in found["rows"]}
        # Before every change, not only when asked: the next manifest would cover up a wrong one.
        self._compare("look-up before a change", found["manifest"], list(rows.values()))
        in_force = found["manifest"]
        expected = wire.manifest_tag(None if in_force is None else wire.decode_manifest(in_force, "manifest"))
        record = draw.randbytes(8)
        chunk = {
            "chunk_content": "",
            "index": encoded(ciphertext(draw)),
            "record": wire.encode_record(record),
        }
        what = draw.random() if len(rows) > 5 else 0.0
        body: dict[str, Any] = _of(self._kb)
        if what < 0.4:
            method, template, after = "POST", wire.CHUNKS, [*rows.values(), record]
            request: dict[str, Any] = {"json": body | {"chunks": [chunk]}}
        else:
            chosen = draw.choice(list(rows))
            after = [one for chunk_id, one in rows.items() if chunk_id != chosen]
            if what < 0.7:
                method, template, after = "PUT", wire.CHUNKS, [*after, record]
                request = {"json": body | {"chunk_updates": [chunk | {"chunk_id": chosen}]}}
            else:
                method, template = "DELETE", wire.CHUNKS
                request = {"params": {"kb_id": self._kb, "chunk_ids": chosen}}
        header = wire.encode_manifest_header(CONTEXT, expected, sum_of(after))
        answer = self._send(api, method, path(template), headers={wire.MANIFEST_HEADER: header}, **request)
        if answer is not None:
            self.acknowledged += 1

    def _send(self, api: httpx.Client, method: str, address: str, **more: Any) -> httpx.Response | None:
        """The answer of success; None when it was refused, or the run is over."""
        while not self._stop.is_set():
            try:
                answer = api.request(method, address, **more)
            except httpx.HTTPError:
                self._stop.wait(0.05)
                continue
            if answer.status_code == 200:
                return answer
            if answer.status_code == 412:
                self.refused += 1
                return None
            if answer.status_code != 503:
                raise RuntimeError(f"refused: {answer.text}")
            self._stop.wait(0.05)
        return None

    def check(self) -> None:
        """The manifest must be that of the chunks, in a look-up and in a search."""
        try:
            self._check()
        except httpx.HTTPError as error:
            self.faults.append(f"no manifest to be had: {error!r}")

    def _check(self) -> None:
        with self._server.client() as api:
            everything = _of(self._kb) | {"all": True}
            seen = api.post(path(wire.MANIFESTS), json=everything).raise_for_status().json()
            records = [wire.decode_record(row["record"], "record") for row in seen["rows"]]
            self._compare("look-up", seen["manifest"], records)
            query = _of(self._kb) | {"query": encoded(1)}
            answer = api.post(path(wire.HAMMING), json=query, timeout=120).raise_for_status()
        found = wire.unpack_distances(answer.content, answer.headers["content-type"], chunks=1, width=WIDTH)
        records = [row[1 : 1 + row[0]].tobytes() for row in found.records]
        self._compare("search", answer.headers.get(wire.MANIFEST_HEADER), records)

    def _compare(self, where: str, manifest: str | None, records: list[bytes]) -> None:
        expected = wire.encode_manifest(sum_of(records))
        if manifest != expected and (records or manifest):
            self.faults.append(f"{where}: the manifest does not fit {len(records)} chunks")

    def get_on(self) -> None:
        """Until one more change is acknowledged."""
        goal, end = self.acknowledged + 1, time.monotonic() + 60
        while self.acknowledged < goal and not self.faults:
            if time.monotonic() > end:
                self.faults.append("changes with manifests do not get on")
            time.sleep(0.01)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def end(self) -> list[str]:
        """All faults, after a last look at what is there."""
        self.stop()
        self.check()
        print(f"{self.acknowledged:,} changes with manifests, {self.refused:,} refused and worked out anew")
        return self.faults


def sum_of(records: list[bytes]) -> bytes:
    """What these runs put into a manifest: enough to tell sets of records apart."""
    total = sum(int.from_bytes(hashlib.sha256(one).digest(), "little") for one in records)
    return struct.pack("<Q", len(records)) + (total % (1 << 256)).to_bytes(32, "little")


def _of(kb: str) -> dict[str, Any]:
    return {"kb_id": kb, "context_id": CONTEXT}
