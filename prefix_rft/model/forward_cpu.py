"""The forward pass of a Llama-, Qwen2- or Qwen3-style model over a flat list of tokens, float32 on a CPU.

At the sizes that a CPU can train, half the time of a model's own forward and backward pass goes into small operators and into
attention between tokens that a mask then removes. Here what is not a matrix product is compiled (`kernels/training.py`), and a prompt is
computed once for all responses to it that share a micro-batch. The parameters are the model's own, and so are the gradients.
"""

from dataclasses import dataclass

import numpy as np
import torch

from .kernels.products import even, linear
from .kernels.training import Attention, Norm, SwiGLU
from .shapes import FAMILIES

STATIC_ROPE = ("default", "linear", "llama3")  # frequencies that do not depend on the length of the input


@dataclass
class FlatBatch:
    """N tokens in S segments.

    ids, positions [N] int64; segments [S, 5] int64 (see `kernels._attention`); predictors [T] int64: tokens whose hidden state
    predicts a response token; targets [T] int64: those tokens; tokens [T] int64: where each of them stands in the flat order of
    all response tokens of the call.
    """

    ids: torch.Tensor
    positions: np.ndarray
    segments: np.ndarray
    predictors: torch.Tensor
    targets: torch.Tensor
    tokens: torch.Tensor


def fits(model):
    """Whether `FlatForward` knows all there is in the model."""
    config = model.config
    if config.model_type not in FAMILIES or config.hidden_act != "silu" or config.attention_dropout:
        return False
    layer = model.base_model.layers[0]
    rope = getattr(model.base_model.rotary_emb, "rope_type", None)
    return (
        layer.self_attn.head_dim % 8 == 0
        and layer.self_attn.o_proj.bias is None
        and layer.mlp.down_proj.bias is None
        and layer.mlp.gate_proj.bias is None
        and "sliding_attention" not in (getattr(config, "layer_types", None) or [])
        and rope in STATIC_ROPE
    )


def flat_batches(prompts, responses, micro_tokens):
    """Yield `FlatBatch`es of about `micro_tokens` tokens over sequences prompt + response (lists of ids). Every response token
    appears in exactly one of them; a sequence longer than `micro_tokens` gets one of its own."""
    first = np.concatenate([[0], np.cumsum([len(r) for r in responses], dtype=np.int64)])
    groups = {}
    for i, p in enumerate(prompts):
        groups.setdefault(tuple(p), []).append(i)
    chosen, used = {}, 0
    for prompt, numbers in groups.items():
        for i in numbers:
            more = len(responses[i]) + (0 if prompt in chosen else len(prompt))
            if used and used + more > micro_tokens:
                yield _flat_batch(chosen, responses, first)
                chosen, used, more = {}, 0, len(responses[i]) + len(prompt)
            chosen.setdefault(prompt, []).append(i)
            used += more
    if chosen:
        yield _flat_batch(chosen, responses, first)


def _flat_batch(chosen, responses, first):
    ids, positions, segments, predictors, targets, tokens = [], [], [], [], [], []
    at = 0
    for prompt, numbers in chosen.items():
        start, end = at, at + len(prompt)
        ids.append(prompt)
        positions.append(np.arange(len(prompt)))
        segments.append((start, end, 0, 0, 0))
        at = end
        for i in numbers:
            response = responses[i]
            n = len(response)
            if n == 0:
                continue
            # the last token predicts nothing, so it is not read
            ids.append(response[:-1])
            positions.append(len(prompt) + np.arange(n - 1))
            segments.append((at, at + n - 1, start, end, 0))
            predictors.append(np.concatenate([[end - 1], np.arange(at, at + n - 1)]))
            targets.append(response)
            tokens.append(first[i] + np.arange(n))
            at += n - 1
    if padding := even(at) - at:  # a segment that predicts nothing
        ids.append([0] * padding)
        positions.append(np.zeros(padding, dtype=np.int64))
        segments.append((at, at + padding, 0, 0, 0))
    join = lambda parts: torch.from_numpy(np.concatenate(parts).astype(np.int64))  # noqa: E731
    return FlatBatch(
        ids=join(ids),
        positions=np.concatenate(positions),
        segments=np.array(segments, dtype=np.int64),
        predictors=join(predictors),
        targets=join(targets),
        tokens=join(tokens),
    )


class FlatForward:
    def __init__(self, model):
        self.model, self.body = model, model.base_model
        config = model.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.dim = self.body.layers[0].self_attn.head_dim
        self.eps = config.rms_norm_eps
        rotary = self.body.rotary_emb
        angles = torch.arange(config.max_position_embeddings).float()[:, None] * rotary.inv_freq.float()
        self.cos, self.sin = (
            (f(angles) * rotary.attention_scaling).numpy().astype(np.float32) for f in (torch.cos, torch.sin)
        )

    def micro_batches(self, prompts, responses, micro_tokens):
        """Yield `FlatBatch`es."""
        return flat_batches(prompts, responses, micro_tokens)

    def hidden(self, micro):
        """[T, width]: the states from which the head predicts the targets."""
        cos, sin = self.cos[micro.positions], self.sin[micro.positions]
        x = self.body.embed_tokens(micro.ids)  # no gradient for the row of the padding token, which a model may sample
        for layer in self.body.layers:
            a, mlp = layer.self_attn, layer.mlp
            three = (a.q_proj, a.k_proj, a.v_proj)
            bias = None if a.q_proj.bias is None else torch.cat([p.bias for p in three])
            h = Norm.apply(x, layer.input_layernorm.weight, self.eps)
            qkv = linear(h, torch.cat([p.weight for p in three]), bias)
            qkv = qkv.view(len(x), self.heads + 2 * self.kv_heads, self.dim)
            if hasattr(a, "q_norm"):
                q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), 1)
                qkv = torch.cat([self._head_norm(q, a.q_norm), self._head_norm(k, a.k_norm), v], 1)
            o = Attention.apply(qkv, micro.segments, cos, sin, self.heads).view(len(x), -1)
            x = linear(o, a.o_proj.weight, add=x)
            h = Norm.apply(x, layer.post_attention_layernorm.weight, self.eps)
            h = SwiGLU.apply(linear(h, torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])))
            x = linear(h, mlp.down_proj.weight, add=x)
        return Norm.apply(x.index_select(0, micro.predictors), self.body.norm.weight, self.eps)

    def _head_norm(self, x, norm):
        """[N, heads, D], each head of each token divided by its root mean square."""
        return Norm.apply(x.reshape(-1, self.dim), norm.weight, self.eps).view(x.shape)
