"""A lexical embedder that needs no model: texts that share words and word pieces get near vectors.

Features of a text are its words, pairs of neighbouring words, and the 3- to 5-character pieces of each word
with its edges. A feature is hashed; the hash seeds one pseudo-random direction of +1 and -1 (a random
hyperplane for each dimension); the embedding is the weighted sum of the directions, and the signs of two
embeddings agree the more, the smaller the angle between the weighted feature sets.

It knows no meaning: synonyms are strangers to it. Weights are integers, so that every platform, process and
thread count gives the same vector.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Words that say little about a text's subject.
_COMMON: Final = frozenset(
    """
    a about after all also am an and any are as at be because been before being both but by called can could
    did do does during each for from had has have he her him his how i if in into is it its many me more most
    much my of on one or other our out over she should so some such than that the their them then there these
    they this those to under up us was we were what when where which while who whom whose why will with would
    you your
    """.split()  # noqa: SIM905 - words are easier to read than a list of strings
)
_WORD: Final = re.compile(r"\w+")

# Weights, tuned for retrieval of sentences by questions. A word counts by the root of its length.
_COMMON_WEIGHT: Final = 0.02
_DIGITS_WEIGHT: Final = 2.0
_LONGEST_COUNTED: Final = 10
_WORD_SHARE: Final = 0.3
_PAIR_SHARE: Final = 0.3
_PIECES: Final = (3, 4, 5)
_SCALE: Final = 16.0  # weights become integers after this factor

# Multipliers of the splitmix64 generator, and odd constants of our own.
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_BASE: Final = 0x9E3779B97F4A7C15
_STEP: Final = np.uint64(0xD1B54A32D192ED03)
_WORD_SALT: Final = np.uint64(1)
_PIECE_SALT: Final = np.uint64(2)

_BLOCK: Final = 4096  # features at a time: bounds the memory that a long text takes

Hashes = NDArray[np.uint64]
Weights = NDArray[np.float64]


def simhash(texts: Sequence[str], dimensions: int) -> NDArray[np.float32]:
    """Texts -> embeddings (N, dimensions); the signs carry the information. An empty text gives zeros."""
    return np.stack([_embed(text, dimensions) for text in texts]).astype(np.float32)


def _embed(text: str, dimensions: int) -> NDArray[np.float64]:
    hashes, weights = _features(text)
    # The sum of w * (2 * bit - 1) is 2 * sum(w * bit) - sum(w); all terms are integers, so exact.
    total = np.zeros(dimensions)
    steps = np.arange(1, -(-dimensions // 64) + 1, dtype=np.uint64) * _STEP
    for start in range(0, hashes.size, _BLOCK):
        seeds = _mix(hashes[start : start + _BLOCK, None] + steps).astype("<u8")
        bits = np.unpackbits(seeds.view(np.uint8), axis=1, count=dimensions, bitorder="little")
        total += weights[start : start + _BLOCK].astype(np.float32) @ bits.astype(np.float32)
    embedding: NDArray[np.float64] = 2 * total - weights.sum()
    return embedding


def _features(text: str) -> tuple[Hashes, Weights]:
    """Hashes of the distinct features of a text, and their weights (whole numbers)."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold()) or text.split()
    if not words:
        return np.empty(0, np.uint64), np.empty(0)
    hashes, weights = (np.concatenate(parts) for parts in zip(*_occurrences(words), strict=True))
    distinct, position, count = np.unique(hashes, return_inverse=True, return_counts=True)
    # Mean weight times the root of the count: the tenth occurrence says less than the first.
    total = np.bincount(position, weights)
    return distinct, np.rint(_SCALE * total / np.sqrt(count))


def _occurrences(words: list[str]) -> Iterator[tuple[Hashes, Weights]]:
    """Hashes and weights of every occurrence of every feature."""
    line = f" {' '.join(words)} "
    spans = _Spans(line)
    lengths = np.array([len(word) for word in words])
    starts = 1 + np.concatenate(([0], np.cumsum(lengths[:-1] + 1)))
    ends = starts + lengths
    common = np.array([word in _COMMON for word in words])
    weight = np.sqrt(np.minimum(lengths, _LONGEST_COUNTED))
    weight[[word.isdigit() for word in words]] = _DIGITS_WEIGHT
    weight[common] = _COMMON_WEIGHT
    yield spans.hash(starts, ends, _WORD_SALT), weight * _WORD_SHARE
    yield (
        spans.hash(starts[:-1], ends[1:], _WORD_SALT),
        np.minimum(weight[:-1], weight[1:]) * _PAIR_SHARE,
    )
    owner = np.repeat(np.arange(len(words)), lengths + 1)  # of each position from 1 on
    for size in _PIECES:
        first = np.arange(0, len(line) - size + 1)
        word = owner[first]
        inside = (first + size <= ends[word] + 1) & ~common[word]
        first, word = first[inside], word[inside]
        pieces = lengths[word] + 3 - size
        yield spans.hash(first, first + size, _PIECE_SALT), weight[word] / np.sqrt(pieces)


class _Spans:
    """Hashes of any spans of one text, all at once: differences of a polynomial prefix sum modulo 2**64."""

    def __init__(self, text: str) -> None:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
        terms = _mix(codes + _STEP) * _powers(_BASE, codes.size)
        self._prefix = np.concatenate((np.zeros(1, np.uint64), np.add.accumulate(terms)))
        self._inverse = _powers(pow(_BASE, -1, 2**64), codes.size)

    def hash(self, starts: NDArray[np.int_], ends: NDArray[np.int_], salt: np.uint64) -> Hashes:
        return _mix((self._prefix[ends] - self._prefix[starts]) * self._inverse[starts] + salt)


def _powers(base: int, count: int) -> Hashes:
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)


def _mix(value: Hashes) -> Hashes:
    """splitmix64's finaliser."""
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    mixed: Hashes = value ^ (value >> np.uint64(31))
    return mixed
