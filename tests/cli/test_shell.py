import os
import subprocess
import sys

import pytest

from xtrace_sdk.cli.shell import _words


@pytest.mark.parametrize("leave", ["quit", "exit", ":q", ""])
def test_commands_one_after_another(xtrace, leave):
    lines = ["version --json", "", "nonsense", "help kb", "version 'open", "shell"]
    done = xtrace("shell", stdin="\n".join([*lines, leave, "version --json\n"] if leave else lines))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"kernel"') == 1
    assert "Knowledge bases." in done.stdout
    assert "No such command 'nonsense'" in done.stderr
    assert "error: No closing quotation" in done.stderr


def test_words_to_complete():
    import typer

    from xtrace_sdk.cli import app

    words = _words(typer.main.get_command(app))
    assert {"kb create", "xvec upsert-file", "api-keys grant", "demo", "quit", ":q"} <= set(words)


def test_history_keeps_no_keys(tmp_path):
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "xtrace_sdk.cli", "shell"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "dumb"},
    ) as process:
        os.close(slave)
        for secret in ("--api-key secret1", "--api_key=secret2", "-a secret3", "-asecret4"):
            os.write(master, f"kb list {secret}\n".encode())
        os.write(master, b"version\nquit\n")
        while process.poll() is None:  # what nobody reads would block it
            try:
                os.read(master, 4096)
            except OSError:  # how Linux says that the other side is closed
                break
    os.close(master)
    history = (tmp_path / ".xtrace_cli_history").read_text()
    assert "version" in history
    assert "secret" not in history
