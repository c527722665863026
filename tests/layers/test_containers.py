"""Containers against torch's: the same operations give the same children, names and refusals."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnn

torch = pytest.importorskip("torch")


def layer(tag: int) -> Any:
    return jaxnn.PReLU(1, tag)


def torch_layer(tag: int) -> Any:
    return torch.nn.PReLU(1, tag)


Library = tuple[Any, Callable[[int], Any]]
LIBRARIES: list[Library] = [(jaxnn, layer), (torch.nn, torch_layer)]


def contents(container: Any) -> dict[str, float]:
    is_jax = isinstance(container, nnx.Module)
    state = jaxnn.state_dict(container) if is_jax else container.state_dict()
    return {key: float(np.asarray(value).item()) for key, value in state.items()}


def run(library: Library, operation: Callable[[Any, Callable[[int], Any]], Any]) -> Any:
    """Return the contents after the operation, or the type of what it raised."""
    module, make = library
    try:
        result = operation(module, make)
    except Exception as error:
        return type(error)
    return contents(result)


def applied(method: str, *arguments: Any) -> Callable[[Any], Any]:
    def change(container: Any) -> Any:
        getattr(container, method)(*arguments)
        return container

    return change


SEQUENTIAL: dict[str, Callable[[Any, Callable[[int], Any]], Any]] = {
    "twelve": lambda nn, m: nn.Sequential(*(m(i) for i in range(12))),
    "empty": lambda nn, m: nn.Sequential(),
    "named": lambda nn, m: nn.Sequential(OrderedDict(b=m(0), a=m(1))),
    "plain dict": lambda nn, m: nn.Sequential({"b": m(0)}),
    "function": lambda nn, m: nn.Sequential(lambda x: x),
    "none": lambda nn, m: nn.Sequential(m(0), None),
    "slice keeps names": lambda nn, m: nn.Sequential(*(m(i) for i in range(4)))[1:3],
    "slice with step": lambda nn, m: nn.Sequential(*(m(i) for i in range(5)))[::-2],
    "negative index": lambda nn, m: nn.Sequential(nn.Sequential(*(m(i) for i in range(4)))[-2]),
    "index out of range": lambda nn, m: nn.Sequential(m(0))[1],
    "string index": lambda nn, m: nn.Sequential(m(0))["0"],
    "set": lambda nn, m: applied("__setitem__", -1, m(9))(nn.Sequential(m(0), m(1))),
    "set out of range": lambda nn, m: applied("__setitem__", 2, m(9))(nn.Sequential(m(0), m(1))),
    "del": lambda nn, m: applied("__delitem__", 0)(nn.Sequential(m(0), m(1), m(2))),
    "del named": lambda nn, m: applied("__delitem__", 0)(
        nn.Sequential(OrderedDict(a=m(0), b=m(1)))
    ),
    "del slice": lambda nn, m: applied("__delitem__", slice(0, None, 2))(
        nn.Sequential(*(m(i) for i in range(5)))
    ),
    "append": lambda nn, m: nn.Sequential(m(0)).append(m(1)),
    "append named": lambda nn, m: nn.Sequential(OrderedDict(a=m(0))).append(m(1)),
    "append to slice": lambda nn, m: nn.Sequential(m(0), m(1), m(2))[1:].append(m(3)),
    "extend": lambda nn, m: nn.Sequential(m(0)).extend([m(1), m(2)]),
    "insert": lambda nn, m: nn.Sequential(m(0), m(1)).insert(1, m(2)),
    "insert negative": lambda nn, m: nn.Sequential(m(0), m(1)).insert(-1, m(2)),
    "insert at the end": lambda nn, m: nn.Sequential(m(0)).insert(1, m(2)),
    "insert out of range": lambda nn, m: nn.Sequential(m(0)).insert(3, m(2)),
    "pop": lambda nn, m: applied("pop", 1)(nn.Sequential(m(0), m(1), m(2))),
    "add": lambda nn, m: nn.Sequential(m(0)) + nn.Sequential(m(1)),
    "add list": lambda nn, m: nn.Sequential(m(0)).__add__([m(1)]),
    "iadd": lambda nn, m: nn.Sequential(m(0)).__iadd__(nn.Sequential(m(1))),
    "mul": lambda nn, m: nn.Sequential(m(0), m(1)) * 2,
    "rmul": lambda nn, m: 2 * nn.Sequential(m(0), m(1)),
    "imul": lambda nn, m: nn.Sequential(m(0), m(1)).__imul__(3),
    "mul zero": lambda nn, m: nn.Sequential(m(0)) * 0,
    "attribute": lambda nn, m: applied("__setattr__", "extra", m(1))(nn.Sequential(m(0))),
    "nested": lambda nn, m: nn.Sequential(nn.Sequential(m(0)), nn.ModuleList([m(1)])),
}

MODULE_LIST: dict[str, Callable[[Any, Callable[[int], Any]], Any]] = {
    "twelve": lambda nn, m: nn.ModuleList(m(i) for i in range(12)),
    "none": lambda nn, m: nn.ModuleList([None, m(1)]),
    "number": lambda nn, m: nn.ModuleList(3),
    "slice renumbers": lambda nn, m: nn.ModuleList([m(i) for i in range(4)])[1:3],
    "insert": lambda nn, m: applied("insert", 1, m(2))(nn.ModuleList([m(0), m(1)])),
    "del": lambda nn, m: applied("__delitem__", -2)(nn.ModuleList([m(i) for i in range(3)])),
    "add": lambda nn, m: nn.ModuleList([m(0)]).__add__([m(1)]),
    "iadd": lambda nn, m: nn.ModuleList([m(0)]).__iadd__([m(1)]),
    "extend": lambda nn, m: nn.ModuleList([m(0)]).extend(iter([m(1), m(2)])),
    "pop": lambda nn, m: nn.ModuleList([nn.ModuleList([m(0), m(1)]).pop(-1)]),
    "float index": lambda nn, m: nn.ModuleList([m(0)])[0.0],
}

MODULE_DICT: dict[str, Callable[[Any, Callable[[int], Any]], Any]] = {
    "order": lambda nn, m: nn.ModuleDict({"z": m(0), "10": m(1), "2": m(2), "a": m(3)}),
    "pairs": lambda nn, m: nn.ModuleDict([("b", m(0)), ["a", m(1)]]),
    "bad pair": lambda nn, m: nn.ModuleDict([("b", m(0), m(1))]),
    "no pair": lambda nn, m: nn.ModuleDict([3]),
    "dot": lambda nn, m: nn.ModuleDict({"a.b": m(0)}),
    "empty name": lambda nn, m: nn.ModuleDict({"": m(0)}),
    "train": lambda nn, m: nn.ModuleDict({"train": m(0)}),
    "keys": lambda nn, m: nn.ModuleDict({"keys": m(0)}),
    "number": lambda nn, m: nn.ModuleDict({1: m(0)}),
    "spaces": lambda nn, m: nn.ModuleDict({"a b/c-d": m(0)}),
    "flax name": lambda nn, m: nn.ModuleDict({"sow": m(0), "set_attributes": m(1)}),
    "none": lambda nn, m: nn.ModuleDict({"a": None, "b": m(1)}),
    "update": lambda nn, m: applied("update", {"a": m(2), "c": m(3)})(
        nn.ModuleDict({"a": m(0), "b": m(1)})
    ),
    "update from itself": lambda nn, m: applied("update", nn.ModuleDict({"a": m(2)}))(
        nn.ModuleDict({"b": m(1)})
    ),
    "pop": lambda nn, m: applied("pop", "a")(nn.ModuleDict({"a": m(0), "b": m(1)})),
    "pop missing": lambda nn, m: applied("pop", "c")(nn.ModuleDict({"a": m(0)})),
    "del and add": lambda nn, m: applied("__setitem__", "a", m(2))(
        applied("__delitem__", "a")(nn.ModuleDict({"a": m(0), "b": m(1)}))
    ),
    "clear": lambda nn, m: applied("clear")(nn.ModuleDict({"a": m(0)})),
    "missing": lambda nn, m: nn.ModuleDict({"a": m(0)})["b"],
}


def parameter(tag: int) -> Any:
    return jnp.full((1,), float(tag))


def torch_parameter(tag: int) -> Any:
    return torch.nn.Parameter(torch.full((1,), float(tag)))


PARAMETER_LIST: dict[str, Callable[[Any, Callable[[int], Any]], Any]] = {
    "twelve": lambda nn, p: nn.ParameterList(p(i) for i in range(12)),
    "other values": lambda nn, p: nn.ParameterList([p(0), 3, "text", None, p(1)]),
    "number": lambda nn, p: nn.ParameterList(3),
    "one array": lambda nn, p: nn.ParameterList(p(0)),
    "another list": lambda nn, p: nn.ParameterList(nn.ParameterList([p(0), p(1)])),
    "slice": lambda nn, p: nn.ParameterList([p(i) for i in range(4)])[1:3],
    "negative index": lambda nn, p: nn.ParameterList([nn.ParameterList([p(0), p(1)])[-1]]),
    "index out of range": lambda nn, p: nn.ParameterList([p(0)])[1],
    "string index": lambda nn, p: nn.ParameterList([p(0)])["0"],
    "set": lambda nn, p: applied("__setitem__", -1, p(9))(nn.ParameterList([p(0), p(1)])),
    "append": lambda nn, p: nn.ParameterList([p(0)]).append(p(1)),
    "extend": lambda nn, p: nn.ParameterList([p(0)]).extend(iter([p(1), p(2)])),
    "extend by an array": lambda nn, p: nn.ParameterList([p(0)]).extend(p(1)),
    "iadd": lambda nn, p: nn.ParameterList([p(0)]).__iadd__([p(1)]),
}

PARAMETER_DICT: dict[str, Callable[[Any, Callable[[int], Any]], Any]] = {
    "a dict is sorted": lambda nn, p: nn.ParameterDict({"z": p(0), "10": p(1), "2": p(2)}),
    "an ordered dict is not": lambda nn, p: nn.ParameterDict(OrderedDict(z=p(0), a=p(1))),
    "pairs": lambda nn, p: nn.ParameterDict([("b", p(0)), ["a", p(1)]]),
    "bad pair": lambda nn, p: nn.ParameterDict([("b", p(0), p(1))]),
    "no pair": lambda nn, p: nn.ParameterDict([3]),
    "a number": lambda nn, p: nn.ParameterDict(3),
    "dot": lambda nn, p: nn.ParameterDict({"a.b": p(0)}),
    "empty name": lambda nn, p: nn.ParameterDict({"": p(0)}),
    "keys": lambda nn, p: nn.ParameterDict({"keys": p(0)}),
    "number as a name": lambda nn, p: nn.ParameterDict({1: p(0)}),
    "update": lambda nn, p: applied("update", {"a": p(2), "c": p(3)})(
        nn.ParameterDict({"a": p(0), "b": p(1)})
    ),
    "pop": lambda nn, p: applied("pop", "a")(nn.ParameterDict({"a": p(0), "b": p(1)})),
    "popitem": lambda nn, p: applied("popitem")(nn.ParameterDict({"a": p(0), "b": p(1)})),
    "popitem of none": lambda nn, p: nn.ParameterDict().popitem(),
    "setdefault": lambda nn, p: applied("setdefault", "a", p(5))(nn.ParameterDict({"b": p(1)})),
    "del": lambda nn, p: applied("__delitem__", "b")(nn.ParameterDict({"a": p(0), "b": p(1)})),
    "clear": lambda nn, p: applied("clear")(nn.ParameterDict({"a": p(0)})),
    "copy": lambda nn, p: nn.ParameterDict(OrderedDict(z=p(0), a=p(1))).copy(),
    "or": lambda nn, p: nn.ParameterDict({"a": p(0)}) | nn.ParameterDict({"b": p(1)}),
    "ior": lambda nn, p: nn.ParameterDict({"a": p(0)}).__ior__({"b": p(1)}),
    "reversed": lambda nn, p: nn.ParameterDict(
        [(name, p(0)) for name in reversed(nn.ParameterDict({"a": p(0), "b": p(1)}))]
    ),
}


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(operation, id=f"{kind}: {name}")
        for kind, operations in (
            ("ParameterList", PARAMETER_LIST),
            ("ParameterDict", PARAMETER_DICT),
        )
        for name, operation in operations.items()
    ],
)
def test_operation_on_parameters_as_in_torch(
    operation: Callable[[Any, Callable[[int], Any]], Any],
) -> None:
    libraries: list[Library] = [(jaxnn, parameter), (torch.nn, torch_parameter)]
    ours, theirs = (run(library, operation) for library in libraries)
    assert ours == theirs
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)


def test_parameters_are_trained_and_keep_their_kind() -> None:
    class Net(jaxnn.Module):
        def __init__(self) -> None:
            self.scales = jaxnn.ParameterList([jnp.ones(2), jaxnn.Frozen(jnp.ones(2)), "text"])

        def __call__(self, input: Any) -> Any:
            return self.scales[0] * self.scales[1] * input

    net = nnx.merge(*nnx.split(Net()))
    assert list(jaxnn.state_dict(net)) == ["scales.0", "scales.1"]
    gradient = nnx.grad(lambda net: net(jnp.array([2.0, 3.0])).sum())(net)
    np.testing.assert_array_equal(jax.tree.leaves(gradient), [[2.0, 3.0]])
    assert net.scales[2] == "text"
    with pytest.raises(TypeError, match="not called"):
        net.scales(1)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(operation, id=f"{kind}: {name}")
        for kind, operations in (
            ("Sequential", SEQUENTIAL),
            ("ModuleList", MODULE_LIST),
            ("ModuleDict", MODULE_DICT),
        )
        for name, operation in operations.items()
    ],
)
def test_operation_as_in_torch(operation: Callable[[Any, Callable[[int], Any]], Any]) -> None:
    ours, theirs = (run(library, operation) for library in LIBRARIES)
    assert ours == theirs
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)


def test_random_edits_as_in_torch() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        ours = jaxnn.Sequential(*(layer(i) for i in range(3)))
        theirs = torch.nn.Sequential(*(torch_layer(i) for i in range(3)))
        for tag in range(3, 15):
            kind = generator.choice(["append", "insert", "del", "set"])
            index = int(generator.integers(0, len(theirs) + 1))
            for container, make in ((ours, layer), (theirs, torch_layer)):
                if kind == "append":
                    container.append(make(tag))
                elif kind == "insert":
                    container.insert(index, make(tag))
                elif index < len(container) and kind == "del":
                    del container[index]
                elif index < len(container):
                    container[index] = make(tag)
            assert contents(ours) == contents(theirs)


def test_order_survives_split_and_merge() -> None:
    net = jaxnn.ModuleDict(
        {
            "z": jaxnn.Sequential(*(layer(i) for i in range(12))),
            "a": jaxnn.Sequential(OrderedDict(second=layer(1), first=layer(2))),
        }
    )
    merged = nnx.merge(*nnx.split(net))
    assert list(contents(merged)) == list(contents(net))
    assert list(contents(jax.jit(lambda net: net)(net))) == list(contents(net))
    assert [float(child.weight[0]) for child in merged["z"]] == list(range(12))


def test_sequential_calls_in_order_after_merge() -> None:
    rngs = nnx.Rngs(0)
    net = jaxnn.Sequential(
        OrderedDict(z=jaxnn.Linear(2, 3, rngs=rngs), a=jaxnn.Linear(3, 4, rngs=rngs))
    )
    x = jnp.ones((1, 2))
    np.testing.assert_array_equal(nnx.merge(*nnx.split(net))(x), net(x))


def test_modes_reach_children() -> None:
    net = jaxnn.ModuleDict({"set_attributes": jaxnn.Dropout(0.5)})
    assert net.eval() is net
    assert net["set_attributes"].deterministic
    view = nnx.view(jaxnn.Sequential(jaxnn.Dropout(0.5)), deterministic=True)
    assert view[0].deterministic


def test_rngs_at_the_call_reach_the_layers_that_draw() -> None:
    net = jaxnn.Sequential(jaxnn.Dropout(0.5), jaxnn.Identity(), jaxnn.Dropout(0.5))
    x = jnp.ones((8, 8))
    with pytest.raises(ValueError, match="rngs"):
        net(x)
    key = jax.random.key(0)
    np.testing.assert_array_equal(net(x, rngs=key), net(x, rngs=key))
    # The two layers draw different numbers: with one mask, half of the elements would survive.
    assert 0 < int((net(x, rngs=key) != 0).sum()) < 26


def test_flatten_and_unflatten_as_in_torch() -> None:
    x = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
    for arguments in ((), (0,), (1, 1), (-2, -1), (0, -2), (2, 1), (3,), (0, 5)):
        try:
            expected = torch.nn.Flatten(*arguments)(torch.tensor(x)).numpy()
        except (RuntimeError, IndexError):
            with pytest.raises(ValueError, match="dim"):
                jaxnn.Flatten(*arguments)(x)
        else:
            np.testing.assert_array_equal(jaxnn.Flatten(*arguments)(x), expected)
    np.testing.assert_array_equal(jaxnn.functional.flatten(jnp.array(1.0)), [1.0])
    assert jaxnn.Unflatten(1, (3, -1))(x).shape == (2, 3, 1, 4)
    assert jaxnn.Unflatten(-1, [2, 2])(x).shape == (2, 3, 2, 2)
    for sizes in ((2, 2), (-1, -1), (), (0, -1)):
        with pytest.raises(ValueError, match="unflattened_size"):
            jaxnn.Unflatten(1, sizes)(x)
    with pytest.raises(TypeError, match="unflattened_size"):
        jaxnn.Unflatten(1, 3)  # type: ignore[arg-type]
