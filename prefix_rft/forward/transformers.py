"""The forward pass by the model itself: packed rows and a mask that keeps sequences apart. Any device, any dtype."""

import torch

from ..packing import micro_batches, plan


class TransformersForward:
    """pack: several sequences a row; without, one a row, padded (the oracle of the tests)."""

    def __init__(self, model, device="cpu", dtype="float32", pack=True):
        self.model, self.device, self.dtype, self.pack = model, device, dtype, pack

    def micro_batches(self, prompts, responses, micro_tokens):
        """Yield micro-batches, each with `targets` [T] and `tokens` [T] (see `MicroBatch`), on the device."""
        for micro in micro_batches(prompts, responses, micro_tokens, self.pack):
            yield micro.to(self.device)

    def count(self, lengths, micro_tokens):
        """How many micro-batches sequences of these lengths make."""
        return len(plan(lengths, micro_tokens, self.pack))

    def hidden(self, micro):
        """[T, width]: the states from which the head predicts the targets."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            states = self.model.base_model(
                input_ids=micro.ids, attention_mask=micro.mask, position_ids=micro.positions, use_cache=False
            ).last_hidden_state
        return states.reshape(-1, states.shape[-1])[micro.predictors]
