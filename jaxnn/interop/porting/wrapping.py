"""Lines that are too long, broken as ruff and Black break them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

WIDTH = 100
# Of the lines of a method.
INDENT = 8
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def wrapped(line: str, indent: int = 0) -> list[str]:
    r"""Return a statement as lines of at most `WIDTH` characters, where its brackets allow that.

    The content of its last brackets stands on a line of its own, or, where that is too long too,
    each item does.

    >>> wrapped("y = f(x)", 4)
    ['    y = f(x)']
    >>> print("\n".join(wrapped("y = function(" + ", ".join(["argument"] * 9) + ")")))
    y = function(
        argument, argument, argument, argument, argument, argument, argument, argument, argument
    )
    >>> print("\n".join(wrapped("is_even = (" + " + ".join(["argument"] * 8) + ") % 2 == 0")))
    is_even = (
        argument + argument + argument + argument + argument + argument + argument + argument
    ) % 2 == 0
    """
    margin = " " * indent
    if len(margin + line) <= WIDTH:
        return [margin + line]
    start, end = _last_brackets(line)
    content = line[start + 1 : end]
    if not content:
        return [margin + line]
    head, tail = margin + line[: start + 1], margin + line[end:]
    inner = " " * (indent + 4)
    element, loop = _comprehension(content)
    items = list(_items(content))
    has_name = bool(re.search(r"[\w)\]]$", line[:start]))
    # The items of a list or tuple stand alone; the arguments of a call may share a line.
    is_display = len(items) > 1 and not has_name
    # A comma would make a tuple of an expression in parentheses, or of an index.
    is_group = len(items) == 1 and (line[start] == "[" if has_name else line[start] == "(")
    if len(inner + content) <= WIDTH and not content.endswith(",") and not is_display:
        return [head, inner + content, tail]
    if loop:
        return [head, *wrapped(element, indent + 4), inner + loop, tail]
    if is_group and not content.endswith(","):
        return [head, *wrapped(content, indent + 4), tail]
    lines = [head]
    for item in items:
        lines += wrapped(f"{item},", indent + 4)
    return [*lines, tail]


def with_message(call: str, arguments: list[str], text: str, indent: int) -> list[str]:
    """Return a call whose last argument is a text, which is broken between words.

    >>> with_message("raise ValueError", [], "no", 4)
    ['    raise ValueError("no")']
    """
    content = ", ".join([*arguments, _quoted(text)])
    margin, inner = " " * indent, " " * (indent + 4)
    if len(f"{margin}{call}({content})") <= WIDTH:
        return [f"{margin}{call}({content})"]
    if len(inner + content) <= WIDTH:
        return [f"{margin}{call}(", inner + content, f"{margin})"]
    lines = [f"{margin}{call}("]
    for argument in arguments:
        lines += [inner + line for line in at_operators(f"{argument},", WIDTH - len(inner))]
    width = WIDTH - len(inner) - 3 - text.count("\\") - text.count('"')
    pieces = textwrap.wrap(
        text, width, drop_whitespace=False, break_long_words=False, break_on_hyphens=False
    )
    lines += [inner + _quoted(piece) for piece in pieces]
    return [*lines[:-1], lines[-1] + ("," if arguments else ""), f"{margin})"]


# Operators by how tightly they hold together.
_LEVELS = ((" or ",), (" and ",), (" == ", " != ", " <= ", " >= ", " < ", " > "), (" + ", " - "),
           (" * ", " // ", " % "))  # fmt: skip


def at_operators(expression: str, width: int) -> list[str]:
    """Return an expression as lines that begin with its operators, the loosest first.

    >>> at_operators("a == b and c == d", 12)
    ['a == b', 'and c == d']
    """
    if len(expression) <= width:
        return [expression]
    for signs in _LEVELS:
        places, depth = [0], 0
        for at, character in _code(expression):
            depth += (character in _CLOSING) - (character in _CLOSING.values())
            if depth == 0 and any(expression.startswith(sign, at) for sign in signs):
                places.append(at + 1)
        if len(places) > 1:
            ends = [*places[1:], len(expression) + 1]
            parts = [expression[a : b - 1].strip() for a, b in zip(places, ends, strict=True)]
            return [line for part in parts for line in at_operators(part, width)]
    return [expression]


def _quoted(text: str) -> str:
    quoted = repr(text)
    return quoted if '"' in text else f'"{quoted[1:-1]}"'


def _comprehension(content: str) -> tuple[str, str]:
    """Return a comprehension's element and its loop; no loop where it is none."""
    depth = 0
    for at, character in _code(content):
        depth += (character in _CLOSING) - (character in _CLOSING.values())
        if depth == 0 and content.startswith(" for ", at):
            return content[:at], content[at + 1 :]
    return content, ""


def _last_brackets(line: str) -> tuple[int, int]:
    """Return where the last outermost brackets that hold something open and close."""
    found, depth, start = (len(line), len(line)), 0, 0
    for at, character in _code(line):
        if character in _CLOSING:
            if depth == 0:
                start = at
            depth += 1
        elif character in _CLOSING.values():
            depth -= 1
            if depth == 0 and at > start + 1:
                found = (start, at)
    return found


def _items(content: str) -> Iterator[str]:
    """Yield what stands between the outermost commas."""
    depth, start = 0, 0
    for at, character in _code(content):
        if character in _CLOSING:
            depth += 1
        elif character in _CLOSING.values():
            depth -= 1
        elif character == "," and depth == 0:
            yield content[start:at].strip()
            start = at + 1
    if content[start:].strip():
        yield content[start:].strip()


def _code(line: str) -> Iterator[tuple[int, str]]:
    """Yield the characters that stand in no string, with their places."""
    quote = ""
    escaped = False
    for at, character in enumerate(line):
        if escaped:
            escaped = False
        elif quote:
            escaped = character == "\\"
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            yield at, character
