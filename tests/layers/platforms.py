"""The formulation that another platform gets, run here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import jax
from jax import lax


@contextmanager
def formulated_for(platform: str) -> Iterator[None]:
    """What is traced within is what a program for `platform` ("tpu", "cuda") holds."""

    def chosen(*arguments: Any, default: Callable[..., Any], **branches: Any) -> Any:
        return branches.get(platform, default)(*arguments)

    jax.clear_caches()
    with mock.patch.object(lax, "platform_dependent", chosen):
        yield
    jax.clear_caches()
