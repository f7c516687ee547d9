"""The commands as a whole: what they load, what they say, how they end."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from xtrace_sdk import _core
from xtrace_sdk.cli import app


def test_version(xtrace):
    done = xtrace("version")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^kernel +{_core.kernel()}$", done.stdout, re.MULTILINE)
    shown = json.loads(xtrace("version", "--json").stdout)
    assert shown["kernel"] == _core.kernel()
    assert shown["threads"] == _core.max_threads()
    assert shown["kernels"] == _core.kernels()


def test_impossible_kernel_is_an_error_of_one_line(xtrace):
    done = xtrace("version", XTRACE_KERNEL="nope")
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*nope.*\n", done.stderr)


def test_no_arguments_and_unknown_command(xtrace):
    done = xtrace()
    assert done.returncode == 2
    assert all(name in done.stdout + done.stderr for name in ("demo", "serve", "version"))
    done = xtrace("frobnicate")
    assert done.returncode == 2
    assert "frobnicate" in done.stderr


def commands(group, *names):
    """All commands below a group: (names, command)."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, *names, name)
        else:
            yield (*names, name), one


COMMANDS = dict(commands(get_command(app)))


def test_every_command_that_ends_speaks_json():
    with_json = {
        names for names, one in COMMANDS.items() if any("--json" in option.opts for option in one.params)
    }
    assert set(COMMANDS) - with_json == {("serve",), ("shell",)}


@pytest.mark.parametrize("group", ["", "kb", "api-keys", "org", "keys", "xvec"])
def test_help_says_whole_sentences(group):
    done = CliRunner().invoke(app, [*group.split(), "--help"], terminal_width=80)
    listed = done.stdout.partition("Commands:\n")[2].splitlines()
    assert listed and all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_wrong_usage_is_json_after_json(names):
    done = CliRunner().invoke(app, [*names, "--json", "--no-such-option"])
    assert done.exit_code == 2 and done.stderr == ""
    error = json.loads(done.stdout)["error"]
    assert error["status"] is None and re.search("--(no-such-option|json)", error["message"])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["frobnicate", "--json"], "No such command 'frobnicate'"),
        (["--json"], "No such option: --json"),
        (["kb", "list", "--json", "more"], "unexpected extra argument"),
        (["xvec", "head", "--json"], "Missing argument 'KB_ID'"),
        (["bench", "--json", "--key-len", "many"], "Invalid value for '--key-len'"),
        (["bench", "--json", "--key-len", "5"], "Invalid value for '--key-len'"),
        (["version", "--json", "--json=yes"], "--json"),
    ],
)
def test_what_is_wrong_is_told_in_either_form(arguments, problem):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and done.stderr == ""
    message = json.loads(done.stdout)["error"]["message"]
    assert problem in message
    others = [one for one in arguments if one != "--json"]
    if others and problem != "--json":
        done = CliRunner().invoke(app, others)
        assert done.exit_code == 2 and done.stdout == "" and message in done.stderr


def test_what_follows_two_dashes_is_no_option():
    done = CliRunner().invoke(app, ["version", "--", "--json"])
    assert done.exit_code == 2 and done.stdout == "" and "--json" in done.stderr


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_without_the_extra_there_is_one_clear_message():
    done = python("import sys; sys.modules['typer'] = None\nfrom xtrace_sdk.cli import app\napp()")
    assert done.returncode == 2
    assert done.stderr == (
        "xtrace: the command line needs the extra 'cli': pip install 'xtrace-sdk-native[cli]'\n"
    )


def test_module_without_the_extra_says_the_same():
    start = "runpy.run_module('xtrace_sdk.cli', run_name='__main__')"
    done = python(f"import runpy, sys; sys.modules['typer'] = None; {start}")
    assert done.returncode == 2
    assert done.stderr.startswith("xtrace: the command line needs the extra 'cli'")


def test_serve_without_the_extra_there_is_one_clear_message():
    done = python("import sys; sys.modules['uvicorn'] = None\nfrom xtrace_sdk.cli import app\napp(['serve'])")
    assert done.returncode == 2
    assert done.stderr == (
        "error: the server needs uvicorn, of the extra 'server': "
        "pip install 'xtrace-sdk-native[cli,server]'\n"
    )


LOADED = """
import atexit, json, sys
atexit.register(lambda: print("LOADED", json.dumps(sorted(sys.modules)), file=sys.stderr))
from xtrace_sdk.cli import app
app(sys.argv[1:])
"""


def loaded(errors):
    return set(json.loads(errors.rpartition("LOADED ")[2]))


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["serve", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    done = python(LOADED, *arguments)
    assert done.returncode == 0
    heavy = {"numpy", "aiohttp", "fastapi", "uvicorn", "tqdm", "gmpy2", "xtrace_sdk._core"}
    assert not heavy & loaded(done.stderr)


@pytest.mark.parametrize("module", ["cli.main", "server.__main__"])
@pytest.mark.parametrize("chosen", ["", "active"])
def test_waiting_threads_sleep_unless_told_otherwise(module, chosen):
    code = (
        "import os, sys, importlib\n"
        f"if {chosen!r}: os.environ['OMP_WAIT_POLICY'] = {chosen!r}\n"
        "else: os.environ.pop('OMP_WAIT_POLICY', None)\n"
        f"importlib.import_module('xtrace_sdk.{module}')\n"
        "print(os.environ['OMP_WAIT_POLICY'], 'xtrace_sdk._core' in sys.modules)"
    )
    assert python(code).stdout.split() == [chosen or "passive", "False"]


def test_serve_loads_no_client_code(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", LOADED, "serve", "--port", "0", "--data", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("listening on http://127.0.0.1:") for line in lines)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    modules = loaded(errors)
    assert "xtrace_sdk.server.app" in modules
    client = {"aiohttp", "gmpy2", "tqdm", "xtrace_sdk.integrations", "xtrace_sdk.x_vec"}
    assert not {name for name in modules if any(f"{name}.".startswith(f"{part}.") for part in client)}


def test_demo_loads_no_server_code(tmp_path):
    (tmp_path / "note.txt").write_text("A note that is long enough to be one.")
    done = python(LOADED, "demo", "--docs", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    assert not {
        name for name in loaded(done.stderr) if name.startswith(("xtrace_sdk.server", "fastapi", "uvicorn"))
    }


def test_port_that_is_taken(xtrace, server, tmp_path):
    port = server.url.rpartition(":")[2]
    done = xtrace("serve", "--port", port, "--data", tmp_path / "other")
    assert done.returncode == 2
    assert re.search(rf"^error: .*{port}", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def test_serve_over_tls_with_workers(tmp_path):
    """The certificate and the workers reach the server; a client that trusts the certificate gets in."""
    import datetime as dt
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "own authority")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    data = tmp_path / "data"
    options = [
        "--port",
        "0",
        "--data",
        data,
        "--ssl-certfile",
        pem,
        "--ssl-keyfile",
        private,
        "--workers",
        "2",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "xtrace_sdk.cli", "serve", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        lines = iter(process.stdout.readline, "")
        url = next(line for line in lines if line.startswith("listening on")).split()[-1]
        assert url.startswith("https://127.0.0.1:")
        credentials = data / "credentials.json"
        environment = {"XTRACE_API_URL": url, "XTRACE_CREDENTIALS_FILE": str(credentials)}
        trusting = {**os.environ, **environment, "SSL_CERT_FILE": str(pem)}
        for variables, code in ((trusting, 0), ({**os.environ, **environment}, 1)):
            done = subprocess.run(
                [sys.executable, "-m", "xtrace_sdk.cli", "kb", "list", "--json"],
                cwd=tmp_path,
                env=variables,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == code, done.stderr
            shown = json.loads(done.stdout)
            assert shown == [] if code == 0 else "SSL_CERT_FILE" in shown["error"]["message"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
