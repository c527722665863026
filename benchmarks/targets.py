"""Chips that this machine compiles for and need not have: a TPU's compiler, or a GPU's.

The compilers are those that run where the chips are; what they make of a program is exact, and the
same on any machine.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

TPU_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TF_CPP_MIN_LOG_LEVEL": "3",
    # No chip is held, so that any number of processes may compile at once.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}  # fmt: skip
# Autotuning would time kernels on a GPU, and there is none.
GPU_ENVIRONMENT = {
    "JAX_PLATFORMS": "cuda,cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "XLA_FLAGS": "--xla_gpu_autotune_level=0", "TF_CPP_MIN_LOG_LEVEL": "3",
}  # fmt: skip
H200 = """
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048
  shared_memory_per_block: 49152  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  memory_bandwidth: 4800000000000  l2_cache_size: 52428800  device_memory_size: 150000000000
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H200"
"""
"""What the compiler is told of an H200: it has no other way to know."""

TOPOLOGIES = {"tpu:v5e": "v5e:2x2", "tpu:v6e": "v6e:2x2", "gpu:h200": "1x1x1"}


class NotInstalled(Exception):
    """The compiler of a target is missing; the message says how to install it."""


def prepare(name: str) -> None:
    """Set the environment for a target; before jax is imported.

    Raises:
        NotInstalled: The compiler is not installed.
        ValueError: The name is of no TPU and no GPU.
    """
    kind = name.partition(":")[0]
    compilers = {"tpu": "libtpu", "gpu": "jax_cuda12_plugin"}
    if kind not in compilers:
        raise ValueError(f"a target is tpu:NAME or gpu:NAME, got {name!r}")
    module = compilers[kind]
    if importlib.util.find_spec(module) is None:
        raise NotInstalled(
            f"compiling for {name} needs the package {module}: install the extra {kind}-aot "
            f"(pip install -e '.[{kind}-aot]')"
        )
    for key, value in (TPU_ENVIRONMENT if kind == "tpu" else GPU_ENVIRONMENT).items():
        os.environ.setdefault(key, value)


@dataclass(frozen=True)
class Target:
    """A chip by its name, `tpu:v5e`, with what its compiler says of a copy and of a product."""

    name: str

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]

    @cached_property
    def topology(self) -> Any:
        from jax.experimental import topologies

        shape = TOPOLOGIES.get(self.name, self.name.partition(":")[2])
        if self.kind == "tpu":
            return topologies.get_topology_desc(shape, "tpu")
        return topologies.get_topology_desc(
            topology_name="h200", platform="cuda", topology=shape, target_config=H200
        )

    @cached_property
    def chip(self) -> Any:
        from jax.sharding import SingleDeviceSharding

        return SingleDeviceSharding(self.topology.devices[0])

    def compiled(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Return the program of `function` for one chip, from the shapes of `arguments`."""
        import jax

        return jax.jit(function, **options).lower(*self.abstract(arguments)).compile()

    def abstract(self, tree: Any) -> Any:
        """Return `tree` with its arrays' shapes in place of arrays, each on the chip."""
        import jax

        def placed(leaf: Any) -> Any:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.chip)

        return jax.tree.map(placed, tree)

    @cached_property
    def bytes_per_cycle(self) -> float:
        """What a large addition reads and writes in one cycle, by the compiler's estimate."""
        import jax.numpy as jnp

        from .programs import estimated_cycles

        large = jnp.zeros((1, 1), jnp.float32).aval.update(shape=(8192, 4096))
        text = self.compiled(lambda x: x + 1, large).as_text()
        return 2 * 8192 * 4096 * 4 / estimated_cycles(text)

    @cached_property
    def flops_per_cycle(self) -> float:
        """What a large product in bfloat16 computes in one cycle, by the compiler's estimate."""
        import jax.numpy as jnp

        from .programs import estimated_cycles

        large = jnp.zeros((1, 1), jnp.bfloat16).aval.update(shape=(4096, 4096))
        text = self.compiled(lambda x: x @ x, large).as_text()
        return 2 * 4096**3 / estimated_cycles(text)
