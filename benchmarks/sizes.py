"""One import, every size: each architecture is imported once, and called at sizes never seen."""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table


def main(options: argparse.Namespace) -> int:
    """Print the table; the exit code says whether no call departs."""
    from .sizes_models import MODELS
    from .zoo_models import declare_torchvision

    declare_torchvision()
    wanted = [name.lower() for name in options.model or ()]
    names = [n for n in MODELS if not wanted or any(part in n.lower() for part in wanted)]
    kept = options.out / "sizes.json"
    rows: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    options.out.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("sizes", total=len(names))
        for name in names:
            progress.update(bar, description=name)
            if name not in rows or options.again:
                rows[name] = examined(name)
                kept.write_text(json.dumps(rows, indent=1) + "\n")
            progress.advance(bar)
    rows = {name: rows[name] for name in names}
    Console(width=150).print(table(rows))
    for name, row in rows.items():
        for call in row["calls"]:
            for why in ("why", "why not captured"):
                if why in call:
                    print(f"{name}, {call['sizes']}: {call[why]}")
    return 0 if all(is_right(row) for row in rows.values()) else 1


def is_right(row: dict[str, Any]) -> bool:
    """Whether each call agrees or is refused, and agrees where more may be captured."""
    bound = 1e-5
    return all(
        ("why" in call or call["error"] <= bound)
        and call["recaptured"] is not None
        and call["recaptured"] <= bound
        for call in row["calls"]
    )


def examined(name: str) -> dict[str, Any]:
    """Import one architecture, and call it at all of its sizes."""
    import torch

    import jaxnn
    from jaxnn.interop.importer.binding import Misfit

    from .sizes_models import MODELS

    torch.manual_seed(0)
    model, calls = MODELS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begun = time.process_time()
        net: Any = jaxnn.from_torch(model.eval(), (), calls[0], check=False)
        seconds = time.process_time() - begun
        again: Any = jaxnn.from_torch(model, (), calls[0], check=False, recapture=True)
        rows = []
        for call in calls:
            shapes = [list(v.shape) for v in call.values() if isinstance(v, torch.Tensor)]
            row: dict[str, Any] = {"sizes": ", ".join(map(str, shapes))}
            try:
                row["error"] = _error(net.eval(), model, call)
            except Misfit as error:
                row["why"] = str(error)
            try:
                row["recaptured"] = _error(again.eval(), model, call)
            except (TypeError, ValueError, NotImplementedError) as error:
                row["recaptured"], row["why not captured"] = None, str(error)
            rows.append(row)
    return {
        "import s": round(seconds, 1), "programs": len(jaxnn.interop.programs(net)),
        "programs at last": len(jaxnn.interop.programs(again)), "calls": rows,
    }  # fmt: skip


def _error(net: Any, model: Any, call: dict[str, Any]) -> float:
    """Return the largest error of an import's results, over the largest of each."""
    import jax
    import numpy as np
    import torch

    from .zoo import arrays_of

    with torch.no_grad():
        wanted = list(arrays_of(copy.deepcopy(model)(**call)))
    given = {n: v.numpy() if isinstance(v, torch.Tensor) else v for n, v in call.items()}
    got = [np.asarray(leaf) for leaf in jax.tree.leaves(net(**given))]
    if [a.shape for a in wanted] != [a.shape for a in got]:
        return float("nan")
    return max(
        float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6))
        for a, b in zip(wanted, got, strict=True)
        if a.size
    )


def table(rows: dict[str, Any]) -> Table:
    """Return the architectures, with the error of each call."""
    made = Table("architecture", "import s", "programs", "calls: sizes, error", "recaptured")
    for name, row in rows.items():
        calls = "\n".join(
            f"{call['sizes']}: {'refused' if 'why' in call else format(call['error'], '.0e')}"
            for call in row["calls"]
        )
        again = "\n".join(
            "no" if call["recaptured"] is None else format(call["recaptured"], ".0e")
            for call in row["calls"]
        )
        counts = f"{row['programs']} → {row['programs at last']}"
        made.add_row(name, str(row["import s"]), counts, calls, again)
    return made


def add_command(commands: Any) -> None:
    """Add `sizes` to the commands."""
    parser = commands.add_parser("sizes", help="imports at sizes that they have not seen")
    parser.add_argument("--model", action="append", help="architectures whose name has this")
    parser.add_argument("--again", action="store_true", help="also what has been examined")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    parser.set_defaults(command=main)
