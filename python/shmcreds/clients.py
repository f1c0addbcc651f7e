"""A ``boto3.Session`` that keeps its clients and resources, in the caches of boto3-client-cache."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable
from typing import Any

import boto3


def load_cache() -> None:
    """Loads the package of the caches."""
    importlib.import_module("boto3_client_cache")


class CachingSession(boto3.Session):  # type: ignore[misc]
    """The caches and their package are loaded with the first client."""

    def __init__(self, **session: Any) -> None:
        super().__init__(**session)
        self._forget_clients()

    def _forget_clients(self) -> None:
        self._lock = threading.RLock()
        self._cache: Any = None

    @property
    def cache(self) -> Any:
        """The clients and resources that were made: ``cache.client.LRU`` and such."""
        with self._lock:
            if self._cache is None:
                from boto3_client_cache import SessionCache

                self._cache = SessionCache()
            return self._cache

    def client(
        self, *args: Any, eviction_policy: str | None = None, max_size: int | None = None, **kwargs: Any
    ) -> Any:
        """The client for these arguments of ``boto3.Session.client``: one that was made before, or a new one.

        ``eviction_policy`` is ``"LRU"``, the default, or ``"LFU"``; ``max_size`` changes how many clients are kept.
        """
        from boto3_client_cache import ClientCacheError, ClientCacheKey

        _check_policy(eviction_policy, ClientCacheError)
        make = functools.partial(super().client, *args, **kwargs)
        return self._kept(self.cache.client, ClientCacheKey(*args, **kwargs), make, eviction_policy, max_size)

    def resource(
        self, *args: Any, eviction_policy: str | None = None, max_size: int | None = None, **kwargs: Any
    ) -> Any:
        """The same for resources."""
        from boto3_client_cache import ResourceCacheError, ResourceCacheKey

        _check_policy(eviction_policy, ResourceCacheError)
        make = functools.partial(super().resource, *args, **kwargs)
        return self._kept(self.cache.resource, ResourceCacheKey(*args, **kwargs), make, eviction_policy, max_size)

    def _kept(
        self, caches: Any, key: Any, make: Callable[[], Any], policy: str | None, max_size: int | None
    ) -> Any:
        cache = caches[policy or "LRU"]
        with self._lock:
            if key not in cache:
                cache[key] = make()
            if max_size not in (None, cache.max_size):
                cache.max_size = max_size
            return cache[key]


def _check_policy(policy: str | None, error: type[Exception]) -> None:
    if policy not in (None, "LRU", "LFU"):
        raise error(f"'eviction_policy' is {policy!r}; it must be 'LRU' or 'LFU'.")
