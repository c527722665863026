"""How torch's operators are written in JAX, where JAX has a plain way to say the same.

A spelling is taken only where its result has the dtype that torch's has, which the kinds of the
operands tell. What has no spelling is called by its ATen name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from ... import functional as F
from ..importer.operators import OPERATORS
from ..importer.operators._register import result_dtype
from ..importer.program import Value
from .code import (
    AND,
    ATOM,
    COMPARE,
    OR,
    POWER,
    PRODUCT,
    SUM,
    XOR,
    Code,
    binary,
    call,
    constant,
    dtype,
    joined,
    method,
    prefix,
    sequence,
    slice_text,
    subscript,
)


class Operands(Protocol):
    """How a spelling learns of its operands."""

    def code(self, value: Any) -> Code:
        """Return the operand's source."""
        ...

    def kind(self, value: Any) -> Kind | None:
        """Return what is known of it; of a number, None."""
        ...


Spelling = Callable[[Operands, dict[str, Any]], Code | None]
SPELLINGS: dict[str, Spelling] = {}


def spells(*names: str) -> Callable[[Spelling], Spelling]:
    """Enter a spelling; one that returns None leaves the operator to its ATen name."""

    def enter(spelling: Spelling) -> Spelling:
        for name in names:
            SPELLINGS[name] = spelling
        return spelling

    return enter


def spelled(operands: Operands, operator: str, arguments: Sequence[tuple[str, Any]]) -> Code:
    """Return the source of an operation."""
    given = {name: value for name, value in arguments if value is not None}
    if operator in SPELLINGS:
        code = SPELLINGS[operator](operands, given)
        if code is not None:
            return code
    return by_name(operands, operator, dict(arguments))


def by_name(operands: Operands, operator: str, given: dict[str, Any]) -> Code:
    """Return a call of the operator under its ATen name."""
    named = {name: operands.code(value) for name, value in given.items() if value is not None}
    function = f"aten.{operator}" if operator.isidentifier() else f'getattr(aten, "{operator}")'
    positional = []
    for name, parameter in inspect.signature(OPERATORS[operator]).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return call(function, *named.values())
        if name == "draw" and "draw" not in given and parameter.default is parameter.empty:
            positional.append(operands.code("draw"))
        elif name in named and (parameter.default is parameter.empty or not positional):
            positional.append(named.pop(name))
        else:
            break
    if "draw" in inspect.signature(OPERATORS[operator]).parameters and not any(
        "draw" in code.text for code in positional
    ):
        named["draw"] = operands.code("draw")
    return call(function, *positional, **named)


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def _promotes_alike(operands: Operands, *values: Any, floats: bool = False) -> bool:
    """Whether JAX gives an operation on the values the dtype that torch gives it."""
    ours, theirs = [], []
    for value in values:
        kind = operands.kind(value)
        if kind is not None and kind.length is not None:
            return False
        if kind is None or kind.dtype is None:
            if not _is_number(value) and kind is None:
                return False
            number = value if _is_number(value) else 1
            ours.append(number)
            theirs.append(number)
        else:
            ours.append(kind.dtype)
            theirs.append(jax.ShapeDtypeStruct(kind.shapes[0], kind.dtype))
    if not any(hasattr(value, "dtype") for value in theirs):
        return not floats
    with jax.numpy_dtype_promotion("standard"):
        result = jnp.result_type(*ours)
    if floats and not jnp.issubdtype(result, jnp.inexact):
        return False
    return bool(result == result_dtype(*theirs))


def _is_array(operands: Operands, value: Any) -> bool:
    kind = operands.kind(value)
    return kind is not None and kind.dtype is not None and kind.length is None


def _same_dtype(operands: Operands, values: Sequence[Any]) -> bool:
    kinds = [operands.kind(value) for value in values]
    return all(k is not None and k.dtype is not None for k in kinds) and (
        len({k.dtype for k in kinds if k is not None}) == 1
    )


# --- arithmetic ---------------------------------------------------------------------------------

_SIGNS = {
    "add": ("+", SUM), "sub": ("-", SUM), "mul": ("*", PRODUCT), "div": ("/", PRODUCT),
    "eq": ("==", COMPARE), "ne": ("!=", COMPARE), "lt": ("<", COMPARE), "le": ("<=", COMPARE),
    "gt": (">", COMPARE), "ge": (">=", COMPARE), "bitwise_and": ("&", AND),
    "bitwise_or": ("|", OR), "bitwise_xor": ("^", XOR), "__and__": ("&", AND),
    "__or__": ("|", OR), "__xor__": ("^", XOR), "matmul": ("@", PRODUCT), "mm": ("@", PRODUCT),
    "bmm": ("@", PRODUCT), "logical_and": ("&", AND), "logical_or": ("|", OR),
}  # fmt: skip
_SIGNS_OF_SIZES = {
    "add": ("+", SUM), "sub": ("-", SUM), "mul": ("*", PRODUCT), "floordiv": ("//", PRODUCT),
    "mod": ("%", PRODUCT), "truediv": ("/", PRODUCT), "pow": ("**", POWER),
}  # fmt: skip


def _signed(name: str) -> Spelling:
    sign, level = _SIGNS[name]

    def spelling(operands: Operands, given: dict[str, Any]) -> Code | None:
        first, second = list(given.values())[:2]
        if len(given) != 2 or not _promotes_alike(operands, first, second, floats=name == "div"):
            return None
        arrays = [v for v in (first, second) if _is_array(operands, v)]
        if sign == "@" and not (len(arrays) == 2 and _same_dtype(operands, arrays)):
            return None
        if name.startswith("logical") and not all(
            (k := operands.kind(v)) is not None and k.is_bool for v in (first, second)
        ):
            return None
        return binary(sign, level, operands.code(first), operands.code(second))

    return spelling


for _name in _SIGNS:
    SPELLINGS[_name] = _signed(_name)


@spells("rsub")
def _reversed(operands: Operands, given: dict[str, Any]) -> Code | None:
    if len(given) != 2 or not _promotes_alike(operands, *given.values()):
        return None
    return binary("-", SUM, operands.code(given["other"]), operands.code(given["self"]))


@spells("pow")
def _power(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind, exponent = operands.kind(given["self"]), given["exponent"]
    if kind is None or not kind.is_float or not _is_number(exponent):
        return None
    if exponent == 0.5:
        return call("jnp.sqrt", operands.code(given["self"]))
    if exponent != int(exponent) or abs(exponent) > 64:
        return None
    return binary("**", POWER, operands.code(given["self"]), constant(int(exponent)))


@spells("addmm", "baddbmm")
def _add_product(operands: Operands, given: dict[str, Any]) -> Code | None:
    if len(given) != 3 or not _same_dtype(operands, list(given.values())):
        return None
    bias, first, second = (operands.code(value) for value in given.values())
    return binary("+", SUM, bias, binary("@", PRODUCT, first, second))


def _size_sign(name: str) -> Spelling:
    sign, level = _SIGNS_OF_SIZES[name]

    def spelling(operands: Operands, given: dict[str, Any]) -> Code | None:
        first, second = given.values()
        return binary(sign, level, operands.code(first), operands.code(second))

    return spelling


for _name in _SIGNS_OF_SIZES:
    SPELLINGS[f"python.{_name}"] = _size_sign(_name)


def _builtin(function: str) -> Spelling:
    return lambda operands, given: call(function, *map(operands.code, given.values()))


for _name, _function in (
    ("sym_max", "max"), ("sym_min", "min"), ("sym_int", "int"), ("sym_float", "float"),
):  # fmt: skip
    SPELLINGS[f"python.{_name}"] = _builtin(_function)


@spells("python.getitem")
def _item(operands: Operands, given: dict[str, Any]) -> Code | None:
    of, place = given.values()
    return subscript(operands.code(of), ((operands.code(place).text, False),))


@spells("sym_size")
def _size(operands: Operands, given: dict[str, Any]) -> Code | None:
    of = operands.code(given["self"])
    return joined(f"{of.at(ATOM)}.shape[{given.get('dim', 0)}]", [of])


# --- one argument -------------------------------------------------------------------------------

_OF_FLOATS = {
    "cos": "jnp.cos", "cosh": "jnp.cosh", "exp": "jnp.exp", "expm1": "jnp.expm1", "log": "jnp.log",
    "log1p": "jnp.log1p", "log2": "jnp.log2", "sin": "jnp.sin", "sinh": "jnp.sinh",
    "sqrt": "jnp.sqrt", "tan": "jnp.tan", "tanh": "jnp.tanh", "sigmoid": "jax.nn.sigmoid",
    "rsqrt": "jax.lax.rsqrt", "erf": "jax.lax.erf", "floor": "jnp.floor", "ceil": "jnp.ceil",
    "reciprocal": "jnp.reciprocal", "square": "jnp.square", "sign": "jnp.sign",
    "isnan": "jnp.isnan", "isinf": "jnp.isinf", "isfinite": "jnp.isfinite",
    "detach": "jax.lax.stop_gradient", "relu": "F.relu", "silu": "F.silu", "mish": "F.mish",
    "relu6": "F.relu6", "selu": "F.selu", "hardswish": "F.hardswish",
    "hardsigmoid": "F.hardsigmoid", "log_sigmoid": "F.logsigmoid", "gelu": "F.gelu",
    "leaky_relu": "F.leaky_relu", "celu": "F.celu", "hardtanh": "F.hardtanh",
    "softplus": "F.softplus", "glu": "F.glu", "elu": "F.elu", "softmax": "F.softmax",
    "_softmax": "F.softmax", "log_softmax": "F.log_softmax", "_log_softmax": "F.log_softmax",
    "special_softmax": "F.softmax", "zero": "jnp.zeros_like",
    "zeros_like": "jnp.zeros_like", "ones_like": "jnp.ones_like",
}  # fmt: skip


def _of_floats(function: str) -> Spelling:
    library, _, name = function.partition(".")
    known = set(inspect.signature(getattr(F, name)).parameters) if library == "F" else set()

    def spelling(operands: Operands, given: dict[str, Any]) -> Code | None:
        given = dict(given)
        if given.get("half_to_float") is False:
            del given["half_to_float"]
        x = given.pop("self")
        kind = operands.kind(x)
        if kind is None or not kind.is_float or not set(given) <= known:
            return None
        if "dtype" in given:
            return None
        dims = [given.pop("dim")] if list(given) == ["dim"] else []
        options = {name: operands.code(value) for name, value in given.items()}
        return call(function, operands.code(x), *(operands.code(d) for d in dims), **options)

    return spelling


for _name, _function in _OF_FLOATS.items():
    SPELLINGS[_name] = _of_floats(_function)


@spells("neg")
def _negative(operands: Operands, given: dict[str, Any]) -> Code | None:
    return prefix("-", operands.code(given["self"]))


@spells("logical_not", "bitwise_not")
def _not(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind = operands.kind(given["self"])
    return prefix("~", operands.code(given["self"])) if kind and kind.is_bool else None


@spells("_to_copy", "to", "type_as", "to_dtype")
def _as_type(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind = operands.kind(given["self"])
    if kind is None or kind.dtype is None or jnp.issubdtype(kind.dtype, jnp.complexfloating):
        return None
    x = operands.code(given["self"])
    if "other" in given:
        other = operands.code(given["other"])
        return method(x, "astype", joined(f"{other.at(ATOM)}.dtype", [other]))
    return method(x, "astype", dtype(given["dtype"])) if "dtype" in given else None


# --- functions of several arguments, under one name ----------------------------------------------

_SAME = {
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "pixel_shuffle", "pixel_unshuffle", "bilinear", "cosine_similarity", "layer_norm",
    "group_norm", "scaled_dot_product_attention",
}  # fmt: skip
_ONE_FOR_ALL = {"stride", "padding", "dilation", "kernel_size", "output_padding", "output_size"}


def _same(name: str) -> Spelling:
    parameters = inspect.signature(getattr(F, name)).parameters

    def spelling(operands: Operands, given: dict[str, Any]) -> Code | None:
        given = dict(given)
        for ignored in ("cudnn_enable", "cudnn_enabled"):
            given.pop(ignored, None)
        if given.pop("dropout_p", 0) != 0:  # which draws
            return None
        if "self" in given:
            given = {next(iter(parameters)): given.pop("self"), **given}
        if not set(given) <= set(parameters):
            return None
        args, options, is_gap = [], {}, False
        for key, parameter in parameters.items():
            if key not in given:
                is_gap = True
                continue
            value = given[key]
            if isinstance(value, (list, tuple)):
                value = tuple(value)
                if key in _ONE_FOR_ALL and len(set(map(repr, value))) == 1:
                    value = value[0]
            if parameter.default == value and not isinstance(value, Value):
                is_gap = True
                continue
            is_named = is_gap or parameter.kind is inspect.Parameter.KEYWORD_ONLY
            is_named = is_named or _is_number(parameter.default)
            if is_named:
                options[key] = operands.code(value)
            else:
                args.append(operands.code(value))
        return call(f"F.{name}", *args, **options)

    return spelling


for _name in sorted(_SAME):
    SPELLINGS[_name] = _same(_name)


@spells("embedding")
def _embedding(operands: Operands, given: dict[str, Any]) -> Code | None:
    padding = given.get("padding_idx", -1)
    if given.get("scale_grad_by_freq") or given.get("sparse"):
        return None
    named = {} if padding == -1 else {"padding_idx": constant(padding)}
    table, ids = operands.code(given["weight"]), operands.code(given["indices"])
    return call("F.embedding", ids, table, **named)


@spells("constant_pad_nd", "pad")
def _pad(operands: Operands, given: dict[str, Any]) -> Code | None:
    names = ("mode", "value")
    named = {n: operands.code(given[n]) for n in names if given.get(n) not in (None, 0, "constant")}
    return call("F.pad", operands.code(given["self"]), operands.code(tuple(given["pad"])), **named)


@spells("einsum")
def _einsum(operands: Operands, given: dict[str, Any]) -> Code | None:
    if not _same_dtype(operands, given["tensors"]):
        return None
    tensors = [operands.code(tensor) for tensor in given["tensors"]]
    return call("jnp.einsum", constant(given["equation"].replace(" ", "")), *tensors)


@spells("where")
def _where(operands: Operands, given: dict[str, Any]) -> Code | None:
    condition = operands.kind(given["condition"])
    values = [given.get("self"), given.get("other")]
    if condition is None or not condition.is_bool or any(v is None for v in values):
        return None
    if not any(_is_array(operands, v) for v in values) or not _promotes_alike(operands, *values):
        return None
    return call("jnp.where", *(operands.code(value) for value in given.values()))


@spells("masked_fill")
def _masked_fill(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind, mask, value = operands.kind(given["self"]), operands.kind(given["mask"]), given["value"]
    if kind is None or mask is None or not mask.is_bool or not kind.is_float:
        return None
    if not _is_number(value) and not _same_dtype(operands, [given["self"], value]):
        return None
    parts = (operands.code(given[name]) for name in ("mask", "value", "self"))
    return call("jnp.where", *parts)


# --- reductions ---------------------------------------------------------------------------------


def _reduction(name: str, needs: str) -> Spelling:
    def spelling(operands: Operands, given: dict[str, Any]) -> Code | None:
        kind = operands.kind(given["self"])
        if kind is None or "dtype" in given or not getattr(kind, f"is_{needs}"):
            return None
        options = {}
        dim = given.get("dim")
        if isinstance(dim, (list, tuple)) and len(dim) == 1:
            dim = dim[0]
        if dim is not None and dim not in ([], ()):
            options["axis"] = operands.code(tuple(dim) if isinstance(dim, list) else dim)
        if given.get("keepdim"):
            options["keepdims"] = Code("True")
        return method(operands.code(given["self"]), name, **options)

    return spelling


for _name, _method, _needs in (
    ("mean", "mean", "float"), ("sum", "sum", "float"), ("amax", "max", "float"),
    ("amin", "min", "float"), ("any", "any", "bool"), ("all", "all", "bool"),
    ("cumsum", "cumsum", "float"),
):  # fmt: skip
    SPELLINGS[_name] = _reduction(_method, _needs)


# --- shapes -------------------------------------------------------------------------------------


@spells("view", "reshape", "_unsafe_view")
def _reshape(operands: Operands, given: dict[str, Any]) -> Code | None:
    sizes = given.get("size", given.get("shape"))
    if "dtype" in given or not isinstance(sizes, (list, tuple)):
        return None
    parts = [operands.code(size) for size in sizes] or [Code("()")]
    return method(operands.code(given["self"]), "reshape", *parts)


@spells("permute")
def _permute(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind = operands.kind(given["self"])
    if kind is None or not kind.ndim:
        return None
    dims = [constant(dim % kind.ndim) for dim in given["dims"]]
    return method(operands.code(given["self"]), "transpose", *dims)


@spells("transpose")
def _transpose(operands: Operands, given: dict[str, Any]) -> Code | None:
    dims = [given.get(name) for name in ("dim0", "dim1")]
    if None in dims:
        return None
    return method(operands.code(given["self"]), "swapaxes", *map(constant, dims))


@spells("t")
def _t(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind, of = operands.kind(given["self"]), operands.code(given["self"])
    return joined(f"{of.at(ATOM)}.T", [of]) if kind and kind.ndim == 2 else None


@spells("expand")
def _expand(operands: Operands, given: dict[str, Any]) -> Code | None:
    if any(isinstance(size, int) and size == -1 for size in given["size"]):
        return None
    shape = sequence([operands.code(size) for size in given["size"]])
    return call("jnp.broadcast_to", operands.code(given["self"]), shape)


@spells("cat", "concat")
def _concatenate(operands: Operands, given: dict[str, Any]) -> Code | None:
    return _of_list("jnp.concatenate", operands, given)


@spells("stack")
def _stack(operands: Operands, given: dict[str, Any]) -> Code | None:
    return _of_list("jnp.stack", operands, given)


def _of_list(function: str, operands: Operands, given: dict[str, Any]) -> Code | None:
    tensors = given["tensors"]
    kinds = [operands.kind(tensor) for tensor in tensors]
    if not _same_dtype(operands, tensors) or len({k.ndim for k in kinds if k}) != 1:
        return None
    named = {"axis": constant(given["dim"])} if given.get("dim") else {}
    return call(function, sequence([operands.code(t) for t in tensors], "[]"), **named)


@spells("chunk", "split")
def _split(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind, dim = operands.kind(given["self"]), given.get("dim", 0)
    size = given.get("split_size")
    if kind is None or kind.dtype is None or (size is not None and not isinstance(size, int)):
        return None
    lengths = {shape[dim] for shape in kind.shapes}
    counts = {given["chunks"]} if size is None else {n // size for n in lengths}
    if len(counts) != 1 or not all(isinstance(n, int) for n in counts):
        return None
    count = counts.pop()
    if any(n % count or (size is not None and n != count * size) for n in lengths):
        return None
    x = operands.code(given["self"])
    return call("jnp.split", x, constant(count), axis=constant(dim))


@spells("unbind")
def _unbind(operands: Operands, given: dict[str, Any]) -> Code | None:
    # An array is iterated along its first dimension.
    return operands.code(given["self"]) if not given.get("dim") else None


# --- indices ------------------------------------------------------------------------------------

_ENTIRE = (":", True)


def _place(index: tuple[tuple[str, bool], ...], dim: int) -> int | None:
    """Return where the entry of a dimension of the result stands; None where it is none."""
    kept = -1
    for at, (_, keeps) in enumerate(index):
        kept += keeps
        if kept == dim and keeps:
            return at
    return len(index) + dim - kept - 1


def _indexed(
    operands: Operands, given: dict[str, Any], item: tuple[str, bool], parts: list[Code]
) -> Code | None:
    """Return an array with an entry in the place of a whole dimension, or before it."""
    kind, of = operands.kind(given["self"]), operands.code(given["self"])
    if kind is None or kind.dtype is None:
        return None
    is_new = item == ("None", True)
    dim = given.get("dim", 0) % (kind.ndim + is_new)
    base, index = of.index if of.index is not None else (of, ())
    at = _place(index, dim)
    if at is None:
        return None
    index = index + (_ENTIRE,) * (at + 1 - is_new - len(index))
    if not is_new and index[at] != _ENTIRE:
        base, index = of, (_ENTIRE,) * (dim + 1)
        at = dim
    after = index[at:] if is_new else index[at + 1 :]
    code = subscript(base, (*index[:at], item, *after), [of, *parts])
    return code


@spells("unsqueeze")
def _unsqueeze(operands: Operands, given: dict[str, Any]) -> Code | None:
    return _indexed(operands, given, ("None", True), [])


@spells("select")
def _select(operands: Operands, given: dict[str, Any]) -> Code | None:
    index = given["index"]
    if not isinstance(index, int):
        kind = operands.kind(index)
        if kind is None or kind.dtype is not None:
            return None
    code = operands.code(index)
    return _indexed(operands, given, (code.text, False), [code])


def _bounds(operands: Operands, given: Mapping[str, Any]) -> tuple[str, list[Code]] | None:
    bounds: list[Code | None] = []
    for name in ("start", "end"):
        bound = given.get(name)
        is_open = bound is None or (
            isinstance(bound, int) and (bound >= 2**31 or (name == "start" and bound == 0))
        )
        if is_open:
            bounds.append(None)
            continue
        kind = operands.kind(bound)
        if not isinstance(bound, int) and (kind is None or kind.dtype is not None):
            return None
        bounds.append(operands.code(bound))
    if not isinstance(given.get("step", 1), int):
        return None
    text = slice_text(bounds[0], bounds[1], given.get("step", 1))
    return text, [bound for bound in bounds if bound is not None]


@spells("slice")
def _slice(operands: Operands, given: dict[str, Any]) -> Code | None:
    bounds = _bounds(operands, given)
    return None if bounds is None else _indexed(operands, given, (bounds[0], True), bounds[1])


@spells("slice_scatter", "select_scatter")
def _scatter(operands: Operands, given: dict[str, Any]) -> Code | None:
    kind = operands.kind(given["self"])
    if kind is None or not _same_dtype(operands, [given["self"], given["src"]]):
        return None
    if "index" in given:
        bounds: Any = (str(given["index"]), []) if isinstance(given["index"], int) else None
    else:
        bounds = _bounds(operands, given)
    if bounds is None:
        return None
    x, src = operands.code(given["self"]), operands.code(given["src"])
    items = [":"] * (given.get("dim", 0) % kind.ndim) + [bounds[0]]
    text = f"{x.at(ATOM)}.at[{', '.join(items)}].set({src.text})"
    return joined(text, [x, src, *bounds[1]])


@spells("index")
def _index(operands: Operands, given: dict[str, Any]) -> Code | None:
    items, parts = [], []
    for index in given["indices"]:
        kind = operands.kind(index)
        if index is not None and (kind is None or kind.is_bool):
            return None
        if index is not None:
            parts.append(operands.code(index))
        items.append(":" if index is None else parts[-1].text)
    while items and items[-1] == ":":
        items.pop()
    x = operands.code(given["self"])
    return joined(f"{x.at(ATOM)}[{', '.join(items)}]", [x, *parts])


# --- creation -----------------------------------------------------------------------------------


@spells("arange")
def _arange(operands: Operands, given: dict[str, Any]) -> Code | None:
    bounds = [given[name] for name in ("start", "end", "step") if name in given]
    if any(isinstance(bound, float) for bound in bounds) or "end" not in given:
        return None
    if any(not isinstance(b, int) and operands.kind(b) is None for b in bounds):
        return None
    if bounds[0] == 0 and len(bounds) == 2 and "start" in given:
        bounds = bounds[1:]
    named = {"dtype": dtype(given["dtype"])} if given.get("dtype", "int64") != "int64" else {}
    return call("jnp.arange", *(operands.code(bound) for bound in bounds), **named)


def _full(name: str) -> Spelling:
    def spelling(operands: Operands, given: dict[str, Any]) -> Code | None:
        shape = sequence([operands.code(size) for size in given["size"]])
        kind = dtype(given.get("dtype", "float32"))
        return call(f"jnp.{name}", shape, kind)

    return spelling


for _name in ("zeros", "ones"):
    SPELLINGS[_name] = _full(_name)
