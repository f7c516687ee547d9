import json

import pytest
from typer.testing import CliRunner

from xtrace_sdk.cli import app
from xtrace_sdk.cli.demo.process import ServerProcess


def create(*options, **environment):
    arguments = ["org", "create", *map(str, options)]
    return CliRunner().invoke(app, arguments, env={"XTRACE_DATABASE_URL": None, **environment})


@pytest.fixture
def data(tmp_path):
    """The folder of a server that is running, and the server."""
    with ServerProcess(tmp_path) as server:
        yield server.data, server


def test_another_organisation_of_a_running_server(data, monkeypatch, tmp_path):
    folder, server = data
    monkeypatch.chdir(tmp_path)
    done = create("--data", folder, "--json")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert set(made) == {"org_id", "admin_key", "api_key"}

    def as_org(org_id, admin_key, api_key, *arguments):
        keys = {
            "XTRACE_API_URL": server.url,
            "XTRACE_ORG_ID": org_id,
            "XTRACE_ADMIN_KEY": admin_key,
            "XTRACE_API_KEY": api_key,
        }
        return CliRunner().invoke(app, [*arguments, "--json"], env=keys)

    theirs, ours = tuple(made.values()), (server.org_id, server.admin_key, server.api_key)
    kb = json.loads(as_org(*theirs, "kb", "create", "theirs").stdout)["id"]
    assert [one["id"] for one in json.loads(as_org(*theirs, "kb", "list").stdout)] == [kb]
    assert json.loads(as_org(*ours, "kb", "list").stdout) == []
    assert as_org(*ours, "kb", "describe", kb).exit_code == 1
    assert as_org(made["org_id"], server.admin_key, server.api_key, "kb", "list").exit_code == 1

    assert create("--data", folder, "--org-id", "chosen").stdout.startswith("org_id     chosen\n")
    again = create("--data", folder, "--org-id", "chosen")
    assert (again.exit_code, "'chosen' exists already" in again.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "nowhere"], "nowhere: no database; `xtrace serve` makes one"),
        (["--data", ":memory:"], "no database"),
        (["--database-url", "mysql://x"], "database_url: expected postgresql://"),
    ],
)
def test_without_a_database(options, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = create(*options)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_id_that_is_none(data):
    done = create("--data", data[0], "--org-id", "a/b")
    assert (done.exit_code, "expected letters, digits" in done.stderr) == (2, True)
