"""Texts that a model writes for people to read, on which nothing of its result depends."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from functools import lru_cache
from types import FrameType

# What a message is given to, by the last part of its name.
_TAKES_MESSAGES = frozenset(
    ["_assert", "_check", "print", "warn", "debug", "info", "warning", "error", "exception", "log"]
)

# First line, last line, first column, last column.
Place = tuple[int | None, ...]


def is_message(frame: FrameType) -> bool:
    """Whether what a frame evaluates is part of an assertion, a warning or a line of a log.

    It is found in the source by the place of the instruction, which must be that of an expression
    there; without a source, or with another one, it is none.
    """
    code = frame.f_code
    place: Place = list(code.co_positions())[frame.f_lasti // 2]
    linecache.checkcache(code.co_filename)
    return place in _messages("".join(linecache.getlines(code.co_filename)))


@lru_cache(maxsize=256)
def _messages(source: str) -> frozenset[Place]:
    """Return the places of all that is written in the messages of a file."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return frozenset()
    return frozenset(
        (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)
        for message in _message_nodes(tree)
        for node in ast.walk(message)
        if isinstance(node, ast.expr)
    )


def _message_nodes(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and node.msg is not None:
            yield node.msg
        elif isinstance(node, ast.Raise) and node.exc is not None:
            yield node.exc
        elif isinstance(node, ast.Expr) and _takes_messages(node.value):
            yield node.value  # a statement, so that nothing takes what the call returns


def _takes_messages(call: ast.expr) -> bool:
    if not isinstance(call, ast.Call):
        return False
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in _TAKES_MESSAGES
