import base64
import copy
import json
import os
import pickle
import stat

import pytest

from xtrace_sdk.errors import (
    ConfigurationError,
    DecryptionError,
    InputError,
    IntegrityError,
    KeyMismatchError,
    WeakKeyError,
)
from xtrace_sdk.server.ciphertexts import public_part
from xtrace_sdk.x_vec.crypto.key_provider import COST, PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.execution_context_files import parse_object

PASSPHRASE = "correct horse"
CHEAP = 2**14  # the least cost that is read; the default takes half a second each time
REFUSAL = "cannot decrypt: wrong key, or the data was changed or cut"


@pytest.fixture(scope="module")
def provider():
    """Derives its key once for all tests."""
    return PassphraseKeyProvider(PASSPHRASE, cost=CHEAP)


@pytest.fixture(scope="module", params=["paillier_lookup", "paillier"])
def sealed(request, provider):
    return make(provider, request.param)


@pytest.fixture(scope="module")
def one(provider):
    return make(provider)


def make(provider, kind="paillier_lookup", dimensions=48, key_len=256):
    return ExecutionContext.create(
        None, kind, dimensions, key_len, key_provider=provider, encoding="authenticated", allow_insecure=True
    )


def load(path, provider, **more):
    return ExecutionContext.load_from_disk(None, path, provider, allow_insecure=True, **more)


def opened(stored, provider):
    return ExecutionContext._from_serialized_exec_context(stored, key_provider=provider, allow_insecure=True)


def refused(stored, provider):
    with pytest.raises(DecryptionError) as caught:
        opened(stored, provider)
    assert type(caught.value) is DecryptionError
    assert str(caught.value) == REFUSAL


# Format


def test_the_stored_object(sealed, provider):
    stored = sealed.to_dict_enc()
    assert set(stored) == {"sk", "pk", "type", "config", "key_provider", "wrapped_key", "header"}
    assert all(isinstance(value, str) for value in stored.values())
    assert stored["type"] == "Authenticated" + type(sealed.homomorphic).__name__
    assert stored["config"] == sealed.homomorphic.stringify_config()
    pk = json.loads(stored["pk"])
    assert int(pk["n"]) == sealed.homomorphic.public_key.n
    assert {name: stored[name] for name in ("pk", "type", "config")} == sealed.public_part()
    header = json.loads(stored["header"])
    assert (header["version"], header["revision"], header["epoch"]) == (2, 1, 1)
    assert header["id"] == sealed.id and len(bytes.fromhex(sealed.id)) == 32
    assert header["scrypt"] == {"n": CHEAP, "r": 8, "p": 1}
    assert list(header["keys"]) == ["0", "1"]
    assert base64.b64decode(stored["wrapped_key"]) == provider.wrap_key()
    assert sealed.to_dict_enc()["sk"] != stored["sk"]


def test_a_server_finds_the_modulus(sealed):
    _, public = public_part(sealed.to_dict_enc())
    assert (public.n, public.chunks) == (sealed.homomorphic.public_key.n, 1)


def test_round_trip_by_disk(sealed, provider, tmp_path):
    path = tmp_path / "new" / "context"
    sealed.save_to_disk(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = load(path, provider)
    assert again == sealed
    assert (again.encoding, again.epoch) == ("authenticated", 1)
    assert again.public_part() == sealed.public_part()
    assert again.aes.decrypt(sealed.aes.encrypt("text")) == "text"
    assert again.subkey(b"label", 1) == sealed.subkey(b"label", 1)
    assert again.homomorphic.stringify_sk() == sealed.homomorphic.stringify_sk()
    rows = sealed.homomorphic.encrypt_vec_batch([[1, 0] * 24])
    squares = [[int(value) ** 2 % sealed.homomorphic.public_key.n_squared for value in row] for row in rows]
    assert again.homomorphic.decode_hamming_client_batch(squares) == [0]


def test_one_passphrase_opens_both_formats(sealed, context, tmp_path):
    sealed.save_to_disk(tmp_path / "sealed")
    context.save_to_disk(tmp_path / "plain")
    bare = PassphraseKeyProvider(PASSPHRASE)
    for path, expected in (("sealed", sealed), ("plain", context)):
        for arguments in ({"passphrase": PASSPHRASE}, {"key_provider": bare}):
            again = ExecutionContext.load_from_disk(path=tmp_path / path, allow_insecure=True, **arguments)
            assert again == expected
            assert again.encoding == expected.encoding


def test_a_new_sealed_context_costs_what_the_format_asks_for():
    made = ExecutionContext.create(
        PASSPHRASE, "paillier", 8, 128, encoding="authenticated", allow_insecure=True
    )
    assert made.key_provider.cost == COST == 2**17
    header = json.loads(made.to_dict_enc()["header"])
    assert header["scrypt"]["n"] == COST
    again = opened(made.to_dict_enc(), PassphraseKeyProvider(PASSPHRASE))
    assert again == made and again.key_provider.cost == COST


def test_ids_and_root_keys_are_random(provider, one):
    other = ExecutionContext(one.homomorphic, provider, roots=type(one._roots).new())
    assert other.id != one.id
    assert {bytes(one.subkey(b"x", 0)), bytes(one.subkey(b"x", 1))}.isdisjoint(
        {bytes(other.subkey(b"x", 0)), bytes(other.subkey(b"x", 1))}
    )


def test_keys_longer_than_the_original_format_holds(provider, one):
    """n² of 7,680-bit moduli has more digits than CPython reads: only this format stores such keys."""
    with pytest.raises(InputError, match="key_len"):
        ExecutionContext.create("p", key_len=3840, encoding="plain")
    with pytest.raises(InputError, match="key_len"):
        ExecutionContext.create("p", key_len=7101, encoding="authenticated")
    stored = one.to_dict_enc()
    assert all(isinstance(number, str) for number in json.loads(stored["pk"]).values())
    assert "n_squared" not in json.loads(stored["pk"])


def test_an_unknown_encoding_is_named():
    with pytest.raises(InputError, match="encoding: expected one of authenticated, plain"):
        ExecutionContext.create("p", encoding="signed")


def test_a_custom_provider_needs_no_cost(one):
    class Held:
        def get_key(self):
            return bytes(32)

        def wrap_key(self):
            return b"name of the key"

        def provider_id(self):
            return "vault"

    context = ExecutionContext(one.homomorphic, Held(), roots=one._roots)
    stored = context.to_dict_enc()
    assert json.loads(stored["header"])["scrypt"] is None
    assert opened(stored, Held()) == one
    with pytest.raises(InputError, match="vault"):
        ExecutionContext._from_serialized_exec_context(stored, PASSPHRASE, allow_insecure=True)


# Subkeys


def test_subkeys_differ_by_label_epoch_and_context(one, context):
    keys = {bytes(one.subkey(label, epoch)) for label in (b"a", b"b") for epoch in (0, 1)}
    assert len(keys) == 4 and all(len(key) == 32 for key in keys)
    for absent in (2, -1):
        with pytest.raises(DecryptionError):
            one.subkey(b"a", absent)
    assert (context.epoch, context.encoding) == (0, "plain")
    assert len(context.subkey(b"a", 0)) == 32
    with pytest.raises(DecryptionError):
        context.subkey(b"a", 1)


# Wrong, changed, cut


def test_every_flipped_bit_is_refused(provider):
    """All bits of the file; of the salt's, which cost a derivation each, every sixteenth (all of them with
    LONG_TESTS=1)."""
    small = make(provider, "paillier", 8, 128)
    content = small.serialize_exec_context().encode()
    assert opened(parse_object(content), provider) == small
    salt = json.loads(content)["wrapped_key"].encode()
    first = content.index(salt)
    slow = range(first, first + len(salt))
    step = 1 if os.environ.get("LONG_TESTS") == "1" else 16
    tried = skipped = 0
    for bit in range(8 * len(content)):
        at, mask = bit // 8, 1 << bit % 8
        if at in slow and bit % step:
            skipped += 1
            continue
        tried += 1
        with pytest.raises(DecryptionError):
            open_sealed_text(content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :], provider)
    assert tried + skipped == 8 * len(content)
    assert skipped <= 8 * len(salt)


def open_sealed_text(content, provider):
    """What loading a file does up to and including the seal."""
    stored = parse_object(content)
    if isinstance(stored.get("key_provider"), str) and stored["key_provider"] != "passphrase":
        provider = PassphraseKeyProvider(PASSPHRASE, cost=CHEAP)
    return opened(stored, provider)


def test_wrong_changed_and_cut_are_not_told_apart(one, provider, tmp_path):
    stored = one.to_dict_enc()
    refused(stored, PassphraseKeyProvider("wrong"))
    for name, text in stored.items():
        refused({other: value for other, value in stored.items() if other != name}, provider)
        for wrong in (text[:-1], text + " ", "", 7, None):
            refused({**stored, name: wrong}, provider)
    content = one.serialize_exec_context().encode()
    path = tmp_path / "context"
    for length in (0, 1, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DecryptionError) as caught:
            load(path, provider)
        assert str(caught.value) == REFUSAL


def test_parts_of_another_context_are_refused(one, provider):
    """Swapped public keys among them: with the original's format a server could read what came next."""
    stored, other = one.to_dict_enc(), make(provider).to_dict_enc()
    assert json.loads(other["pk"])["n"] != json.loads(stored["pk"])["n"]
    for name in ("sk", "pk", "header"):
        refused({**stored, name: other[name]}, provider)
    config = json.loads(stored["config"])
    refused({**stored, "config": json.dumps({**config, "embed_len": 47})}, provider)
    refused({**stored, "type": stored["type"].removeprefix("Authenticated")}, provider)


def test_injected_fields_are_refused(one, provider):
    stored = one.to_dict_enc()
    refused({**stored, "tables": {"g_table": {"0": [1] * 256}, "noise_table": [1]}}, provider)
    refused({**stored, "tables": "{}"}, provider)
    text = one.serialize_exec_context()
    doubled = text[:-1] + ', "pk": ' + json.dumps(stored["pk"]) + "}"
    with pytest.raises(DecryptionError):
        parse_object(doubled)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"version": 3},
        {"version": "2"},
        {"id": "0" * 63},
        {"id": "G" * 64},
        {"id": None},
        {"revision": 0},
        {"revision": True},
        {"revision": 2**31},
        {"epoch": 0},
        {"epoch": 2},
        {"epoch": 1.0},
        {"scrypt": None},
        {"scrypt": {"n": 2**13, "r": 8, "p": 1}},
        {"scrypt": {"n": 2**21, "r": 8, "p": 1}},
        {"scrypt": {"n": 2**14 + 1, "r": 8, "p": 1}},
        {"scrypt": {"n": 2**14, "r": 1, "p": 1}},
        {"scrypt": {"n": 2**14, "r": 8, "p": 2}},
        {"scrypt": {"n": 2**14, "r": 8}},
        {"keys": {}},
        {"keys": {"0": ""}},
        {"keys": {"0": "", "01": ""}},
        {"keys": {"0": "", "1": 1}},
        {"keys": {"0": "", "1": "", "2": ""}},
        {"keys": {"0": "", "1": "", "\u0661": ""}},
        {"more": 1},
    ],
)
def test_headers_out_of_bounds_are_refused_before_a_key_is_derived(one, change, monkeypatch):
    stored = one.to_dict_enc()
    header = json.loads(stored["header"])
    monkeypatch.setattr(PassphraseKeyProvider, "get_key", lambda _self: pytest.fail("a key was derived"))
    refused({**stored, "header": json.dumps({**header, **change})}, PassphraseKeyProvider("p"))


def test_root_keys_cannot_change_places(one, provider):
    stored = one.to_dict_enc()
    header = json.loads(stored["header"])
    swapped = {"0": header["keys"]["1"], "1": header["keys"]["0"]}
    refused({**stored, "header": json.dumps({**header, "keys": swapped})}, provider)


def test_weak_contexts_are_refused_with_the_way_to_opt_in(one, provider):
    with pytest.raises(WeakKeyError, match="allow_insecure=True"):
        ExecutionContext._from_serialized_exec_context(one.to_dict_enc(), key_provider=provider)


# Remote


class Shelf:
    def __init__(self, stored):
        self.stored = stored

    async def get_serialized_exec_context(self, _context_id):
        return self.stored

    async def store_exec_context(self, exec_context_dict, context_id):
        self.stored = exec_context_dict
        return context_id


async def test_a_server_cannot_give_another_context(one, provider):
    other = make(provider)
    shelf = Shelf({})
    await other.save_to_remote(shelf)
    again = await ExecutionContext.load_from_remote(
        None, other.id, shelf, key_provider=provider, allow_insecure=True
    )
    assert again == other
    with pytest.raises(KeyMismatchError, match="context_id"):
        await ExecutionContext.load_from_remote(
            None, one.id, shelf, key_provider=provider, allow_insecure=True
        )


async def test_a_server_cannot_go_back_in_time(provider, tmp_path):
    context, shelf, pin = make(provider), Shelf({}), tmp_path / "folder" / "pins"

    async def fetched():
        return await ExecutionContext.load_from_remote(
            None, context.id, shelf, provider, pin=pin, allow_insecure=True
        )

    await context.save_to_remote(shelf)
    first = shelf.stored
    assert (await fetched()).revision == 1
    context.begin_epoch()
    await context.save_to_remote(shelf)
    assert (await fetched()).epoch == 2
    shelf.stored = first
    with pytest.raises(IntegrityError, match="gave revision 1, this device has seen 2"):
        await fetched()
    context.retire_epoch(1)
    await context.save_to_remote(shelf)
    assert (await fetched()).epochs == [2]
    assert json.loads(pin.read_text()) == {context.id: 3}
    assert stat.S_IMODE(pin.stat().st_mode) == 0o600
    other = make(provider)
    await other.save_to_remote(shelf)
    await ExecutionContext.load_from_remote(None, other.id, shelf, provider, pin=pin, allow_insecure=True)
    assert json.loads(pin.read_text()) == {context.id: 3, other.id: 1}
    pin.write_text("[]")
    with pytest.raises(ConfigurationError, match="pin"):
        await ExecutionContext.load_from_remote(None, other.id, shelf, provider, pin=pin, allow_insecure=True)


# Secrets


def test_contexts_do_not_leak(one, provider):
    secrets = [*map(str, json.loads(one.homomorphic.stringify_sk()).values()), PASSPHRASE]
    secrets += [provider.get_key().hex(), *(key.hex() for key in one._roots._keys.values())]
    for text in (repr(one), str(one), one.serialize_exec_context(), repr(one._roots)):
        assert not any(secret in text for secret in secrets)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        for held in (one, one._roots):
            with pytest.raises(TypeError, match="cannot be pickled or copied"):
                leak(held)


# Changing keys


def test_an_epoch_has_keys_of_its_own(provider, tmp_path):
    context = make(provider)
    first, lasting = context.subkey(b"x", 1), context.subkey(b"x", 0)
    old = context.aes.encrypt("old")
    assert (context.epochs, context.revision) == ([1], 1)
    assert context.begin_epoch() == context.epoch == 2
    assert (context.epochs, context.revision) == ([1, 2], 2)
    assert (context.subkey(b"x", 1), context.subkey(b"x", 0)) == (first, lasting)
    assert context.subkey(b"x", 2) not in (first, lasting)
    with pytest.raises(DecryptionError):
        context.aes.decrypt(old)
    context.save_to_disk(tmp_path / "context")
    again = load(tmp_path / "context", provider)
    assert (again.epoch, again.epochs, again.revision) == (2, [1, 2], 2)
    assert [again.subkey(b"x", epoch) for epoch in (0, 1, 2)] == [lasting, first, context.subkey(b"x", 2)]
    assert again.aes.decrypt(context.aes.encrypt("new")) == "new"


def test_a_retired_epoch_is_erased(provider, tmp_path):
    context = make(provider)
    path = tmp_path / "context"
    context.save_to_disk(path)
    context.begin_epoch()
    for absent in (0, 2, 3, -1):
        with pytest.raises(InputError, match=r"epoch: .* those are: 1"):
            context.retire_epoch(absent)
    context.retire_epoch(1)
    context.save_to_disk(path)
    assert [file.name for file in tmp_path.iterdir()] == ["context"]
    again = load(path, provider)
    assert (again.epochs, again.revision) == ([2], 3)
    assert list(json.loads(json.loads(path.read_text())["header"])["keys"]) == ["0", "2"]
    for one_of_them in (context, again):
        with pytest.raises(DecryptionError, match="cannot decrypt"):
            one_of_them.subkey(b"x", 1)
    with pytest.raises(InputError, match="those are: none"):
        again.retire_epoch(1)


def test_another_passphrase_leaves_the_keys(provider, tmp_path):
    context = make(provider)
    rows = context.homomorphic.encrypt_vec_batch([[1] * 48])
    before = [context.subkey(b"x", epoch) for epoch in (0, 1)]
    public, old = context.public_part(), context.to_dict_enc()
    context.rewrap(key_provider=PassphraseKeyProvider("battery staple", cost=CHEAP))
    path = tmp_path / "context"
    context.save_to_disk(path)
    again = ExecutionContext.load_from_disk("battery staple", path, allow_insecure=True)
    assert again == context and again.revision == 2
    assert again.public_part() == public
    assert [again.subkey(b"x", epoch) for epoch in (0, 1)] == before
    assert len(rows) == 1
    refused(again.to_dict_enc(), provider)
    assert opened(old, provider) == context  # a copy made before still opens as it did
    assert json.loads(path.read_text())["wrapped_key"] != old["wrapped_key"]


def test_the_originals_format_has_one_key_for_ever(context):
    for change in (context.begin_epoch, lambda: context.retire_epoch(0), lambda: context.rewrap("p")):
        with pytest.raises(InputError, match="xtrace keys migrate"):
            change()
