"""Matrix products of float32 on a CPU, by the faster of the two libraries that PyTorch has for them.

PyTorch gives such products to MKL, which uses AVX-512 on Intel's processors alone. On an AMD EPYC with AVX-512 oneDNN, which PyTorch
has for inference, took half the time (1,024 x 96 x 512: 245 to 108 GFLOP/s). But it compiles every new shape, for 0.7 ms. So it gets
large products, and those whose number of rows the caller has made `even`; PyTorch's own operators get the rest, and everything on
other processors.
"""

import functools
from pathlib import Path

import torch
import torch.nn.functional as F

STEP = 64  # rows; shapes with a multiple of them come again
SMALLEST = 1 << 20  # multiply-adds of such a product: below, the call of oneDNN (10 microseconds) is more than it saves
LARGE = 1 << 24  # multiply-adds of any other: a shape comes again in every layer and, while no row ends, at every step


@functools.cache
def onednn_is_faster() -> bool:
    """Whether MKL leaves the processor's AVX-512 unused. It depends on the machine alone, so a run that goes on after a kill has the same
    bits."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False


def even(count: int) -> int:
    """`count` of rows, or the next multiple of `STEP` where oneDNN is used."""
    return -(-count // STEP) * STEP if onednn_is_faster() else count


def _by_onednn(rows, weight, smallest) -> bool:
    return (
        onednn_is_faster()
        and rows * weight.numel() >= smallest
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
    )


def _onednn(x, weight, bias=None, add=None):
    """x weight^T, plus `bias` or `add`."""
    if add is None:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return torch.ops.mkldnn._linear_pointwise.binary(x, add, weight, bias, "add")


def product(x, weight, bias=None, out=None):
    """x [N, K] @ weight [K, M] + bias [M] -> [N, M], without a gradient. out: may hold the result."""
    if _by_onednn(len(x), weight, LARGE):
        return _onednn(x, weight.t(), bias)
    return torch.mm(x, weight, out=out) if bias is None else torch.addmm(bias, x, weight, out=out)


def add_product(total, x, weight):
    """total [N, M] + x [N, K] @ weight [K, M], without a gradient; `total` may hold the result."""
    return _onednn(x, weight.t(), add=total) if _by_onednn(len(x), weight, LARGE) else total.addmm_(x, weight)


def linear(x, weight, bias=None, add=None):
    """x [N, K], weight [M, K], bias [M] -> x weight^T + bias [N, M]; with `add` [N, M] in place of a bias: x weight^T + add."""
    if _by_onednn(len(x), weight, SMALLEST if len(x) % STEP == 0 else LARGE):
        return _Linear.apply(x, weight, bias, add)
    return F.linear(x, weight, bias) if add is None else torch.addmm(add, x, weight.t())


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, add):
        ctx.save_for_backward(x, weight)
        ctx.bias = bias is not None
        return _onednn(x, weight, bias, add)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad_x = _onednn(grad, weight.t()) if ctx.needs_input_grad[0] else None
        grad_weight = _onednn(grad.t(), x.t()) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight, grad.sum(0) if ctx.bias else None, grad if ctx.needs_input_grad[3] else None
