"""Log-probs and entropies of response tokens without ever holding [tokens x vocabulary].

The logits of a chunk of tokens are made, used and dropped; the backward pass makes them again. Memory above the hidden
states is one chunk: `head_chunk` floats (a run's key), whatever the vocabulary.
"""

import torch

from ..config.run import Run
from .kernels.products import linear, product

CHUNK_ELEMENTS = Run.model_fields["head_chunk"].default  # logits held at once where the caller does not say
UPCAST = 1 << 22  # of bfloat16 weights made fp32 at once, without a GPU


def _logits(hidden, weight, bias, temperature):
    """[T, vocabulary] in fp32: log-probs of rounded logits are too coarse for a ratio. Of bfloat16 (ZeRO's weights and states) the products
    are summed and kept in fp32, never rounded."""
    if weight.dtype not in (torch.bfloat16, torch.float16):
        logits = linear(hidden, weight, bias).float()
    else:
        if hidden.is_cuda:
            # no other device has this product; it has no gradient, and the backward pass below needs none
            logits = torch.mm(hidden, weight.t(), out_dtype=torch.float32)
        else:
            logits = torch.empty(len(hidden), len(weight), dtype=torch.float32, device=hidden.device)
            wide, rows = hidden.float(), max(1, UPCAST // weight.shape[1])
            for s in range(0, len(weight), rows):
                logits[:, s : s + rows] = wide @ weight[s : s + rows].float().t()
        if bias is not None:
            logits += bias.float()
    return logits if temperature == 1.0 else logits / temperature


class _LogProbEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, temperature, with_entropy, chunk_elements):
        chunk = max(1, chunk_elements // weight.shape[0])
        logp = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        entropy = torch.empty_like(logp) if with_entropy else torch.empty(0, device=hidden.device)
        for s in range(0, len(targets), chunk):
            logits = _logits(hidden[s : s + chunk], weight, bias, temperature)
            norm = torch.logsumexp(logits, -1)
            logp[s : s + chunk] = logits.gather(1, targets[s : s + chunk, None])[:, 0] - norm
            if with_entropy:  # H = log Z - sum p logit
                entropy[s : s + chunk] = norm - (torch.softmax(logits, -1) * logits).sum(-1)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.chunk, ctx.temperature, ctx.with_entropy = chunk, temperature, with_entropy
        return logp, entropy

    @staticmethod
    def backward(ctx, grad_logp, grad_entropy):
        hidden, weight, bias, targets = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        for s in range(0, len(targets), ctx.chunk):
            part = slice(s, s + ctx.chunk)
            logits = _logits(hidden[part], weight, bias, ctx.temperature)
            p = torch.softmax(logits, -1)
            grad = -p * grad_logp[part, None]  # d logp(y) / d logits = onehot(y) - p
            grad.scatter_add_(1, targets[part, None], grad_logp[part, None])
            if ctx.with_entropy:  # d H / d logits = -p (log p + H)
                log_p = torch.log_softmax(logits, -1)
                h = -(p * log_p).sum(-1, keepdim=True)
                grad = grad - p * (log_p + h) * grad_entropy[part, None]
            grad = grad / ctx.temperature
            grad_hidden[part] = product(grad.to(weight.dtype), weight).to(hidden.dtype)
            grad_weight.addmm_(grad.t(), hidden[part].float())  # in place: the product alone is as large as the weights
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        return (
            grad_hidden,
            grad_weight.to(weight.dtype),
            None if bias is None else grad_bias.to(bias.dtype),
            None,
            None,
            None,
            None,
        )


def logprobs(hidden, head, targets, temperature=1.0, with_entropy=False, chunk=CHUNK_ELEMENTS):
    """hidden [T, width], head a `torch.nn.Linear` to the vocabulary, targets [T] -> (log-probs [T], entropies [T] or
    an empty tensor), fp32, both differentiable; entropy in nats, of the distribution at `temperature`. chunk: logits held at once."""
    return _LogProbEntropy.apply(hidden, head.weight, head.bias, targets, temperature, with_entropy, chunk)
