"""Whole models over many chips: imported without values, placed, and made into steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
import torch
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnn
from jaxnn.sharding import Plan, Rules

from .models import ResNet50


@dataclass(frozen=True)
class Step:
    """A program over a mesh that can be compiled, and what was planned for it.

    Attributes:
        mesh: the chips.
        plan: what each holds.
        gather: the axes over which weights are gathered where they are read.
        function: the step.
        arguments: shapes with shardings.
        out_shardings: as `jax.jit` takes them.
        donated: the places of the arguments that the step replaces.
    """

    mesh: Mesh
    plan: Plan
    gather: tuple[str, ...]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    out_shardings: Any
    donated: tuple[int, ...]

    def lower(self) -> Any:
        return jax.jit(
            self.function, out_shardings=self.out_shardings, donate_argnums=self.donated
        ).lower(*self.arguments)


@dataclass(frozen=True)
class Model:
    """A step by its name.

    Attributes:
        name: with the sizes.
        axes: the mesh's axes with their sizes; one of 0 takes what is left of the chips. The first
            that fits the chips as they are wired is taken.
        make: the step, from the mesh, and whether it is to be narrow, for a test.
    """

    name: str
    axes: tuple[dict[str, int], ...]
    make: Callable[[Mesh, bool], Step]

    def mesh(self, topology: Any) -> Mesh:
        for axes in self.axes:
            known = math.prod(size or 1 for size in axes.values())
            shape = [size or len(topology.devices) // known for size in axes.values()]
            try:
                return topologies.make_mesh(topology, shape, tuple(axes))
            except NotImplementedError:
                continue
        raise ValueError(f"{self.name}: no mesh of {self.axes} fits {topology}")


# --- steps ------------------------------------------------------------------------------------


def training_step(
    net: nnx.Module,
    rules: Rules,
    mesh: Mesh,
    loss: Callable[..., jax.Array],
    inputs: Sequence[Any],
    gather: tuple[str, ...] = (),
) -> Step:
    """One step of AdamW, which replaces parameters, optimizer's state and statistics.

    Args:
        loss: of the model and the inputs.
        inputs: shapes with shardings.
    """
    optimizer = optax.adamw(1e-4)
    plan = jaxnn.sharding.plan(net, rules, mesh, optimizer=optimizer)
    jaxnn.sharding.shard(net, rules, mesh, gather=gather)
    graphdef, params, rest = nnx.split(net, nnx.Param, ...)
    rest = _everywhere(rest, mesh)
    placed = jaxnn.sharding.optimizer_shardings(optimizer, params)
    state = jax.tree.map(_placed, jax.eval_shape(optimizer.init, _bare(params)), placed)

    def step(params: Any, state: Any, rest: Any, *inputs: Any) -> Any:
        def value(params: Any) -> Any:
            model = nnx.merge(graphdef, params, rest, copy=True)
            return loss(model, *inputs), nnx.state(model, nnx.Not(nnx.Param))

        (found, new_rest), gradients = jax.value_and_grad(value, has_aux=True)(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, new_state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), new_state, new_rest, found

    out = (*map(_shardings, (params, state, rest)), NamedSharding(mesh, P()))
    return Step(mesh, plan, gather, step, (params, state, rest, *inputs), out, (0, 1, 2))


def _placed(shape: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _bare(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _shardings(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def _everywhere(tree: Any, mesh: Mesh) -> Any:
    """Place on every chip what nothing else has placed."""

    def placed(leaf: Any) -> Any:
        own = getattr(leaf, "sharding", None)
        return _placed(leaf, own if isinstance(own, NamedSharding) else NamedSharding(mesh, P()))

    return jax.tree.map(placed, tree)


def _input(mesh: Mesh, shape: tuple[int, ...], dtype: Any, *spec: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))


# --- a Llama ----------------------------------------------------------------------------------

_INTO_HEADS = r".*\.(q|k|v|gate|up)_proj\.weight|.*embed_tokens\.weight|lm_head\.weight"
_OUT_OF_HEADS = r".*\.(o|down)_proj\.weight"
LLAMA_RULES: Rules = [(_INTO_HEADS, P("model", "data")), (_OUT_OF_HEADS, P("data", "model"))]
DECODING_RULES: Rules = [(_INTO_HEADS, P("model")), (_OUT_OF_HEADS, P(None, "model"))]


def llama(narrow: bool) -> Any:
    """transformers' Llama of 7B parameters, in bfloat16 on the meta device."""
    from .zoo_models import declare_torchvision

    declare_torchvision()
    import transformers

    sizes = {
        "vocab_size": 1024, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2,
        "num_attention_heads": 8,
    } if narrow else {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
    }  # fmt: skip
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    return model.bfloat16()


def _llama_training(mesh: Mesh, narrow: bool) -> Step:
    length = 128 if narrow else 2048
    options = {"use_cache": False, "return_dict": False}
    ids = torch.zeros((2, length), dtype=torch.long)
    net = jaxnn.from_torch(llama(narrow), (), {"input_ids": ids, **options}, check=False)
    net = jaxnn.remat(net, r"model\.layers\.\d+")
    net.train()

    def loss(model: Any, ids: jax.Array) -> jax.Array:
        logits = model(input_ids=ids, **options)[0][:, :-1].astype(jnp.float32)
        picked = jnp.take_along_axis(logits, ids[:, 1:, None], axis=-1)[..., 0]
        return (jax.nn.logsumexp(logits, axis=-1) - picked).mean()

    inputs = [_input(mesh, (4 * mesh.shape["data"], length), jnp.int32, "data")]
    return training_step(net, LLAMA_RULES, mesh, loss, inputs, ("data",))


def _llama_decoding(mesh: Mesh, narrow: bool) -> Step:
    """One token for each of many sequences, over a cache that is parted by sequence and head."""
    import transformers

    model = llama(narrow).eval()
    config = model.config
    batch, length = 4 * mesh.shape["data"], 128 if narrow else 4096
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    with torch.device("meta"):
        cache = transformers.StaticCache(config=config, max_cache_len=length)
        for layer in cache.layers:
            one = torch.zeros((batch, heads, 1, size), dtype=torch.bfloat16)
            layer.lazy_initialization(one, one)
        ids = torch.zeros((batch, 1), dtype=torch.long)
    example = {"input_ids": ids, "position_ids": ids, "cache": cache, "use_cache": True}
    net: Any = jaxnn.from_torch(model, (), example, dynamic=False, check=False)
    net.eval()
    plan = jaxnn.sharding.shard(net, DECODING_RULES, mesh)
    graphdef, state = nnx.split(net)
    state = _everywhere(state, mesh)
    keys = _input(mesh, (batch, heads, length, size), jnp.bfloat16, "data", "model")
    filled = _input(mesh, (), jnp.int32)
    caches = [{"keys": keys, "values": keys, "cumulative_length": filled} for _ in cache.layers]

    def step(state: Any, caches: Any, ids: jax.Array, positions: jax.Array) -> Any:
        given = [
            {**_constants(layer), **own} for layer, own in zip(cache.layers, caches, strict=True)
        ]
        model = nnx.merge(graphdef, state)
        record = {"layers": given, **_constants(cache)}
        found = model(input_ids=ids, position_ids=positions, cache=record, use_cache=True)
        new = [{name: layer[name] for name in caches[0]} for layer in found["cache"]["layers"]]
        return found["logits"][:, -1].argmax(-1).astype(jnp.int32), new

    tokens = _input(mesh, (batch, 1), jnp.int32, "data")
    out = (NamedSharding(mesh, P("data")), _shardings(caches))
    return Step(mesh, plan, (), step, (state, caches, tokens, tokens), out, (1,))


def _constants(owner: Any) -> dict[str, Any]:
    """What an object of transformers holds beside tensors and layers, as the import has it."""
    return {
        name: None if isinstance(value, torch.device) else value
        for name, value in vars(owner).items()
        if not isinstance(value, (torch.Tensor, list))
    }


# --- a ResNet ---------------------------------------------------------------------------------


def _resnet(mesh: Mesh, narrow: bool) -> Step:
    size = 64 if narrow else 224
    with torch.device("meta"):
        model = ResNet50()
    net = jaxnn.from_torch(model, torch.zeros(2, 3, size, size), check=False)

    def loss(model: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = jaxnn.mixed_precision(model)(images)
        return jaxnn.functional.cross_entropy(logits, labels)

    batch = mesh.size * (2 if narrow else 32)
    inputs = [
        _input(mesh, (batch, 3, size, size), jnp.float32, "data"),
        _input(mesh, (batch,), jnp.int32, "data"),
    ]
    return training_step(net, [], mesh, loss, inputs)


# --- a mixture of experts ---------------------------------------------------------------------


class Experts(nnx.Module):
    """A layer whose tokens each go to one of many feed-forward networks (Switch, GShard).

    A group of tokens sends at most `capacity` to each; what is over goes by. The mesh has an expert
    on each place of its axis `expert`: tokens are sent there and back, which is said here, since
    the compiler would gather the experts' weights.
    """

    def __init__(self, width: int, hidden: int, experts: int, capacity: int, mesh: Mesh):
        self.capacity, self.mesh = capacity, mesh
        self.gate = jaxnn.Linear(width, experts, bias=False, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
        self.up = nnx.Param(jnp.zeros((experts, width, hidden), jnp.bfloat16))
        self.down = nnx.Param(jnp.zeros((experts, hidden, width), jnp.bfloat16))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Groups, tokens, features in and out."""
        chances = jax.nn.softmax(self.gate(x).astype(jnp.float32))
        goes = jax.nn.one_hot(chances.argmax(-1), chances.shape[-1], dtype=jnp.int32)
        place = (goes.cumsum(1) * goes).sum(-1) - 1
        sits = jax.nn.one_hot(place, self.capacity, dtype=x.dtype)
        dispatch = goes.astype(x.dtype)[..., None] * sits[..., None, :]
        home, away = P(None, ("data", "expert")), P("expert", "data")
        sent = self._moved(jnp.einsum("gsec,gsd->egcd", dispatch, x), home, away)
        hidden = jax.nn.gelu(jnp.einsum("egcd,edf->egcf", sent, self.up[...]))
        back = self._moved(jnp.einsum("egcf,efd->egcd", hidden, self.down[...]), away, home)
        weight = chances.max(-1).astype(x.dtype)[..., None, None] * dispatch
        return jnp.einsum("gsec,egcd->gsd", weight, back)

    def _moved(self, x: jax.Array, *specs: P) -> jax.Array:
        """Place it in turn, and its gradient in the other order."""
        for spec in specs:
            x = jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))
        return x


def _experts(mesh: Mesh, narrow: bool) -> Step:
    width, hidden, tokens = (256, 512, 128) if narrow else (4096, 14336, 1024)
    experts = mesh.shape["expert"]
    capacity = 2 * tokens // experts
    net = nnx.eval_shape(
        lambda: nnx.List([Experts(width, hidden, experts, capacity, mesh) for _ in range(2)])
    )

    def loss(blocks: Any, x: jax.Array) -> jax.Array:
        for block in blocks:
            x = x + nnx.remat(lambda block, x: block(x))(block, x)
        return (x.astype(jnp.float32) ** 2).mean()

    # Groups of tokens are spread over all chips, experts over one axis.
    inputs = [_input(mesh, (2 * mesh.size, tokens, width), jnp.bfloat16, ("data", "expert"))]
    rules: Rules = [(r".*\.(up|down)", P("expert", None, "data"))]
    return training_step(net, rules, mesh, loss, inputs, ("data",))


_WITH_HEADS = ({"data": 0, "model": 4}, {"data": 0, "model": 8})
MODELS = {
    "llama": Model("Llama 7B, training", _WITH_HEADS, _llama_training),
    "decode": Model("Llama 7B, decoding", _WITH_HEADS, _llama_decoding),
    "resnet": Model("ResNet-50, training by data", ({"data": 0},), _resnet),
    "experts": Model("mixture of experts, training", ({"data": 0, "expert": 8},), _experts),
}
