"""Attributes of a module that are computed from others: by properties of a class of its own."""

from __future__ import annotations

import copyreg
from functools import cache, wraps
from typing import Any

from flax import nnx

from ..modules import Module


class Computed:
    """How an attribute of a module is read and written that is computed from others."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def read(self, module: Any) -> nnx.Variable[Any]:
        """Return the variable with the value of now."""
        raise NotImplementedError

    def write(self, module: Any, value: Any) -> None:
        """Do what an assignment does."""
        raise NotImplementedError

    def before_call(self, module: Any) -> None:
        """Do what a call of the module does first."""


def plain_class(module: nnx.Module) -> type:
    """Return the class that the module had before an attribute of it was computed."""
    cls: Any = type(module)
    plain: type = getattr(cls, "_plain_class", cls)
    return plain


def readers_of(module: nnx.Module) -> dict[str, Computed]:
    """Return what computes attributes of the module, by their names."""
    return dict(getattr(type(module), "_readers", ()))


def set_computed(module: Any, name: str, reader: Computed) -> None:
    """Let a module's attribute be computed by `reader`, in a subclass of the module's class."""
    readers = (*readers_of(module).items(), (name, reader))
    module.__class__ = _computing_class(plain_class(module), readers)


def unset_computed(module: Any, name: str, variable: nnx.Variable[Any]) -> None:
    """Let a computed attribute be a variable again."""
    plain = plain_class(module)
    readers = tuple(pair for pair in readers_of(module).items() if pair[0] != name)
    module.__class__ = _computing_class(plain, readers) if readers else plain
    setattr(module, name, nnx.data(variable))


@cache
def _metaclass(plain: Any) -> Any:
    """Return a metaclass whose classes pickle by what they are made from: no module has them."""
    metaclass = type(f"Parametrized{plain.__name__}", (plain,), {})
    copyreg.pickle(metaclass, _how_it_is_made)
    return metaclass


def _how_it_is_made(cls: Any) -> tuple[Any, ...]:
    return _computing_class, (cls._plain_class, cls._readers)


# One class for each set of readers, since NNX compares the classes of modules.
@cache
def _computing_class(plain: Any, readers: tuple[tuple[str, Computed], ...]) -> Any:
    by_name = dict(readers)

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if name in by_name:
            by_name[name].write(self, value)
        else:
            super(cls, self).__setattr__(name, value)

    namespace: dict[str, Any] = {
        "__doc__": plain.__doc__,
        "__module__": plain.__module__,
        "__setattr__": set_attribute,
        "_plain_class": plain,
        "_readers": readers,
        **{name: property(reader.read) for name, reader in readers},
    }
    if any(type(reader).before_call is not Computed.before_call for _, reader in readers):
        namespace["__call__"] = _call_after(plain, readers)
    metaclass: Any = type(plain)
    cls = _metaclass(metaclass)(f"Parametrized{plain.__name__}", (plain,), namespace)
    cls.__signature__ = plain.__signature__ if issubclass(plain, Module) else None
    return cls


def _call_after(plain: Any, readers: tuple[tuple[str, Computed], ...]) -> Any:
    @wraps(plain.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        for _, reader in readers:
            reader.before_call(self)
        return plain.__call__(self, *args, **kwargs)

    return call
