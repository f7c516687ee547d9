"""The package's face: version, kernel, cheap imports, refusal to share its name."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import xtrace_sdk
from xtrace_sdk import _core

PACKAGE = Path(xtrace_sdk.__file__).parent


def run(code: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_version_is_that_of_the_distribution():
    assert xtrace_sdk.__version__ == importlib.metadata.version("xtrace-sdk-native")


def test_version_is_unknown_where_nothing_is_installed(tmp_path):
    shutil.copy(PACKAGE / "__init__.py", tmp_path / "xtrace_sdk.py")
    result = run("import xtrace_sdk; print(xtrace_sdk.__version__)", "-S", PYTHONPATH=str(tmp_path))
    assert result.stdout == "unknown\n", result.stderr


def test_kernel_is_the_one_in_use():
    assert xtrace_sdk.kernel == _core.kernel()
    assert xtrace_sdk.kernel in _core.kernels()


def test_kernel_follows_the_environment():
    result = run("import xtrace_sdk; print(xtrace_sdk.kernel)", XTRACE_KERNEL="portable")
    assert result.stdout == "portable\n", result.stderr


def test_impossible_kernel_raises():
    result = run("import xtrace_sdk; xtrace_sdk.kernel", XTRACE_KERNEL="nope")
    assert result.returncode != 0
    assert "KernelError" in result.stderr
    assert "nope" in result.stderr


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="kernels_that_never_were"):
        _ = xtrace_sdk.kernels_that_never_were


def test_import_loads_neither_core_nor_dependencies():
    result = run(
        "import sys; before = set(sys.modules); import xtrace_sdk; print(*set(sys.modules) - before)"
    )
    loaded = set(result.stdout.split())
    assert "xtrace_sdk" in loaded
    assert "xtrace_sdk._core" not in loaded
    assert loaded.isdisjoint({"aiohttp", "asyncio", "cryptography", "gmpy2", "msgpack", "numpy", "tqdm"})


@pytest.mark.parametrize(
    "metadata",
    [
        "xtrace_ai_sdk-0.1.1.dist-info",
        "xtrace_sdk-1.0.dist-info",
        "XTrace_SDK-1.0-py3.11.egg-info",
        "xtrace_sdk.egg-info",
    ],
)
def test_another_owner_of_the_name_is_one_clear_error(tmp_path, metadata):
    (tmp_path / metadata).mkdir()
    result = run("import xtrace_sdk", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    last_line = result.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError: xtrace-sdk-native and xtrace-")
    assert "uninstall both" in last_line


def test_own_metadata_and_strangers_are_no_other_owner(tmp_path):
    for name in ("xtrace_sdk_native-9.9.dist-info", "xtrace_sdk_tools-1.0.dist-info", "xtrace_sdk"):
        (tmp_path / name).mkdir()
    result = run("import xtrace_sdk", "-S", PYTHONPATH=os.pathsep.join([str(tmp_path), str(PACKAGE.parent)]))
    assert result.returncode == 0, result.stderr


def test_missing_core_says_what_to_do(tmp_path):
    (tmp_path / "xtrace_sdk").mkdir()
    shutil.copy(PACKAGE / "__init__.py", tmp_path / "xtrace_sdk")
    result = run("from xtrace_sdk import _core", "-S", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert "ModuleNotFoundError: No module named 'xtrace_sdk._core'" in result.stderr
    assert "make build" in result.stderr
