"""`save_lora` and `load_lora`: adapters in a folder as PEFT writes and reads it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from .._dtypes import accumulation_dtype
from ..modules._module import RandomSource, keys_for_parts
from ..modules._state import named_variables, shortened, title
from .checkpoint import as_numpy, read_weights, settled, shape_and_dtype
from .lora import Place, adapted_layers, parts_of, places
from .lora_layers import Conv1DLoRA, EmbeddingLoRA
from .state_dict import load_state_dict

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
_LOAD = "jaxnn.interop.load_lora"
# What a configuration may say; of anything else, what is not empty changes what is computed.
_UNDERSTOOD = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config",
    "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights",
    "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_dropout",
    "lora_ga_config", "megatron_config", "megatron_core", "modules_to_save", "peft_type",
    "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
    "target_modules", "task_type", "use_rslora",
}  # fmt: skip
# Initialisations that take their part out of the weights of the model.
_CHANGE_WEIGHTS = ("pissa", "corda", "olora", "loftq", "lora_ga")


def save_lora(net: nnx.Module, folder: str | PathLike[str]) -> None:
    """Write the adapters of a model into a folder, which PEFT reads.

    `peft.PeftModel.from_pretrained(original, folder)` gives the original with these adapters.
    Nothing else of the model is written.

    Args:
        net: a model with adapters.
        folder: where adapter_config.json and adapter_model.safetensors go; it is made if need be.

    Raises:
        ValueError: if there is no adapter; if one has another dropout than the others, or another
            rule of scaling, for which PEFT has no word.

    Source: peft.PeftModel.save_pretrained.

    Example:
        >>> import json, pathlib, tempfile
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = jaxnn.Sequential(jaxnn.Linear(4, 3, rngs=nnx.Rngs(0)))
        >>> paths = jaxnn.interop.add_lora(net, ["0"], rank=2, rngs=nnx.Rngs(1))
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> jaxnn.interop.save_lora(net, folder)
        >>> json.loads((folder / "adapter_config.json").read_text())["target_modules"]
        ['0']
    """
    layers = adapted_layers(net, "save_lora")
    arrays = {
        f"{PREFIX}{path}.{name}": np.asarray(variable[...], order="C")
        for path, layer in layers.items()
        for name, variable in zip(
            layer.lora.names, (layer.lora.lora_A, layer.lora.lora_B), strict=True
        )
    }
    config = _config(layers, [path for path in parts_of(net) if path])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(arrays, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_lora(
    net: nnx.Module, folder: str | PathLike[str], *, rngs: RandomSource | None = None
) -> tuple[str, ...]:
    """Add the adapters that PEFT, or `save_lora`, has written into a folder, in place.

    Weights of the model's own that the folder holds (PEFT's `modules_to_save`, trained biases) are
    loaded too.

    Args:
        net: the model that they are for, imported under the names of the original.
        folder: with adapter_config.json, and adapter_model.safetensors or adapter_model.bin.
        rngs: where the streams of the dropout are forked from, if there is one.

    Returns:
        The paths of the layers that have one now.

    Raises:
        ValueError: if the folder names what the model has not, or what takes no adapter; if a shape
            does not fit; if the adapters are no LoRA, or of a kind that jaxnn has not, as DoRA. The
            model is unchanged.
        FileNotFoundError: if there is no such file.

    Source: peft.PeftModel.from_pretrained.

    Example:
        >>> import tempfile
        >>> from flax import nnx
        >>> import jaxnn
        >>> net = jaxnn.Sequential(jaxnn.Linear(4, 3, rngs=nnx.Rngs(0)))
        >>> paths = jaxnn.interop.add_lora(net, ["0"], rank=2, rngs=nnx.Rngs(1))
        >>> folder = tempfile.mkdtemp()
        >>> jaxnn.interop.save_lora(net, folder)
        >>> other = jaxnn.Sequential(jaxnn.Linear(4, 3, rngs=nnx.Rngs(0)))
        >>> jaxnn.interop.load_lora(other, folder)
        ('0',)
    """
    folder = Path(folder)
    config = json.loads((folder / CONFIG).read_text())
    _check_config(config)
    file = folder / WEIGHTS
    found = read_weights(file if file.exists() else file.with_name("adapter_model.bin"))
    adapters, rest = _sorted(found)
    _check_names(net, adapters, rest)
    chosen = places(net, list(adapters), "load_lora")
    for place in chosen:
        _check_shapes(place, adapters[place.path], _Options.of(config, place.path))
    if rest:
        load_state_dict(net, rest, strict=False)
    streams = keys_for_parts(rngs)
    for place in chosen:
        options = _Options.of(config, place.path)
        dtype = accumulation_dtype(place.weight.dtype)
        lora_A, lora_B = (jnp.asarray(as_numpy(v), dtype) for v in adapters[place.path].values())
        place.attach(
            lora_A, lora_B,
            alpha=options.alpha, dropout=options.dropout, rslora=options.rslora, rngs=streams,
        )  # fmt: skip
    return tuple(place.path for place in chosen)


# --- the configuration --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Options:
    """What a configuration says of one layer."""

    rank: int
    alpha: float
    dropout: float
    rslora: bool

    @classmethod
    def of(cls, config: Mapping[str, Any], path: str) -> _Options:
        def at_path(patterns: str, default: Any) -> Any:
            for pattern, value in (config.get(patterns) or {}).items():
                if re.match(rf"(.*\.)?({pattern})$", path):
                    return value
            return default

        return cls(
            at_path("rank_pattern", config.get("r", 8)),
            at_path("alpha_pattern", config.get("lora_alpha", 8)),
            float(config.get("lora_dropout", 0.0)),
            bool(config.get("use_rslora", False)),
        )


def _config(layers: Mapping[str, Any], paths: list[str]) -> dict[str, Any]:
    """Return the configuration of a model's adapters.

    Args:
        layers: the layers with adapters, by path.
        paths: of all of the model's parts.

    Raises:
        ValueError: if PEFT cannot say what they are.
    """
    adapters = {path: layer.lora for path, layer in layers.items()}
    common = {}
    for name in ("rank", "alpha", "dropout", "rslora"):
        counted = Counter(getattr(adapter, name) for adapter in adapters.values())
        common[name] = counted.most_common(1)[0][0]
        if len(counted) > 1 and name in ("dropout", "rslora"):
            raise ValueError(
                f"jaxnn.interop.save_lora: PEFT has one {name} for all adapters, and these have "
                f"{', '.join(map(str, counted))}; give add_lora the same"
            )

    def others(name: str) -> dict[str, Any]:
        return {
            f"^{re.escape(path)}": getattr(adapter, name)
            for path, adapter in adapters.items()
            if getattr(adapter, name) != common[name]
        }

    is_transposed = [
        isinstance(a, Conv1DLoRA) and not isinstance(a, EmbeddingLoRA) for a in adapters.values()
    ]
    return {
        "alpha_pattern": others("alpha"), "base_model_name_or_path": None, "bias": "none",
        "fan_in_fan_out": any(is_transposed), "inference_mode": True, "init_lora_weights": True,
        "lora_alpha": common["alpha"], "lora_dropout": common["dropout"], "peft_type": "LORA",
        "r": common["rank"], "rank_pattern": others("rank"),
        "target_modules": _target_modules(list(layers), paths), "task_type": None,
        "use_dora": False, "use_rslora": common["rslora"],
    }  # fmt: skip


def _target_modules(chosen: list[str], paths: list[str]) -> list[str] | str:
    """Return how the paths of adapters end, where no others do; else an expression for them."""
    ends = sorted({path.rpartition(".")[2] for path in chosen})
    meant = [path for path in paths if path.rpartition(".")[2] in ends]
    return ends if sorted(meant) == sorted(chosen) else "|".join(map(re.escape, chosen))


def _check_config(config: Mapping[str, Any]) -> None:
    """Refuse what jaxnn has not.

    Raises:
        ValueError: if there is any of it.
    """
    kind, start = config.get("peft_type"), str(config.get("init_lora_weights"))
    if kind != "LORA":
        raise ValueError(f"{_LOAD}: `peft_type` must be LORA, got {kind!r}")
    unknown = {name: value for name, value in config.items() if value and name not in _UNDERSTOOD}
    if unknown:
        said = ", ".join(f"{name}={value!r}" for name, value in unknown.items())
        raise ValueError(
            f"{_LOAD}: the adapters are not plain LoRA, which alone jaxnn has: {said}; merge them "
            "in PEFT (merge_and_unload) and import the result"
        )
    if start.startswith(_CHANGE_WEIGHTS):
        raise ValueError(
            f"{_LOAD}: with init_lora_weights={start!r} the weights of the model itself were "
            "changed; save the adapters with path_initial_model_for_weight_conversion, as PEFT's "
            "documentation says, or merge them in PEFT and import the result"
        )


# --- the weights --------------------------------------------------------------------------------


def _sorted(
    weights: Mapping[str, Any],
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return A and B by the path of their layer, in this order, and the other weights by name."""
    adapters: dict[str, dict[str, Any]] = {}
    rest = {}
    for key in sorted(weights):
        name = key.removeprefix(PREFIX)
        match = re.fullmatch(r"(.+)\.lora_(?:embedding_)?([AB])(?:\.weight)?", name)
        if match:
            adapters.setdefault(match[1], {})[match[2]] = settled(weights[key])
        else:
            rest[name.replace(".base_layer.", ".")] = weights[key]
    return adapters, rest


def _check_names(
    net: nnx.Module, adapters: Mapping[str, Mapping[str, Any]], rest: Mapping[str, Any]
) -> None:
    parts, known = parts_of(net), {name for name, _ in named_variables(net)}
    unknown = [path for path in adapters if path not in parts]
    unknown += [name for name in rest if name not in known]
    halves = [path for path, pair in adapters.items() if len(pair) != 2]
    if unknown:
        raise ValueError(
            f"{_LOAD}: {title(net)} has no {shortened(unknown)}; the adapters are for a model of "
            f"other names, such as the whole that this is a part of, or of another kind"
        )
    if halves or not adapters:
        what = f"one half alone of {shortened(halves)}" if halves else "no adapters"
        raise ValueError(f"{_LOAD}: the folder is damaged: it holds {what}")


def _check_shapes(place: Place, pair: Mapping[str, Any], options: _Options) -> None:
    wanted = place.kind.adapter.shapes(place.weight.shape, options.rank)
    came = tuple(shape_and_dtype(value)[0] for value in pair.values())
    if came != wanted:
        raise ValueError(
            f"{_LOAD}: the adapter of {place.path} must have the shapes {wanted[0]} and "
            f"{wanted[1]} of rank {options.rank}, got {came[0]} and {came[1]}"
        )
