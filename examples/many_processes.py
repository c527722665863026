"""Train an imported model in several processes, and go on where it stopped when one of them dies.

    python examples/many_processes.py --processes 2 --out run

starts the processes on this machine, joined by `jax.distributed` over loopback. The embedding's
rows are parted over them, so is every batch, and batch normalization takes the statistics of the
whole batch. Give the same command again after a failure, and it goes on from the last checkpoint,
also with another number of processes. On a cluster, start `--process I --coordinator HOST:PORT` on
each machine in place of the launcher, with a folder that all of them see.

It needs PyTorch, and `pip install orbax-checkpoint`.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

ROWS, WORDS, CLASSES = 96, 8, 3  # of the embedding; in a sentence; of sentences
BATCH = 48


# --- the launcher -------------------------------------------------------------------------------


def launch(options: argparse.Namespace) -> int:
    """Start the processes and wait; where one fails, end the others and say which it was."""
    coordinator = f"127.0.0.1:{_free_port()}"
    command = [sys.executable, __file__, *sys.argv[1:], "--coordinator", coordinator]
    workers = [subprocess.Popen([*command, "--process", str(i)]) for i in range(options.processes)]
    try:
        while True:
            codes = [worker.poll() for worker in workers]
            failed = [_described(i, code) for i, code in enumerate(codes) if code]
            if failed:
                # The others wait in a collective operation for what will not come.
                print(
                    f"{'; '.join(failed)}: the run is stopped. Give the same command again, and "
                    f"it goes on from the last checkpoint in {options.out}",
                    file=sys.stderr,
                )
                return 1
            if not any(code is None for code in codes):
                return 0
            time.sleep(0.05)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _described(process: int, code: int) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with {code}"
    return f"process {process} {how}"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# --- a process ----------------------------------------------------------------------------------


def sentences(step: int) -> tuple[Any, Any]:
    """Draw the batch of a step: random words, and the class that most of them are of."""
    import numpy as np

    words = np.random.default_rng(step).integers(0, ROWS, (BATCH, WORDS)).astype(np.int32)
    votes = (words[..., None] % CLASSES == np.arange(CLASSES)).sum(1)
    return words, votes.argmax(1).astype(np.int32)


def make_model() -> Any:
    """Return the PyTorch model, the same in every process."""
    import torch
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(ROWS, 16)
            self.up = nn.Linear(16, 32)
            self.norm = nn.BatchNorm1d(32)
            self.head = nn.Linear(32, CLASSES)

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.up(self.table(words).mean(1))).relu())

    torch.manual_seed(0)
    return Classifier(), torch.zeros(2, WORDS, dtype=torch.int64)


def work(options: argparse.Namespace) -> int:
    """Train as one of the processes."""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(options.coordinator, options.processes, options.process)

    import optax
    import orbax.checkpoint as ocp
    from flax import nnx
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    import jaxnn

    # --- the model, over all processes
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    network = jaxnn.from_torch(*make_model())
    network = jaxnn.SyncBatchNorm.convert_sync_batchnorm(network)
    jaxnn.sharding.shard(network, [("table.weight", P("data"))], mesh)
    graphdef, parameters, rest = nnx.split(network, nnx.Param, ...)
    optimizer = optax.adam(1e-2)
    # Under jit, so that the state lies where the parameters lie.
    state = (parameters, rest, jax.jit(optimizer.init)(parameters))
    state = jax.tree.map(partial(_on_all, NamedSharding(mesh, P())), state)

    @partial(jax.jit, donate_argnums=0)
    def train(state: Any, words: jax.Array, classes: jax.Array) -> tuple[Any, jax.Array]:
        parameters, rest, moments = state

        def loss_of(parameters: Any) -> Any:
            model = nnx.merge(graphdef, parameters, rest, copy=True)
            loss = jaxnn.functional.cross_entropy(model(words), classes)
            return loss, nnx.state(model, nnx.Not(nnx.Param))

        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
        updates, moments = optimizer.update(gradients, moments, parameters)
        return (optax.apply_updates(parameters, updates), rest, moments), loss

    def batch(step: int) -> tuple[jax.Array, ...]:
        parted = NamedSharding(mesh, P("data"))
        return tuple(
            jax.make_array_from_callback(array.shape, parted, array.__getitem__)
            for array in sentences(step)
        )

    # --- the last checkpoint, if there is one
    losses: list[float] = []
    manager = ocp.CheckpointManager((options.out / "checkpoints").resolve())
    start = manager.latest_step() or 0
    if start:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        kept = manager.restore(
            start,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), losses=ocp.args.JsonRestore()
            ),
        )
        state, losses = kept.state, kept.losses
    first = options.process == 0
    if first and start:
        print(f"resumed at step {start}", flush=True)

    for step in range(start, options.steps):
        if (options.process, step) == (options.die_process, options.die_at):
            os.kill(os.getpid(), signal.SIGKILL)
        state, loss = train(state, *batch(step))
        losses.append(float(loss))
        if (step + 1) % options.every == 0 or step + 1 == options.steps:
            kept = ocp.args.Composite(
                state=ocp.args.StandardSave(state), losses=ocp.args.JsonSave(losses)
            )
            manager.save(step + 1, args=kept)
            manager.wait_until_finished()
    manager.close()
    if first:
        rows = state[0]["table"]["weight"][...].addressable_shards[0].data.shape[0]
        print(f"{jax.process_count()} processes, {rows} of {ROWS} rows in each")
        print(f"loss {losses[0]:.4f} at first, {losses[-1]:.4f} after {len(losses)} steps")
    jax.distributed.shutdown()
    return 0


def _on_all(everywhere: Any, array: Any) -> Any:
    """Put on all devices what is on one alone, such as the optimizer's count."""
    import jax

    return array if len(array.sharding.device_set) > 1 else jax.device_put(array, everywhere)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
    parser.add_argument("--out", type=Path, default=Path("processes-run"))
    parser.add_argument("--die-at", type=int, help="step at which a process is killed, to try it")
    parser.add_argument("--die-process", type=int, default=1, help="which one")
    parser.add_argument("--coordinator", help="HOST:PORT of process 0, for a process of a cluster")
    parser.add_argument("--process", type=int, help="the number of this process, from 0")
    options = parser.parse_args()
    return launch(options) if options.process is None else work(options)


if __name__ == "__main__":
    raise SystemExit(main())
