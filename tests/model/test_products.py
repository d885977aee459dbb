"""Both libraries give the product and its gradients, and padding for one of them changes nothing."""

import pytest
import torch

from prefix_rft.model import forward_cpu
from prefix_rft.model.kernels import products


@pytest.fixture(params=[False, True], ids=["PyTorch's", "oneDNN"])
def by_onednn(request, monkeypatch):
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this PyTorch was built without oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: request.param)
    return request.param


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), requires_grad=True)


@pytest.mark.parametrize("rows", [128, 4096, 100])  # even, large, neither
@pytest.mark.parametrize("more", [None, "bias", "add"])
def test_products_and_gradients_are_those_in_float64(by_onednn, rows, more):
    x, weight = numbers(rows, 96), numbers(128, 96)
    extra = {more: numbers(*((128,) if more == "bias" else (rows, 128)))} if more else {}
    inputs = [x, weight, *extra.values()]
    found = products.linear(x, weight, **extra)
    assert (type(found.grad_fn).__name__ == "_LinearBackward") == (by_onednn and rows != 100)
    exact = [v.detach().double().requires_grad_() for v in inputs]
    expected = exact[0] @ exact[1].t() + sum(exact[2:])
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    grad = numbers(rows, 128).detach()
    gradients = torch.autograd.grad(found, inputs, grad)
    for one, other in zip(gradients, torch.autograd.grad(expected, exact, grad.double()), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(products.product(x, weight.t(), extra.get("bias")) + extra.get("add", 0), found)
        torch.testing.assert_close(products.add_product(torch.ones(rows, 128), x, weight.t()), x @ weight.t() + 1)


def test_float64_stays_float64(by_onednn):
    x, weight = numbers(128, 96).double(), numbers(128, 96).double()
    assert torch.equal(products.linear(x, weight), x @ weight.t())


def test_padding_predicts_nothing(by_onednn):
    (batch,) = forward_cpu.flat_batches([[1, 2, 3]] * 2, [[4, 5], [6, 7, 8]], 1024)
    tokens = 3 + 1 + 2  # the prompt once, the last token of a response is not read
    assert len(batch.ids) == len(batch.positions) == (64 if by_onednn else tokens) == batch.segments[-1, 1]
    assert batch.targets.tolist() == [4, 5, 6, 7, 8]
    assert batch.predictors.tolist() == [2, 3, 2, 4, 5]
    assert (batch.segments[:3, :4] == [[0, 3, 0, 0], [3, 4, 0, 3], [4, 6, 0, 3]]).all()
