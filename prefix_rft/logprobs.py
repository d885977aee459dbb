"""Log-probs and entropies of response tokens without ever holding [tokens x vocabulary].

The logits of a chunk of tokens are made, used and dropped; the backward pass makes them again. Memory above the hidden
states is one chunk: `CHUNK_ELEMENTS` floats, whatever the vocabulary.
"""

import torch

CHUNK_ELEMENTS = 1 << 24  # logits held at once (64 MiB in fp32)


def _logits(hidden, weight, bias, temperature):
    logits = torch.nn.functional.linear(hidden, weight, bias).float()  # fp32: bf16 log-probs are too coarse for a ratio
    return logits if temperature == 1.0 else logits / temperature


class _LogProbEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, temperature, with_entropy):
        chunk = max(1, CHUNK_ELEMENTS // weight.shape[0])
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
            grad_hidden[part] = (grad.to(weight.dtype) @ weight).to(hidden.dtype)
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
        )


def logprobs(hidden, head, targets, temperature=1.0, with_entropy=False):
    """hidden [T, width], head a `torch.nn.Linear` to the vocabulary, targets [T] -> (log-probs [T], entropies [T] or
    an empty tensor), fp32, both differentiable; entropy in nats, of the distribution at `temperature`."""
    return _LogProbEntropy.apply(hidden, head.weight, head.bias, targets, temperature, with_entropy)
