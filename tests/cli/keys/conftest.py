import pytest

from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

PASSPHRASE = "a passphrase # with ${odd} 'characters'"  # of the environment that `invoke` gives


@pytest.fixture
def sealed(tmp_path):
    """The file of a small sealed context, cheap to open."""
    path = tmp_path / "sealed"
    ExecutionContext.create(
        None,
        embedding_length=64,
        key_len=256,
        key_provider=PassphraseKeyProvider(PASSPHRASE, cost=2**14),
        path=path,
        encoding="authenticated",
        allow_insecure=True,
    )
    return path
