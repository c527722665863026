"""What is raised where a condition's answer is not known, as of sizes that are symbols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax


class Undecided(jax.errors.InconclusiveDimensionOperation):
    """What is known of symbolic sizes does not say whether a condition holds.

    Attributes:
        text: the condition, as a Guard has it.
        line: the line of the model that asks for it.
        sizes: those of the call's arrays, by their names in it.
    """

    def __init__(self, text: str, line: str, sizes: Mapping[str, Any], reason: str) -> None:
        super().__init__(
            f"whether {text} holds is not known for {dict(sizes)}: {reason} State it among the "
            "constraints of the symbolic sizes"
        )
        self.text, self.line, self.sizes = text, line, sizes
