import json
import subprocess
import sys

import pytest

import xtrace_sdk.x_vec
from xtrace_sdk.x_vec.data_loaders import DataLoader
from xtrace_sdk.x_vec.retrievers import Retriever


def modules_after(statement):
    program = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    return set(json.loads(output))


def test_exported_names():
    assert xtrace_sdk.x_vec.__all__ == sorted(xtrace_sdk.x_vec._HOMES)
    for name in xtrace_sdk.x_vec.__all__:
        assert getattr(xtrace_sdk.x_vec, name).__name__ == name
    assert xtrace_sdk.x_vec.DataLoader is DataLoader
    assert xtrace_sdk.x_vec.Retriever is Retriever
    with pytest.raises(AttributeError, match="Nothing"):
        _ = xtrace_sdk.x_vec.Nothing


def test_the_package_itself_imports_nothing():
    assert modules_after("import xtrace_sdk.x_vec").isdisjoint({"numpy", "gmpy2", "aiohttp", "cryptography"})


@pytest.mark.parametrize(
    "name",
    [
        "DataLoader",
        "Embedding",
        "ExecutionContext",
        "PassphraseKeyProvider",
        "AWSKMSKeyProvider",
        "Retriever",
    ],
)
def test_crypto_and_inference_import_no_http(name):
    loaded = modules_after(f"from xtrace_sdk.x_vec import {name}")
    assert loaded.isdisjoint({"aiohttp", "requests", "httpx", "boto3", "botocore", "sentence_transformers"})
    assert not any(module.startswith("xtrace_sdk.integrations") for module in loaded)
    assert not any(module.startswith("xtrace_sdk.server") for module in loaded)


def test_the_embedder_imports_no_crypto():
    loaded = modules_after("from xtrace_sdk.x_vec import Embedding")
    assert not any(module.startswith(("xtrace_sdk.x_vec.crypto", "xtrace_sdk._core")) for module in loaded)
