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

Place = tuple[int, int]


def is_message(frame: FrameType) -> bool:
    """Whether what a frame evaluates is part of an assertion, a warning or a line of a log.

    It is found in the source by the place of the instruction; without a source it is none.
    """
    places = list(frame.f_code.co_positions())
    line, last_line, column, last_column = places[frame.f_lasti // 2]
    if None in (line, last_line, column, last_column):
        return False
    begin, end = (line, column), (last_line, last_column)
    return any(
        first <= begin and end <= last for first, last in _messages(frame.f_code.co_filename)
    )


@lru_cache(maxsize=256)
def _messages(file: str) -> tuple[tuple[Place, Place], ...]:
    """Return where the messages of a file begin and end."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ()
    return tuple(
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in _message_nodes(tree)
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
