"""The compiled core as Python sees it: arrays, threads, signals, forks."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from xtrace_sdk import _core
from xtrace_sdk.errors import CiphertextError, InputError, KeyMismatchError, NotLoadedError

DIMENSIONS = 40


@pytest.fixture(scope="module")
def key() -> _core.SecretKey:
    return _core.SecretKey.generate(128, 64, allow_insecure=True)


@pytest.fixture(scope="module")
def encryptor(key: _core.SecretKey) -> _core.HammingEncryptor:
    return _core.HammingEncryptor(key, DIMENSIONS)


@pytest.fixture
def bits() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 2, (2000, DIMENSIONS), dtype=np.uint8)


def run_python(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((3, DIMENSIONS), np.int8),
        np.zeros((3, DIMENSIONS), np.float32),
        np.zeros((3, DIMENSIONS - 1), np.uint8),
        np.zeros(DIMENSIONS, np.uint8),
        np.zeros((3, 2 * DIMENSIONS), np.uint8)[:, ::2],
        [[0] * DIMENSIONS],
        None,
    ],
    ids=["int8", "float", "dimension", "one axis", "not contiguous", "list", "none"],
)
def test_only_contiguous_bytes_of_the_right_shape(encryptor: _core.HammingEncryptor, wrong: object) -> None:
    with pytest.raises(InputError, match="bits"):
        encryptor.encrypt(wrong)


def test_the_first_row_without_bits_is_named(encryptor: _core.HammingEncryptor, bits: np.ndarray) -> None:
    bits[7, 3] = 2
    bits[9, 0] = 255
    with pytest.raises(InputError, match="row 7 holds 2"):
        encryptor.encrypt(bits)


def test_negative_threads_are_refused(encryptor: _core.HammingEncryptor, bits: np.ndarray) -> None:
    with pytest.raises(InputError, match="threads"):
        encryptor.encrypt(bits, threads=-1)


def test_read_only_input_and_output_in_place(
    key: _core.SecretKey, encryptor: _core.HammingEncryptor, bits: np.ndarray
) -> None:
    bits.setflags(write=False)
    rows = encryptor.encrypt(bits)
    server = _core.Multiplier(key.public.n_squared)
    expected = server.products(rows[0], rows)
    rows.setflags(write=False)
    with pytest.raises(InputError, match="out"):
        server.products(rows[0], rows, out=rows)
    rows = rows.copy()
    query = rows[0].copy()
    assert server.products(query, rows, out=rows) is not None
    np.testing.assert_array_equal(rows, expected)
    decoder = _core.HammingDecoder(key, DIMENSIONS)
    np.testing.assert_array_equal(decoder.decode(rows), (bits ^ bits[0]).sum(axis=1))


def test_values_out_of_range_are_found(key: _core.SecretKey, encryptor: _core.HammingEncryptor) -> None:
    server = _core.Multiplier(key.public.n_squared)
    rows = encryptor.encrypt(np.ones((20, DIMENSIONS), np.uint8))
    assert server.out_of_range(rows) == -1
    for value in (0, key.public.n_squared, 2 ** (8 * server.width) - 1):
        changed = rows.copy()
        changed[11, 0] = np.frombuffer(value.to_bytes(server.width, "little"), np.uint8)
        assert server.out_of_range(changed) == 11
        with pytest.raises(CiphertextError, match="row 11"):
            _core.HammingDecoder(key, DIMENSIONS).decode(changed)
    for wrong in (rows[:, :, 1:], rows.astype(np.int64), rows[0, 0], [[0]], None):
        with pytest.raises(InputError, match="rows"):
            server.out_of_range(wrong)


def test_one_side_is_enough_for_half_the_dimensions(key: _core.SecretKey) -> None:
    assert _core.HammingDecoder(key, 64).sides == 1
    assert _core.HammingDecoder(key, 65).sides == 2
    assert _core.HammingDecoder(key, 128).chunks == 1
    assert _core.HammingDecoder(key, 129).chunks == 2


def test_plaintexts_add_modulo_n(key: _core.SecretKey, encryptor: _core.HammingEncryptor) -> None:
    ones = np.ones((1, DIMENSIONS), np.uint8)
    row = encryptor.encrypt(ones)
    plain = sum(4**i for i in range(DIMENSIONS))
    decoder = _core.HammingDecoder(key, DIMENSIONS)
    assert decoder.decrypt(row[:, 0]) == [plain]
    total = _core.Multiplier(key.public.n_squared).products(row[0], row)
    assert decoder.decrypt(total[:, 0]) == [2 * plain]


def test_numbers_of_a_key_are_checked(key: _core.SecretKey) -> None:
    public = key.public
    assert public.g_n == pow(public.g, public.n, public.n_squared)
    with pytest.raises(InputError, match="n:"):
        _core.PublicKey(public.n + 1, public.g)
    with pytest.raises(InputError, match="negative"):
        _core.PublicKey(-public.n, public.g)
    with pytest.raises(TypeError):
        _core.PublicKey(str(public.n), public.g)  # type: ignore[arg-type]
    with pytest.raises(KeyMismatchError, match="phi"):
        _core.SecretKey.load(public, key.phi + 2, key.inverse, key.a, allow_insecure=True)


def test_secret_objects_stay_where_they_are(key: _core.SecretKey, encryptor: _core.HammingEncryptor) -> None:
    for secret in (key, encryptor, _core.HammingDecoder(key, DIMENSIONS)):
        for leak in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled or copied"):
                leak(secret)
        assert str(key.phi) not in repr(secret)
        assert len(repr(secret)) < 100


def test_a_closed_key_is_gone_and_what_was_made_from_it_stays() -> None:
    key = _core.SecretKey.generate(128, 64, allow_insecure=True)
    encryptor, decoder = _core.HammingEncryptor(key, 8), _core.HammingDecoder(key, 8)
    n_squared = key.public.n_squared
    key.close()
    for use in (lambda: key.phi, lambda: key.public, lambda: _core.HammingDecoder(key, 8)):
        with pytest.raises(NotLoadedError, match="closed"):
            use()
    rows = encryptor.encrypt(np.eye(8, dtype=np.uint8))
    products = _core.Multiplier(n_squared).products(rows[0], rows)
    assert decoder.decode(products).tolist() == [0] + [2] * 7


def test_a_key_may_be_closed_while_others_prepare_from_it() -> None:
    made, refused = 0, 0
    for pause in range(60):
        key = _core.SecretKey.generate(128, 64, allow_insecure=True)

        def prepare(key: _core.SecretKey = key) -> None:
            nonlocal made, refused
            try:
                while True:
                    _core.HammingEncryptor(key, 64)
                    _core.HammingDecoder(key, 64)
                    made += 1
            except NotLoadedError:
                refused += 1

        thread = threading.Thread(target=prepare)
        thread.start()
        time.sleep(0.0003 * pause)
        key.close()
        thread.join()
    assert made > 0
    assert refused == 60


def test_progress_runs_to_the_end_and_its_errors_come_through(
    encryptor: _core.HammingEncryptor, bits: np.ndarray
) -> None:
    seen: list[tuple[int, int]] = []
    encryptor.encrypt(bits, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(bits), len(bits))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})

    def fail(done: int, total: int) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        encryptor.encrypt(bits, progress=fail)


def test_other_threads_run_meanwhile(key: _core.SecretKey) -> None:
    encryptor = _core.HammingEncryptor(_core.SecretKey.generate_plain(512, allow_insecure=True), 8)
    rows = np.zeros((400, 8), np.uint8)
    work = threading.Thread(target=lambda: encryptor.encrypt(rows, threads=1))
    work.start()
    turns = 0
    while work.is_alive():
        turns += 1
        time.sleep(0.001)
    assert turns > 10


def test_interrupt_stops_a_long_batch_within_a_second() -> None:
    # A plain key encrypts some hundred vectors a second: this batch would take minutes.
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
                import signal
                import numpy as np
                from xtrace_sdk import _core
                signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
                key = _core.SecretKey.generate_plain(512, allow_insecure=True)
                encryptor = _core.HammingEncryptor(key, 8)
                print("ready", flush=True)
                try:
                    encryptor.encrypt(np.zeros((1_000_000, 8), np.uint8))
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
            """),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    # The promise is a second; a loaded machine gets more before this counts as hanging.
    output, _ = process.communicate(timeout=20)
    assert output == "interrupted\n"
    assert process.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_works_after_a_parallel_call() -> None:
    done = run_python(f"""
        import os, numpy as np
        from xtrace_sdk import _core
        key = _core.SecretKey.generate(128, 64, allow_insecure=True)
        encryptor, decoder = _core.HammingEncryptor(key, 8), _core.HammingDecoder(key, 8)
        server = _core.Multiplier(key.public.n_squared)
        bits = np.random.default_rng(1).integers(0, 2, (3000, 8), dtype=np.uint8)
        rows = encryptor.encrypt(bits, threads=2)
        for _ in range({os.environ.get("FORKS", 20)}):
            child = os.fork()
            if child == 0:
                mine = encryptor.encrypt(bits, threads=2)
                right = decoder.decode(server.products(mine[0], mine, threads=2), threads=2)
                os._exit(0 if (right == (bits ^ bits[0]).sum(axis=1)).all() else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print("fine")
    """)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_an_impossible_kernel_is_refused() -> None:
    code = "from xtrace_sdk import _core\nprint(_core.kernels()[-1])\n_core.kernel()"
    done = run_python(code, env={**os.environ, "XTRACE_KERNEL": "nope"})
    assert done.stdout == "portable\n"
    assert done.returncode == 1
    assert "KernelError: XTRACE_KERNEL=nope" in done.stderr
    done = run_python(
        "from xtrace_sdk import _core\nprint(_core.kernel())", env={**os.environ, "XTRACE_KERNEL": "portable"}
    )
    assert done.stdout == "portable\n"
