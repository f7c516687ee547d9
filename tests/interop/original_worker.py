"""Runs in the environment of xtrace-ai-sdk and does what the tests ask, by its public interface.

One JSON request per line on stdin, one JSON answer per line on stdout. Ciphertexts travel as hexadecimal
strings. A ValueError of the original is an answer ("refused"); anything else ends the test.
"""

import importlib.metadata
import json
import os
import sys
import traceback

import gmpy2
import numpy as np
from xtrace_sdk.x_vec.crypto.encryption.paillier import Paillier
from xtrace_sdk.x_vec.crypto.encryption.paillier_lookup import PaillierLookup

from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.crypto.paillier_client import PaillierClient
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

contexts = {}


def keep(context):
    contexts[context.id] = context
    return {"id": context.id, "embed_len": context.embed_len(), "key_len": context.key_len()}


def version():
    return importlib.metadata.version("xtrace-ai-sdk")


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
    return [int(d) for d in contexts[context].homomorphic.decode_hamming_client_batch(numbers(ciphers))]


def seal(context, text):
    return contexts[context].aes.encrypt(text).decode()


def unseal(context, blob):
    return contexts[context].aes.decrypt(blob)


def binarise(floats):
    return np.asarray(Embedding.float_2_bin(floats)).tolist()


def numbers(rows):
    return [[gmpy2.mpz(c, 16) for c in row] for row in rows]


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    operations = {
        f.__name__: f for f in (version, create, load, encrypt, multiply, decode, seal, unseal, binarise)
    }
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": operations[request.pop("op")](**request)}
        except ValueError as error:
            answer = {"refused": str(error)}
        except Exception:  # noqa: BLE001 - reported to the test, which ends
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
