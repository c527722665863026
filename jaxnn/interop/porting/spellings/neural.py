"""The functions of torch.nn that jaxnn has under the same name."""

from __future__ import annotations

import inspect
from typing import Any

from .... import functional as F
from ...importer.program import Value
from ..code import Code, call
from ._register import Operands, Spelling, is_number, spells

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
            is_named = is_named or is_number(parameter.default)
            if is_named:
                options[key] = operands.code(value)
            else:
                args.append(operands.code(value))
        return call(f"F.{name}", *args, **options)

    return spelling


for _name in sorted(_SAME):
    spells(_name)(_same(_name))
