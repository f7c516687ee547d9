"""The compiled core against the same formulas in plain Python, over random keys, sizes and values."""

import json

import numpy as np
from gmpy2 import powmod

from xtrace_sdk._core import HammingDecoder, HammingEncryptor, Multiplier
from xtrace_sdk.x_vec.crypto.numbers import numbers_to_rows, row_to_numbers

OPERATIONS = 100_000
ROWS = 40


class Model:
    """Textbook Paillier over Python integers, from the stored texts of a key."""

    def __init__(self, client):
        public, secret = json.loads(client.stringify_pk()), json.loads(client.stringify_sk())
        self.n, self.g = int(public["n"]), int(public["g"])
        self.n_squared = self.n**2
        self.noise_base = int(public.get("g_n", 0))
        self.exponent = int(secret.get("a") or secret["phi"])
        self.inverse = int(secret.get("g_a_inv") or secret["inv"])

    def encrypt(self, plaintext, r):
        noise = (
            powmod(self.noise_base, r, self.n_squared)
            if self.noise_base
            else powmod(r, self.n, self.n_squared)
        )
        return int(powmod(self.g, plaintext, self.n_squared) * noise % self.n_squared)

    def decrypt(self, ciphertext):
        shifted = powmod(ciphertext, self.exponent, self.n_squared) - 1
        assert shifted % self.n == 0
        return int(shifted // self.n * self.inverse % self.n)


def plaintexts(bits, key_len):
    chunks = [bits[start : start + key_len] for start in range(0, len(bits), key_len)]
    return [int("".join(f"0{bit}" for bit in chunk), 2) for chunk in chunks]


def test_a_hundred_thousand_operations(make_client):
    rng = np.random.default_rng(2026)
    done = 0
    while done < OPERATIONS:
        kind = ("paillier", "paillier_lookup")[int(rng.integers(2))]
        key_len = int(rng.choice([64, 65, 81]))
        client = make_client(kind, int(rng.integers(1, 3 * key_len)), key_len, 32)
        model = Model(client)
        decoder = HammingDecoder(client._key, client.embed_len)
        public = HammingEncryptor(client.public_key, client.embed_len)
        multiplier = Multiplier(model.n_squared)
        for _ in range(20):
            bits = rng.integers(0, 2, (ROWS, client.embed_len), dtype=np.uint8)
            values = [plaintexts(row, key_len) for row in bits]
            own, foreign = client.encrypt_to_array(bits), public.encrypt(bits)
            for rows in (own, foreign):
                decrypted = [[model.decrypt(int(c)) for c in row_to_numbers(row)] for row in rows]
                assert decrypted == values
            made = numbers_to_rows(
                [
                    [
                        model.encrypt(v, int.from_bytes(rng.bytes(16), "little") % (model.n - 1) + 1)
                        for v in row
                    ]
                    for row in values
                ],
                client.chunk_num,
                client.width,
            )
            for rows in (made, own):
                flat = decoder.decrypt(rows.reshape(-1, client.width))
                assert flat == [v for row in values for v in row]
            products = multiplier.products(made[0], own)
            assert [row_to_numbers(row) for row in products] == [
                [
                    a * b % model.n_squared
                    for a, b in zip(row_to_numbers(made[0]), row_to_numbers(row), strict=True)
                ]
                for row in own
            ]
            assert client.decode_from_array(products).tolist() == (bits ^ bits[0]).sum(axis=1).tolist()
            done += 7 * ROWS * client.chunk_num
    assert done >= OPERATIONS
