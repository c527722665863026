"""Operators that are layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .... import functional as F
from ....functional._vector_norm import with_norm
from ._register import operator

Sizes = Sequence[int]

# --- convolution --------------------------------------------------------------------------------


def _spread(value: Any, dims: int) -> Any:
    """Return a list of one, which torch lets stand for all dimensions, in full."""
    if isinstance(value, (list, tuple)):
        return tuple(value) * dims if len(value) == 1 else tuple(value)
    return value


def _convolution_operator(dims: int) -> None:
    function: Callable[..., Any] = getattr(F, f"conv{dims}d")
    transposed: Callable[..., Any] = getattr(F, f"conv_transpose{dims}d")

    @operator(f"conv{dims}d")
    def convolve(
        input: jax.Array, weight: jax.Array, bias: Any = None, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1,
    ) -> jax.Array:  # fmt: skip
        stride, padding, dilation = (_spread(v, dims) for v in (stride, padding, dilation))
        return function(input, weight, bias, stride, padding, dilation, groups)  # type: ignore[no-any-return]

    @operator(f"conv_transpose{dims}d")
    def convolve_transposed(
        input: jax.Array, weight: jax.Array, bias: Any = None, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> jax.Array:  # fmt: skip
        stride, padding, output_padding, dilation = (
            _spread(v, dims) for v in (stride, padding, output_padding, dilation)
        )
        return transposed(input, weight, bias, stride, padding, output_padding, groups, dilation)  # type: ignore[no-any-return]


for _dims in (1, 2, 3):
    _convolution_operator(_dims)


@operator("convolution", "_convolution")
def _convolution(
    input: jax.Array, weight: jax.Array, bias: Any, stride: Sizes, padding: Sizes,
    dilation: Sizes, transposed: bool, output_padding: Sizes, groups: int, **_: Any,
) -> jax.Array:  # fmt: skip
    dims = weight.ndim - 2
    stride, padding, dilation, extra = (
        _spread(v, dims) for v in (stride, padding, dilation, output_padding)
    )
    if transposed:
        function = getattr(F, f"conv_transpose{dims}d")
        return function(input, weight, bias, stride, padding, extra, groups, dilation)  # type: ignore[no-any-return]
    return getattr(F, f"conv{dims}d")(input, weight, bias, stride, padding, dilation, groups)  # type: ignore[no-any-return]


@operator("conv_tbc")
def _conv_tbc(self: jax.Array, weight: jax.Array, bias: jax.Array, pad: int = 0) -> jax.Array:
    return F.conv_tbc(self, weight, bias, pad)


# --- normalization ------------------------------------------------------------------------------


@operator("batch_norm", "native_batch_norm_", "cudnn_batch_norm_")
def _batch_norm(
    input: jax.Array, weight: Any, bias: Any, running_mean: Any, running_var: Any,
    training: bool, momentum: float, eps: float, cudnn_enabled: bool = True,
) -> jax.Array:  # fmt: skip
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


@operator("_native_batch_norm_legit_functional")
def _batch_norm_functional(
    input: jax.Array, weight: Any, bias: Any, running_mean: Any, running_var: Any,
    training: bool, momentum: float, eps: float,
) -> tuple[Any, ...]:  # fmt: skip
    result, mean, variance = F.batch_norm_with_stats(
        input, running_mean, running_var, weight, bias, training, momentum, eps
    )
    return result, None, None, mean, variance


@operator("_native_batch_norm_legit_no_training")
def _batch_norm_no_training(
    input: jax.Array, weight: Any, bias: Any, running_mean: Any, running_var: Any,
    momentum: float, eps: float,
) -> tuple[Any, ...]:  # fmt: skip
    result = F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    return result, None, None


@operator("native_batch_norm", "_native_batch_norm_legit")
def _native_batch_norm(
    input: jax.Array, weight: Any = None, bias: Any = None, running_mean: Any = None,
    running_var: Any = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> tuple[Any, ...]:  # fmt: skip
    result = F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return result, None, None


@operator("instance_norm")
def _instance_norm(
    input: jax.Array, weight: Any, bias: Any, running_mean: Any, running_var: Any,
    use_input_stats: bool, momentum: float, eps: float, cudnn_enabled: bool = True,
) -> jax.Array:  # fmt: skip
    return F.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


@operator("layer_norm")
def _layer_norm(
    input: jax.Array, normalized_shape: Sizes, weight: Any = None, bias: Any = None,
    eps: float = 1e-5, cudnn_enable: bool = True,
) -> jax.Array:  # fmt: skip
    return F.layer_norm(input, tuple(normalized_shape), weight, bias, eps)


@operator("native_layer_norm")
def _native_layer_norm(
    input: jax.Array, normalized_shape: Sizes, weight: Any, bias: Any, eps: float
) -> tuple[Any, ...]:
    return _layer_norm(input, normalized_shape, weight, bias, eps), None, None


@operator("group_norm")
def _group_norm(
    input: jax.Array, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> jax.Array:  # fmt: skip
    return F.group_norm(input, num_groups, weight, bias, eps)


@operator("native_group_norm")
def _native_group_norm(
    input: jax.Array, weight: Any, bias: Any, N: Any, C: Any, HxW: Any, group: int, eps: float
) -> tuple[Any, ...]:
    return F.group_norm(input, group, weight, bias, eps), None, None


@operator("rms_norm")
def _rms_norm(
    input: jax.Array, normalized_shape: Sizes, weight: Any = None, eps: float | None = None
) -> jax.Array:
    return F.rms_norm(input, tuple(normalized_shape), weight, eps)


@operator("_fused_rms_norm")
def _fused_rms_norm(
    input: jax.Array, normalized_shape: Sizes, weight: Any, eps: float | None
) -> tuple[Any, ...]:
    return _rms_norm(input, normalized_shape, weight, eps), None


@operator("_weight_norm")
def _weight_norm(v: jax.Array, g: jax.Array, dim: int = 0) -> jax.Array:
    return with_norm(v, g, tuple(axis for axis in range(v.ndim) if dim == -1 or axis != dim))


@operator("_weight_norm_interface")
def _weight_norm_interface(v: jax.Array, g: jax.Array, dim: int = 0) -> tuple[Any, ...]:
    return _weight_norm(v, g, dim), None


# --- pooling ------------------------------------------------------------------------------------


def _pooling_operators(dims: int) -> None:
    def named(form: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(F, form.format(dims))
        return function

    maximum, average = named("max_pool{}d"), named("avg_pool{}d")

    def windows(kernel_size: Any, *rest: Any) -> tuple[Any, ...]:
        return tuple(_spread(v, dims) for v in (kernel_size, *rest))

    def max_pool(
        self: jax.Array, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False, return_indices: bool = False,
    ) -> Any:  # fmt: skip
        kernel, padding, dilation = windows(kernel_size, padding, dilation)
        step = _spread(stride, dims) or None
        return maximum(self, kernel, step, padding, dilation, ceil_mode, return_indices)

    operator(f"max_pool{dims}d")(max_pool)
    operator(f"max_pool{dims}d_with_indices")(
        lambda self, **given: max_pool(self, **given, return_indices=True)
    )

    @operator(f"avg_pool{dims}d")
    def avg_pool(
        self: jax.Array, kernel_size: Any, stride: Any = (), padding: Any = 0,
        ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: Any = None,
    ) -> jax.Array:  # fmt: skip
        kernel, padding = windows(kernel_size, padding)
        more = () if dims == 1 else (divisor_override,)
        step = _spread(stride, dims) or None
        return average(self, kernel, step, padding, ceil_mode, count_include_pad, *more)  # type: ignore[no-any-return]

    adaptive_avg, adaptive_max = named("adaptive_avg_pool{}d"), named("adaptive_max_pool{}d")
    operator(f"adaptive_avg_pool{dims}d", f"_adaptive_avg_pool{dims}d")(
        lambda self, output_size: adaptive_avg(self, _spread(output_size, dims))
    )
    operator(f"adaptive_max_pool{dims}d")(
        lambda self, output_size: adaptive_max(self, _spread(output_size, dims), True)
    )


for _dims in (1, 2, 3):
    _pooling_operators(_dims)


@operator("max_unpool2d", "max_unpool3d")
def _max_unpool(
    self: jax.Array, indices: jax.Array, output_size: Sizes, stride: Any = None, padding: Any = None
) -> jax.Array:
    dims = len(output_size)
    planes = self.shape[: self.ndim - dims]
    values = self.reshape(*planes, -1)
    places = indices.reshape(*planes, -1)
    grid = [
        jax.lax.broadcasted_iota(places.dtype, places.shape, axis) for axis in range(len(planes))
    ]
    size = 1
    for n in output_size:
        size = size * n
    empty = jnp.zeros((*planes, size), self.dtype)
    return empty.at[(*grid, places)].set(values).reshape(*planes, *output_size)


# --- vision -------------------------------------------------------------------------------------


def _upsample(mode: str, antialias: bool = False) -> Callable[..., jax.Array]:
    def upsample(
        self: Any = None, output_size: Any = None, align_corners: bool | None = None,
        input: Any = None, scale_factors: Any = None, **scales: Any,
    ) -> jax.Array:  # fmt: skip
        x = input if self is None else self
        given = [scales[n] for n in ("scales_d", "scales_h", "scales_w", "scales") if n in scales]
        factors = scale_factors or (given if given and None not in given else None)
        size = None if factors else tuple(output_size)
        return F.interpolate(
            x, size, tuple(factors) if factors else None, mode,
            align_corners if mode not in ("nearest", "nearest-exact") else None,
            antialias=antialias,
        )  # fmt: skip

    return upsample


for _dims, _linear in ((1, "linear"), (2, "bilinear"), (3, "trilinear")):
    operator(f"upsample_{_linear}{_dims}d")(_upsample(_linear))
    operator(f"upsample_nearest{_dims}d")(_upsample("nearest"))
    operator(f"_upsample_nearest_exact{_dims}d")(_upsample("nearest-exact"))
operator("upsample_bicubic2d")(_upsample("bicubic"))
operator("_upsample_bilinear2d_aa")(_upsample("bilinear", antialias=True))
operator("_upsample_bicubic2d_aa")(_upsample("bicubic", antialias=True))


@operator("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def _grid_sampler(
    input: jax.Array, grid: jax.Array, interpolation_mode: int, padding_mode: int,
    align_corners: bool,
) -> jax.Array:  # fmt: skip
    mode = ("bilinear", "nearest", "bicubic")[interpolation_mode]
    padding = ("zeros", "border", "reflection")[padding_mode]
    return F.grid_sample(input, grid, mode, padding, align_corners)


@operator("affine_grid_generator")
def _affine_grid(theta: jax.Array, size: Sizes, align_corners: bool) -> jax.Array:
    return F.affine_grid(theta, tuple(size), align_corners)


@operator("im2col")
def _im2col(
    self: jax.Array, kernel_size: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes
) -> jax.Array:
    return F.unfold(self, *(_spread(v, 2) for v in (kernel_size, dilation, padding, stride)))


@operator("col2im")
def _col2im(
    self: jax.Array, output_size: Sizes, kernel_size: Sizes, dilation: Sizes, padding: Sizes,
    stride: Sizes,
) -> jax.Array:  # fmt: skip
    given = (output_size, kernel_size, dilation, padding, stride)
    return F.fold(self, *(_spread(v, 2) for v in given))


# --- attention ----------------------------------------------------------------------------------


@operator("scaled_dot_product_attention", draws=True)
def _attention(
    query: jax.Array, key: jax.Array, value: jax.Array, attn_mask: Any = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
    enable_gqa: bool = False, draw: Any = None,
) -> jax.Array:  # fmt: skip
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa,
        rng=draw() if dropout_p > 0 else None,
    )  # fmt: skip


# --- recurrent networks ----------------------------------------------------------------------


def _recurrent(function: Callable[..., Any]) -> Callable[..., Any]:
    def layers(
        input: jax.Array, hx: Any, params: Sequence[jax.Array], has_biases: bool,
        num_layers: int, dropout: float, train: bool, bidirectional: bool, batch_first: bool,
        draw: Callable[[], jax.Array],
    ) -> Any:  # fmt: skip
        rng = draw() if train and dropout > 0 and num_layers > 1 else None
        options = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
        return function(input, hx, params, *options, rng=rng)

    return layers


for _name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
    operator(_name, draws=True)(_recurrent(getattr(F, _name)))
for _name in ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"):
    operator(_name)(getattr(F, _name))


# --- losses and distances -----------------------------------------------------------------------

_REDUCTIONS = ("none", "mean", "sum")


@operator("cross_entropy_loss")
def _cross_entropy(
    self: jax.Array, target: jax.Array, weight: Any = None, reduction: int = 1,
    ignore_index: int = -100, label_smoothing: float = 0.0,
) -> jax.Array:  # fmt: skip
    return F.cross_entropy(
        self, target, weight, ignore_index=ignore_index, reduction=_REDUCTIONS[reduction],
        label_smoothing=label_smoothing,
    )  # fmt: skip


@operator("nll_loss_nd", "nll_loss", "nll_loss2d")
def _nll_loss(
    self: jax.Array, target: jax.Array, weight: Any = None, reduction: int = 1,
    ignore_index: int = -100,
) -> jax.Array:  # fmt: skip
    return F.nll_loss(
        self, target, weight, ignore_index=ignore_index, reduction=_REDUCTIONS[reduction]
    )


def _loss(name: str) -> Callable[..., jax.Array]:
    def loss(self: jax.Array, target: jax.Array, reduction: int = 1, **options: Any) -> jax.Array:
        function = getattr(F, name)
        return function(self, target, reduction=_REDUCTIONS[reduction], **options)  # type: ignore[no-any-return]

    return loss


for _operator, _function in (
    ("mse_loss", "mse_loss"), ("l1_loss", "l1_loss"), ("smooth_l1_loss", "smooth_l1_loss"),
    ("huber_loss", "huber_loss"), ("binary_cross_entropy", "binary_cross_entropy"),
    ("binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits"), ("kl_div", "kl_div"),
    ("soft_margin_loss", "soft_margin_loss"),
):  # fmt: skip
    operator(_operator)(_loss(_function))


@operator("cosine_similarity")
def _cosine_similarity(x1: jax.Array, x2: jax.Array, dim: int = 1, eps: float = 1e-8) -> jax.Array:
    return F.cosine_similarity(x1, x2, dim, eps)


@operator("pairwise_distance")
def _pairwise_distance(
    x1: jax.Array, x2: jax.Array, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> jax.Array:
    return F.pairwise_distance(x1, x2, p, eps, keepdim)


@operator("embedding_bag")
def _embedding_bag(
    weight: jax.Array, indices: jax.Array, offsets: jax.Array, scale_grad_by_freq: bool = False,
    mode: int = 0, sparse: bool = False, per_sample_weights: Any = None,
    include_last_offset: bool = False, padding_idx: int | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    bags = F.embedding_bag(
        indices, weight, offsets, scale_grad_by_freq=scale_grad_by_freq,
        mode=("sum", "mean", "max")[mode], per_sample_weights=per_sample_weights,
        include_last_offset=include_last_offset, padding_idx=padding_idx,
    )  # fmt: skip
    return bags, None, None, None


@operator("_grouped_mm")
def _grouped_mm(
    self: jax.Array, mat2: jax.Array, offs: Any = None, bias: Any = None, out_dtype: Any = None
) -> jax.Array:
    return F.grouped_mm(self, mat2, offs=offs, bias=bias, out_dtype=out_dtype)
