import base64
import copy
import json
import os
import pickle
import stat

import pytest

from xtrace_sdk.errors import DecryptionError, InputError, KeyMismatchError, WeakKeyError, XTraceError
from xtrace_sdk.x_vec.crypto.encryption.aes import AESClient
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.crypto.paillier_client import PaillierClient
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext, HomomorphicClient, context_hash

PASSPHRASE = "correct horse"  # of the fixture


def load(path, passphrase=PASSPHRASE, **more):
    return ExecutionContext.load_from_disk(passphrase, path, allow_insecure=True, **more)


class Shelf:
    """A store of contexts in memory, honest or not."""

    def __init__(self):
        self.stored = {}

    async def store_exec_context(self, exec_context_dict, context_id):
        self.stored[context_id] = json.loads(json.dumps(exec_context_dict))
        return context_id

    async def get_serialized_exec_context(self, context_id):
        return self.stored[context_id]


# Formats


def test_ids_are_the_known_ones(load_vectors):
    for case in load_vectors("context_id")["cases"]:
        assert context_hash(case["sk"], case["pk"], case["type"], case["config"]) == case["id"]


def test_the_stored_object(context):
    stored = context.to_dict_enc()
    assert list(stored) == ["sk", "pk", "type", "config", "key_provider", "wrapped_key"]
    assert all(isinstance(value, str) for value in stored.values())
    assert stored["type"] == type(context.homomorphic).__name__
    assert stored["pk"] == context.homomorphic.stringify_pk()
    assert stored["config"] == context.homomorphic.stringify_config()
    assert stored["key_provider"] == "passphrase"
    salt = base64.b64decode(stored["wrapped_key"], validate=True)
    assert len(salt) == 16
    key = PassphraseKeyProvider(PASSPHRASE, salt).get_key()
    assert AESClient(key).decrypt(stored["sk"]) == context.homomorphic.stringify_sk()
    assert context.to_dict_enc()["sk"] != stored["sk"]
    assert list(json.loads(context.serialize_exec_context())) == list(stored)


def test_the_id_is_that_of_the_plain_texts(context):
    client = context.homomorphic
    assert context.id == context.hash()
    assert context.id == context_hash(
        client.stringify_sk(), client.stringify_pk(), type(client).__name__, client.stringify_config()
    )


def test_the_public_part_has_no_secret(context):
    assert context.public_part() == {
        "pk": context.homomorphic.stringify_pk(),
        "type": type(context.homomorphic).__name__,
        "config": context.homomorphic.stringify_config(),
    }


# Creation


def test_defaults():
    context = ExecutionContext.create("p", encoding="plain")
    assert isinstance(context.homomorphic, PaillierLookupClient)
    assert isinstance(context.homomorphic, HomomorphicClient)
    assert (context.embed_len(), context.key_len(), context.homomorphic.alpha_len) == (512, 1024, 448)
    assert context.device == "cpu"
    assert context.dump_tables() == {}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("paillier", PaillierClient), ("PAILLIER_Lookup", PaillierLookupClient), ("Paillier", PaillierClient)],
)
def test_types_in_any_case(name, kind):
    context = ExecutionContext.create(
        "p", name, 8, 128, allow_insecure=True, **_alpha(kind), encoding="plain"
    )
    assert type(context.homomorphic) is kind


@pytest.mark.parametrize("embedding_length", [1, 127, 128, 129, 400])
def test_any_dimension_that_is_exact(embedding_length):
    context = ExecutionContext.create(
        "p", "paillier", embedding_length, 128, allow_insecure=True, encoding="plain"
    )
    assert context.homomorphic.chunk_num == -(-embedding_length // 128)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "Either key_provider or passphrase"),
        ({"passphrase": ""}, "passphrase"),
        ({"passphrase": "p", "salt": b""}, "salt"),
        ({"passphrase": "p", "homomorphic_client_type": "rsa"}, "Unsupported"),
        (
            {"passphrase": "p", "homomorphic_client_type": "goldwasser_micali", "embedding_length": 0},
            "Unsupported",
        ),
        ({"passphrase": "p", "embedding_length": 0}, "embedding_length"),
        ({"passphrase": "p", "embedding_length": 1.5}, "embedding_length"),
        ({"passphrase": "p", "key_len": 0}, "key_len"),
        ({"passphrase": "p", "key_len": 3571, "encoding": "plain"}, "key_len"),
        ({"passphrase": "p", "homomorphic_client_type": "paillier", "alpha_len": 448}, "alpha_len"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    with pytest.raises(InputError, match=said):
        ExecutionContext.create(**arguments)


@pytest.mark.parametrize(
    "arguments", [{"key_len": 512}, {"alpha_len": 50}, {"key_len": 1536, "alpha_len": 448}]
)
def test_weak_keys_are_not_made(arguments):
    with pytest.raises(WeakKeyError, match="allow_insecure"):
        ExecutionContext.create("p", **arguments)


def test_a_provider_wins_over_a_passphrase(context):
    provider = PassphraseKeyProvider("other", b"salt of its own.")
    made = ExecutionContext.create(
        "p", "paillier", 8, 128, key_provider=provider, allow_insecure=True, encoding="plain"
    )
    assert made.key_provider is provider
    assert made.aes.decrypt(AESClient(provider.get_key()).encrypt("x")) == "x"


def test_a_given_id_must_be_the_right_one(context):
    assert ExecutionContext(context.homomorphic, context.key_provider, context.id) == context
    with pytest.raises(KeyMismatchError, match="context_id"):
        ExecutionContext(context.homomorphic, context.key_provider, "0" * 64)


# On disk


def test_round_trip_by_disk(context, tmp_path):
    path = tmp_path / "new" / "folders" / "exec_context"
    context.save_to_disk(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["exec_context"]
    again = load(path)
    assert again == context
    assert (again.id, hash(again)) == (context.id, hash(context))
    assert type(again.homomorphic) is type(context.homomorphic)
    assert again.aes.decrypt(context.aes.encrypt("text")) == "text"
    again.save_to_disk(str(path))
    assert load(str(path)) == context
    assert [file.name for file in path.parent.iterdir()] == ["exec_context"]


def test_create_with_a_path_saves_at_once(tmp_path):
    path = tmp_path / "folder" / "context"
    made = ExecutionContext.create("p", "paillier", 8, 128, path=path, allow_insecure=True, encoding="plain")
    assert load(path, "p") == made


def test_another_context_in_the_way_is_kept(context, tmp_path):
    path = tmp_path / "context"
    other = ExecutionContext.create("p", "paillier", 8, 128, path=path, allow_insecure=True, encoding="plain")
    context.save_to_disk(path)
    assert load(path) == context
    (backup,) = tmp_path.glob("context.*.bak")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert load(backup, "p") == other


def test_unwritable_paths_are_refused_before_a_key_is_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(PaillierClient, "__init__", lambda *_args, **_more: pytest.fail("a key was made"))
    for path, error in (
        (tmp_path, IsADirectoryError),
        (tmp_path / "file" / "context", OSError),
        ("/proc/no/such/folder", OSError),
    ):
        with pytest.raises(error):
            ExecutionContext.create("p", "paillier", 8, 128, path=path, allow_insecure=True, encoding="plain")


def test_a_failed_save_leaves_the_old_file(context, tmp_path, monkeypatch):
    path = tmp_path / "context"
    context.save_to_disk(path)
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        context.save_to_disk(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["context"]


def test_a_passphrase_provider_takes_the_salt_of_the_file(context, tmp_path):
    context.save_to_disk(tmp_path / "context")
    again = load(tmp_path / "context", None, key_provider=PassphraseKeyProvider(PASSPHRASE))
    assert again == context


def test_the_original_salt_is_read_but_never_chosen(tmp_path):
    provider = PassphraseKeyProvider.from_wrapped(b"", passphrase="p")
    made = ExecutionContext.create(
        None,
        "paillier",
        8,
        128,
        key_provider=provider,
        allow_insecure=True,
        path=tmp_path / "context",
        encoding="plain",
    )
    stored = json.loads((tmp_path / "context").read_text())
    assert base64.b64decode(stored["wrapped_key"]) == b"xtrace-aes-gcm-v1"
    (tmp_path / "context").write_text(json.dumps({**stored, "wrapped_key": ""}))
    assert load(tmp_path / "context", "p") == made


def test_a_tables_field_is_ignored(context, tmp_path):
    stored = {**context.to_dict_enc(), "tables": {"g_table": {"0": [1] * 256}, "noise_table": [1]}}
    (tmp_path / "context").write_text(json.dumps(stored))
    again = load(tmp_path / "context")
    rows = again.homomorphic.encrypt_vec_batch([[1] * 48] * 20)
    assert len({row[0] for row in rows}) == 20


def test_the_provider_is_asked_for(context, tmp_path):
    path = tmp_path / "context"
    context.save_to_disk(path)
    with pytest.raises(InputError, match="Either key_provider or passphrase"):
        load(path, None)
    path.write_text(json.dumps({**context.to_dict_enc(), "key_provider": "aws_kms"}))
    with pytest.raises(InputError, match="aws_kms"):
        load(path)
    with pytest.raises(InputError, match="path"):
        load("")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent")


def test_weak_contexts_are_refused_with_the_way_to_opt_in(context, tmp_path, monkeypatch):
    context.save_to_disk(tmp_path / "context")
    with pytest.raises(WeakKeyError, match=r"allow_insecure=True.*XTRACE_ALLOW_INSECURE=1"):
        ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "context")
    monkeypatch.setenv("XTRACE_ALLOW_INSECURE", "1")
    assert ExecutionContext.load_from_disk(PASSPHRASE, tmp_path / "context") == context


# Wrong, changed, cut


def undecryptable(path, passphrase=PASSPHRASE):
    with pytest.raises(DecryptionError) as caught:
        load(path, passphrase)
    assert type(caught.value) is DecryptionError
    return str(caught.value)


def test_wrong_changed_and_cut_are_not_told_apart(context, tmp_path):
    path = tmp_path / "context"
    context.save_to_disk(path)
    content = path.read_bytes()
    stored = json.loads(content)
    said = {undecryptable(path, "wrong")}
    for length in (0, 1, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        said.add(undecryptable(path))
    blob = base64.b64decode(stored["sk"])
    for changed in (
        *(
            {**stored, "sk": base64.b64encode(_flipped(blob, at)).decode()}
            for at in (0, 20, 40, len(blob) - 1)
        ),
        {**stored, "sk": stored["sk"][:-4]},
        {**stored, "sk": 7},
        {**stored, "wrapped_key": base64.b64encode(b"another salt....").decode()},
        {**stored, "wrapped_key": "!"},
        {**stored, "pk": "{"},
        {**stored, "pk": "{}"},
        {**stored, "config": "[]"},
        {**stored, "config": "{}"},
        *({name: value for name, value in stored.items() if name != missing} for missing in stored),
        [],
        None,
    ):
        path.write_text(json.dumps(changed))
        said.add(undecryptable(path))
    assert said == {"cannot decrypt: wrong key, or the data was changed or cut"}


def test_parts_of_two_contexts(context, tmp_path):
    kind = "paillier" if isinstance(context.homomorphic, PaillierClient) else "paillier_lookup"
    other = ExecutionContext.create(
        PASSPHRASE, kind, 48, 256, salt=context.key_provider.wrap_key(), allow_insecure=True, encoding="plain"
    ).to_dict_enc()
    stored = context.to_dict_enc()
    for mixed in ({**stored, "pk": other["pk"]}, {**stored, "sk": other["sk"]}):
        (tmp_path / "context").write_text(json.dumps(mixed))
        with pytest.raises(KeyMismatchError):
            load(tmp_path / "context")
    config = json.loads(stored["config"])
    (tmp_path / "context").write_text(
        json.dumps({**stored, "config": json.dumps({**config, "key_len": 512})})
    )
    with pytest.raises(KeyMismatchError, match="key_len"):
        load(tmp_path / "context")
    (tmp_path / "context").write_text(json.dumps({**stored, "type": "OtherClient"}))
    with pytest.raises(InputError, match="Unsupported type"):
        load(tmp_path / "context")


def test_a_flipped_bit_does_not_go_unnoticed(context, tmp_path):
    """Flipped bits all over the file: an error, the same context, or another id (this format's limit)."""
    path = tmp_path / "context"
    content = context.serialize_exec_context().encode()
    outcomes = {"refused": 0, "same": 0, "other id": 0}
    for at in range(0, len(content), 29):
        path.write_bytes(_flipped(content, at, 1 << at % 8))
        try:
            changed = load(path)
        except XTraceError:
            outcomes["refused"] += 1
            continue
        outcomes["same" if changed.id == context.id else "other id"] += 1
    # What is left is the dimension, which only the id covers, and spelling that means the same.
    assert outcomes["refused"] > 0.9 * sum(outcomes.values())


# Remote


async def test_round_trip_by_a_server(context):
    shelf = Shelf()
    assert await context.save_to_remote(shelf) == context.id
    again = await ExecutionContext.load_from_remote(PASSPHRASE, context.id, shelf, allow_insecure=True)
    assert again == context
    assert again.id == context.id


async def test_a_server_cannot_replace_keys_or_configuration(context):
    shelf = Shelf()
    await context.save_to_remote(shelf)
    stored = shelf.stored[context.id]
    config = json.loads(stored["config"])
    shelf.stored[context.id] = {**stored, "config": json.dumps({**config, "embed_len": 47})}
    with pytest.raises(KeyMismatchError, match="context_id"):
        await ExecutionContext.load_from_remote(PASSPHRASE, context.id, shelf, allow_insecure=True)
    other = ExecutionContext.create(PASSPHRASE, "paillier", 8, 128, allow_insecure=True, encoding="plain")
    shelf.stored[context.id] = other.to_dict_enc()
    with pytest.raises(KeyMismatchError, match="context_id"):
        await ExecutionContext.load_from_remote(PASSPHRASE, context.id, shelf, allow_insecure=True)
    shelf.stored[context.id] = context.public_part()
    with pytest.raises(DecryptionError, match="public part"):
        await ExecutionContext.load_from_remote(PASSPHRASE, context.id, shelf)


@pytest.mark.parametrize("name", ["sk", "pk", "type", "config", "key_provider", "wrapped_key"])
async def test_a_server_cannot_keep_its_client_busy(context, name, monkeypatch):
    """Numbers of millions of digits are refused before anything is computed with them."""
    shelf = Shelf()
    await context.save_to_remote(shelf)
    stored = shelf.stored[context.id]
    stored[name] += " " * (1 << 18)
    monkeypatch.setattr(PassphraseKeyProvider, "get_key", lambda _self: pytest.fail("the key was derived"))
    with pytest.raises(DecryptionError, match="cannot decrypt"):
        await ExecutionContext.load_from_remote(PASSPHRASE, context.id, shelf, allow_insecure=True)


async def test_what_a_remote_load_needs(context):
    with pytest.raises(InputError, match="integration"):
        await ExecutionContext.load_from_remote(PASSPHRASE, context.id)
    with pytest.raises(InputError, match="context_id"):
        await ExecutionContext.load_from_remote(PASSPHRASE, "", Shelf())


async def test_a_server_that_stores_under_another_id(context):
    class Confused(Shelf):
        async def store_exec_context(self, exec_context_dict, context_id):
            return "another"

    with pytest.raises(KeyMismatchError, match="another"):
        await context.save_to_remote(Confused())


# Identity and secrets


def test_equality_is_by_id(context, tmp_path):
    context.save_to_disk(tmp_path / "context")
    again = load(tmp_path / "context")
    other = ExecutionContext.create("p", "paillier", 8, 128, allow_insecure=True, encoding="plain")
    assert {context, again, other} == {context, other}
    assert context != other
    assert context != context.id


def test_contexts_do_not_leak(context):
    secrets = [*map(str, json.loads(context.homomorphic.stringify_sk()).values()), PASSPHRASE]
    secrets.append(context.key_provider.get_key().hex())
    for text in (repr(context), str(context), context.serialize_exec_context()):
        assert not any(secret in text for secret in secrets)
    assert '"sk"' not in str(context)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            leak(context)


def _alpha(kind):
    return {"alpha_len": 64} if kind is PaillierLookupClient else {}


def _flipped(content, at, mask=1):
    return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]
