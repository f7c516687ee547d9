"""The two Paillier clients: known answers, laws, texts of keys, and what they refuse."""

import copy
import json
import pickle
from math import isqrt

import numpy as np
import pytest
from gmpy2 import mpz, powmod
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrace_sdk._core import HammingDecoder, Multiplier, PublicKey, SecretKey
from xtrace_sdk.errors import (
    CiphertextError,
    DimensionMismatchError,
    InputError,
    KeyMismatchError,
    NotLoadedError,
    WeakKeyError,
)
from xtrace_sdk.x_vec.crypto.hamming_client_base import HammingClientBase
from xtrace_sdk.x_vec.crypto.numbers import numbers_to_rows
from xtrace_sdk.x_vec.crypto.paillier_client import PaillierClient
from xtrace_sdk.x_vec.crypto.paillier_lookup_client import PaillierLookupClient
from xtrace_sdk.x_vec.utils.execution_context import HomomorphicClient

KEY_LEN, ALPHA_LEN = 256, 128  # of the fixtures
DIMENSIONS = [
    1,
    2,
    7,
    8,
    9,
    KEY_LEN // 2,
    KEY_LEN // 2 + 1,
    KEY_LEN - 1,
    KEY_LEN,
    KEY_LEN + 1,
    3 * KEY_LEN + 44,
]


def with_dimension(client, embed_len):
    """A client of the same key for vectors of another dimension."""
    other = type(client)(skip_key_gen=True, allow_insecure=True)
    other.load_stringified_keys(client.stringify_pk(), client.stringify_sk())
    other.load_config({**json.loads(client.stringify_config()), "embed_len": embed_len})
    return other


def products(client, first, second):
    """What the server does: chunk by chunk, modulo n**2."""
    return Multiplier(client.public_key.n_squared).products(first, second)


def random_bits(seed, count, dimensions):
    return np.random.default_rng(seed).integers(0, 2, (count, dimensions), dtype=np.uint8)


# Known answers


def test_known_answers(load_vectors):
    known = load_vectors("hamming")
    n, g, phi, inv = (int(known["key"][name]) for name in ("n", "g", "phi", "inv"))
    key = SecretKey.load(PublicKey(n, g), phi, inv, allow_insecure=True)
    decoder = HammingDecoder(key, 4)
    for case in known["encryptions"]:
        assert powmod(g, int(case["plaintext"]), n**2) * powmod(int(case["r"]), n, n**2) % n**2 == int(
            case["ciphertext"]
        )
        assert decoder.decrypt(numbers_to_rows([[int(case["ciphertext"])]], 1, decoder.width)[:, 0]) == [
            int(case["plaintext"])
        ]
    first, second = (
        numbers_to_rows([[int(factor)]], 1, decoder.width) for factor in known["product"]["factors"]
    )
    product = Multiplier(n**2).products(first[0], second)
    assert int.from_bytes(product.tobytes(), "little") == int(known["product"]["ciphertext"])
    assert decoder.decrypt(product[:, 0]) == [int(known["product"]["plaintext"])]
    assert decoder.decode(product).tolist() == [known["product"]["distance"]]


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_the_plaintext_of_a_vector(client, dimensions):
    client = with_dimension(client, dimensions)
    bits = random_bits(dimensions, 1, dimensions)
    chunks = [bits[0, start : start + KEY_LEN] for start in range(0, dimensions, KEY_LEN)]
    expected = [sum(int(bit) << 2 * (len(chunk) - 1 - i) for i, bit in enumerate(chunk)) for chunk in chunks]
    rows = client.encrypt_to_array(bits)
    assert HammingDecoder(client._key, 1).decrypt(rows[0]) == expected


def test_the_documented_plaintexts(client, load_vectors):
    client = with_dimension(client, 4)
    for case in load_vectors("hamming")["plaintexts"]:
        rows = client.encrypt_to_array(np.array([case["bits"]]))
        assert HammingDecoder(client._key, 4).decrypt(rows[0]) == [int(case["value"])]


# Laws


@settings(max_examples=50)
@given(data=st.data())
def test_distance_is_the_popcount_of_xor(client, data):
    dimensions = data.draw(st.sampled_from(DIMENSIONS))
    count = data.draw(st.sampled_from([0, 1, 7, 8, 9]))
    seed = data.draw(st.integers(0, 2**32))
    client = with_dimension(client, dimensions)
    query, stored = random_bits(seed, 1, dimensions), random_bits(seed + 1, count, dimensions)
    rows = products(client, client.encrypt_to_array(query)[0], client.encrypt_to_array(stored))
    distances = client.decode_from_array(rows)
    assert distances.dtype == np.int32
    assert distances.tolist() == (query ^ stored).sum(axis=1).tolist()


@pytest.fixture(scope="module", params=[PaillierLookupClient, PaillierClient])
def full_size_client(request):
    return request.param()


@pytest.mark.parametrize("dimensions", [1, 2, 511, 512, 513, 1023, 1024, 1025, 1536])
def test_distances_under_keys_of_full_size(full_size_client, dimensions):
    client = with_dimension(full_size_client, dimensions)
    vectors = random_bits(dimensions, 9, dimensions)
    vectors[1:3] = [[0], [1]]  # the smallest and the largest plaintext
    rows = client.encrypt_to_array(vectors)
    assert rows.shape == (9, -(-dimensions // 1024), 512)
    for query in range(4):
        distances = client.decode_from_array(products(client, rows[query], rows))
        assert distances.tolist() == (vectors ^ vectors[query]).sum(axis=1).tolist()


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_extreme_vectors(client, dimensions):
    client = with_dimension(client, dimensions)
    vectors = np.stack([np.zeros(dimensions, np.uint8), np.ones(dimensions, np.uint8)])
    rows = client.encrypt_to_array(vectors)
    assert client.decode_from_array(products(client, rows[0], rows)).tolist() == [0, dimensions]
    assert client.decode_from_array(products(client, rows[1], rows)).tolist() == [dimensions, 0]


def test_lists_and_arrays_agree(client):
    bits = random_bits(3, 9, 48)
    n_squared = client.public_key.n_squared
    batch = client.encrypt_vec_batch(bits.tolist())
    one = client.encrypt_vec_one(bits[0].tolist())
    assert [len(row) for row in batch] == [1] * 9
    assert all(isinstance(value, type(mpz())) and 0 < value < n_squared for row in batch for value in row)
    summed = [[a * b % n_squared for a, b in zip(one, row, strict=True)] for row in batch]
    expected = (bits ^ bits[0]).sum(axis=1).tolist()
    assert client.decode_hamming_client_batch(summed) == expected
    assert [client.decode_hamming_client_one(row) for row in summed] == expected
    as_bytes = [[int(value).to_bytes(client.width, "little") for value in row] for row in summed]
    assert client.decode_hamming_client_batch(as_bytes) == expected
    assert client.decode_from_array(numbers_to_rows(summed, 1, client.width)).tolist() == expected
    assert client.encrypt_vec_batch([]) == []
    assert client.decode_hamming_client_batch([]) == []


def test_the_thread_count_is_irrelevant(client):
    bits = random_bits(4, 33, 48)
    rows = products(client, client.encrypt_to_array(bits[:1])[0], client.encrypt_to_array(bits, threads=2))
    alone = client.decode_from_array(rows, threads=1)
    assert (alone == client.decode_from_array(rows, threads=2)).all()
    assert (alone == np.concatenate([client.decode_from_array(rows[i : i + 1]) for i in range(33)])).all()
    assert (alone == (bits ^ bits[0]).sum(axis=1)).all()
    assert (alone == client.decode_from_array(rows, vartime=True)).all()


def test_every_encryption_is_fresh(client):
    rows = client.encrypt_to_array(np.zeros((200, 48), np.uint8))
    assert len({row.tobytes() for row in rows}) == 200


def test_progress_counts_to_the_end(client):
    seen = []
    client.encrypt_to_array(random_bits(5, 20, 48), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (20, 20)
    assert seen == sorted(seen)


# Texts of keys and configuration


def test_texts_have_the_documented_form(make_client):
    plain, lookup = make_client("paillier", 48), make_client("paillier_lookup", 48)
    assert list(json.loads(plain.stringify_pk())) == ["g", "n", "n_squared"]
    assert list(json.loads(plain.stringify_sk())) == ["phi", "inv"]
    assert plain.stringify_config() == f'{{"embed_len": 48, "key_len": {KEY_LEN}}}'
    assert list(json.loads(lookup.stringify_pk())) == ["g", "n", "n_squared", "g_n"]
    assert list(json.loads(lookup.stringify_sk())) == ["phi", "a", "g_a_inv"]
    assert lookup.stringify_config() == (
        f'{{"message_chunks": {KEY_LEN // 4}, "alpha_len": {ALPHA_LEN}, '
        f'"embed_len": 48, "key_len": {KEY_LEN}}}'
    )
    for text, kind in ((plain.stringify_pk(), str), (plain.stringify_sk(), str)):
        assert all(type(value) is kind for value in json.loads(text).values())
        assert json.dumps(json.loads(text)) == text
    for text in (lookup.stringify_pk(), lookup.stringify_sk()):
        assert all(type(value) is int for value in json.loads(text).values())
        assert json.dumps(json.loads(text)) == text


def test_values_of_the_keys(make_client):
    plain, lookup = make_client("paillier", 48), make_client("paillier_lookup", 48)
    pk, sk = json.loads(plain.stringify_pk()), json.loads(plain.stringify_sk())
    n = int(pk["n"])
    assert (int(pk["g"]), int(pk["n_squared"])) == (n + 1, n * n)
    assert int(sk["phi"]) * int(sk["inv"]) % n == 1
    pk, sk = json.loads(lookup.stringify_pk()), json.loads(lookup.stringify_sk())
    n, n_squared = pk["n"], pk["n_squared"]
    assert n_squared == n * n
    assert pk["g_n"] == powmod(pk["g"], n, n_squared)
    assert powmod(pk["g_n"], sk["a"], n_squared) == 1
    assert (powmod(pk["g"], sk["a"], n_squared) - 1) // n * sk["g_a_inv"] % n == 1
    assert sk["phi"] % sk["a"] == 0


@pytest.mark.parametrize("config_first", [False, True])
def test_keys_and_configuration_in_either_order(client, config_first):
    other = type(client)(skip_key_gen=True, allow_insecure=True)
    steps = [
        lambda: other.load_stringified_keys(client.stringify_pk(), client.stringify_sk()),
        lambda: other.load_config(json.loads(client.stringify_config())),
    ]
    for step in reversed(steps) if config_first else steps:
        step()
    assert (other.embed_len, other.key_len, other.chunk_len, other.chunk_num) == (48, KEY_LEN, 2 * KEY_LEN, 1)
    for text in ("stringify_pk", "stringify_sk", "stringify_config"):
        assert getattr(other, text)() == getattr(client, text)()
    bits = random_bits(6, 3, 48)
    rows = products(client, client.encrypt_to_array(bits[:1])[0], other.encrypt_to_array(bits))
    assert other.decode_from_array(rows).tolist() == (bits ^ bits[0]).sum(axis=1).tolist()


def test_numbers_of_either_form_are_read(client):
    swap = str if isinstance(json.loads(client.stringify_pk())["n"], int) else int
    pk, sk = (
        json.dumps({name: swap(value) for name, value in json.loads(text).items()})
        for text in (client.stringify_pk(), client.stringify_sk())
    )
    other = type(client)(skip_key_gen=True, allow_insecure=True)
    other.load_stringified_keys(pk, sk)
    assert other.stringify_pk() == client.stringify_pk()
    assert other.stringify_sk() == client.stringify_sk()


def test_chunk_sizes_follow_the_configuration(client):
    other = with_dimension(client, 2 * KEY_LEN + 1)
    assert (other.embed_len, other.chunk_num) == (2 * KEY_LEN + 1, 3)
    other.load_config({**json.loads(client.stringify_config()), "embed_len": 5})
    assert (other.embed_len, other.chunk_num) == (5, 1)
    assert other.encrypt_to_array(random_bits(1, 2, 5)).shape == (2, 1, other.width)


def test_tables_of_others_are_never_used(lookup_client):
    other = PaillierLookupClient(skip_key_gen=True, allow_insecure=True)
    other.load_stringified_keys(lookup_client.stringify_pk(), lookup_client.stringify_sk())
    other.load_config(
        json.loads(lookup_client.stringify_config()), {"g_table": {"0": [1] * 256}, "noise_table": [1]}
    )
    rows = other.encrypt_to_array(np.ones((20, 48), np.uint8))
    assert len({row.tobytes() for row in rows}) == 20


# What keys must keep


def test_default_sizes():
    client = PaillierLookupClient()
    assert (client.embed_len, client.key_len, client.alpha_len) == (512, 1024, 448)
    assert client.chunk_num == 1
    assert client.width == 512
    assert client.device == "cpu"
    assert not client.has_gpu()
    assert isinstance(client, HammingClientBase)
    assert isinstance(client, HomomorphicClient)


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: PaillierLookupClient(48, KEY_LEN, **more),
        lambda **more: PaillierLookupClient(48, 1024, 50, **more),
        lambda **more: PaillierLookupClient(48, 1024, 446, **more),
        lambda **more: PaillierLookupClient(48, 1536, 448, **more),
        lambda **more: PaillierClient(48, KEY_LEN, **more),
        lambda **more: PaillierClient(48, 1022, **more),
    ],
)
def test_weak_keys_are_refused_when_made(make):
    with pytest.raises(WeakKeyError, match="allow_insecure"):
        make()


def test_weak_keys_are_refused_when_loaded(client, monkeypatch):
    texts = client.stringify_pk(), client.stringify_sk()
    with pytest.raises(WeakKeyError, match="allow_insecure=True"):
        type(client)(skip_key_gen=True).load_stringified_keys(*texts)
    monkeypatch.setenv("XTRACE_ALLOW_INSECURE", "0")
    with pytest.raises(WeakKeyError, match="XTRACE_ALLOW_INSECURE=1"):
        type(client)(skip_key_gen=True).load_stringified_keys(*texts)
    monkeypatch.setenv("XTRACE_ALLOW_INSECURE", "1")
    type(client)(skip_key_gen=True).load_stringified_keys(*texts)
    assert type(client)(48, KEY_LEN).key_len == KEY_LEN


def test_parts_that_do_not_belong_together(client, make_client):
    other = make_client("paillier" if isinstance(client, PaillierClient) else "paillier_lookup", 48)
    empty = type(client)(skip_key_gen=True, allow_insecure=True)
    for pk, sk in (
        (client.stringify_pk(), other.stringify_sk()),
        (_changed(client.stringify_pk(), "n_squared", 2), client.stringify_sk()),
        (_changed(client.stringify_pk(), "g", 1), client.stringify_sk()),
        (client.stringify_pk(), _changed(client.stringify_sk(), "phi", 2)),
        (
            client.stringify_pk(),
            _changed(client.stringify_sk(), list(json.loads(client.stringify_sk()))[-1], 1),
        ),
    ):
        with pytest.raises(KeyMismatchError):
            empty.load_stringified_keys(pk, sk)
    with pytest.raises(NotLoadedError):
        empty.stringify_pk()


def test_a_swapped_noise_base_is_refused(lookup_client):
    empty = PaillierLookupClient(skip_key_gen=True, allow_insecure=True)
    for text in (
        _changed(lookup_client.stringify_pk(), "g_n", 1),
        json.dumps({**json.loads(lookup_client.stringify_pk()), "g_n": 1}),
    ):
        with pytest.raises((KeyMismatchError, InputError)):
            empty.load_stringified_keys(text, lookup_client.stringify_sk())


def test_a_configuration_of_another_key(client):
    config = json.loads(client.stringify_config())
    wrong = {**config, "key_len": KEY_LEN * 2}
    if "message_chunks" in wrong:
        wrong["message_chunks"] *= 2
    with pytest.raises(KeyMismatchError, match="key_len"):
        with_dimension(client, 48).load_config(wrong)
    waiting = type(client)(skip_key_gen=True, allow_insecure=True)
    waiting.load_config(wrong)
    with pytest.raises(KeyMismatchError, match="key_len"):
        waiting.load_stringified_keys(client.stringify_pk(), client.stringify_sk())


@pytest.mark.parametrize(("field", "value"), [("alpha_len", 120), ("alpha_len", 136), ("message_chunks", 3)])
def test_a_lookup_configuration_of_another_key(lookup_client, field, value):
    with pytest.raises(KeyMismatchError, match=field):
        with_dimension(lookup_client, 48).load_config(
            {**json.loads(lookup_client.stringify_config()), field: value}
        )


@pytest.mark.parametrize("field", ["embed_len", "key_len"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "48", None, True, 2**40])
def test_impossible_configurations_are_named(client, field, value):
    with pytest.raises(InputError, match=rf"config\.{field}"):
        with_dimension(client, 48).load_config({**json.loads(client.stringify_config()), field: value})


@pytest.mark.parametrize(("name", "arguments"), [("embed_len", (0, KEY_LEN)), ("key_len", (48, -5))])
def test_impossible_sizes_are_named(client, name, arguments):
    with pytest.raises(InputError, match=name):
        type(client)(*arguments, allow_insecure=True)


def test_distances_that_could_be_wrong_are_refused():
    """A key whose primes are short for its length cannot hold a full row of fields."""
    n = 32_771 * 32_779  # primes of 16 bits; full chunks have 16 fields, whose sums reach 2/3 * 4**16
    assert n <= 2 * (4**16 - 1) // 3
    phi = 32_770 * 32_778
    key = {"g": str(n + 1), "n": str(n), "n_squared": str(n * n)}
    client = PaillierClient(skip_key_gen=True, allow_insecure=True)
    client.load_stringified_keys(json.dumps(key), json.dumps({"phi": str(phi), "inv": str(pow(phi, -1, n))}))
    client.load_config({"embed_len": 16, "key_len": 16})
    with pytest.raises(InputError):
        client.check_exact()
    client.load_config({"embed_len": 15, "key_len": 16})
    client.check_exact()
    bits = random_bits(7, 9, 15)
    rows = products(client, client.encrypt_to_array(bits[:1])[0], client.encrypt_to_array(bits))
    assert client.decode_from_array(rows).tolist() == (bits ^ bits[0]).sum(axis=1).tolist()


# What is refused


def test_wrong_vectors(client):
    for encrypt in (client.encrypt_vec_batch, client.encrypt_to_array):
        with pytest.raises(DimensionMismatchError, match=r"\[1\]: dimension 47"):
            encrypt([[0] * 48, [0] * 47])
        with pytest.raises(InputError, match=r"\[1\]\[3\]: expected 0 or 1"):
            encrypt([[0] * 48, [0, 0, 0, 2] + [0] * 44])
        with pytest.raises(InputError, match="float64"):
            encrypt([[0.5] * 48])
        with pytest.raises(InputError, match="float64"):
            encrypt([[float("nan")] * 48])
    with pytest.raises(DimensionMismatchError, match="dimension 49"):
        client.encrypt_vec_one([0] * 49)
    with pytest.raises(InputError):
        client.encrypt_vec_one(7)


def test_wrong_arrays_of_ciphertexts(client):
    rows = client.encrypt_to_array(random_bits(8, 2, 48))
    for wrong in (
        rows[0],
        rows[:, :, :-1],
        np.repeat(rows, 2, axis=1),
        rows.astype(np.uint16),
        rows.tolist(),
        None,
    ):
        with pytest.raises(InputError, match="rows"):
            client.decode_from_array(wrong)


def test_wrong_ciphertexts(client):
    n, n_squared = client.public_key.n, client.public_key.n_squared
    good = client.encrypt_vec_one([1] * 48)[0]
    p, _q = _primes(client)
    for wrong in (0, n_squared, n_squared + 1, 2 ** (8 * client.width) - 1, p, n, p * good % n_squared):
        with pytest.raises(CiphertextError):
            client.decode_hamming_client_batch([[good], [wrong]])
    for wrong in (-1, 2 ** (8 * client.width)):
        with pytest.raises(CiphertextError, match=r"ciphertexts\[1\]\[0\]"):
            client.decode_hamming_client_batch([[good], [wrong]])
    for wrong in ([], [good, good], "x", [1.5], [None]):
        with pytest.raises(InputError, match=r"ciphertexts\[0\]"):
            client.decode_hamming_client_one(wrong)


def test_ciphertexts_of_a_foreign_key(lookup_client, make_client):
    """Only keys with a subgroup can tell; a plain Paillier key decrypts any unit to something."""
    foreign = make_client("paillier_lookup", 48).encrypt_to_array(random_bits(9, 20, 48))
    n_squared = lookup_client.public_key.n_squared
    reduced = [[int.from_bytes(row.tobytes(), "little") % n_squared] for row in foreign]
    for row in reduced:
        with pytest.raises(CiphertextError):
            lookup_client.decode_hamming_client_one(row)


@pytest.mark.parametrize("kind", [PaillierClient, PaillierLookupClient])
def test_a_client_without_keys_says_so(kind):
    client = kind(skip_key_gen=True)
    assert "no keys" in repr(client)
    for use in (
        client.stringify_pk,
        client.stringify_sk,
        client.check_exact,
        lambda: client.encrypt_vec_one([0] * 512),
        lambda: client.decode_hamming_client_one([1]),
        lambda: client.encrypt_to_array(np.zeros((1, 512), np.uint8)),
        lambda: client.decode_from_array(np.zeros((1, 1, 512), np.uint8)),
        lambda: client.width,
    ):
        with pytest.raises(NotLoadedError, match="load_stringified_keys"):
            use()


def test_clients_do_not_leak(client):
    secret = json.loads(client.stringify_sk())
    assert not any(str(value) in repr(client) for value in secret.values())
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            leak(client)


def _changed(text, field, by):
    parsed = json.loads(text)
    kind = type(parsed[field])
    return json.dumps({**parsed, field: kind(int(parsed[field]) + by)})


def _primes(client):
    n, phi = client.public_key.n, int(json.loads(client.stringify_sk())["phi"])
    total = n + 1 - phi
    root = isqrt(total * total - 4 * n)
    return (total + root) // 2, (total - root) // 2
