import io
import json
import os
import stat

import keyring.backends.fail
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from xtrace_sdk.cli import settings as module
from xtrace_sdk.cli.settings import (
    DEFAULT_MODEL,
    Model,
    Settings,
    read_env_file,
    system_keyring,
    write_env_file,
    write_private,
)
from xtrace_sdk.errors import ConfigurationError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, no terminal, no keyring."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr(module, "system_keyring", lambda: None)


class Memory(KeyringBackend):
    """A keyring in memory; a locked one refuses everything, a forgetful one forgets."""

    priority = 1
    locked = forgetful = False

    def __init__(self):
        super().__init__()
        self.kept = {}

    def set_password(self, service, username, password):
        if self.locked:
            raise KeyringLocked("locked")
        if not self.forgetful:
            self.kept[service, username] = password

    def get_password(self, service, username):
        if self.locked:
            raise KeyringLocked("locked")
        return self.kept.get((service, username))

    def delete_password(self, service, username):
        del self.kept[service, username]


@pytest.fixture
def memory(monkeypatch):
    """The package keyring over a keyring in memory."""
    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    monkeypatch.setattr(module, "system_keyring", lambda: system_keyring())
    yield keyring.get_keyring()
    keyring.set_keyring(before)


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text()))
def test_what_is_written_is_read(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("env") / ".env"
    write_env_file(path, values)
    assert read_env_file(path) == values


def test_other_lines_are_kept(tmp_path):
    path = tmp_path / ".env"
    path.write_text("# mine\nOTHER=1\nexport XTRACE_ORG_ID=old\n")
    write_env_file(path, {"XTRACE_ORG_ID": "new"})
    assert path.read_text() == '# mine\nOTHER=1\nXTRACE_ORG_ID="new"\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_forms_of_values(tmp_path):
    path = tmp_path / ".env"
    path.write_text(
        "A=bare value # comment\nB='single # \\n ${X}' # c\n"
        'C="double \\" \\\\ \\n"\n  export D = x \nE=\nF=a#b\nG="\\$1"\n'
    )
    path.chmod(0o600)
    assert read_env_file(path) == {
        "A": "bare value",
        "B": "single # \\n ${X}",
        "C": 'double " \\ \n',
        "D": "x",
        "E": "",
        "F": "a#b",
        "G": "$1",
    }


@pytest.mark.parametrize("line", ["no assignment", "1A=x", "A='open", 'A="open', "A='x' y"])
def test_malformed_line_is_named_and_not_shown(tmp_path, line):
    path = tmp_path / ".env"
    path.write_text(f"A=1\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"\.env:2: expected NAME=value") as caught:
        read_env_file(path)
    assert line not in str(caught.value)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_file_that_others_may_write_is_refused(tmp_path, mode):
    path = tmp_path / ".env"
    path.write_text("XTRACE_API_URL=http://attacker\n")
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod go-w"):
        Settings.load()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owners here")
def test_file_left_by_another_user_is_used_only_when_named(tmp_path, monkeypatch):
    write_env_file(tmp_path / ".env", {"XTRACE_API_URL": "http://attacker"})
    write_private(tmp_path / DEFAULT_MODEL, json.dumps(vars(Model("simhash", "simhash", 8))))
    assert Settings.load().api_url == "http://attacker"
    if os.getuid() == 0:
        os.chown(tmp_path / ".env", 12345, -1)
        os.chown(tmp_path / DEFAULT_MODEL, 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ConfigurationError, match=r"\.env: belongs to another user"):
        Settings.load()
    with pytest.raises(ConfigurationError, match="embed_model: belongs to another user"):
        Settings({}).read_model()
    assert Settings.load(tmp_path / ".env").api_url == "http://attacker"
    named = {"XTRACE_EMBEDDING_MODEL_PATH": str(tmp_path / DEFAULT_MODEL)}
    assert Settings(named).read_model().dim == 8


def test_model_that_others_may_write_is_refused(tmp_path):
    write_private(tmp_path / DEFAULT_MODEL, json.dumps(vars(Model("simhash", "simhash", 8))))
    (tmp_path / DEFAULT_MODEL).chmod(0o666)
    with pytest.raises(ConfigurationError, match="chmod go-w"):
        Settings({}).read_model()


def test_environment_wins_over_the_file(tmp_path, monkeypatch):
    write_env_file(tmp_path / ".env", {"XTRACE_API_URL": "http://file", "XTRACE_ORG_ID": "file"})
    monkeypatch.setenv("XTRACE_ORG_ID", "environment")
    settings = Settings.load()
    assert (settings.api_url, settings.org_id) == ("http://file", "environment")


def test_named_file(tmp_path, monkeypatch):
    write_env_file(tmp_path / "other", {"XTRACE_ORG_ID": "other"})
    assert Settings.load(tmp_path / "other").org_id == "other"
    monkeypatch.setenv("XTRACE_ENV_FILE", str(tmp_path / "other"))
    assert Settings.load().org_id == "other"
    with pytest.raises(ConfigurationError, match="no such settings file"):
        Settings.load(tmp_path / "missing")


def test_defaults():
    settings = Settings.load()
    assert settings.api_url == "http://127.0.0.1:8700"
    with pytest.raises(ConfigurationError, match="XTRACE_ORG_ID"):
        _ = settings.org_id
    with pytest.raises(ConfigurationError, match="XTRACE_API_KEY"):
        settings.ask("XTRACE_API_KEY")
    with pytest.raises(ConfigurationError, match="xtrace init"):
        settings.open_context()
    with pytest.raises(ConfigurationError, match="xtrace init"):
        settings.open_embedding()


def test_where_secrets_come_from(tmp_path, monkeypatch, memory):
    """Option, environment, the server's credentials, keyring: the first that has it."""
    settings = Settings.load()
    assert settings.secret("XTRACE_API_KEY") is None
    assert settings.keep("XTRACE_API_KEY", "of the keyring")
    assert settings.secret("XTRACE_API_KEY") == "of the keyring"

    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps({"org_id": "org", "api_key": "of the server", "admin_key": "admin"}))
    monkeypatch.setenv("XTRACE_CREDENTIALS_FILE", str(credentials))
    settings = Settings.load()
    assert settings.org_id == "org"
    assert settings.secret("XTRACE_API_KEY") == "of the server"
    assert settings.secret("XTRACE_ADMIN_KEY") == "admin"
    assert settings.secret("XTRACE_PASS_PHRASE") is None

    monkeypatch.setenv("XTRACE_API_KEY", "of the environment")
    assert Settings.load().secret("XTRACE_API_KEY") == "of the environment"
    assert Settings.load(api_key="of the option").secret("XTRACE_API_KEY") == "of the option"


def test_keyring_keeps_keys_apart_by_server(memory):
    """A settings file that names another server does not get this one's key."""
    Settings({"XTRACE_API_URL": "http://mine"}).keep("XTRACE_API_KEY", "secret")
    assert Settings({"XTRACE_API_URL": "http://mine"}).secret("XTRACE_API_KEY") == "secret"
    assert Settings({"XTRACE_API_URL": "http://attacker"}).secret("XTRACE_API_KEY") is None


def test_a_keyring_that_does_not_keep_is_none(memory):
    memory.locked = True
    assert not Settings({}).keep("XTRACE_API_KEY", "secret")
    assert Settings({}).secret("XTRACE_API_KEY") is None
    memory.locked, memory.forgetful = False, True
    assert not Settings({}).keep("XTRACE_API_KEY", "secret")


def test_a_system_without_a_keyring():
    assert isinstance(keyring.get_keyring(), keyring.backends.fail.Keyring)
    assert system_keyring() is None


def test_secrets_are_not_shown(monkeypatch):
    monkeypatch.setenv("XTRACE_API_KEY", "never-shown")
    assert "never-shown" not in repr(Settings.load(api_key="never-shown"))


@pytest.mark.parametrize("content", ["[]", "not json"])
def test_malformed_credentials(tmp_path, monkeypatch, content):
    (tmp_path / "c.json").write_text(content)
    monkeypatch.setenv("XTRACE_CREDENTIALS_FILE", str(tmp_path / "c.json"))
    with pytest.raises(ConfigurationError, match="is not the server"):
        Settings.load().secret("XTRACE_API_KEY")


def test_embedding_is_described_in_json(tmp_path):
    path = tmp_path / "data" / "embed_model"
    path.parent.mkdir()
    path.write_text(json.dumps({"provider": "simhash", "model_name": "simhash", "dim": 64}))
    embedding = Settings.load().open_embedding()
    assert (embedding.provider, embedding.dim) == ("simhash", 64)
    path.write_bytes(b"\x80\x04cos\nsystem\n")  # a pickle, as the original kept it, is never loaded
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Settings.load().open_embedding()
