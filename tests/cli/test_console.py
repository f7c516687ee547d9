import json

import pytest
import typer

from xtrace_sdk.cli.console import command, fail, printable, table
from xtrace_sdk.cli.xvec.session import has_more
from xtrace_sdk.cli.xvec.show import print_chunks
from xtrace_sdk.errors import InputError

STEERING = "\x1b]0;title\x07 \x1b[2J \x9b31m \r \u202e"


def test_ordinary_text_is_printed_as_it_is():
    assert printable("naïve — 検索 🙂\n\tindented") == "naïve — 検索 🙂\n\tindented"


def test_what_steers_a_terminal_is_marked(capsys):
    with pytest.raises(typer.Exit):
        fail(STEERING)
    print(table([("id", STEERING)]))
    print_chunks([{"chunk_id": 1, "meta_data": {"tag1": STEERING}, "chunk_content": STEERING}], full=True)
    shown = "".join(capsys.readouterr())
    assert shown.count("\ufffd]0;title\ufffd") == 4
    assert not any(one in shown for one in "\x1b\x07\x9b\r\u202e")


def test_failing_file_system_is_an_error_of_one_line(capsys):
    @command
    def full() -> None:
        raise OSError(28, "No space left on device", "/data")

    with pytest.raises(typer.Exit) as caught:
        full()
    assert caught.value.exit_code == 1
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device: '/data'\n"


def test_input_that_ends_is_an_error(capsys):
    @command
    def asks(json_output: bool) -> None:
        raise EOFError

    for as_json in (True, False):
        with pytest.raises(typer.Exit) as caught:
            asks(json_output=as_json)
        assert caught.value.exit_code == 1
        shown = capsys.readouterr()
        said = json.loads(shown.out)["error"]["message"] if as_json else shown.err
        assert "the input ended" in said


def test_pages_that_end():
    assert has_more({"results": [{"chunk_id": 3}, {"chunk_id": 5}], "has_more": True}, 2)
    assert not has_more({"results": [{"chunk_id": 3}], "has_more": False}, 2)
    assert not has_more({"results": [], "has_more": True}, 2)


@pytest.mark.parametrize("ids", [[2], [1], [3, 3], [4, 3]])
def test_pages_that_would_never_end(ids):
    with pytest.raises(InputError, match="not sorted"):
        has_more({"results": [{"chunk_id": one} for one in ids], "has_more": True}, 2)
