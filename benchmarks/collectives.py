"""What a program over many chips sends between them, read from its compiled text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .programs import BYTES, Instruction, instructions

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_ARRAY = re.compile(r"\b([a-z]+\d+[a-z0-9]*|pred)\[([\d,]*)\]")


@dataclass(frozen=True)
class Collective:
    """One exchange between chips, as often as one run of the program does it.

    Attributes:
        kind: of KINDS.
        axes: the axes of the mesh along which chips exchange, in the mesh's order.
        arrays: dtype and shape of what a chip has of it: what has been gathered, what is to be
            scattered.
        times: how often one run does it.
        source: the operation of JAX that it comes from.
    """

    kind: str
    axes: tuple[str, ...]
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    times: int
    source: str

    @property
    def bytes(self) -> int:
        """What a chip has of its arrays, in one run."""
        each = sum(BYTES[kind] * math.prod(shape) for kind, shape in self.arrays)
        return self.times * each


def collectives(text: str, mesh: Mapping[str, int]) -> list[Collective]:
    """Return what one run of a program sends between chips.

    Args:
        text: the compiled program's text.
        mesh: the size of each axis; the program's devices are the mesh's, in its order.

    Raises:
        ValueError: if it names groups of chips in a way that is not known here.
    """
    found = []
    seen: set[str] = set()
    for computation, instruction, times in instructions(text):
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        # One that goes on beside other work stands in each fusion that it passes through.
        if channel := re.search(r"channel_id=(\d+)", instruction.text):
            if channel[1] in seen:
                continue
            seen.add(channel[1])
        arrays = [
            (name, tuple(int(n) for n in shape.split(",") if n))
            for name, shape in _ARRAY.findall(instruction.result)
        ]
        if instruction.opcode.endswith("-start") and kind != "all-reduce":
            # Its result names the operand before it, and counters of a permute's after it.
            arrays = arrays[len(instruction.operands) : 2 * len(instruction.operands)]
        if computation.startswith("all-reduce-scatter"):
            kind = "reduce-scatter"  # as a TPU's compiler writes it: a sum, and a slice of that
        source = re.search(r'op_name="([^"]*)"', instruction.text)
        axes = _axes(_groups(instruction), mesh)
        found.append(Collective(kind, axes, tuple(arrays), times, source[1] if source else ""))
    return found


def _axes(groups: np.ndarray, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Return the axes along which the members of a group differ."""
    places = np.stack(np.unravel_index(groups, tuple(mesh.values())), axis=-1)
    differ = (places != places[:, :1]).any(axis=(0, 1))
    return tuple(name for name, is_crossed in zip(mesh, differ, strict=True) if is_crossed)


def _groups(instruction: Instruction) -> np.ndarray:
    """Return the groups of devices that exchange, one a row."""
    text = instruction.text
    if pairs := re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)+)\}", text):
        return np.array([p.split(",") for p in re.findall(r"\{(\d+,\d+)\}", pairs[1])], int)
    if listed := re.search(r"replica_groups=\{((?:\{[\d,]+\},?)+)\}", text):
        return np.array([g.split(",") for g in re.findall(r"\{([\d,]+)\}", listed[1])], int)
    if iota := re.search(rf"replica_groups=\[([\d,]+)\]<={_IOTA}", text):
        return _iota(iota[2], iota[3]).reshape([int(size) for size in iota[1].split(",")])
    if named := re.search(
        rf"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\({_IOTA}\))? \{{([^}}]*)\}}", text
    ):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
        over = re.findall(r"'(\w+)'", named[4])
        count = math.prod(sizes.values())
        devices = _iota(named[2] or str(count), named[3]).reshape(tuple(sizes.values()))
        order = [*(name for name in sizes if name not in over), *over]
        devices = devices.transpose([[*sizes].index(name) for name in order])
        return devices.reshape(-1, math.prod(sizes[name] for name in over))
    raise ValueError(f"unknown groups of chips: {text[:400]}")


# Numbers of devices as `[16,4]T(1,0)`: counted up in that shape, then transposed.
_IOTA = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"


def _iota(shape: str, order: str | None) -> np.ndarray:
    sizes = tuple(int(size) for size in shape.split(","))
    devices = np.arange(math.prod(sizes)).reshape(sizes)
    return devices.transpose([int(axis) for axis in order.split(",")]) if order else devices
