"""Each store loads only what it needs."""

import subprocess
import sys

import pytest

from xtrace_sdk import stores


def loaded_by(code):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_every_name_is_there():
    pytest.importorskip("asyncpg", reason="asyncpg (extra postgres) is not installed")
    classes = [name for name in stores.__all__ if name != "Vector"]
    assert [getattr(stores, name).__name__ for name in classes] == classes
    assert stores.Vector is not None
    with pytest.raises(AttributeError, match="no attribute 'VectorShop'"):
        _ = stores.VectorShop


def test_the_package_alone_loads_nothing():
    loaded = loaded_by("import xtrace_sdk.stores")
    assert "xtrace_sdk.stores" in loaded
    assert loaded.isdisjoint({"numpy", "asyncpg", "aiohttp", "cryptography", "xtrace_sdk.stores.base"})


def test_the_plain_stores_need_no_cryptography():
    pytest.importorskip("asyncpg", reason="asyncpg (extra postgres) is not installed")
    loaded = loaded_by("from xtrace_sdk.stores import InMemoryVectorStore, PgVectorStore")
    assert {"numpy", "asyncpg"} <= loaded
    assert loaded.isdisjoint({"aiohttp", "cryptography", "gmpy2", "xtrace_sdk._core", "xtrace_sdk.x_vec"})


def test_only_pgvector_needs_asyncpg():
    code = (
        "sys.modules['asyncpg'] = None\n"
        "from xtrace_sdk.errors import ConfigurationError\n"
        "from xtrace_sdk.stores import EncryptedVectorStore, InMemoryVectorStore\n"
        "try:\n    from xtrace_sdk.stores import PgVectorStore\n"
        "except ConfigurationError as error:\n    assert 'xtrace-sdk-native[postgres]' in str(error)\n"
        "else:\n    raise AssertionError"
    )
    assert "xtrace_sdk.stores.encrypted" in loaded_by(code)
