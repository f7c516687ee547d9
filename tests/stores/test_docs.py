"""The samples of docs/stores.md run as they are printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "stores.md").read_text("utf-8")
SECTIONS = [section.partition("\n") for section in re.split(r"^#+ ", TEXT, flags=re.MULTILINE)]
SAMPLES = [
    (title, sample)
    for title, _, text in SECTIONS
    for sample in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
]
PROMISED = {
    "The protocol": (
        "0.5 intro Welcome.\n"
        "0.5 rules Be kind.\n"
        "Chunk(id='intro', document_id='handbook', content='Welcome.', position=0, "
        "metadata={'language': 'en', 'page': 1}, content_hash='')\n"
    ),
    "PgVectorStore": "Some text. 1.0\n",
    "In a folder, with a server of its own": "Nobody else reads this. 1.0\n",
    "On a running server": "Some text. 0.75\n",
}


def test_every_sample_is_run():
    assert [title for title, _ in SAMPLES] == list(PROMISED)
    assert TEXT.count("```python") == len(SAMPLES)


@pytest.mark.parametrize("title", PROMISED)
def test_a_sample_runs_as_printed(title, tmp_path, request):
    environment = {}
    if title == "PgVectorStore":
        environment["DATABASE_URL"] = request.getfixturevalue("postgres_dsn")
    elif title == "On a running server":
        integration = request.getfixturevalue("connect")()
        environment = {
            "XTRACE_API_URL": integration.api_url,
            "XTRACE_ORG_ID": integration.org_id,
            "XTRACE_API_KEY": integration.api_key,
            "XTRACE_ADMIN_KEY": integration.admin_key,
        }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dict(SAMPLES)[title]],
        env=os.environ | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == PROMISED[title], done.stderr
    assert done.returncode == 0, done.stderr
