"""The server as a process: first start, signals, being killed, and what it imports."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from xtrace_sdk import wire
from xtrace_sdk.errors import ConfigurationError
from xtrace_sdk.server import run
from xtrace_sdk.server.credentials import hash_secret
from xtrace_sdk.server.settings import Settings
from xtrace_sdk.server.storage.sqlite import SqliteStore

FORBIDDEN = (
    "xtrace_sdk.x_vec",
    "xtrace_sdk.x_mem",
    "xtrace_sdk.integrations",
    "xtrace_sdk.cli",
    "cryptography",
    "aiohttp",
    "gmpy2",
    "boto3",
)


class Process:
    """``python -m xtrace_sdk.server`` on a free port."""

    def __init__(self, data: Path, *options: str, **environment: str) -> None:
        self.output: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "xtrace_sdk.server", "--port", "0", "--data", str(data), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(line.rstrip("\n"))
            if line.startswith("listening on "):
                break
        else:
            raise AssertionError(self._process.communicate()[1])
        self.url = self.output[-1].removeprefix("listening on ")
        self.pid = self._process.pid

    def client(self, verify: Any = True, **headers: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.url,
            verify=verify,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            trust_env=False,
            timeout=30,
        )

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """(exit status, stderr)"""
        self._process.send_signal(number)
        _, errors = self._process.communicate(timeout=60)
        return self._process.returncode, errors


KILLS = int(os.environ.get("KILLS", "2"))  # the long run: 200
KEYS = {"XTRACE_ORG_ID": "theorg", "XTRACE_ADMIN_KEY": "the-admin-key", "XTRACE_API_KEY": "the-api-key"}


def admin_of(process: Process) -> httpx.Client:
    return process.client(x_xtrace_key="the-admin-key", x_xtrace_org_id="theorg")


def test_first_start_generates_credentials_once(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    process = Process(data)
    file = data / "credentials.json"
    made = json.loads(file.read_text())
    assert set(made) == {"org_id", "admin_key", "api_key"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    printed = "\n".join(process.output)
    assert all(value in printed for value in made.values())
    with process.client(x_xtrace_key=made["admin_key"], x_xtrace_org_id=made["org_id"]) as admin:
        kb = admin.post(wire.KBS, json={"name": "kb"}).json()["id"]
    with process.client(x_api_key=made["api_key"]) as api:
        path = wire.path(wire.CHUNKS, org_id=made["org_id"])
        assert api.get(path, params={"kb_id": kb}).json() == []
    database = data / "xtrace.sqlite3"
    assert {stat.S_IMODE(one.stat().st_mode) for one in data.iterdir()} == {0o600}
    status, errors = process.stop()
    assert status == 0
    for secret in (made["admin_key"], made["api_key"]):
        assert secret not in errors
        assert secret.encode() not in database.read_bytes()

    again = Process(data)
    assert len(again.output) == 1, "credentials are printed once"
    assert json.loads(file.read_text()) == made
    assert again.stop(signal.SIGINT)[0] == 0


def test_credentials_from_the_environment(tmp_path: Path) -> None:
    process = Process(tmp_path, **KEYS)
    assert len(process.output) == 1
    assert not (tmp_path / "credentials.json").exists()
    with admin_of(process) as admin:
        assert admin.get(wire.KBS).json() == []
    assert process.stop()[0] == 0


def test_nothing_is_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        process = Process(Path(":memory:"))
        made = dict(line.split(": ", 1) for line in process.output[1:-1])
        with process.client(x_xtrace_key=made["admin_key"], x_xtrace_org_id=made["org_id"]) as admin:
            assert admin.get(wire.KBS).json() == []
            assert admin.post(wire.KBS, json={"name": "kb"}).status_code == 200
            assert len(admin.get(wire.KBS).json()) == 1
        assert process.stop()[0] == 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigurationError, match="workers"):
        Settings(data=Path(":memory:"), workers=2)


def test_two_processes_on_one_postgresql(tmp_path: Path, new_database, client) -> None:
    """Started together on folders of their own: one makes the credentials, both serve the same data."""
    url = new_database()
    environment = {"XTRACE_DATABASE_URL": url}
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda name: Process(tmp_path / name, **environment), ("first", "second"))
    files = list(tmp_path.glob("*/credentials.json"))
    assert len(files) == 1 and not list(tmp_path.glob("*/*.sqlite3"))
    made = json.loads(files[0].read_text())
    with first.client(x_xtrace_key=made["admin_key"], x_xtrace_org_id=made["org_id"]) as admin:
        kb = admin.post(wire.KBS, json={"name": "kb"}).json()["id"]
    bits = client.vectors(5)
    body = {"kb_id": kb, "context_id": client.context_id}
    path = wire.path(wire.CHUNKS, org_id=made["org_id"])
    with (
        first.client(x_api_key=made["api_key"]) as writer,
        second.client(x_api_key=made["api_key"]) as reader,
    ):
        context = {"data": client.data, "context_id": client.context_id}
        assert writer.post(wire.path(wire.CONTEXTS, org_id=made["org_id"]), json=context).status_code == 200
        query = {**body, "query": client.index(bits[:1])[0]}
        for count in (5, 10):
            assert writer.post(path, json={**body, "chunks": client.chunks(bits)}).status_code == 200
            found = client.decode(reader.post(wire.path(wire.HAMMING, org_id=made["org_id"]), json=query))
            assert found == (list(range(1, count + 1)), (bits ^ bits[0]).sum(axis=1).tolist() * (count // 5))
    for process in (first, second):
        status, errors = process.stop()
        assert status == 0 and "Traceback" not in errors
    with pytest.raises(ConfigurationError, match="database_url: expected"):
        Settings(database_url="mysql://localhost")
    assert "secret" not in repr(Settings(database_url="postgresql://user:secret@localhost/x"))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"XTRACE_ORG_ID": "a/b"}, "XTRACE_ORG_ID"),
        ({"XTRACE_API_KEY": "a b"}, "XTRACE_API_KEY"),
        ({"XTRACE_API_KEY": "the-admin-key"}, "must differ"),
    ],
)
async def test_bad_environment_is_refused_before_anything_is_made(
    tmp_path: Path, changed, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data=tmp_path)
    for name, value in {**KEYS, **changed}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=named):
        await run._first_start(settings)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    await run._first_start(settings)
    store = SqliteStore(settings.database)
    key = await store.find_key(hash_secret("the-api-key"))
    assert key is not None and (key.org_id, key.admin, key.first_n) == ("theorg", False, "the-a")
    await store.close()


def test_several_first_starts_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One of them makes the credentials, and those are the ones that hold."""
    settings = Settings(data=tmp_path)
    together = threading.Barrier(6)

    def start() -> None:
        together.wait()
        asyncio.run(run._first_start(settings))

    with ThreadPoolExecutor(6) as pool:
        for started in [pool.submit(start) for _ in range(6)]:
            started.result()
    made = json.loads(settings.credentials.read_text())
    assert capfd.readouterr().out.count("first start") == 1
    with sqlite3.connect(settings.database) as database:
        assert database.execute("SELECT id FROM orgs").fetchall() == [(made["org_id"],)]
        hashes = {hash_secret(made[name]) for name in ("admin_key", "api_key")}
        assert {one for (one,) in database.execute("SELECT hash FROM keys")} == hashes
    database.close()


def test_new_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    data = tmp_path / "a" / "b" / "c"
    before = os.umask(0)
    try:
        with pytest.raises(ConfigurationError, match="ssl_certfile"):  # after the folders are made
            run.serve(Settings(data=data, ssl_certfile=tmp_path / "none"))
    finally:
        os.umask(before)
    for folder in (data, data.parent, data.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("options", "missing", "named"),
    [
        (["--data", "/proc"], "", "data: /proc"),
        (["--port", "70000"], "", "port: expected 0 to 65535"),
        (["--port", "{taken}"], "", "Address already in use"),
        ([], "fastapi", "needs fastapi, of the extra 'server'"),
    ],
)
def test_one_line_says_what_cannot_be_used(
    tmp_path: Path, options: list[str], missing: str, named: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["--data", str(tmp_path), *(one.format(taken=port) for one in options)]
        code = (
            f"import runpy, sys; sys.argv[1:] = {arguments!r}; sys.modules.update({{{missing!r}: None}});"
            "runpy.run_module('xtrace_sdk.server', run_name='__main__')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert named in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_addresses_and_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="data"):
        run.serve(Settings(data=tmp_path / "file" / "data"))
    (tmp_path / "xtrace.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigurationError, match=r"data: .*not a database"):
        run.serve(Settings(data=tmp_path))
    with pytest.raises(ConfigurationError, match="host"):
        run._listen("192.0.2.1", 0)
    with pytest.raises(ConfigurationError, match="port"):
        Settings(port=70_000)


def test_terminated_while_requests_run(tmp_path: Path, client) -> None:
    """Every acknowledged insert is there after the restart, and every request was answered or never begun."""
    process = Process(tmp_path, **KEYS)
    with admin_of(process) as admin:
        kb = admin.post(wire.KBS, json={"name": "kb"}).json()["id"]
    acknowledged = write_until_gone(process, kb, client, lambda: process.stop()[0])
    check_after_restart(tmp_path, kb, acknowledged)


def test_killed_while_writing(tmp_path: Path, client) -> None:
    kb = ""
    acknowledged: dict[str, list[int]] = {}
    for _ in range(KILLS):
        process = Process(tmp_path, **KEYS)
        if not kb:
            with admin_of(process) as admin:
                kb = admin.post(wire.KBS, json={"name": "kb"}).json()["id"]
        acknowledged |= write_until_gone(process, kb, client, lambda: process.stop(signal.SIGKILL)[0] + 9)  # noqa: B023
    check_after_restart(tmp_path, kb, acknowledged)


def write_until_gone(process: Process, kb: str, client, stop) -> dict[str, list[int]]:
    """Four writers insert batches of three until the server stops; the ids acknowledged, by batch name."""
    path = wire.path(wire.CHUNKS, org_id="theorg")
    acknowledged: dict[str, list[int]] = {}
    enough = threading.Event()
    row = client.index(client.vectors(1))[0]

    def write(writer: int) -> None:
        with process.client(x_api_key="the-api-key") as api:
            for number in range(10_000):
                name = f"{process.pid}-{writer}-{number}"
                chunk = {"chunk_content": name, "index": row}
                body = {"kb_id": kb, "context_id": "c", "chunks": [chunk] * 3}
                try:
                    answer = api.post(path, json=body)
                except httpx.HTTPError:
                    return
                assert answer.status_code == 200, answer.text
                acknowledged[name] = answer.json()["chunk_ids"]
                if len(acknowledged) >= 20:
                    enough.set()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for one in writers:
        one.start()
    assert enough.wait(60)
    assert stop() == 0
    for one in writers:
        one.join()
    return acknowledged


def check_after_restart(data: Path, kb: str, acknowledged: dict[str, list[int]]) -> None:
    process = Process(data, **KEYS)
    with admin_of(process) as admin:
        count = admin.get(wire.path(wire.KB, kb_id=kb)).json()["numberOfVectors"]
    path = wire.path(wire.CHUNKS, org_id="theorg")
    with process.client(x_api_key="the-api-key") as api:
        body = {"kb_id": kb, "context_id": "c", "sort_order": "asc"}
        page = api.post(
            wire.path(wire.CHUNKS_META_PAGE, org_id="theorg"), json={**body, "return_content": True}
        )
        stored = {one["chunk_id"]: one["chunk_content"] for one in page.json()["results"]}
        for name, ids in acknowledged.items():
            assert [stored[one] for one in ids] == [name] * 3
        # A batch that was not acknowledged may be there, but then whole.
        names = list(stored.values())
        assert all(names.count(name) == 3 for name in set(names))
        assert len(stored) == count
        ids = [one for batch in acknowledged.values() for one in batch]
        assert len(set(ids)) == len(ids)
        fetched = api.get(path, params={"kb_id": kb, "chunk_ids": ids[:3], "projection": "chunk_content"})
        assert len(fetched.json()) == 3
    assert process.stop()[0] == 0


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certfile, keyfile = folder / "cert.pem", folder / "key.pem"
    certfile.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    keyfile.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certfile, keyfile


def test_https(tmp_path: Path) -> None:
    certfile, keyfile = certificate(tmp_path)
    options = ("--ssl-certfile", str(certfile), "--ssl-keyfile", str(keyfile))
    process = Process(tmp_path / "data", *options, **KEYS)
    assert process.url.startswith("https://127.0.0.1:")
    with process.client(ssl.create_default_context(cafile=certfile)) as trusting:
        assert trusting.get(wire.HEALTH).json()["status"] == "ok"
    with process.client() as stranger, pytest.raises(httpx.ConnectError):
        stranger.get(wire.HEALTH)
    assert process.stop()[0] == 0


def test_bad_certificates_are_refused(tmp_path: Path) -> None:
    certfile, keyfile = certificate(tmp_path)
    for cert, key in [(keyfile, certfile), (tmp_path / "absent", None), (certfile, None)]:
        with pytest.raises(ConfigurationError, match="ssl_certfile"):
            run.serve(Settings(data=tmp_path, port=0, ssl_certfile=cert, ssl_keyfile=key))
    with pytest.raises(ConfigurationError, match="ssl_keyfile"):
        Settings(ssl_keyfile=keyfile)


def test_workers_share_one_store(tmp_path: Path, client) -> None:
    """Two processes answer alike; one that is killed is replaced; none outlives the supervisor."""
    process = Process(tmp_path, "--workers", "2", **KEYS)
    workers = psutil.Process(process.pid).children(recursive=True)
    with admin_of(process) as admin:
        kb = admin.post(wire.KBS, json={"name": "kb"}).json()["id"]
    path = wire.path(wire.CHUNKS, org_id="theorg")
    context = {"data": client.data, "context_id": client.context_id}
    with process.client(x_api_key="the-api-key") as api:
        api.post(wire.path(wire.CONTEXTS, org_id="theorg"), json=context)

    def insert_and_search(seed: int) -> int:
        """Over connections of their own, so that any worker may answer."""
        chunks = client.chunks(client.vectors(3, seed=seed))
        body = {"kb_id": kb, "context_id": client.context_id, "chunks": chunks}
        with process.client(x_api_key="the-api-key") as api:
            assert api.post(path, json=body).status_code == 200
        search = {"kb_id": kb, "query": chunks[0]["index"], "context_id": client.context_id}
        counts = set()
        for _ in range(4):
            with process.client(x_api_key="the-api-key") as api:
                answer = api.post(wire.path(wire.HAMMING, org_id="theorg"), json=search)
                counts.add(len(client.decode(answer)[0]))
        (count,) = counts
        return count

    assert [insert_and_search(seed) for seed in range(3)] == [3, 6, 9]
    serving = [one for one in workers if one.is_running() and one.num_threads() > 1]
    victim = next(one for one in serving if "spawn_main" in " ".join(one.cmdline()))
    victim.kill()
    assert insert_and_search(3) == 12
    deadline = time.monotonic() + 30
    while not (new := set(psutil.Process(process.pid).children(recursive=True)) - set(workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers += new
    status, errors = process.stop()
    assert status == 0 and "is replaced" in errors
    assert not psutil.wait_procs(workers, timeout=20)[1]


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    process = Process(tmp_path, "--workers", "2", **KEYS)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.stop(signal.SIGKILL)
    assert not psutil.wait_procs(workers, timeout=30)[1]


def test_a_running_server_holds_no_key_material(tmp_path: Path) -> None:
    """In a fresh process that has served a request, no module is loaded that could read or make a key."""
    code = f"""
import sys, threading
from pathlib import Path
import uvicorn, http.client
import xtrace_sdk.server.run
from xtrace_sdk.server.app import create_app
from xtrace_sdk.server.settings import Settings
app = create_app(Settings(data=Path({str(tmp_path)!r})))
server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started: pass
connection = http.client.HTTPConnection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
connection.request("GET", "/health")
assert connection.getresponse().status == 200
server.should_exit = True
thread.join()
forbidden = {FORBIDDEN!r}
print([name for name in sys.modules if name.startswith(forbidden)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
