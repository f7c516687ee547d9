"""From documents to encrypted chunks on a server."""

from xtrace_sdk.x_vec.data_loaders.loader import DataLoader

__all__ = ["DataLoader"]
