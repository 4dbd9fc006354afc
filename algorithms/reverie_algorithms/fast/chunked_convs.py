"""Convolutions on a CPU, a few images at a time, forwards and backwards.

A chunk's pixels and gradients stay in the cache, and what the backward pass needs lies in memory
that is used again: with the usual allocator, fresh pages for hundreds of megabytes at every update
cost as much as the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK = 8
"""Images at a time: their largest layer is then about as large as a core's cache."""
LARGEST_KEPT = 31 << 20
"""Bytes; glibc lets this threshold grow up to 32 MiB."""
Read = Callable[[slice], Tensor]
"""Inputs [b, C, H, W] of some images, made anew whenever they are asked for."""


class Memory:
    """Tensors by name, allocated once and handed out again as long as shape and type agree."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        # Once a block of this size was freed, glibc keeps what is smaller for the next update
        # instead of handing it back (man 3 mallopt, M_MMAP_THRESHOLD); elsewhere it does nothing.
        torch.empty(LARGEST_KEPT, dtype=torch.uint8)

    def __deepcopy__(self, memo: Any) -> Memory:
        return Memory()

    def get(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        tensor = self._tensors.get(name)
        if tensor is None or tensor.shape != tuple(shape) or tensor.dtype != dtype:
            tensor = self._tensors[name] = torch.empty(*shape, dtype=dtype)
        return tensor


def chunked_features(read: Read, count: int, convs: Sequence[nn.Conv2d], memory: Memory) -> Tensor:
    """Apply convolutions with a ReLU behind each; return channel-last features [count, size].

    They are valid until the next call with the same memory and gradients on (or off) as now.
    """
    params = [param for conv in convs for param in (conv.weight, conv.bias)]
    if torch.is_grad_enabled():
        return _Chunked.apply(read, count, convs, memory, *params)
    return _forward(read, count, convs, memory, keep=False)[-1].flatten(1)


def reused_linear(inputs: Tensor, layer: nn.Linear, memory: Memory) -> Tensor:
    """Apply a linear layer whose gradient of `inputs` is valid until the next backward pass."""
    if torch.is_autocast_enabled("cpu"):
        inputs = inputs.to(torch.get_autocast_dtype("cpu"))
    return _Linear.apply(memory, inputs, layer.weight, layer.bias)


class _Chunked(torch.autograd.Function):
    """The only inputs with a gradient are the parameters."""

    @staticmethod
    def forward(
        ctx: Any, read: Read, count: int, convs: Sequence[nn.Conv2d], memory: Memory, *_: Tensor
    ) -> Tensor:
        ctx.read, ctx.convs = read, convs
        ctx.outputs = _forward(read, count, convs, memory, keep=True)
        return ctx.outputs[-1].flatten(1)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        outputs, convs = ctx.outputs, ctx.convs
        weights = [conv.weight.to(outputs[-1].dtype) for conv in convs]
        totals = [(torch.zeros_like(c.weight), torch.zeros_like(c.bias)) for c in convs]
        grad_output = grad_outputs[0].view(outputs[-1].shape)
        for part in _parts(len(grad_output)):
            grad = _channel_first(grad_output[part])
            for layer in reversed(range(len(convs))):
                output = _channel_first(outputs[layer][part])
                grad = torch.ops.aten.threshold_backward(grad, output, 0)
                below = _channel_first(outputs[layer - 1][part]) if layer else ctx.read(part)
                grads = _conv_backward(grad, below, weights[layer], convs[layer], layer > 0)
                grad = grads[0]
                for total, more in zip(totals[layer], grads[1:], strict=True):
                    total += more
        return None, None, None, None, *[total for pair in totals for total in pair]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, memory: Memory, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.memory = memory
        ctx.save_for_backward(inputs, weight)
        return F.linear(inputs, weight.to(inputs.dtype), bias.to(inputs.dtype))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        (inputs, weight), grad = ctx.saved_tensors, grad_outputs[0]
        out = ctx.memory.get("grad", inputs.shape, inputs.dtype)
        torch.mm(grad, weight.to(inputs.dtype), out=out)
        return None, out, (grad.T @ inputs).to(weight.dtype), grad.sum(0).to(weight.dtype)


def _forward(
    read: Read, count: int, convs: Sequence[nn.Conv2d], memory: Memory, keep: bool
) -> list[Tensor]:
    """Outputs [count, h, w, C] of every layer, or of the last one alone."""
    dtype = _dtype()
    weights = [conv.weight.to(dtype) for conv in convs]
    biases = [None if conv.bias is None else conv.bias.to(dtype) for conv in convs]
    outputs: dict[str, Tensor] = {}
    for part in _parts(count):
        x = read(part).to(dtype)
        for layer, conv in enumerate(convs):
            x = F.conv2d(x, weights[layer], biases[layer], conv.stride)
            if not keep and layer < len(convs) - 1:
                x.relu_()
                continue
            shape = (count, *x.shape[2:], x.shape[1])
            name = f"{layer}/{keep}"
            outputs[name] = memory.get(name, shape, dtype)
            x = torch.clamp_min(x, 0, out=_channel_first(outputs[name][part]))
    return [*outputs.values()]


def _conv_backward(
    grad: Tensor, inputs: Tensor, weight: Tensor, conv: nn.Conv2d, for_inputs: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of inputs (where wanted), weight and bias."""
    places = (conv.stride, conv.padding, conv.dilation, False, (0, 0), 1)
    inputs, wanted = inputs.to(weight.dtype), [for_inputs, True, True]
    return torch.ops.aten.convolution_backward(
        grad, inputs, weight, [conv.out_channels], *places, wanted
    )


def _dtype() -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


def _channel_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))
