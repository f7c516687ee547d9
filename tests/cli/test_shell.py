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
