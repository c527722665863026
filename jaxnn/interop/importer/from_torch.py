"""`from_torch`: a PyTorch model becomes a tree of Flax NNX modules."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ...modules import container
from ...modules._module import accepts_rngs, fork_stream
from ...modules._state import Frozen, NonPersistent
from ..checkpoint import as_numpy, as_tensor
from ..proof.evidence import Check, check_import
from ..state_dict import load_state_dict
from .capture import Captured, capture, is_valid_for
from .decisions import Decisions, decide
from .gradients import Refused, refuse_hooks_of_gradients
from .imported import NEEDS_VALUES, Imported, as_call, descend
from .leaves import layer_name, make_layer
from .lower import Lowered, UnsupportedOperators, lower, operator_name
from .operators import DRAWING, OPERATORS, dtype_of
from .probing import probe, steady_seeds
from .program import Call, Operation, Program, Sizes, Value
from .structures import NotDescribable

if TYPE_CHECKING:
    import torch


def from_torch(
    module: torch.nn.Module,
    example_args: Any,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    rngs: nnx.Rngs | None = None,
    dynamic_batch: bool = True,
    check: Check = True,
) -> nnx.Module:
    """Return the Flax NNX module that a PyTorch model is.

    Its parts have the names, and its parameters and buffers the keys, of the original. Layers of
    torch.nn become those of jaxnn; the code between them is captured by torch.export, in training
    and in evaluation mode, and runs as JAX operations. It needs no torch to run.

    Args:
        module: the model. It is not changed.
        example_args: the positional arguments of a call, as a tuple, or one tensor. Their shapes
            and dtypes are those that the result takes. The model is run on them.
        example_kwargs: the keyword arguments of that call.
        rngs: where dropout and other random parts fork their streams from. Without it a call in
            training mode that draws needs `rngs`.
        dynamic_batch: whether the leading dimension of every argument may differ from that of the
            example, where the model allows it.
        check: whether the import proves itself before it is returned: outputs, gradients and
            buffers are compared with the original's, in both modes, on the example and on another
            input. "report" warns where True raises. `jaxnn.interop.evidence(net)` says what was
            compared.

    Returns:
        A module that is called as the original is, in the original's mode; a torch.nn layer becomes
        the layer of jaxnn itself.

    Raises:
        TypeError: if `module` is no torch.nn.Module of Python code, or an argument is no tensor,
            container or constant.
        NotImplementedError: if the model uses operators that have no counterpart; all of them are
            listed, each with the line of the model that calls it. If it cannot run as a program.
        ValueError: if torch.export cannot capture the model, with its reason; if it depends on what
            an import cannot keep, such as state in plain attributes, with line and remedy.
            `jaxnn.interop.ImportDeparts`, a ValueError, if the import departs from the original.

    Warns:
        UserWarning: of what only a person can judge, by name: branches on values, random numbers
            that are not torch's, arguments that are written in place.

    Source: torch.export.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxnn
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()).eval()
        >>> imported = jaxnn.from_torch(net, torch.ones(1, 3))
        >>> imported(jnp.ones((5, 3))).shape
        (5, 2)
    """
    torch = imported_torch()
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"jaxnn.from_torch: `module` must be a torch.nn.Module, got {type(module).__name__}"
        )
    args, kwargs = example_of(module, example_args, example_kwargs)
    net = Importation(module, args, kwargs, rngs, dynamic_batch).run()
    return check_import(net, module, args, kwargs, check)


def example_of(
    module: torch.nn.Module, example_args: Any, example_kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an example as positional and keyword arguments of tensors.

    Raises:
        TypeError: if the model has no Python code, or its forward does not take them.
    """
    import torch

    name = type(module).__name__
    is_tuple = isinstance(example_args, (tuple, list)) and not hasattr(example_args, "_fields")
    args = tuple(tensor_of(v) for v in (example_args if is_tuple else (example_args,)))
    kwargs = {name: tensor_of(value) for name, value in (example_kwargs or {}).items()}
    for path, part in module.named_modules():
        place = f"its part {path}" if path else "it"
        if isinstance(part, torch.jit.ScriptModule):
            raise TypeError(
                f"jaxnn.from_torch: {name} cannot be imported: {place} is a TorchScript module, "
                "whose Python code is not there; import the module that it was scripted from, and "
                "load its state dict"
            )
        if ".quantized" in type(part).__module__:
            raise TypeError(
                f"jaxnn.from_torch: {name} cannot be imported: {place} is quantized "
                f"({type(part).__name__}); import the model of floating-point layers, and quantize "
                "in JAX"
            )
    if any(isinstance(v, torch.nn.utils.rnn.PackedSequence) for v in (*args, *kwargs.values())):
        raise TypeError(
            f"jaxnn.from_torch: an argument of {name} is a PackedSequence; pass the padded tensor, "
            "and pack it inside of the model or give jaxnn's layer `lengths`"
        )
    try:
        inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"jaxnn.from_torch: the example does not fit {name}.forward"
            f"{inspect.signature(module.forward)}: {error}"
        ) from None
    return args, kwargs


def imported_torch() -> Any:
    """Return the module torch, or say what installs it."""
    try:
        import torch
    except ImportError:
        raise ImportError(
            "jaxnn.from_torch reads a PyTorch model and needs torch: pip install 'jaxnn[torch]'"
        ) from None
    return torch


def tensor_of(value: Any) -> Any:
    """Return arrays of JAX and NumPy as tensors, for convenience; anything else as it is."""
    return as_tensor(value) if isinstance(value, (np.ndarray, jax.Array)) else value


class Importation:
    """A model on its way: its programs, what is tied, and the modules made so far."""

    def __init__(
        self,
        model: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        rngs: nnx.Rngs | None,
        dynamic_batch: bool,
    ) -> None:
        self.model, self.args, self.kwargs = model, args, kwargs
        self.rngs, self.dynamic_batch = rngs, dynamic_batch
        self.name = type(model).__name__
        self.paths = _names(model)
        self.tied = _tied(model)
        self.programs: dict[bool, dict[str, tuple[Program, ...]] | str] = {}
        self.known: dict[str, Program] = {}
        self.constants: dict[str, Any] = {}
        self.sizes: dict[str, Sizes] = {}
        self.notes: list[str] = []
        # By mode, whether each layer is in training mode: as `train` leaves it, and when called.
        self.modes: dict[bool, dict[str, bool]] = {}
        self.called: dict[bool, dict[str, bool]] = {}

    def run(self) -> nnx.Module:
        """Return the model as a tree of NNX modules."""
        refuse_hooks_of_gradients(self.model)
        if layer_name(self.model) is not None:
            return self._made()
        was = [(m, m.training) for m in self.model.modules()]
        failures: dict[bool, Exception] = {}
        try:
            for training in (False, True):
                set_mode(self.model, training)
                self.model_mode = training
                self.modes[training] = {n: m.training for n, m in self.model.named_modules()}
                try:
                    found = probe(self.model, (self.args, self.kwargs), _has_wide_integers())
                    self.notes += [f"{self.name}: {note}" for note in found]
                    lowered = self._lowered()
                except UnsupportedOperators:
                    raise
                except Exception as error:
                    failures[training] = error
                    self.programs[training] = _reason(error)
                    continue
                self._keep(training, lowered)
        finally:
            for module, training in was:
                module.training = training
        self._refuse(failures)
        self._warn()
        return self._made()

    def _refuse(self, failures: dict[bool, Exception]) -> None:
        """Raise what keeps the model from being imported in the mode it is in, or in both."""
        refused = failures.get(self.model.training)
        if isinstance(refused, Refused):
            raise Refused(f"jaxnn.from_torch: {self.name}: {refused}") from refused
        if len(failures) == 2:
            first = failures[False]
            if isinstance(first, NotDescribable):
                raise first
            raise ValueError(
                f"jaxnn.from_torch: torch.export cannot capture {self.name}: {_reason(first)}"
            ) from first
        for training, error in failures.items():
            if isinstance(error, Refused):
                mode = "training" if training else "evaluation"
                self.notes.append(f"{self.name} has no {mode} mode: {error}")

    def _warn(self) -> None:
        for note in dict.fromkeys(self.notes):
            warnings.warn(f"jaxnn.from_torch: {note}", stacklevel=4)

    def _made(self) -> nnx.Module:
        result = self._make("", self.model)
        self._add_constants(result)
        if self.tied:
            self._tie(result)
        self._load(result)
        self._note_switched(result)
        self._set_modes(result)
        self._try(result)
        return result

    def _try(self, result: Any) -> None:
        """Trace the net on the example in both modes, so that what cannot run is said now."""
        mode = self.model.training
        for training in (True, False):
            if isinstance(self.programs.get(training), str):
                continue
            reason = self._reason_not_to_run(result, training)
            if reason is None:
                continue
            name = "training" if training else "evaluation"
            text = f"{self.name} cannot run in {name} mode: {reason}"
            if training == mode or not isinstance(result, Imported):
                raise NotImplementedError(f"jaxnn.from_torch: {text}")
            setattr(result, "_training" if training else "_evaluation", reason)
            warnings.warn(f"jaxnn.from_torch: {text}", stacklevel=5)

    def _reason_not_to_run(self, result: Any, training: bool) -> str | None:
        net = nnx.view(
            result, deterministic=not training, use_running_average=not training,
            raise_if_not_found=False,
        )  # fmt: skip
        graph, state = nnx.split(net)
        args, kwargs = as_call((self.args, self.kwargs))
        arrays, tree = jax.tree.flatten((args, kwargs))
        leaves = [leaf for leaf in arrays if isinstance(leaf, jax.Array)]

        def run(state: Any, leaves: list[Any]) -> Any:
            given = iter(leaves)
            values = [next(given) if isinstance(leaf, jax.Array) else leaf for leaf in arrays]
            args, kwargs = jax.tree.unflatten(tree, values)
            if accepts_rngs(type(result)):  # type: ignore[arg-type]
                kwargs = {**kwargs, "rngs": jax.random.key(0)}
            found = nnx.merge(graph, state)(*args, **kwargs)
            return [leaf for leaf in jax.tree.leaves(found) if isinstance(leaf, jax.Array)]

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                jax.eval_shape(run, state, leaves)
        except Exception as error:
            where = "; ".join(getattr(error, "__notes__", [])[:1])
            reason = _reason(error, 2)
            if isinstance(error, NEEDS_VALUES):
                reason = "a size or a branch depends on a tensor's values, which a program has not"
            return f"{reason}{f' ({where})' if where else ''}"
        return None

    # --- capturing ------------------------------------------------------------------------------

    def _lowered(self) -> Lowered:
        try:
            captured = self._capture()
        except Exception as error:
            if "data-dependent" not in str(error):
                raise
            captured = self._capture_as_decided(error)
        self.notes += [f"{self.name}: {note}" for note in captured.notes]
        self.called[self.model_mode] = captured.modes
        return lower(captured, self.paths, OPERATORS)

    def _capture_as_decided(self, reason: Exception) -> Captured:
        """Capture a model that branches on values: it goes the way of the example, and says so."""
        try:
            decisions = decide(self.model, self.args, self.kwargs)
            captured = self._capture(decisions)
        except Refused:
            raise
        except Exception:
            raise reason from None
        lines = ", ".join(decisions.lines)
        self.notes.append(
            f"{self.name} branches on the values of tensors, at {lines}; the imported model always "
            "takes the branches that the example takes"
        )
        return captured

    def _capture(self, decisions: Decisions | None = None) -> Captured:
        """Capture with a batch that may differ, else as the example is."""
        if self.dynamic_batch:
            # A batch of one would be fixed where a kernel treats it apart, so two come first.
            example, doubled = (self.args, self.kwargs), self._doubled()
            ways = [(doubled, True), (example, True), (doubled, False)]
            for (args, kwargs), size_one in ways[doubled[0] is self.args :]:
                try:
                    captured = self._capture_as(args, kwargs, True, decisions, size_one)
                except (NotDescribable, Refused, MemoryError):
                    raise
                except Exception:
                    continue
                if is_valid_for(captured, *example):
                    return captured
        return self._capture_as(self.args, self.kwargs, False, decisions)

    def _capture_as(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        dynamic: bool,
        decisions: Decisions | None,
        size_one: bool = False,
    ) -> Captured:
        def is_leaf(module: torch.nn.Module) -> bool:
            return layer_name(module) is not None

        with warnings.catch_warnings(), steady_seeds():
            warnings.simplefilter("ignore")
            return _decomposed(
                capture(self.model, args, kwargs, is_leaf, dynamic, decisions, size_one)
            )

    def _doubled(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the example with a batch of two for one of one, which the exporter would fix."""
        import torch

        tensors = [v for v in (*self.args, *self.kwargs.values()) if isinstance(v, torch.Tensor)]
        one = all(t.shape[0] == 1 for t in tensors if t.ndim) and any(t.ndim for t in tensors)
        if not one:
            return self.args, self.kwargs

        def double(value: Any) -> Any:
            is_batch = isinstance(value, torch.Tensor) and value.ndim
            return torch.cat([value, value]) if is_batch else value

        return (
            tuple(double(v) for v in self.args),
            {n: double(v) for n, v in self.kwargs.items()},
        )

    def _keep(self, training: bool, lowered: Lowered) -> None:
        """Keep the programs; equal ones, of both modes or of blocks that repeat, are one object."""
        self.constants |= lowered.constants
        self.sizes |= lowered.sizes
        self.programs[training] = {
            path: tuple(self.known.setdefault(repr(body), Program(body)) for body in bodies)
            for path, bodies in lowered.bodies.items()
        }

    # --- making ---------------------------------------------------------------------------------

    def _make(self, path: str, module: torch.nn.Module) -> Any:
        name = layer_name(module)
        if name is not None:
            return self._layer(name, module)
        if type(module).__module__.startswith("torch.nn.modules.container"):
            made = self._container(path, module)
            if made is not None:
                return made
        imported = Imported(
            type(module).__name__, self._variants(True, path), self._variants(False, path),
            rngs=self.rngs if self._draws(path) else None,
        )  # fmt: skip
        imported.state_version = module._version
        imported._own_modes = own_modes(module)
        if path and path in self.sizes:
            imported._sizes = self.sizes[path]
        self._add_state(path, module, imported)
        for child_name, child in module._modules.items():
            child_path = f"{path}.{child_name}" if path else child_name
            setattr(imported, child_name, nnx.data(self._child(child_path, child)))
        return imported

    def _child(self, path: str, child: torch.nn.Module | None) -> Any:
        if child is None or path in self.tied:
            return None
        return self._make(path, child)

    def _layer(self, name: str, module: torch.nn.Module) -> nnx.Module:
        tensors = [*module.parameters(), *module.buffers()]
        floats = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
        dtype = dtype_of(str(floats[0]).removeprefix("torch.")) if floats else None
        # Abstract, since every array is loaded: drawing them would take longer than all the rest.
        layer = nnx.eval_shape(lambda: make_layer(name, module, dtype, nnx.Rngs(0)))
        self._give_streams(layer)
        for key, parameter in module.named_parameters():
            owner, _, last = key.rpartition(".")
            if not parameter.requires_grad:
                node = descend(layer, owner)
                setattr(node, last, Frozen(getattr(node, last).get_value()))
        return layer

    def _give_streams(self, layer: nnx.Module) -> None:
        node: Any
        for _, node in nnx.iter_modules(layer):
            if isinstance(vars(node).get("rngs"), nnx.Pytree):
                node.rngs = nnx.data(fork_stream(type(node).__name__, self.rngs, "dropout"))

    def _container(self, path: str, module: torch.nn.Module) -> Any:
        import torch

        def children() -> dict[str, Any]:
            return {
                name: self._child(f"{path}.{name}" if path else name, child)
                for name, child in module._modules.items()
            }

        if type(module) is torch.nn.ModuleList:
            return container.ModuleList(list(children().values()))
        if type(module) is torch.nn.ModuleDict:
            return container.ModuleDict(children())
        if type(module) in (torch.nn.ParameterList, torch.nn.ParameterDict):
            made = getattr(container, type(module).__name__)()
            self._add_state(path, module, made)
            return made
        if type(module) is torch.nn.Sequential and self._is_chain(path, module):
            made = container.Sequential()
            for name, child in children().items():
                made.add_module(name, child)
            return made
        return None

    def _is_chain(self, path: str, module: torch.nn.Module) -> bool:
        """Whether a Sequential does nothing but call its modules in turn, in both modes."""
        if self.tied and not path:
            return False  # the root puts what is tied in its place, at each call
        variants = [v for mode in (True, False) for v in _as_tuple(self._variants(mode, path))]
        for program in variants:
            body = program.body
            if body.captured or body.extra or len(body.inputs) != 1:
                return False
            value = body.inputs[0].structure
            names = []
            for step in body.steps:
                if not isinstance(step, Call) or step.args != (value,) or step.kwargs:
                    return False
                if step.captured or step.extra or step.variant:
                    return False
                names.append(step.module)
                value = step.results
            called = [n for n, m in module._modules.items() if type(m).__name__ != "Identity"]
            if body.output != value or not isinstance(value, Value) or names != called:
                return False
        return bool(variants)

    def _add_state(self, path: str, module: torch.nn.Module, made: Any) -> None:
        persistent = set(module.state_dict(keep_vars=True))
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            full = f"{path}.{name}" if path else name
            variable: nnx.Variable[Any] | None = None
            if tensor is not None and full not in self.tied:
                value = jnp.asarray(as_numpy(tensor.detach()))
                kind: type[Any] = nnx.BatchStat if name in persistent else NonPersistent
                if name in module._parameters:
                    kind = nnx.Param if tensor.requires_grad else Frozen
                variable = kind(value)
            if isinstance(made, container.Container):
                made._register(name, variable)
            else:
                setattr(made, name, nnx.data(variable))

    def _add_constants(self, result: Any) -> None:
        for path, array in self.constants.items():
            owner, _, name = path.rpartition(".")
            setattr(descend(result, owner), name, NonPersistent(jnp.asarray(array)))

    def _tie(self, result: Any) -> None:
        """Store what has several names under the first alone."""
        for alias in self.tied:
            owner, _, name = alias.rpartition(".")
            setattr(descend(result, owner), name, nnx.data(None))
        result._tied = tuple(self.tied.items())
        result._state_keys = tuple(self.model.state_dict())

    def _load(self, result: nnx.Module) -> None:
        weights = {n: t for n, t in self.model.state_dict().items() if hasattr(t, "shape")}
        load_state_dict(result, weights, strict=False)

    def _set_modes(self, result: Any) -> None:
        for path, module in self.model.named_modules():
            try:
                node = descend(result, path)
            except (AttributeError, ValueError):
                continue  # a part of a layer, which jaxnn's has not
            for flag in ("deterministic", "use_running_average"):
                if isinstance(vars(node).get(flag), bool):
                    setattr(node, flag, not module.training)

    def _note_switched(self, result: Any) -> None:
        """Note the layers that forward itself puts into another mode than `train` does."""
        switched = {
            path: mode
            for training, called in self.called.items()
            for path, mode in called.items()
            if mode != self.modes[training].get(path, mode)
        }
        if not switched or not isinstance(result, Imported):
            return
        modes = {path: modes for path, *modes in result._own_modes}
        for path in switched:
            given = [
                not self.called.get(training, {}).get(path, self.modes[training][path])
                for training in (True, False)
            ]
            modes[path] = given
        result._own_modes = tuple((path, bool(a), bool(b)) for path, (a, b) in modes.items())

    def _variants(self, training: bool, path: str) -> Any:
        programs = self.programs[training]
        return programs if isinstance(programs, str) else programs.get(path, ())

    def _draws(self, path: str) -> bool:
        return any(
            isinstance(step, Operation) and step.operator in DRAWING
            for mode in (True, False)
            for program in _as_tuple(self._variants(mode, path))
            for step in program.body.steps
        )


def set_mode(module: torch.nn.Module, training: bool) -> None:
    """Call the module's own `train` or `eval`."""
    if training:
        module.train()
    else:
        module.eval()


def own_modes(module: torch.nn.Module) -> tuple[tuple[str, bool, bool], ...]:
    """Return the parts that a module's own `train` gives another mode than the one asked for.

    Each with whether it evaluates in training and in evaluation mode; parts before wholes.
    """
    import torch

    plain = torch.nn.Module
    kind, own = type(module), vars(module).keys() & {"train", "eval"}
    if kind.train is plain.train and kind.eval is plain.eval and not own:
        return ()
    was = [(part, part.training) for part in module.modules()]
    try:
        given = {}
        for training in (True, False):
            set_mode(module, training)
            given[training] = {path: part.training for path, part in module.named_modules()}
    finally:
        for part, training in was:
            part.training = training
    return tuple(
        (path, not given[True][path], not given[False][path])
        for path in reversed(given[True])
        if (given[True][path], given[False][path]) != (True, False)
    )


def _has_wide_integers() -> bool:
    return bool(jax.config.read("jax_enable_x64"))


def _as_tuple(variants: Any) -> tuple[Program, ...]:
    return () if isinstance(variants, str) else variants


def _decomposed(captured: Captured) -> Captured:
    """Let torch decompose the operators that are not in the table, where it can."""
    import torch

    unknown = {
        node.target
        for node in captured.program.graph_module.graph.nodes
        if node.op == "call_function"
        and hasattr(node.target, "_schema")
        and node.target.namespace != "jaxnn_import"
        and operator_name(node) not in OPERATORS
    }
    if not unknown:
        return captured
    table = torch.export.default_decompositions()
    chosen = {}
    for target in unknown:
        found = torch._decomp.decomposition_table.get(target)
        if found is None and target in table:
            found = table[target]
        if found is not None:
            chosen[target] = found
    if chosen:
        captured.program = captured.program.run_decompositions(chosen)
    return captured


def _reason(error: Exception, lines: int = 6) -> str:
    text = str(error).strip() or type(error).__name__
    written = [line for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: " + " ".join(written[:lines])[:600]


def _tensors(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the parameters and buffers under all of their names."""
    return [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]


def _names(model: torch.nn.Module) -> dict[str, list[str]]:
    """Return all names of each module, parameter and buffer, by each of them."""
    by_identity: dict[int, list[str]] = {}
    for name, part in [*model.named_modules(remove_duplicate=False), *_tensors(model)]:
        by_identity.setdefault(id(part), []).append(name)
    return {name: names for names in by_identity.values() for name in names}


def _tied(model: torch.nn.Module) -> dict[str, str]:
    """Return the second names of modules, parameters and buffers, each with the first."""
    tied: dict[str, str] = {}
    modules: dict[int, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not name.startswith(tuple(f"{alias}." for alias in tied)):
            first = modules.setdefault(id(module), name)
            if first != name:
                tied[name] = first
    aliases = tuple(f"{alias}." for alias in tied)
    tensors: dict[int, str] = {}
    for name, tensor in _tensors(model):
        if not name.startswith(aliases):
            first = tensors.setdefault(id(tensor), name)
            if first != name:
                tied[name] = first
    return tied
