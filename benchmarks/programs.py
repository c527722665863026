"""What a compiled program costs, read from its text.

A TPU's compiler writes beside most instructions how many cycles it expects of them. The rest
(windows, gathers, copies between memories) is priced by the bytes that it moves, at the rate of a
large addition, and the share so guessed is told. A loop counts as often as it runs; of branches,
the dearest counts. A GPU's compiler writes no estimate: there, kernels are counted, and their
bytes.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

BYTES = {
    "pred": 1, "s4": 1, "u4": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4,
    "s64": 8, "u64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16,
}  # fmt: skip
# They name what is there already.
FREE = frozenset((
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota",
    "partition-id", "replica-id", "optimization-barrier", "copy-done", "slice-done", "async-done",
    "async-update", "add-dependency",
))  # fmt: skip

FREE_CALLS = ("AllocateBuffer", "ConcatBitcast")

SLICES = frozenset(("slice", "dynamic-slice", "gather"))

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d+[a-z0-9]*|pred)\[([\d,]*)\](?:\{([^}]*)\})?")


@dataclass(frozen=True)
class Cost:
    """Of one run: cycles with the share that is guessed, bytes of main memory, kernels."""

    cycles: float = 0.0
    guessed: float = 0.0
    bytes: float = 0.0
    kernels: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.cycles + other.cycles, self.guessed + other.guessed,
            self.bytes + other.bytes, self.kernels + other.kernels,
        )  # fmt: skip

    def times(self, count: int) -> Cost:
        return Cost(*(count * v for v in (self.cycles, self.guessed, self.bytes, self.kernels)))


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    result: str
    opcode: str
    operands: tuple[str, ...]
    text: str
    is_root: bool

    def attribute(self, name: str) -> str | None:
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.text)
        return found[1] if found else None

    @property
    def branches(self) -> list[str]:
        """The computations of which a conditional runs one."""
        if listed := re.search(r"branch_computations=\{([^}]*)\}", self.text):
            return re.findall(r"%([\w.\-]+)", listed[1])
        sides = (self.attribute(f"{side}_computation") for side in ("true", "false"))
        return [side for side in sides if side is not None]

    @cached_property
    def cycles(self) -> int | None:
        found = re.search(r'"estimated_cycles":"(\d+)"', self.text)
        return int(found[1]) if found else None


def estimated_cycles(text: str) -> int:
    """Return the sum of the compiler's own estimates, each instruction once."""
    return sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', text)))


def cost(text: str, bytes_per_cycle: float) -> Cost:
    """Return what one run of a program costs.

    Args:
        text: The compiled program's text.
        bytes_per_cycle: The price of what has no estimate.
    """
    return _Program(text, bytes_per_cycle).cost_of(None)


def instructions(text: str) -> Iterator[tuple[str, Instruction, int]]:
    """Yield what one run of a program does, with how often: a loop's body as often as it runs.

    Of branches, all are told. First comes the name of the computation that it stands in.
    """
    yield from _Program(text, 1.0).runs(None, 1)


def moved(shape: str, only_main: bool) -> int:
    """Return the bytes of an array or tuple of arrays as laid out, tiles padded.

    Args:
        shape: As it stands in a program: `f32[8,56]{1,0:T(8,128)}`.
        only_main: Leave out what lies in a chip's own fast memory (`S(1)` and above).
    """
    total = 0
    for kind, dimensions, layout in _ARRAY.findall(shape):
        if kind not in BYTES or (only_main and re.search(r"S\([1-9]\)", layout)):
            continue
        total += BYTES[kind] * math.prod(_padded(dimensions, layout))
    return total


def _padded(dimensions: str, layout: str) -> list[int]:
    sizes = [int(d) for d in dimensions.split(",") if d]
    order, _, rest = layout.partition(":")
    tile = re.match(r"T\(([\d,]+)\)", rest)
    if not tile or not sizes:
        return sizes or [1]
    minor = [int(d) for d in order.split(",") if d]
    for dimension, length in zip(minor, reversed(tile[1].split(",")), strict=False):
        sizes[dimension] = -(-sizes[dimension] // int(length)) * int(length)
    return sizes


class _Program:
    def __init__(self, text: str, bytes_per_cycle: float):
        self.bytes_per_cycle = bytes_per_cycle
        self.computations: dict[str | None, list[Instruction]] = {}
        self.costs: dict[str | None, Cost] = {}
        current: list[Instruction] = []
        for line in text.splitlines():
            if found := _COMPUTATION.match(line):
                current = self.computations[found[2]] = []
                if found[1]:
                    self.computations[None] = current
            elif found := _INSTRUCTION.match(line):
                current.append(_read(found[2], found[3], bool(found[1])))

    def cost_of(self, name: str | None) -> Cost:
        if name not in self.costs:
            within = self.computations[name]
            shapes = {i.name: i.result for i in within}
            found = Cost()
            for instruction in within:
                found += self._priced(instruction, shapes)
            self.costs[name] = found
        return self.costs[name]

    def runs(self, name: str | None, times: int) -> Iterator[tuple[str, Instruction, int]]:
        for instruction in self.computations[name]:
            yield name or "", instruction, times
            inner = times * (self._trips(instruction) if instruction.opcode == "while" else 1)
            # What a reduction applies is no step of its own.
            called = [instruction.attribute(name) for name in ("body", "calls", "async_execution")]
            if instruction.opcode == "call":
                called.append(instruction.attribute("to_apply"))
            for computation in (*called, *instruction.branches):
                if computation in self.computations and computation is not None:
                    yield from self.runs(computation, inner)

    def _priced(self, instruction: Instruction, shapes: dict[str, str]) -> Cost:
        if instruction.opcode == "while":
            body = self.cost_of(instruction.attribute("body"))
            return body.times(self._trips(instruction))
        if instruction.opcode == "conditional":
            costs = map(self.cost_of, instruction.branches)
            return max(costs, key=lambda c: (c.cycles, c.kernels))
        if instruction.opcode == "call":
            return self.cost_of(instruction.attribute("to_apply"))
        if instruction.opcode in FREE or any(name in instruction.text for name in FREE_CALLS):
            return Cost()
        arrays = self._arrays(instruction, shapes)
        main = moved(arrays, only_main=True)
        if instruction.cycles is not None:
            return Cost(instruction.cycles, 0.0, main, 1)
        is_transfer = instruction.opcode.endswith("-start")
        guess = moved(arrays, only_main=is_transfer) / self.bytes_per_cycle
        return Cost(guess, guess, main, 1)

    def _arrays(self, instruction: Instruction, shapes: dict[str, str]) -> str:
        """What an instruction reads and writes: a slice of an array is not all of it."""
        read = [shapes.get(name, "") for name in instruction.operands]
        result = instruction.result
        if instruction.opcode == "slice-start":
            # Its result names the whole operand again, of which a part is moved to fast memory.
            return re.sub(r"S\(\d+\)", "", result.partition("), ")[2])
        if instruction.opcode.endswith("-start"):
            # The result of a transfer names its operand again, beside what is made.
            return result
        if instruction.opcode == "fusion":
            within = self.computations.get(instruction.attribute("calls"), [])
            read, result = _read_by_fusion(within, read), _written_by_fusion(within, result)
        elif instruction.opcode in SLICES:
            read[0] = result
        elif instruction.opcode == "dynamic-update-slice":
            read[0], result = "", read[1]
        return " ".join([*read, result])

    def _trips(self, loop: Instruction) -> int:
        if known := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.text):
            return int(known[1])
        # A counted loop, whose bound is the constant that its condition compares with.
        condition = self.computations[loop.attribute("condition")]
        bounds = [
            int(found[1]) for i in condition if i.opcode == "constant"
            if (found := re.search(r"constant\((\d+)\)", i.text))
        ]  # fmt: skip
        if not bounds:
            warnings.warn(
                f"a loop counts once: nothing says how often {loop.name} runs", stacklevel=2
            )
        return max(bounds, default=1)


def _read_by_fusion(within: list[Instruction], operands: list[str]) -> list[str]:
    """Of each operand what the fusion reads: its slices, where nothing else looks at it."""
    read = list(operands)
    for parameter in within:
        if parameter.opcode != "parameter":
            continue
        number = int(re.search(r"parameter\((\d+)\)", parameter.text)[1])  # type: ignore[index]
        uses = [i for i in within if parameter.name in i.operands]
        first = [i for i in uses if i.operands[0] == parameter.name]
        if not uses or len(first) != len(uses) or number >= len(read):
            continue
        if all(i.opcode in SLICES or i.opcode == "dynamic-update-slice" for i in uses):
            slices = " ".join(i.result for i in uses if i.opcode in SLICES)
            read[number] = min(slices, read[number], key=partial(moved, only_main=False))
    return read


def _written_by_fusion(within: list[Instruction], result: str) -> str:
    """What the fusion writes: of an array that it updates in place, the update."""
    shapes = {i.name: i.result for i in within}
    made = {i.name: i for i in within}
    roots = [i for i in within if i.is_root]
    if roots and roots[0].opcode == "tuple":
        roots = [made[name] for name in roots[0].operands]
    if not any(i.opcode == "dynamic-update-slice" for i in roots):
        return result
    return " ".join(
        shapes[i.operands[1]] if i.opcode == "dynamic-update-slice" else i.result for i in roots
    )


def _read(name: str, text: str, is_root: bool) -> Instruction:
    result, rest = _split_result(text)
    opcode, _, arguments = rest.partition("(")
    operands, depth = [], 1
    for position, letter in enumerate(arguments):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            operands = re.findall(r"%([\w.\-]+)", arguments[:position])
            break
    return Instruction(name, result, opcode, tuple(operands), text, is_root)


def _split_result(text: str) -> tuple[str, str]:
    """The type of a result, which may be a tuple of types, and what follows."""
    if not text.startswith("("):
        result, _, rest = text.partition(" ")
        return result, rest
    depth = 0
    for position, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            return text[: position + 1], text[position + 2 :]
    return text, ""
