import pytest

from xtrace_sdk.addresses import base_url, is_loopback, proxy_for
from xtrace_sdk.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("http://host", "http://host"),
        ("https://host:8700/v1//", "https://host:8700/v1"),
        ("http://[::1]:8700/", "http://[::1]:8700"),
    ],
)
def test_base_url(url: str, clean: str) -> None:
    assert base_url(url, "api_url") == clean


@pytest.mark.parametrize(
    "url",
    [
        "", "host", "host:1", "ftp://host", "http://", "http://:80", "http://h:x", "http://h:99999", "http://h:0",
        "http://h?a=b", "http://h#a", "http://h h", "http://h\n", "http://[::1", None, 5, b"http://h",
    ],
)  # fmt: skip
def test_malformed_url(url: object) -> None:
    with pytest.raises(ConfigurationError, match="api_url: expected http://"):
        base_url(url, "api_url")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("", False), (None, False),
     ("10.0.0.1", False), ("localhost.example", False)],
)  # fmt: skip
def test_loopback(host: str | None, local: bool) -> None:
    assert is_loopback(host) is local


def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("https_proxy", "socks5://proxy:1080")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_for("http://outside.example/x") == "http://proxy:3128"
    assert proxy_for("https://outside.example") is None  # a kind that is not spoken here
    assert proxy_for("http://inside.example") is None
    assert proxy_for("http://127.0.0.1:8700") is None
    assert proxy_for("http://[::1]:8700") is None
