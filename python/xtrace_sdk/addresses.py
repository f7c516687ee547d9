"""Addresses of services, and which proxy leads there."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from xtrace_sdk.errors import ConfigurationError


def base_url(url: str, name: str) -> str:
    """`url` without trailing slashes. Raises ConfigurationError unless it is http or https with a host."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, TypeError, AttributeError):
        valid = False
    if not valid or "?" in url or "#" in url or not url.isprintable() or " " in url:
        raise ConfigurationError(f"{name}: expected http://HOST[:PORT] or https://HOST[:PORT]")
    return url.rstrip("/")


def is_loopback(host: str | None) -> bool:
    """Whether `host` names this machine's loopback interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def proxy_for(url: str) -> str | None:
    """The system's HTTP proxy for `url`; never one for this machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    proxy = getproxies().get(parts.scheme)
    return proxy if proxy and proxy.startswith("http") and not proxy_bypass(host) else None
