"""Runs in the environment of xtrace-ai-sdk and does what the tests ask, by its public interface.

One JSON request per line on stdin, one JSON answer per line on stdout: {"result": ...}, or {"raised": type,
"message": ...} when the original raised. Bytes travel as {"bytes": base64}; {"kept": name} stands for a
value that an earlier call left here.
"""

import asyncio
import base64
import importlib.metadata
import inspect
import json
import os
import pickle
import sys
from pathlib import Path

import gmpy2
import numpy as np
from xtrace_sdk.x_vec.crypto.encryption.paillier import Paillier
from xtrace_sdk.x_vec.crypto.encryption.paillier_lookup import PaillierLookup

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.crypto.paillier_client import PaillierClient
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

contexts = {}
kept = {}
loop = asyncio.new_event_loop()


def version():
    return importlib.metadata.version("xtrace-ai-sdk")


# Contexts


def keep(context):
    contexts[context.id] = context
    return {"id": context.id, "embed_len": context.embed_len(), "key_len": context.key_len()}


def create(passphrase, path, embed_len, key_len, alpha_len=None):
    """A context of this package, saved to disk. `alpha_len` None: plain Paillier."""
    if alpha_len is None:
        client = PaillierClient(embed_len=embed_len, key_len=key_len)
    else:
        client = PaillierLookupClient(embed_len=embed_len, key_len=key_len, alpha_len=alpha_len)
    context = ExecutionContext(client, PassphraseKeyProvider(passphrase))
    context.save_to_disk(path)
    return keep(context)


def load(passphrase, path):
    return keep(ExecutionContext.load_from_disk(passphrase, path))


def save_to_remote(context):
    return loop.run_until_complete(contexts[context].save_to_remote(kept["integration"]))


def load_from_remote(passphrase, context):
    """The id that the loaded keys really have."""
    found = ExecutionContext.load_from_remote(passphrase, context, kept["integration"])
    return loop.run_until_complete(found).hash()


# Vectors and contents; ciphertexts are hexadecimal strings


def encrypt(context, vectors):
    rows = contexts[context].homomorphic.encrypt_vec_batch(vectors)
    return [[f"{int(c):x}" for c in row] for row in rows]


def multiply(context, left, right):
    """The server's work, by the original's own addition."""
    client = contexts[context].homomorphic
    scheme = PaillierLookup if isinstance(client, PaillierLookupClient) else Paillier
    public = client.client.keys["pk"]
    return [
        [f"{int(scheme.add(a, b, public)):x}" for a, b in zip(x, y, strict=True)]
        for x, y in zip(numbers(left), numbers(right), strict=True)
    ]


def decode(context, ciphers):
    return contexts[context].homomorphic.decode_hamming_client_batch(numbers(ciphers))


def seal(context, text):
    return contexts[context].aes.encrypt(text).decode()


def unseal(context, blob):
    return contexts[context].aes.decrypt(blob)


def binarise(floats):
    return Embedding.float_2_bin(floats)


def numbers(rows):
    return [[gmpy2.mpz(c, 16) for c in row] for row in rows]


# The HTTP client and what is built on it


def connect(url, org_id, api_key, admin_key):
    kept["integration"] = XTraceIntegration(
        org_id=org_id, api_key=api_key, admin_key=admin_key, api_url=url, admin_api_url=url
    )


def use(context):
    kept["loader"] = DataLoader(contexts[context], kept["integration"])
    kept["retriever"] = Retriever(contexts[context], kept["integration"])
    kept["parallel_retriever"] = Retriever(contexts[context], kept["integration"], parallel=True)


def call(target, method, args, kwargs, keep_as):
    """Call a method; its result, or the parts of a tuple, stay here under the names in `keep_as`."""
    result = getattr(kept[target], method)(*decoded(args), **decoded(kwargs))
    if inspect.isawaitable(result):
        result = loop.run_until_complete(result)
    if keep_as:
        parts = [result] if len(keep_as) == 1 else result
        kept.update(zip(keep_as, parts, strict=True))
        return None
    return result


def public_methods():
    """Every public method, coroutine or not, of the three classes that talk to a server."""
    return {
        name: sorted(
            method
            for method, function in inspect.getmembers(kind, inspect.isfunction)
            if not method.startswith("_")
        )
        for name, kind in (
            ("integration", XTraceIntegration),
            ("loader", DataLoader),
            ("retriever", Retriever),
        )
    }


def save_embedding(path, url, dim):
    """The pickled model that the command line loads: Ollama's protocol, spoken to a server of the test's."""
    model = Embedding("ollama", "a-model", dim)
    model.url = url
    Path(path).write_bytes(pickle.dumps(model))


def decoded(value):
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"kept"}:
            return kept[value["kept"]]
        if value.keys() == {"bytes"}:
            return base64.b64decode(value["bytes"])
        return {name: decoded(item) for name, item in value.items()}
    return value


def encoded(value):
    """What json.dumps does not know."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return int(value)  # mpz, numpy integers


OPERATIONS = {
    function.__name__: function
    for function in (
        version,
        create,
        load,
        save_to_remote,
        load_from_remote,
        encrypt,
        multiply,
        decode,
        seal,
        unseal,
        binarise,
        connect,
        use,
        call,
        public_methods,
        save_embedding,
    )
}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": OPERATIONS[request.pop("op")](**request)}
        except Exception as error:  # noqa: BLE001 - the test decides whether it was expected
            answer = {"raised": type(error).__name__, "message": str(error)}
        answers.write(json.dumps(answer, default=encoded) + "\n")
        answers.flush()
    if "integration" in kept:
        loop.run_until_complete(kept["integration"].close())


if __name__ == "__main__":
    main()
