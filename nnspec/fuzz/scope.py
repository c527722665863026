"""Expressions of a file under parameters that may be bad: what cannot be said is None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import expression
from ..document import LayerSpec


def scope_of(spec: LayerSpec, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Parameters and derived values, or None where a value cannot be derived."""
    try:
        return spec.scope(params)
    except expression.ExpressionError:
        return None


def evaluated(text: str, names: Mapping[str, Any], spec: LayerSpec | None = None) -> Any:
    """The value of an expression, or None."""
    try:
        return expression.evaluate(text, names, spec.functions if spec else None)
    except expression.ExpressionError:
        return None
