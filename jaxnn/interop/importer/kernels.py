"""Kernels that know the shapes of their results alone, for layers that only stand in a graph.

On tensors without values torch runs a recurrent layer step by step, which takes longer the longer
the sequence is, and fixes its length; attention asks how its arguments lie in memory, and so
whether a size is 1; some losses look at values. The checks of what layers are given stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@contextmanager
def kernels_by_shape() -> Iterator[None]:
    """Let torch's layers return empty tensors of the right shapes, where they are listed here."""
    import torch

    function: Any = torch.nn.functional
    replaced: list[tuple[Any, str, Any]] = [
        (torch._VF, "rnn_tanh", _recurrent),
        (torch._VF, "rnn_relu", _recurrent),
        (torch._VF, "gru", _recurrent),
        (torch._VF, "lstm", _lstm),
        (function, "multi_head_attention_forward", _attention),
        (function, "ctc_loss", _ctc_loss),
        (function, "gaussian_nll_loss", _gaussian_nll_loss),
        (torch.nn.AdaptiveLogSoftmaxWithLoss, "forward", _adaptive_log_softmax),
        (torch.nn.TransformerEncoderLayer, "forward", _encoder_layer),
        (torch.nn.TransformerDecoderLayer, "forward", _decoder_layer),
    ]
    was = [(owner, name, vars(owner).get(name)) for owner, name, _ in replaced]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for owner, name, kernel in replaced:
            setattr(owner, name, kernel)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for owner, name, kernel in was:
            if kernel is None:
                delattr(owner, name)  # torch looks it up when it is asked for
            else:
                setattr(owner, name, kernel)


def _recurrent(
    input: torch.Tensor,
    state: torch.Tensor,
    weights: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outputs and the last states of an RNN or a GRU, whichever dimension comes first.

    Shapes: input (a, b, input size), states (layers * directions, batch, size).
    """
    size = state.shape[-1] * (2 if bidirectional else 1)
    return input.new_empty((*input.shape[:-1], size)), state.new_empty(state.shape)


def _lstm(
    input: torch.Tensor, states: tuple[torch.Tensor, torch.Tensor], *options: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the outputs, the last hidden states, which may be projected, and the last cells."""
    hidden, cell = states
    return *_recurrent(input, hidden, *options), cell.new_empty(cell.shape)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: torch.Tensor,
    out_proj_bias: Any,
    *,
    key_padding_mask: Any,
    need_weights: bool,
    attn_mask: Any,
    average_attn_weights: bool,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the outputs and the weights of attention over (length, batch, size), or without batch.

    Raises:
        ValueError: if sizes do not fit.
    """
    import torch

    check: Any = torch.nn.functional._mha_shape_check  # type: ignore[attr-defined]
    is_batched = check(query, key, value, key_padding_mask, attn_mask, num_heads)
    wanted = [
        embed_dim_to_check if weight is None else weight.shape[1]
        for weight in (None, k_proj_weight, v_proj_weight)
    ]
    found = [tensor.shape[-1] for tensor in (query, key, value)]
    if found != wanted or key.shape[:-1] != value.shape[:-1]:
        raise ValueError(
            f"attention over {wanted} features is given a query, a key and a value of shapes "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
        )
    output = query.new_empty((*query.shape[:-1], out_proj_weight.shape[0]))
    if not need_weights:
        return output, None
    keys = key.shape[0] + (bias_k is not None) + add_zero_attn
    heads = () if average_attn_weights else (num_heads,)
    batch = query.shape[1:-1] if is_batched else ()
    return output, query.new_empty((*batch, *heads, query.shape[0], keys))


def _ctc_loss(
    log_probs: torch.Tensor,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> torch.Tensor:
    return log_probs.new_empty(log_probs.shape[1:-1] if reduction == "none" else ())


def _gaussian_nll_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> torch.Tensor:
    loss = input - target
    return loss if reduction == "none" else loss.new_empty(())


def _adaptive_log_softmax(layer: Any, input_: torch.Tensor, target_: torch.Tensor) -> Any:
    from torch.nn.modules.adaptive import _ASMoutput

    if input_.shape != (*target_.shape, layer.in_features):
        raise ValueError(
            f"AdaptiveLogSoftmaxWithLoss of {layer.in_features} features is given an input and a "
            f"target of shapes {tuple(input_.shape)} and {tuple(target_.shape)}"
        )
    return _ASMoutput(input_.new_empty(target_.shape), input_.new_empty(()))


def _encoder_layer(
    layer: Any, src: torch.Tensor, src_mask: Any = None, src_key_padding_mask: Any = None,
    is_causal: bool = False,
) -> torch.Tensor:  # fmt: skip
    layer.self_attn(
        src, src, src, key_padding_mask=src_key_padding_mask, attn_mask=src_mask, need_weights=False
    )
    return src.new_empty(src.shape)


def _decoder_layer(
    layer: Any, tgt: torch.Tensor, memory: torch.Tensor, tgt_mask: Any = None,
    memory_mask: Any = None, tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
    tgt_is_causal: bool = False, memory_is_causal: bool = False,
) -> torch.Tensor:  # fmt: skip
    _encoder_layer(layer, tgt, tgt_mask, tgt_key_padding_mask)
    layer.multihead_attn(
        tgt, memory, memory, key_padding_mask=memory_key_padding_mask, attn_mask=memory_mask,
        need_weights=False,
    )  # fmt: skip
    return tgt.new_empty(tgt.shape)
