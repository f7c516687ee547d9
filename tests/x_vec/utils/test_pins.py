import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xtrace_sdk.errors import ConfigurationError, IntegrityError
from xtrace_sdk.x_vec.utils.pins import Pin, Pins, state_folder

A, B = "a" * 64, "b" * 64


@pytest.fixture
def pins(tmp_path):
    return Pins(tmp_path / "pins")


def files(pins):
    return [path for path in pins.folder.rglob("*") if path.is_file()]


def test_each_context_and_knowledge_base_has_its_own(pins):
    assert pins.get("context", "kb") is None
    pins.advance("context", "kb", Pin(3, A))
    assert pins.get("context", "kb") == Pin(3, A)
    assert pins.get("context", "kb2") is None and pins.get("context2", "kb") is None
    pins.advance("context", "../../kb/\0\ud800", Pin(1, B))  # whatever a server calls it
    assert pins.get("context", "../../kb/\0\ud800") == Pin(1, B)
    assert len(files(pins)) == 2
    assert Pins(pins.folder).get("context", "kb") == Pin(3, A)


def test_files_are_private(pins):
    pins.advance("context", "kb", Pin(3, A))
    (file,) = files(pins)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_they_never_go_back(pins):
    pins.advance("context", "kb", Pin(3, A))
    pins.advance("context", "kb", Pin(2, B))  # seen before, told later
    assert pins.get("context", "kb") == Pin(3, A)
    pins.advance("context", "kb", Pin(3, A))
    pins.advance("context", "kb", Pin(4, B))
    assert pins.get("context", "kb") == Pin(4, B)


def test_two_states_with_one_number_are_a_fork(pins):
    pins.advance("context", "kb", Pin(3, A))
    with pytest.raises(
        IntegrityError, match="knowledge base kb: the server has shown two different states 3"
    ):
        pins.advance("context", "kb", Pin(3, B))
    assert pins.get("context", "kb") == Pin(3, A)


def test_a_removed_manifest_stays_removed_until_there_is_a_newer_one(pins):
    pins.advance("context", "kb", Pin(3, A))
    pins.advance("context", "kb", Pin(3, None))
    assert pins.get("context", "kb") == Pin(3, None)
    with pytest.raises(IntegrityError):
        pins.advance("context", "kb", Pin(3, A))
    pins.advance("context", "kb", Pin(4, A))
    assert pins.get("context", "kb") == Pin(4, A)


def test_threads_and_processes_agree_on_the_newest(pins):
    program = (
        "import sys; from xtrace_sdk.x_vec.utils.pins import *\n"
        "for counter in range(int(sys.argv[2]), 60, 2):\n"
        "    Pins(sys.argv[1]).advance('c', 'kb', Pin(counter, 'a' * 64))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(pins.folder), str(at)]) for at in (1, 2)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda counter: pins.advance("c", "kb", Pin(counter, A)), range(50, 100)))
    assert [process.wait(60) for process in processes] == [0, 0]
    assert pins.get("c", "kb") == Pin(99, A)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"counter": 1}{}', b'{"counter": -1, "tag": null}',
     b'{"counter": true, "tag": null}', b'{"counter": 1, "tag": "x"}', b'{"tag": null}',
     b'{"counter": "1", "tag": null}'],
)  # fmt: skip
def test_a_damaged_file_is_named(pins, content):
    pins.advance("context", "kb", Pin(3, A))
    (file,) = files(pins)
    file.write_bytes(content)
    for call in (lambda: pins.get("context", "kb"), lambda: pins.advance("context", "kb", Pin(4, A))):
        with pytest.raises(
            ConfigurationError, match=f"{file}: does not hold what .* knowledge base kb; delete it"
        ):
            call()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    pins = Pins(tmp_path / "file" / "below")
    with pytest.raises(ConfigurationError, match=r"XTRACE_STATE_DIR names .* manifest=False"):
        pins.advance("context", "kb", Pin(1, A))


def test_where_they_are_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("XTRACE_STATE_DIR", str(tmp_path / "here"))
    assert state_folder() == tmp_path / "here"
    assert Pins().folder == tmp_path / "here" / "pins"
    monkeypatch.delenv("XTRACE_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "xtrace-sdk"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder().is_relative_to(tmp_path) and state_folder().name == "xtrace-sdk"
    assert not any(Path(tmp_path).iterdir())
    assert os.environ["HOME"] == str(tmp_path)
