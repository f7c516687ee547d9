"""Stored contexts of every format version, which stay readable for ever."""

import json

from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


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
