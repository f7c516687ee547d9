"""Clients of services: `XTraceIntegration` speaks to a zero-knowledge server over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xtrace_sdk.integrations.xtrace import XTraceIntegration

__all__ = ["XTraceIntegration"]


def __getattr__(name: str) -> Any:
    if name == "XTraceIntegration":
        from xtrace_sdk.integrations.xtrace import XTraceIntegration

        return XTraceIntegration
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
