import copy
import json
import pickle
import stat

import numpy as np
import pytest

from xtrace_sdk.errors import DecryptionError, InputError, IntegrityError
from xtrace_sdk.x_vec.crypto.authenticated import fresh_nonces, write_records
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.execution_context_files import parse_object
from xtrace_sdk.x_vec.utils.execution_context_writer import WriterContext

DIMENSIONS, COUNT = 48, 9
BITS = np.random.default_rng(11).integers(0, 2, (COUNT, DIMENSIONS), dtype=np.uint8)


@pytest.fixture(scope="module")
def provider():
    return PassphraseKeyProvider("writer's", cost=2**14)


def make(kind="paillier_lookup"):
    return ExecutionContext.create(
        None,
        kind,
        DIMENSIONS,
        256,
        key_provider=PassphraseKeyProvider("owner's", cost=2**14),
        encoding="authenticated",
        allow_insecure=True,
    )


@pytest.fixture(scope="module", params=["paillier_lookup", "paillier"])
def owner(request):
    return make(request.param)


@pytest.fixture(scope="module")
def writer(owner, provider):
    return owner.writer("scanner", key_provider=provider)


def record_of(writer):
    return write_records(fresh_nonces(1), writer.epoch, writer.name)[0]


async def test_what_a_writer_stores_the_owner_finds(owner, provider, integration, kb_id, tmp_path):
    owner.writer("scanner", key_provider=provider).save_to_disk(tmp_path / "writer")
    writer = WriterContext.load_from_disk("writer's", tmp_path / "writer")
    half = COUNT // 2
    for context, part in ((writer, range(half)), (owner, range(half, COUNT))):
        chunks = [{"chunk_content": f"text {number} ü"} for number in part]
        loader = DataLoader(context, integration, manifest=False)
        index, db = await loader.load_data_from_memory(chunks, BITS[part], disable_progress=True)
        await loader.dump_db(db, index, kb_id)
    retriever = Retriever(owner, integration, manifest=False)
    ids, distances = await retriever.nn_search_for_ids(BITS[2], COUNT, kb_id, include_scores=True)
    assert dict(zip(ids, distances, strict=True)) == {
        number + 1: int((BITS[number] ^ BITS[2]).sum()) for number in range(COUNT)
    }
    chunks = await retriever.retrieve_and_decrypt(ids, kb_id)
    assert [chunk["chunk_content"] for chunk in chunks] == [f"text {one - 1} ü" for one in ids]


def test_a_writer_reads_nothing_not_even_its_own(owner, writer):
    record = record_of(writer)
    blob = writer.records.seal("secret", record)
    assert owner.records.open(blob, record) == "secret"
    with pytest.raises(DecryptionError):
        writer.records.open(blob, record)
    own = write_records(fresh_nonces(1), owner.epoch, "")[0]
    with pytest.raises(DecryptionError):
        writer.records.open(owner.records.seal("secret", own), own)
    client = writer.homomorphic
    assert not any(hasattr(client, name) for name in ("decode_records", "encrypt_query", "decrypt_vectors"))
    for epoch in (0, 1, 2):
        with pytest.raises(DecryptionError):
            writer.subkey(b"label", epoch) if epoch else writer.records.own(epoch)
    assert len(writer.subkey(b"label", 0)) == 32
    assert writer.subkey(b"label", 0) != owner.subkey(b"label", 0)


def test_a_writer_forges_only_under_its_own_name(owner, writer):
    other = owner.writer("other")
    for claimed in ("", "other"):
        record = write_records(fresh_nonces(1), owner.epoch, claimed)[0]
        with pytest.raises(DecryptionError):
            writer.records.seal("forged", record)
        # With all that it has, and with the owner's public sealing key:
        blob = _sealed_with(writer, record)
        with pytest.raises(IntegrityError):
            owner.records.open(blob, record)
    record = record_of(other)
    assert owner.records.open(other.records.seal("own", record), record) == "own"
    for moved in (record_of(other), record_of(writer)):
        with pytest.raises(IntegrityError):
            owner.records.open(other.records.seal("own", record), moved)


def _sealed_with(writer, record):
    """A content sealed beside any record, as a writer would who changed the program."""
    from binascii import b2a_base64

    from xtrace_sdk.x_vec.crypto.owner_seal import seal_to_owner

    secret = writer._roots.root(writer.epoch)
    return b2a_base64(b"\x03" + seal_to_owner(b"forged", record, writer._owner, secret), newline=False)


async def test_vectors_under_another_name_are_refused(owner, writer, integration, kb_id):
    loader = DataLoader(writer, integration)
    index, db = await loader.load_data_from_memory([{"chunk_content": "x"}], BITS[:1], True)
    nonce = db[0]["record"][5:29]
    for claimed in (b"", b"other"):
        forged = db[0]["record"][:5] + nonce + claimed
        await loader.dump_db([{**db[0], "record": forged}], index, kb_id)
        with pytest.raises(IntegrityError):
            await Retriever(owner, integration).nn_search_for_ids(BITS[0], 1, kb_id)


def test_the_stored_object(writer, provider, tmp_path):
    path = tmp_path / "writer"
    writer.save_to_disk(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    stored = json.loads(path.read_text())
    assert stored["type"] == "AuthenticatedWriter"
    again = WriterContext.load_from_disk(None, path, provider)
    assert (again.id, again.name, again.epoch) == (writer.id, "scanner", 1)
    assert again.public_part() == writer.public_part()
    assert again.subkey(b"x", 0) == writer.subkey(b"x", 0)
    with pytest.raises(InputError, match="Unsupported type"):
        ExecutionContext.load_from_disk(None, path, provider, allow_insecure=True)
    with pytest.raises(DecryptionError):
        WriterContext.load_from_disk("wrong", path)


def test_the_owners_file_in_the_way_is_kept(owner, writer, provider, tmp_path):
    path = tmp_path / "context"
    owner.save_to_disk(path)
    writer.save_to_disk(path)
    assert WriterContext.load_from_disk(None, path, provider).name == "scanner"
    (backup,) = tmp_path.glob("context.*.bak")
    assert ExecutionContext.load_from_disk("owner's", backup, allow_insecure=True) == owner


def test_every_changed_field_is_refused(writer, provider, tmp_path):
    path = tmp_path / "writer"
    content = json.dumps(writer.to_dict_enc()).encode()
    salt = content.index(parse_object(content)["wrapped_key"].encode())
    for at in range(0, len(content), 7):
        if salt <= at < salt + 24:
            continue
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with pytest.raises((DecryptionError, InputError)):
            WriterContext.load_from_disk(None, path, provider)


def test_the_owners_secrets_are_not_in_it(owner, writer, provider):
    _, roots, secret = _opened(writer, provider)
    assert secret == ""
    known = {*map(bytes, roots._keys.values())}
    assert known.isdisjoint(map(bytes, owner._roots._keys.values()))
    text = json.dumps(writer.to_dict_enc()) + repr(writer)
    for number in json.loads(owner.homomorphic.stringify_sk()).values():
        assert str(number) not in text
    for leak in (pickle.dumps, copy.copy):
        for held in (writer, writer.homomorphic, writer.records):
            with pytest.raises(TypeError, match="cannot be pickled"):
                leak(held)


def _opened(writer, provider):
    from xtrace_sdk.x_vec.utils.execution_context_v2 import open_stored

    return open_stored(writer.to_dict_enc(), None, provider)


def test_a_new_epoch_leaves_the_writer_behind(provider):
    owner = make()
    writer = owner.writer("scanner")
    record = record_of(writer)
    blob = writer.records.seal("old", record)
    owner.begin_epoch()
    assert owner.writer("scanner").epoch == 2
    assert owner.records.open(blob, record) == "old"
    owner.retire_epoch(1)
    with pytest.raises(IntegrityError):
        owner.records.open(blob, record)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "a\0b", 5])
def test_names_that_records_cannot_carry(owner, name):
    with pytest.raises(InputError, match="writer"):
        owner.writer(name)


def test_what_cannot_be(owner, context, writer):
    with pytest.raises(InputError, match="plain encoding"):
        context.writer("scanner")
    with pytest.raises(InputError, match="key_provider"):
        owner.writer("scanner").to_dict_enc()
