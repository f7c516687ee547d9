"""`EncryptedVectorStore.open`: a folder, and a server process that lives and dies with its application."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from xtrace_sdk.errors import ConfigurationError, DecryptionError, DimensionMismatchError, NotLoadedError
from xtrace_sdk.stores import EncryptedVectorStore
from xtrace_sdk.stores import embedded as module
from xtrace_sdk.stores.embedded import EmbeddedServer
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider

DIMENSIONS = 12
ONES = np.ones(DIMENSIONS)


def opening(folder, passphrase="correct horse", dimensions=DIMENSIONS):
    return EncryptedVectorStore.open(
        folder, dimensions=dimensions, key_provider=PassphraseKeyProvider(passphrase)
    )


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def own_servers():
    return [one for one in psutil.Process().children() if "xtrace_sdk.stores.embedded" in one.cmdline()]


async def test_a_folder_keeps_what_was_stored(tmp_path, embedded, everything, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-cloud")
    monkeypatch.setenv("XTRACE_PASSPHRASE", "canary-of-the-passphrase")
    monkeypatch.setenv("XTRACE_ADMIN_API_URL", "http://127.0.0.1:9")  # not for this store
    folder = tmp_path / "deep" / "store"
    chunks = [embedded(f"{n}", [1.0] * n + [-1.0] * (DIMENSIONS - n), n=n) for n in range(12)]
    async with await opening(folder) as store:
        (process,) = own_servers()
        await store.upsert(chunks, "space")
        assert [result.chunk.id for result in await store.search(ONES, "space", 2)] == ["11", "10"]
        seen = json.dumps([process.environ(), process.cmdline()])
        assert "canary" not in seen
        assert "correct horse" not in seen
        with pytest.raises(ConfigurationError, match="is open in another process"):
            await opening(folder)
        assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "server")} == {0o700}
        for name in ("context.json", "server/credentials.json"):
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert gone(process.pid)
    await store.close()  # again
    with pytest.raises(NotLoadedError):  # its keys are wiped
        await store.upsert(chunks, "space")

    async with await opening(folder) as store:
        assert await everything(store, "space") == [one.chunk for one in chunks]
        (found,) = await store.search(ONES, "space", filter={"n": 3})
        assert (found.chunk, found.score) == (chunks[3].chunk, -0.5)
        await store.delete_namespace("space")
    assert (folder / "server.log").read_text() == ""

    with pytest.raises(DecryptionError):
        await opening(folder, "wrong horse")
    with pytest.raises(DimensionMismatchError, match="was made for 12, not for 13"):
        await opening(folder, dimensions=13)
    with pytest.raises(ConfigurationError, match="dimensions: expected a positive integer"):
        await opening(folder, dimensions=0)
    (folder / "context.json").unlink()
    with pytest.raises(ConfigurationError, match=r"context\.json is missing"):
        await opening(folder)
    assert own_servers() == []


async def test_a_folder_that_cannot_be_one_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"path: .*file"):
        await opening(tmp_path / "file")


def test_a_server_that_does_not_start_says_why(tmp_path):
    (tmp_path / "xtrace.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigurationError, match=r"did not start; the last lines of .*log:\n.*\S"):
        EmbeddedServer(tmp_path, tmp_path / "log")
    assert own_servers() == []


def test_a_server_does_not_outlive_a_killed_application(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from xtrace_sdk.stores.embedded import EmbeddedServer\n"
        "server = EmbeddedServer(Path(sys.argv[1]) / 'server', Path(sys.argv[1]) / 'log')\n"
        "print(server.pid, flush=True); time.sleep(100)"
    )
    application = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with application:
        pid = int(application.stdout.readline())
        assert not gone(pid)
        os.kill(application.pid, signal.SIGKILL)
    give_up = time.monotonic() + 30
    while not gone(pid):
        if time.monotonic() > give_up:
            os.kill(pid, signal.SIGKILL)
            pytest.fail("the server was still there")
        time.sleep(0.05)


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_NEEDED", ("no_module_of_this_name",))
    with pytest.raises(ConfigurationError, match=r"no_module_of_this_name: xtrace-sdk-native\[server\]"):
        EmbeddedServer(tmp_path, tmp_path / "log")


def test_the_server_process_loads_no_client_code():
    """Its module must not pull in what could hold a key."""
    code = (
        "import sys, xtrace_sdk.stores.embedded, xtrace_sdk.server.run, xtrace_sdk.server.settings\n"
        "print(*(name for name in sys.modules if name.startswith('xtrace_sdk')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names = loaded.split()
    assert "xtrace_sdk.stores.embedded" in names
    clients = ("xtrace_sdk.x_vec", "xtrace_sdk.integrations", "xtrace_sdk.stores.")
    assert [name for name in names if name.startswith(clients)] == ["xtrace_sdk.stores.embedded"]
