"""The NNX module that an imported PyTorch module becomes, and how it runs its program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ...modules._module import RandomSource, fork_stream, key_from, keys_for_parts, takes_rngs
from .binding import bind, match
from .custom_vjp import run_custom
from .forwards import Forwards
from .observers import observer
from .operators import DRAWING, OPERATORS, dtype_of
from .program import Body, Call, Custom, Operation, Program, Sizes, State, Value, rebuild
from .recomputing import run_or_recompute
from .record import realise
from .training_modes import OwnModes, WithOwnModes
from .tying import descend, tied_in_place

# What JAX raises where a program asks for a tensor's values, for a size or a branch.
NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


class Imported(WithOwnModes):
    """A module imported from PyTorch: its parts under their names, and its forward pass as data.

    It is called like the original, in the mode (`train()`, `eval()`) that it is in. Each of its
    programs holds for calls of one structure, of the sizes that fulfil its conditions; the first
    that fits is run. `jaxnn.interop.programs` lists them.

    Args:
        source: the name of the original class.
        training: the forward passes in training mode.
        evaluation: those in evaluation mode.
        rngs: where its own stream of random numbers is forked from, if it draws.
        own_modes: the parts that do not follow its mode.
        sizes: those that it is called with by the model around it, by program.
        state_version: the version of its state dict, where that is another than 1.

    Raises:
        ValueError: at a call that no program fits, with the condition that does not hold; if the
            module cannot run in the mode it is in, with the reason.
        TypeError: at a call with arguments that the original does not take.

    Source: torch.export.

    Example:
        >>> from jaxnn.interop import Imported
        >>> Imported("Nothing", (), ())
        Nothing()
    """

    deterministic: bool

    def __init__(
        self,
        source: str,
        training: tuple[Program, ...] | str,
        evaluation: tuple[Program, ...] | str,
        *,
        rngs: RandomSource | None = None,
        own_modes: OwnModes = (),
        sizes: Sequence[Sizes] = (),
        state_version: int = 1,
    ) -> None:
        self._source = source
        self._forwards = Forwards(source, training, evaluation, sizes)
        self._tied: tuple[tuple[str, str], ...] = ()
        self._state_keys: tuple[str, ...] = ()
        self.state_version = state_version
        self._stream = nnx.data(fork_stream(source, rngs, "dropout"))
        self.deterministic = False
        self._own_modes = own_modes

    def __call__(self, *args: Any, rngs: RandomSource | None = None, **kwargs: Any) -> Any:
        """Run the forward pass; what draws takes its keys from `rngs`, where given."""
        body = self._fitting(args, kwargs)
        # Operands of unlike dtypes meet as they do in the original.
        with tied_in_place(self), jax.numpy_dtype_promotion("standard"):
            return self._run(body, args, kwargs, (), keys_for_parts(rngs))[0]

    def _fitting(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Body:
        training = not self.deterministic
        try:
            return self._forwards.fitting(training, args, kwargs)
        except (TypeError, ValueError):
            recapturing = getattr(self, "_recapturing", None)
            if recapturing is None:
                raise
            recapturing.capture(args, kwargs)
            return self._forwards.fitting(training, args, kwargs)

    def _run(
        self,
        body: Body,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        captured: Sequence[Any],
        rngs: RandomSource | None,
    ) -> tuple[Any, tuple[Any, ...]]:
        def run(module: Any, rngs: Any, given: Any) -> Any:
            return module._run_once(body, *given, rngs)

        given = tuple(args), dict(kwargs), tuple(captured)
        result: tuple[Any, tuple[Any, ...]] = run_or_recompute(run, self, rngs, given)
        return result

    def _run_once(
        self,
        body: Body,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        captured: Sequence[Any],
        rngs: RandomSource | None,
    ) -> tuple[Any, tuple[Any, ...]]:
        values = dict(zip(body.captured, captured, strict=True))
        observer().begins(body, values)
        bind(self._source, body, args, kwargs, values)

        def read(leaf: Any) -> Any:
            if isinstance(leaf, Value):
                return values[leaf.name]
            if isinstance(leaf, State):
                return descend(self, leaf.path)[...]
            return jnp.asarray(np.array(leaf.values, dtype_of(leaf.dtype)))

        for step in body.steps:
            if isinstance(step, Operation):
                arguments = {name: rebuild(value, read) for name, value in step.arguments}
                if step.operator in DRAWING:
                    arguments["draw"] = partial(self._draw_key, rngs)
                try:
                    values[step.result] = OPERATORS[step.operator](**arguments)
                except Exception as error:
                    error.add_note(f"{step.operator}, which the model calls at {step.source}")
                    raise
            elif isinstance(step, Call):
                self._call(step, values, read, rngs)
            elif isinstance(step, Custom):
                given, captured = rebuild(step.inputs, read), rebuild(step.captured, read)
                values.update(zip(step.results, run_custom(step, given, captured), strict=True))
            else:
                variable = descend(self, step.path)
                variable[...] = rebuild(step.value, read).astype(variable.dtype)
        output = realise(rebuild(body.output, read))
        observer().returns(self, output)
        return output, tuple(values[name] for name in body.extra)

    def _call(
        self, step: Call, values: dict[str, Any], read: Any, rngs: RandomSource | None
    ) -> None:
        module = descend(self, step.module)
        args = realise(rebuild(step.args, read))
        kwargs = {name: realise(rebuild(value, read)) for name, value in step.kwargs}
        if isinstance(module, Imported):
            captured = rebuild(step.captured, read)
            body = module._forwards.body(not module.deterministic, step.variant)
            result, extra = module._run(body, args, kwargs, captured, rngs)
            values.update(zip(step.extra, extra, strict=True))
        else:
            try:
                result = _called(module, args, kwargs, rngs)
            except Exception as error:
                error.add_note(f"the layer {step.module} of {self._source}")
                raise
        match(step.results, result, values, step.module)

    def _draw_key(self, rngs: RandomSource | None) -> jax.Array:
        source = self._stream if rngs is None else rngs
        if source is None:
            raise ValueError(
                f"{self._source} draws random numbers: import it with rngs=nnx.Rngs(0), pass rngs= "
                "(an nnx.Rngs or a key) at the call, or call eval() on the module"
            )
        return key_from(source, "dropout", self._source)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Set the mode of this module's view; used by `nnx.view`.

        Args:
          deterministic: if True, the module evaluates.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, self._source, 1)

    __str__ = __repr__


def _called(
    module: nnx.Module, args: tuple[Any, ...], kwargs: dict[str, Any], rngs: RandomSource | None
) -> Any:
    """Return what a layer returns, which draws its keys from `rngs` where that is given."""

    def run(module: Any, rngs: Any, given: Any) -> Any:
        args, kwargs = given
        if rngs is not None and takes_rngs(module):
            kwargs = {**kwargs, "rngs": rngs}
        return module(*args, **kwargs)

    return run_or_recompute(run, module, rngs, (args, kwargs))


def programs_of(module: Imported, training: bool) -> tuple[Program, ...] | str:
    """Return the forward passes of an imported module in a mode, or why it has none."""
    return module._forwards.of(training)


def forwards_of(module: Imported) -> Forwards:
    """Return the forward passes of an imported module."""
    return module._forwards


def run_program(
    module: Imported,
    body: Body,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    rngs: RandomSource | None = None,
) -> Any:
    """Return what one of an imported module's forward passes gives, which need not be for it."""
    with tied_in_place(module), jax.numpy_dtype_promotion("standard"):
        return module._run(body, args, kwargs, (), keys_for_parts(rngs))[0]


def source_of(module: Imported) -> str:
    """Return the name of the class that an imported module was."""
    return module._source


def change_programs(module: Imported, change: Callable[[Program], Program]) -> None:
    """Let each forward pass of an imported module be what `change` makes of it."""
    module._forwards = module._forwards.changed(change)
    vars(module).pop("_recapturing", None)  # what it captured would not be changed


def refuse_mode(module: Imported, training: bool, reason: str) -> None:
    """Let an imported module refuse to run in a mode, with the reason."""
    module._forwards.refuse(training, reason)
