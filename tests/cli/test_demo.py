"""The demo against a real server process; a server that lies is found out."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
from aiohttp import ClientSession, web

from xtrace_sdk import wire
from xtrace_sdk.cli.demo.corpus import folder, standard_library
from xtrace_sdk.cli.demo.process import ServerProcess, ServerStartError
from xtrace_sdk.cli.demo.run import Demo, ProofError
from xtrace_sdk.errors import InputError
from xtrace_sdk.integrations.xtrace import XTraceIntegration

NOTES = [
    "The boiler in the cellar was serviced in March by the plumber.",
    "The bicycle has a flat tyre and waits in the garage for a new tube.",
    "Invoices are due thirty days after the work is done.",
    "The tax office answers slowly, and never in writing.",
    "Tomatoes want sun, water in the morning, and no rain from above.",
]


@pytest.fixture
def notes(tmp_path):
    root = tmp_path / "notes"
    (root / "garden").mkdir(parents=True)
    (root / "house.md").write_text("# House\n\n" + "\n\n".join(NOTES[:2]))
    (root / "office.txt").write_text("\n\n".join(NOTES[2:4]))
    (root / "garden" / "plants.txt").write_text(NOTES[4])
    (root / "picture.png").write_bytes(b"\x89PNG")
    return root


# The corpus


def test_paragraphs_of_a_folder(notes):
    corpus = folder(notes)
    assert corpus.files == 3
    assert [document.title for document in corpus.documents] == [
        "garden/plants.txt",
        "house.md",
        "house.md",
        "office.txt",
        "office.txt",
    ]
    assert {document.body.removeprefix("# House\n\n") for document in corpus.documents} == set(NOTES)


def test_standard_library():
    corpus = standard_library()
    texts = {document.title: document.body for document in corpus.documents}
    assert len(corpus.documents) > 3000
    assert texts["json.loads (1)"].startswith("Deserialize ``s``")
    assert len({document.body for document in corpus.documents}) == len(corpus.documents)
    assert [document.title for document in corpus.documents] == sorted(
        document.title for document in corpus.documents
    )
    assert max(len(document.body) for document in corpus.documents) <= 800


def test_folder_that_is_none(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        folder(tmp_path / "missing")
    with pytest.raises(InputError, match=r"it takes \.md and \.txt"):
        folder(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"latin\.txt is not UTF-8"):
        folder(tmp_path)


# The whole command


def test_demo_as_json(xtrace, notes):
    done = xtrace("demo", "--docs", notes, "--json", "-q", "flat tyre of the bicycle", "-q", "tax office")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shown = json.loads(done.stdout)
    assert shown["proven"] is True
    assert shown["corpus"]["documents"] == 5
    assert [query["query"] for query in shown["queries"]] == ["flat tyre of the bicycle", "tax office"]
    for query, expected in zip(shown["queries"], (NOTES[1], NOTES[3]), strict=True):
        assert expected in query["hits"][0]["text"]
        distances = [hit["distance"] for hit in query["hits"]]
        assert distances == sorted(distances)
    assert shown["proof"]["distances"] == 10
    assert shown["proof"]["texts"] == 6
    assert shown["proof"]["texts_not_in_server_files"] == 5
    assert shown["proof"]["server_bytes_searched"] > 0
    assert shown["parameters"]["key_len"] == 1024
    assert shown["parameters"]["alpha_len"] == 448
    assert shown["sent_bytes"] > 5 * 512 and shown["received_bytes"] > 10 * 512
    assert set(shown["stages"]) == {
        "reading",
        "server",
        "embedding",
        "keys",
        "encryption",
        "upload",
        "queries",
    }


def test_demo_for_people(xtrace, notes):
    done = xtrace("demo", "--docs", notes)
    assert done.returncode == 0, done.stderr
    assert "\033" not in done.stdout  # no colours in a pipe
    assert done.stderr == ""
    assert done.stdout.count("each equal to the plain one") == 3  # its own three questions
    assert re.search(r"Proven\n  queries 3 × documents 5 = 15 encrypted distances", done.stdout)
    assert "No text, no vector, no query, no distance." in " ".join(done.stdout.split())


def test_demo_without_texts(xtrace, tmp_path):
    done = xtrace("demo", "--docs", tmp_path / "missing")
    assert (done.returncode, done.stderr) == (1, f"error: --docs: {tmp_path}/missing is not a folder\n")
    done = xtrace("demo", "--docs", tmp_path / "missing", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["message"].endswith("is not a folder")


def test_demo_at_a_terminal(notes):
    """Colours, and a prompt after the fixed questions; an empty line ends it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "xtrace_sdk.cli", "demo", "--docs", str(notes)],
        env={**os.environ, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown, answers = "", [b"who waits for a new tube?\n", b"\n"]
    try:
        while True:
            try:
                shown += os.read(ours, 4096).decode(errors="replace")
            except OSError:  # the other end was closed
                break
            if answers and shown.count("\n? ") > 2 - len(answers):
                os.write(ours, answers.pop(0))
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "\033[1m" in shown
    asked = shown.partition("Ask something yourself")[2]
    assert "who waits for a new tube?" in asked
    assert NOTES[1][:40] in asked
    assert "queries 4 × documents 5" in asked


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_demo_leaves_nothing(tmp_path, number, status):
    """The server goes with the demo, and so does its folder."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "xtrace_sdk.cli", "demo"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # whoever runs the tests in the background has the signal ignored, and children would inherit that
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    try:
        for line in process.stdout:  # until the server runs and the demo is at work
            if line.startswith("  server"):
                break
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 1
        assert list(tmp_path.glob("xtrace-demo-*"))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    # CPython ends itself by the signal if that came inside an import of a C extension: 130 to a shell, too.
    assert process.returncode in (status, -number)
    assert "Traceback" not in errors
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert list(tmp_path.glob("xtrace-demo-*")) == []


# The process of the server


def test_server_that_does_not_start(tmp_path, monkeypatch):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(ServerStartError, match="its last words"), ServerProcess(tmp_path):
        pass


def test_server_process_ends_with_its_block(tmp_path, monkeypatch):
    monkeypatch.setenv("XTRACE_PASS_PHRASE", "not for the server")
    with ServerProcess(tmp_path) as server:
        process = psutil.Process(server._process.pid)
        environment = process.environ()
        assert "XTRACE_PASS_PHRASE" not in environment
        assert environment["XTRACE_API_KEY"] == server.api_key
    assert not process.is_running()


# A server that lies


class Liar:
    """A real HTTP proxy before the server, which changes answers as it is told."""

    def __init__(self, target):
        self.target = target
        self.lie = None

    async def handle(self, request):
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with (
            ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, self.target + request.raw_path, headers=headers, data=body
            ) as answer,
        ):
            content = await answer.read()
            kind = answer.content_type
            if self.lie is not None:
                content, kind = self.lie(request.path, content, kind)
            kept = {name: value for name, value in answer.headers.items() if name.startswith("x-xtrace-")}
            return web.Response(body=content, status=answer.status, headers={"Content-Type": kind} | kept)


@pytest.fixture
async def liar(server):
    liar = Liar(server.url)
    app = web.Application(client_max_size=1 << 28)
    app.router.add_route("*", "/{tail:.*}", liar.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    liar.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield liar
    await runner.cleanup()


def on_distances(change):
    def lie(path, content, kind):
        if "/compute_hamming/" not in path:
            return content, kind
        found = wire.unpack_distances(content, kind, chunks=1, width=512)
        ids, rows, records = change(*(part.copy() for part in found))
        return b"".join(wire.pack_columns(ids, 1, 512, [rows], records)), wire.COLUMNS

    return lie


def swapped(ids, rows, records):
    return ids, rows[[1, 0, *range(2, len(rows))]], records


def repeated(ids, rows, records):
    rows[1] = rows[0]
    return ids, rows, records


def left_out(ids, rows, records):
    return ids[1:], rows[1:], records[1:]


def zeroed(ids, rows, records):
    rows[2] = 0
    return ids, rows, records


def flipped(ids, rows, records):
    rows[3, 0, 17] ^= 1
    return ids, rows, records


def other_text(path, content, kind):
    if "/v1/chunk/" not in path or not content.startswith(b"["):
        return content, kind
    chunks = json.loads(content)
    chunks[0]["chunk_content"], chunks[1]["chunk_content"] = (
        chunks[1]["chunk_content"],
        chunks[0]["chunk_content"],
    )
    return json.dumps(chunks).encode(), kind


async def test_every_lie_is_found(server, liar, notes):
    async with XTraceIntegration(
        server.org_id, server.api_key, server.admin_key, liar.url, liar.url
    ) as client:
        work = Demo(folder(notes), client)
        await work.embed()
        work.make_keys()
        await work.encrypt(quiet=True)
        await work.upload(lambda done, total: None)
        assert (await work.ask("boiler")).hits[0].document.body.endswith(NOTES[0])
        lies = {
            on_distances(swapped): "not what was stored",
            on_distances(repeated): "not what was stored",
            on_distances(left_out): "not complete",
            on_distances(zeroed): "not what was stored",
            on_distances(flipped): "not what was stored",
            other_text: "not what was stored",
        }
        for lie, message in lies.items():
            liar.lie = lie
            with pytest.raises(ProofError, match=message):
                await work.ask("boiler")
        liar.lie = None
        await work.ask("boiler")
        await work.clean_up()


async def test_demo_against_a_lying_server_fails(server, liar, notes, xtrace):
    liar.lie = on_distances(swapped)
    keys = {
        "XTRACE_ORG_ID": server.org_id,
        "XTRACE_API_KEY": server.api_key,
        "XTRACE_ADMIN_KEY": server.admin_key,
    }
    done = await asyncio.to_thread(xtrace, "demo", "--docs", notes, "--api-url", liar.url, **keys)
    assert done.returncode == 1
    assert "not what was stored" in done.stderr
    assert "Proven" not in done.stdout
    liar.lie = None
    done = await asyncio.to_thread(xtrace, "demo", "--docs", notes, "--api-url", liar.url, **keys)
    assert done.returncode == 0, done.stderr
    async with XTraceIntegration("demo", server.api_key, server.admin_key, server.url) as client:
        assert not [kb for kb in await client.list_kbs() if kb["name"] == "xtrace demo"]  # it cleaned up


def test_demo_against_a_server_without_keys(xtrace, notes, server):
    done = xtrace("demo", "--docs", notes, "--api-url", server.url)
    assert (done.returncode, done.stderr.startswith("error: XTRACE_ORG_ID: set it")) == (2, True)
    done = xtrace("demo", "--docs", notes, "--api-url", server.url, XTRACE_ORG_ID="demo")
    assert (done.returncode, "XTRACE_API_KEY" in done.stderr) == (2, True)
    done = xtrace(
        "demo", "--docs", notes, "--api-url", server.url,
        XTRACE_ORG_ID="demo", XTRACE_API_KEY="wrong", XTRACE_ADMIN_KEY="wrong",
    )  # fmt: skip
    assert (done.returncode, "401" in done.stderr) == (1, True)


def test_plain_text_in_the_servers_files_is_found(notes, tmp_path):
    work = Demo(folder(notes), None)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "rows").write_bytes(b"\0" * 100)
    assert work.prove_secrecy(tmp_path / "store") == (5, 100)
    (tmp_path / "store" / "log").write_text(f"inserted {NOTES[3]}")
    with pytest.raises(ProofError, match="the server's file log holds a plain text"):
        work.prove_secrecy(tmp_path / "store")


def test_proof_compares_with_bits_of_its_own():
    """Distances that are consistently wrong would not pass either: they are compared with plain bits."""
    rng = np.random.default_rng(1)
    work = Demo(None, None)
    work.bits = rng.integers(0, 2, (4, 16), dtype=np.uint8)
    work.documents = dict.fromkeys(range(1, 5))
    work.rows = {1: 0, 2: 1, 3: 2, 4: 3}
    vector = rng.integers(0, 2, 16, dtype=np.uint8)
    right = [int(value) for value in (work.bits ^ vector).sum(axis=1)]
    work._prove_distances("q", vector, [1, 2, 3, 4], right)
    for place in range(4):
        wrong = right.copy()
        wrong[place] += 1
        with pytest.raises(ProofError, match=f"the first is chunk {place + 1}"):
            work._prove_distances("q", vector, [1, 2, 3, 4], wrong)
