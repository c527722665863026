"""Groups of lines that differ in the place of a list's item alone, as loops over the list."""

from __future__ import annotations

import re
from collections.abc import Callable

from .code import RESERVED, is_name
from .wrapping import INDENT, WIDTH

_PLACED = re.compile(r"self((?:\.\w+)+)\[(\d+)\]")


def rolled(lines: list[str], length_of: Callable[[str], int]) -> list[str]:
    """Write groups of lines that differ in the place of one list's item as a loop."""
    at = 0
    while at < len(lines):
        placed = _PLACED.search(lines[at])
        if placed is not None:
            loop = _loop(lines, at, placed, length_of)
            if loop is not None:
                lines = [*lines[:at], *loop[0], *lines[loop[1] :]]
        at += 1
    return lines


def _loop(
    lines: list[str], at: int, placed: re.Match[str], length_of: Callable[[str], int]
) -> tuple[list[str], int] | None:
    """Return a loop that is the lines from `at` on, and the line after these."""
    path, first = placed[1], int(placed[2])
    for length in range(1, (len(lines) - at) // 2 + 1):
        groups: list[list[str]] = []
        while True:
            start = at + len(groups) * length
            group = _of_item(lines[start : start + length], path, first + len(groups))
            if group is None or len(group) < length or (len(groups) > 1 and group != groups[1]):
                break
            groups.append(group)
        if len(groups) < 2:
            continue
        before = _before_loop(groups[0], groups[1])
        if before is None:
            continue
        end = first + len(groups)
        of = f"self{path}"
        if (first, end) != (0, length_of(path)):
            of = f"list({of})[{first or ''}:{end}]"
        name = _loop_variable(path, "\n".join(groups[1]))
        body = [f"    {line}".replace("<item>", name) for line in groups[1]]
        if any(len(line) > WIDTH for line in body):
            return None
        margin = " " * INDENT
        return [*before, f"{margin}for {name} in {of}:", *body], at + len(groups) * length
    return None


def _before_loop(first: list[str], second: list[str]) -> list[str] | None:
    """Return what makes the first group of lines equal to the second: nothing, or `y = x`."""
    if first == second:
        return []
    words = [re.findall(r"\w+", " ".join(group)) for group in (first, second)]
    pairs = {(a, b) for a, b in zip(*words, strict=False) if a != b}
    if len(pairs) != 1:
        return None
    given, kept = pairs.pop()
    text, margin = "\n".join(first), " " * INDENT
    is_read = re.search(rf"\b{kept}\b", re.sub(rf"(?m)^\s*{kept} = ", "", text))
    if is_read or not is_name(kept) or not is_name(given):
        return None
    is_one = re.sub(rf"(?<![\w.]){given}(?!\w|=)", kept, text) == "\n".join(second)
    return [f"{margin}{kept} = {given}"] if is_one else None


def _of_item(lines: list[str], path: str, place: int) -> list[str] | None:
    """Return lines that speak of one item of a list alone, with a mark in its place."""
    written = [line.replace(f"self{path}[{place}]", "<item>") for line in lines]
    text = "\n".join(written)
    if not lines or "<item>" not in text or f"self{path}[" in text or "return" in text:
        return None
    return written


def _loop_variable(path: str, text: str) -> str:
    last = path.rpartition(".")[2]
    singular = last[:-1] if last.endswith("s") and len(last) > 2 else "item"
    used = set(re.findall(r"\w+", text)) | RESERVED
    return next(name for name in (singular, "layer", "part", f"{last}_item") if name not in used)
