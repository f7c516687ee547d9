"""For every test: a clean environment, the kernel named in the header, hypothesis without a clock."""

import os

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
