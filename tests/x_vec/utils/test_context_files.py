"""Stored contexts of every format version, which stay readable for ever."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from xtrace_sdk import _core
from xtrace_sdk.errors import IntegrityError
from xtrace_sdk.records import as_table
from xtrace_sdk.x_vec.crypto.authenticated import read_records, write_records
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.execution_context_audit import Verdict, examine
from xtrace_sdk.x_vec.utils.execution_context_files import check_pin
from xtrace_sdk.x_vec.utils.execution_context_writer import WriterContext


def test_contexts_of_all_formats_are_read(load_vectors, tmp_path):
    known = load_vectors("contexts")
    for case in known["cases"]:
        path = tmp_path / "context"
        path.write_text(json.dumps(case["stored"]))
        context = ExecutionContext.load_from_disk(known["passphrase"], path, allow_insecure=True)
        assert context.encoding == {1: "plain", 2: "authenticated"}[case["format"]]
        assert context.id == case["id"]
        assert (context.epoch, context.epochs, context.revision) == (
            case["epoch"],
            case["epochs"],
            case["revision"],
        )
        for subkey in case["subkeys"]:
            assert context.subkey(subkey["label"].encode(), subkey["epoch"]).hex() == subkey["key"]
        assert context.homomorphic.stringify_sk() == case["secret"]
        assert context.aes.decrypt(case["content"]) == case["text"]
        written = context.to_dict_enc()
        assert list(written) == list(case["stored"])
        assert {name for name in written if written[name] != case["stored"][name]} <= {"sk", "header"}
    assert sorted(case["format"] for case in known["cases"]) == [1, 1, 2, 2]


@pytest.mark.parametrize(("key_len", "security"), [(1536, 128), (3840, 192)])
def test_strong_contexts_and_what_is_stored_under_them(key_len, security, load_vectors, tmp_path):
    known = load_vectors("strong_contexts")
    (case,) = [case for case in known["cases"] if case["key_len"] == key_len]
    by_subject = {finding.subject: finding for finding in examine(case["stored"])}
    for subject, words in (("modulus", f"{security} bits of security"), ("subgroup", f"2^{security} steps")):
        assert by_subject[subject].verdict is Verdict.good
        assert words in by_subject[subject].found
    path = tmp_path / "context"
    path.write_text(json.dumps(case["stored"]))
    context = ExecutionContext.load_from_disk(known["passphrase"], path)
    client = context.homomorphic
    assert (client.key_len, context.encoding, context.epoch) == (key_len, "authenticated", 2)

    bits = np.array([[int(bit) for bit in case["bits"]]], np.uint8)
    records = [bytes.fromhex(stored["record"]) for stored in case["records"]]
    rows = np.array([list(bytes.fromhex(stored["row"])) for stored in case["records"]], np.uint8)
    rows = rows.reshape(2, client.chunk_num, client.width)
    assert (client.open_records(rows, read_records(as_table(records))) == bits).all()
    for stored, record in zip(case["records"], records, strict=True):
        assert context.records.open(stored["content"], record) == case["text"]

    # What is written today fits what was stored.
    other = 1 - bits
    fresh, nonces = client.encrypt_records(other)
    path.write_text(json.dumps(case["writer"]))
    writer = WriterContext.load_from_disk(known["passphrase"], path)
    machines, machines_nonces = writer.homomorphic.encrypt_records(other)
    records += write_records(nonces, context.epoch, "")
    records += write_records(machines_nonces, writer.epoch, writer.name)
    query = client.encrypt_query(bits[0])
    server = _core.Multiplier(client.public_key.n_squared)
    answer = server.products(query.rows, np.concatenate([rows, fresh, machines]))
    distances = client.decode_records(answer, read_records(as_table(records)), query)
    assert distances.tolist() == [0, 0, 256, 256]
    assert examine(context.to_dict_enc()) == examine(case["stored"])


def test_revisions_are_remembered_by_many_at_once(tmp_path):
    pin = tmp_path / "new" / "pins"
    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(lambda number: check_pin(pin, f"context {number}", 5), range(40)):
            pass
    for number in range(40):
        with pytest.raises(IntegrityError, match="revision 4, this device has seen 5"):
            check_pin(pin, f"context {number}", 4)
