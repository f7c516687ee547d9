"""The exceptions of xtrace_sdk.

::

    XTraceError
    ├── ConfigurationError (ValueError)      a setting, option or environment variable is missing or wrong
    ├── InputError (ValueError)              an argument is wrong; the message names it
    │   └── DimensionMismatchError           a vector has another dimension than its context or store
    ├── WeakKeyError (ValueError)            a key breaks a rule of docs/security.md; the message names it
    ├── KeyMismatchError (ValueError)        parts of a key or context do not belong together
    ├── DecryptionError (ValueError)         wrong key, tampered or truncated: deliberately not told apart
    │   ├── CiphertextError                  a Paillier ciphertext is out of range or not well formed
    │   └── IntegrityError                   the server's answer was altered, or is not complete
    ├── NotLoadedError (RuntimeError)        a client without keys was asked to use them
    ├── KernelError (RuntimeError)           XTRACE_KERNEL names a kernel that cannot run here
    ├── KeyProviderError (RuntimeError)      a key service refused or failed       (x_vec.crypto.key_provider)
    ├── EmbeddingError, InferenceError       a model's service refused or failed   (x_vec.inference)
    ├── TransportError (OSError)             no answer from the server             (integrations.errors)
    └── ApiError                             the server answered an error: `status`, `message`, `request_id`
        └── one subclass for each kind of answer                                   (integrations.errors)

Each class also derives from the built-in type that comparable libraries raise, so that existing
``except ValueError`` clauses go on working.
"""

from __future__ import annotations


class XTraceError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(XTraceError, ValueError):
    """A setting, option or environment variable is missing or wrong."""


class InputError(XTraceError, ValueError):
    """An argument is wrong. The message names the argument and what was expected."""


class DimensionMismatchError(InputError):
    """A vector has another dimension than its context or store."""


class WeakKeyError(XTraceError, ValueError):
    """A key breaks a rule of ``docs/security.md``. The message names the rule and the way to opt in."""


class KeyMismatchError(XTraceError, ValueError):
    """Public key, secret key and configuration do not belong together."""


class DecryptionError(XTraceError, ValueError):
    """Wrong key, tampered or truncated data. Which of them it was is deliberately not told."""


class CiphertextError(DecryptionError):
    """A Paillier ciphertext is out of range or not well formed under this key."""


class IntegrityError(DecryptionError):
    """A server's answer is not what was stored and asked for. What was altered is deliberately not told."""


class NotLoadedError(XTraceError, RuntimeError):
    """A client that holds no keys was asked to use them."""


class KernelError(XTraceError, RuntimeError):
    """``XTRACE_KERNEL`` names a kernel that does not exist or cannot run on this machine."""


class ApiError(XTraceError):
    """A server answered with an error.

    Attributes:
        status: HTTP status code.
        message: the server's message.
        request_id: the server's id of the request, to quote in a bug report; may be None.
    """

    def __init__(self, status: int, message: str, request_id: str | None = None) -> None:
        super().__init__(f"{status} - {message}" + (f" (request {request_id})" if request_id else ""))
        self.status = status
        self.message = message
        self.request_id = request_id
