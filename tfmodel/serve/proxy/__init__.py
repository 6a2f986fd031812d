"""A server in front of a TF Serving: passes on what comes, and keeps what can be learned from."""

from tfmodel.serve.proxy.front import Proxy

__all__ = ["Proxy"]
