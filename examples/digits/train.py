"""Train an imported ResNet on handwritten digits, over all devices, and bring it back to PyTorch.

    python examples/digits/train.py --out run

A run that was stopped goes on from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Virtual devices of the CPU, where it is what JAX runs on; other platforms have the devices they
# have. XLA reads this when JAX starts, so it stands before the import.
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    )

import jax
import matplotlib
import numpy as np
import optax
import orbax.checkpoint as ocp
import torch
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from model import ResNet, make
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.datasets import load_digits

import jaxnn

matplotlib.use("Agg")

BATCH = 128
TEST = 384  # pictures held out; as BATCH, a number that the usual numbers of devices divide
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Pictures:
    """Pictures (N, 1, 8, 8) from 0 to 1, and their digits (N,)."""

    images: np.ndarray
    digits: np.ndarray

    def batch(self, step: int, seed: int) -> Pictures:
        """Draw the batch of a step: a function of the step, so that a run can be resumed."""
        chosen = np.random.default_rng((seed, step)).choice(len(self.digits), BATCH, replace=False)
        return Pictures(self.images[chosen], self.digits[chosen])


def load_pictures(seed: int) -> tuple[Pictures, Pictures]:
    """Return the pictures to learn from, and those held out."""
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    images = (data.images[order, None] / 16).astype(np.float32)
    digits = data.target[order].astype(np.int32)
    return Pictures(images[TEST:], digits[TEST:]), Pictures(images[:TEST], digits[:TEST])


class Training:
    """The imported network, its optimizer and the compiled steps, spread over a mesh.

    The weights are on every device, the batch is parted. BatchNorm's statistics are those of the
    whole batch, since under `jax.jit` the batch is one array.
    """

    def __init__(self, original: ResNet, mesh: Mesh) -> None:
        self.network = jaxnn.from_torch(original, torch.zeros(2, 1, 8, 8))
        jaxnn.sharding.shard(self.network, [], mesh)
        self.parted = NamedSharding(mesh, P("data"))
        evaluating = nnx.split(self.network.eval(), nnx.Param, ...)[0]
        training, parameters, statistics = nnx.split(self.network.train(), nnx.Param, ...)
        optimizer = optax.adamw(1e-3, weight_decay=1e-2)
        optimizer_state = jax.device_put(optimizer.init(parameters), NamedSharding(mesh, P()))
        self.state = (parameters, statistics, optimizer_state)

        # Donated, the old state's memory becomes the new state's.
        @partial(jax.jit, donate_argnums=0)
        def train(state: Any, images: jax.Array, digits: jax.Array) -> tuple[Any, jax.Array]:
            parameters, statistics, optimizer_state = state

            def loss_of(parameters: nnx.State) -> tuple[jax.Array, nnx.State]:
                network = nnx.merge(training, parameters, statistics, copy=True)
                loss = jaxnn.functional.cross_entropy(network(images), digits)
                return loss, nnx.state(network, nnx.Not(nnx.Param))

            (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
            updates, optimizer_state = optimizer.update(gradients, optimizer_state, parameters)
            return (optax.apply_updates(parameters, updates), statistics, optimizer_state), loss

        @jax.jit
        def count_correct(state: Any, images: jax.Array, digits: jax.Array) -> jax.Array:
            network = nnx.merge(evaluating, *state[:2])
            return (network(images).argmax(1) == digits).sum()

        self._train, self._count_correct = train, count_correct

    def train(self, pictures: Pictures) -> float:
        """Take one step, and return the loss before it."""
        self.state, loss = self._train(self.state, *self._place(pictures))
        return float(loss)

    def count_correct(self, pictures: Pictures) -> int:
        """Return how many pictures are recognised, in evaluation mode."""
        return int(self._count_correct(self.state, *self._place(pictures)))

    def memory(self, pictures: Pictures) -> Any:
        """Return what XLA says of the memory that a training step takes on each device."""
        compiled = self._train.lower(self.state, *self._place(pictures)).compile()
        return compiled.memory_analysis()

    def trained(self) -> nnx.Module:
        """Return the network with the present weights, in evaluation mode."""
        nnx.update(self.network, *self.state[:2])
        return self.network.eval()

    def _place(self, pictures: Pictures) -> tuple[jax.Array, jax.Array]:
        return jax.device_put((pictures.images, pictures.digits), self.parted)


class Checkpoints:
    """The training state and the history of a run, by step."""

    def __init__(self, folder: Path) -> None:
        self.manager = ocp.CheckpointManager(
            folder.resolve(), options=ocp.CheckpointManagerOptions(max_to_keep=2)
        )

    def restore(self, training: Training, history: dict[str, Any]) -> int:
        """Bring back the last checkpoint, if there is one, and return its step, else 0."""
        step = self.manager.latest_step()
        if step is None:
            return 0
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, training.state)
        restored = self.manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), history=ocp.args.JsonRestore()
            ),
        )
        training.state = restored.state
        history.update(restored.history)
        return int(step)

    def save(self, step: int, training: Training, history: dict[str, Any]) -> None:
        """Write a checkpoint, while training goes on."""
        self.manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(training.state), history=ocp.args.JsonSave(history)
            ),
        )

    def close(self) -> None:
        """Wait until everything is written."""
        self.manager.close()


def count_correct_in_torch(weights: dict[str, np.ndarray], pictures: Pictures) -> int:
    """Load the weights into the PyTorch model, and return how many pictures it recognises."""
    original = ResNet()
    original.load_state_dict(jaxnn.interop.to_torch(weights), strict=True)
    with torch.no_grad():
        logits = original.eval()(torch.from_numpy(pictures.images))
    return int((logits.argmax(1).numpy() == pictures.digits).sum())


def plot(history: dict[str, Any], path: Path) -> None:
    """Draw the loss of each step, and the accuracy on what was held out."""
    from matplotlib import pyplot

    figure, left = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    left.plot(range(1, len(history["losses"]) + 1), history["losses"], color="tab:blue", lw=1)
    left.set(xlabel="step", yscale="log")
    left.set_ylabel("training loss (cross entropy)", color="tab:blue")
    right = left.twinx()
    steps, correct = zip(*history["correct"], strict=True)
    accuracy = [100 * n / TEST for n in correct]
    right.plot(steps, accuracy, color="tab:orange", marker="o", ms=4)
    right.set_ylim(0, 101)
    right.set_ylabel(f"accuracy on {TEST} held-out digits (%)", color="tab:orange")
    left.set_title(
        f"Imported ResNet on handwritten digits: {accuracy[-1]:.1f} % after {steps[-1]} steps"
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def run(out: Path, steps: int, every: int, seed: int) -> bool:
    """Train up to `steps`, and return whether PyTorch scores the same with the weights."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    learned, held_out = load_pictures(seed)
    training = Training(make(seed), mesh)
    history: dict[str, Any] = {"losses": [], "correct": []}
    checkpoints = Checkpoints(out / "checkpoints")
    start = checkpoints.restore(training, history)
    if start:
        console.print(f"resumed at step {start}")

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=steps, completed=start)
        for step in range(start, steps):
            history["losses"].append(training.train(learned.batch(step, seed)))
            done = step + 1
            if done % every == 0 or done == steps:
                history["correct"].append((done, training.count_correct(held_out)))
                checkpoints.save(done, training, history)
            description = f"loss {history['losses'][-1]:.4f}"
            if history["correct"]:
                description += f", {history['correct'][-1][1]} of {TEST} right"
            progress.update(bar, advance=1, description=description)
    checkpoints.close()

    plot(history, out / "training.png")
    weights = jaxnn.state_dict(training.trained())
    ours, theirs = training.count_correct(held_out), count_correct_in_torch(weights, held_out)
    memory = training.memory(learned.batch(0, seed))
    console.print(f"{jax.device_count()} devices ({jax.devices()[0].device_kind})")
    donated, temporary = memory.alias_size_in_bytes, memory.temp_size_in_bytes
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - donated
    console.print(
        f"peak memory of a step on each device: {(kept + temporary) / 2**20:.2f} MiB, of it "
        f"{temporary / 2**20:.2f} temporary; donation saves {donated / 2**20:.2f}"
    )
    console.print(f"recognised in JAX {ours} of {TEST}, in PyTorch {theirs}")
    return ours == theirs


def main() -> int:
    """Run the command line; 1 where PyTorch scores otherwise than JAX."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("digits-run"), help="folder of the run")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=25, help="steps between two checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    return 0 if run(options.out, options.steps, options.every, options.seed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
