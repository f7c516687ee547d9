import subprocess
import sys
import tracemalloc
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.inference.simhash import simhash

DOCUMENTS = {
    "sort": "Return a new list that holds the elements of the iterable in ascending order.",
    "socket": "Connect to a remote socket at an address; the host name is resolved first.",
    "json": "Serialise an object to a JSON formatted string, with optional indentation.",
    "random": "Choose a random element from a non-empty sequence.",
    "gzip": "Decompress gzip data and return a bytes object with the uncompressed content.",
    "thread": "Wait until the thread terminates, or until the timeout has passed.",
}
QUESTIONS = {
    "How do I sort the elements of a list in ascending order?": "sort",
    "connecting sockets to remote hosts": "socket",
    "write an object as a json string": "json",
    "pick random elements of a sequence": "random",
    "uncompressing gzipped bytes": "gzip",
    "waiting for threads to terminate": "thread",
}


def distance(first, second):
    return int(((first > 0) ^ (second > 0)).sum())


def test_near_texts_are_near():
    names = list(DOCUMENTS)
    documents = simhash(list(DOCUMENTS.values()), 512)
    for question, answer in QUESTIONS.items():
        query = simhash([question], 512)[0]
        assert names[int(np.argmin([distance(query, row) for row in documents]))] == answer, question


def test_known_answer():
    """Vectors are stored for years: they must never change."""
    known = [48, 258, 0, -116, 24, 166, 148, 28, -60, -28, -70, 52, 48, 74, 166, -58]
    (vector,) = simhash(["Hello, hello Paillier!"], 16)
    assert vector.tolist() == known
    assert simhash(["Hello, hello Paillier!"], 100)[0, :16].tolist() == known


def mix(value):
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def plainly(words, dimensions):
    """The embedding of lower-case words that are neither common nor numbers, one feature at a time."""
    step = 0xD1B54A32D192ED03
    weights, counts = {}, {}

    def feature(span, salt, weight):
        terms = (mix((ord(c) + step) % 2**64) * 0x9E3779B97F4A7C15**i for i, c in enumerate(span))
        name = mix((sum(terms) + salt) % 2**64)
        weights[name] = weights.get(name, 0) + weight
        counts[name] = counts.get(name, 0) + 1

    strength = [sqrt(min(len(word), 10)) for word in words]
    for word, weight in zip(words, strength, strict=True):
        feature(word, 1, 0.3 * weight)
        for size in (3, 4, 5):
            for start in range(len(word) + 3 - size):
                feature(f" {word} "[start : start + size], 2, weight / sqrt(len(word) + 3 - size))
    for i in range(len(words) - 1):
        feature(f"{words[i]} {words[i + 1]}", 1, 0.3 * min(strength[i], strength[i + 1]))
    embedding = [0] * dimensions
    for name, weight in weights.items():
        for dimension in range(dimensions):
            seed = mix((name + (dimension // 64 + 1) * step) % 2**64)
            sign = 1 if seed >> dimension % 64 & 1 else -1
            embedding[dimension] += sign * round(16 * weight / sqrt(counts[name]))
    return embedding


@pytest.mark.parametrize(
    "words", [["paillier"], ["x"], ["hello", "hello", "world"], ["ünïcode", "bee", "bees", "unbelievably"]]
)
def test_a_plain_program_says_the_same(words):
    assert simhash([" ".join(words)], 130)[0].tolist() == plainly(words, 130)


def test_other_processes_agree():
    program = (
        "from xtrace_sdk.x_vec.inference.simhash import simhash\n"
        "print(simhash(['naïve café, 12 Ünïcode words'], 200)[0].tolist())"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(simhash(["naïve café, 12 Ünïcode words"], 200)[0].tolist())


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.integers(1, 130))
def test_any_text_and_dimension(texts, dimensions):
    vectors = simhash(texts, dimensions)
    assert vectors.shape == (len(texts), dimensions)
    assert vectors.dtype == np.float32
    assert (vectors == np.rint(vectors)).all()
    for text, vector in zip(texts, vectors, strict=True):
        assert (simhash([text], dimensions)[0] == vector).all()


def test_what_does_not_matter():
    (plain,) = simhash(["the quick brown fox"], 256)
    for same in ("The QUICK, brown -- fox!", "  the\tquick\nbrown fox", "the quick brown ｆｏｘ"):
        assert (simhash([same], 256)[0] == plain).all()
    assert not simhash(["", "   ", "\n"], 64).any()
    assert simhash(["!?", "🙂", "\ud800", "汉字没有空格"], 64).any(axis=1).all()


def test_long_texts_take_bounded_memory():
    text = " ".join(f"word{number}" for number in range(60_000))
    tracemalloc.start()
    try:
        simhash([text], 512)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400 * 2**20


@pytest.mark.parametrize("dimensions", [1, 63, 64, 65, 512])
async def test_by_the_embedder(dimensions):
    embedding = Embedding("simhash", "any", dimensions)
    assert ((await embedding.embed("some text")) == simhash(["some text"], dimensions)[0]).all()
    bits = await embedding.bin_embed_many(["some text", "other"])
    assert bits.tolist() == (simhash(["some text", "other"], dimensions) > 0).astype(int).tolist()
