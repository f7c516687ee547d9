"""Where the values of a key lie in memory: locked and undumped pages, and nowhere after close."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from hashlib import shake_256
from math import gcd, isqrt
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# Makes and uses a key, prints what an observer needs to know its parts, and closes it when told to.
USER = """
import gc, sys
import numpy as np
from xtrace_sdk import _core
key = _core.SecretKey.generate(*map(int, sys.argv[1:]), allow_insecure=True)
encryptor, decoder = _core.HammingEncryptor(key, 512), _core.HammingDecoder(key, 512)
bits = np.random.default_rng(0).integers(0, 2, (40, 512), dtype=np.uint8)
rows = encryptor.encrypt(bits)
products = _core.Multiplier(key.public.n_squared).products(rows[0], rows)
assert (decoder.decode(products) == (bits ^ bits[0]).sum(axis=1)).all()
print(key.public.n, key.phi, key.a, flush=True)
sys.stdin.readline()
key.close()
del encryptor, decoder, key
gc.collect()
print("closed", flush=True)
sys.stdin.readline()
"""
# Does with a sealed context all that takes keys, prints its root keys, and closes it when told to.
CONTEXT_USER = """
import gc, sys
import numpy as np
from xtrace_sdk import _core
from xtrace_sdk.x_vec.crypto.authenticated import write_records
from xtrace_sdk.x_vec.crypto.manifest import EMPTY, ManifestKeys
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
context = ExecutionContext.create("correct horse", embedding_length=64)
bits = np.random.default_rng(0).integers(0, 2, (40, 64), dtype=np.uint8)
def work(context, stored):
    client = context.homomorphic
    rows, nonces = client.encrypt_records(bits)
    query = client.encrypt_query(bits[0])
    products = _core.Multiplier(client.public_key.n_squared).products(query.rows, rows)
    assert (client.decode_records(products, nonces, query) == (bits ^ bits[0]).sum(axis=1)).all()
    record = write_records(nonces, context.epoch, "")[0]
    assert context.records.open(context.records.seal("text", record), record) == "text"
    context.aes.decrypt(context.aes.encrypt("text"))
    manifests = ManifestKeys(context.subkey, context.id)
    manifests.open(manifests.seal(manifests.changed(EMPTY, [record], []), "kb"), "kb")
    machine = context.writer("machine", "another passphrase")
    rows, nonces = machine.homomorphic.encrypt_records(bits)
    record = write_records(nonces, machine.epoch, "machine")[0]
    assert context.records.open(machine.records.seal("text", record), record) == "text"
    assert machine.to_dict_enc()["sk"]
    manifests = ManifestKeys(context.subkey, context.id)
    manifest = manifests.changed(EMPTY, [record], [])
    assert manifests.open(manifests.seal(manifest, "kb"), "kb") == manifest
context.begin_epoch()
context.retire_epoch(1)
stored = context.to_dict_enc()
again = ExecutionContext._from_serialized_exec_context(stored, "correct horse")
work(context, stored)
work(again, stored)
print(context.id, context.public_part()["pk"].encode().hex())
for secret in (context.key_provider.secret_key(), context._roots.root(0), context._roots.root(2)):
    print(secret.hex())
print("used", flush=True)
sys.stdin.readline()
context.close()
again.close()
del secret
gc.collect()
print("closed", flush=True)
sys.stdin.readline()
"""
WINDOW = 16  # bytes: no such value appears by chance


def parts(n: int, phi: int, a: int) -> dict[str, int]:
    """p, q, a_p and a_q from the values that the documented API hands out."""
    total = n + 1 - phi
    p = (total + isqrt(total * total - 4 * n)) // 2
    q = n // p
    assert p * q == n
    return {"p": p, "q": q, "a_p": gcd(a, p - 1), "a_q": gcd(a, q - 1)}


def regions(pid: int) -> Iterator[tuple[bytes, str]]:
    """Written memory of a process: content and the kernel's flags of each region."""
    header = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+)")
    span = None
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            found = header.match(line)
            if found is not None:
                span = (int(found[1], 16), int(found[2], 16)) if found[3].startswith("rw") else None
            elif line.startswith("VmFlags:") and span is not None:
                memory.seek(span[0])
                yield memory.read(span[1] - span[0]), line


def subkeys(context_id: str, provider: bytes, lasting: bytes, present: bytes, n: int) -> dict[str, bytes]:
    """Every secret of a context in its second epoch, from the provider's key and two root keys."""

    def subkey(root: bytes, label: str) -> bytes:
        return HKDF(SHA256(), 32, salt=bytes.fromhex(context_id), info=label.encode()).derive(root)

    secrets = {"provider": provider, "lasting root": lasting, "present root": present}
    secrets["wrapping"] = subkey(provider, "xtrace key wrapping")
    for label in ("context", "manifest", "manifest rows"):
        secrets[label] = subkey(lasting, f"xtrace {label}")
    for label in ("chunks", "records", "record contents", "owner's seal"):
        secrets[label] = subkey(present, f"xtrace {label}")
    for name, writer in (("K", b""), ("machine's K", b"machine")):
        key = HKDFExpand(SHA256(), 32, b"writer" + writer).derive(secrets["records"])
        secrets[name] = key
        parts = (key, b"scale", (2).to_bytes(4, "little"), writer, bytes(4), bytes(4), b"")
        size = (n.bit_length() + 7) // 8
        wide = shake_256(b"".join(bytes([len(part)]) + part for part in parts)).digest(size + 16)
        scale = int.from_bytes(wide, "little") % n
        secrets[name.replace("K", "s")] = scale.to_bytes(size, "little")
    return secrets


def places(pid: int, secrets: dict[str, int]) -> dict[str, set[str]]:
    """The flags of the regions where any eight-byte aligned window of a value is found, for every value."""
    found: dict[str, set[str]] = {name: set() for name in secrets}
    windows: dict[bytes, str] = {}
    for name, value in secrets.items():
        raw = value.to_bytes((value.bit_length() + 7) // 8, "little")
        for start in range(0, len(raw) - WINDOW + 1, 8):
            windows[raw[start : start + WINDOW]] = name
            windows[raw[start : start + WINDOW][::-1]] = name
    starts = np.array([np.frombuffer(window, np.uint64)[0] for window in windows])
    maybe = np.zeros(1 << 16, np.bool_)  # by the first two bytes
    maybe[starts & 0xFFFF] = True
    for content, flags in regions(pid):
        for shift in range(8):
            words = np.frombuffer(content, np.uint64, (len(content) - shift) // 8, shift)
            at = np.flatnonzero(maybe[words & 0xFFFF])
            for place in (8 * at[np.isin(words[at], starts)] + shift).tolist():
                name = windows.get(content[place : place + WINDOW])
                if name is not None:
                    found[name].add(flags)
    return found


@pytest.mark.parametrize(("key_len", "alpha_len"), [(1024, 448), (512, 256)])
def test_secret_values_lie_in_locked_memory_until_they_are_gone(key_len: int, alpha_len: int) -> None:
    command = [sys.executable, "-c", USER, str(key_len), str(alpha_len)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        secrets = parts(*map(int, process.stdout.readline().split()))
        assert secrets["a_p"] * secrets["a_q"] > 1 << (alpha_len - 2)
        for name, flags in places(process.pid, secrets).items():
            assert flags, f"{name} is in use, so it must be somewhere"
            for one in flags:
                assert " lo" in one, f"{name} lies in memory that may be swapped"
                assert " dd" in one, f"{name} lies in memory that a core dump holds"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "closed\n"
        assert places(process.pid, secrets) == {name: set() for name in secrets}
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.returncode == 0


def test_secrets_of_a_context_are_gone_when_it_is_closed() -> None:
    command = [sys.executable, "-c", CONTEXT_USER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        context_id, pk = process.stdout.readline().split()
        n = int(json.loads(bytes.fromhex(pk))["n"])
        printed = [bytes.fromhex(process.stdout.readline()) for _ in range(3)]
        assert process.stdout.readline() == "used\n"
        known = subkeys(context_id, *printed, n)
        secrets = {name: int.from_bytes(value, "little") for name, value in known.items()}
        used = places(process.pid, secrets)
        for name in ("provider", "lasting root", "present root", "K"):
            assert used[name], f"{name} is in use, so it must be somewhere"
        for name in ("K", "s", "machine's K", "machine's s"):
            for one in used[name]:
                assert " lo" in one, f"{name} lies in memory that may be swapped"
                assert " dd" in one, f"{name} lies in memory that a core dump holds"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "closed\n"
        assert places(process.pid, secrets) == {name: set() for name in secrets}
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.returncode == 0
