"""The process of one vLLM engine, which gets messages through a pipe. `vllm.py` starts, watches and kills it.

    python -m prefix_rft.rollout.vllm_worker PIPE_FD WEIGHTS_FD

Every message is (what, argument). The answer is ("done", result) or ("error", traceback). While vLLM samples, ("alive", requests left)
is sent about once a second, and only after a step of the engine. So silence means that a step does not end.
"""

import ctypes
import dataclasses
import mmap
import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection

import numpy as np

SIGN_OF_LIFE = 1.0  # seconds


@dataclasses.dataclass(frozen=True)
class Rows:
    """Completions of many rows, flat: ids and log-probs [all tokens], lengths and finished [rows]."""

    ids: np.ndarray
    logprobs: np.ndarray
    lengths: np.ndarray
    finished: np.ndarray
    prefilled: int  # prompt tokens that were computed, not found in the cache


class LoadShared:
    """Extends vLLM's worker processes by a method that loads weights from shared memory (`worker_extension_cls`)."""

    def load_shared(self, path, layout):
        """layout: (name in the checkpoint, dtype, shape, first byte) of each tensor in the file `path`."""
        import torch
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        with open(path, "r+b") as file:
            shared = torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.uint8)

        def tensors():
            for name, dtype, shape, start in layout:
                dtype = getattr(torch, dtype)
                yield name, shared[start : start + dtype.itemsize * int(np.prod(shape))].view(dtype).view(shape)

        self.reload_weights(weights_iterator=tensors())
        if self.device.type == "cpu":
            # On a CPU vLLM multiplies by repacked copies of the matrices. A head that is tied to the embeddings has no weights of its
            # own to load, so its copy would stay old.
            for module in self.get_model().modules():
                if isinstance(module, ParallelLMHead):
                    module.quant_method.process_weights_after_loading(module)


class Engine:
    """vLLM's `LLM` with dummy weights until the first `load`."""

    def __init__(self, settings, pipe, weights_fd):
        from vllm import LLM

        self.pipe, self.path = pipe, f"/proc/{os.getpid()}/fd/{weights_fd}"
        self.sleeps, self.asleep, self.layout = settings["enable_sleep_mode"], False, None
        self.llm = LLM(
            **settings,
            load_format="dummy",
            skip_tokenizer_init=True,
            generation_config="vllm",  # only the settings of a request
            logprobs_mode="processed_logprobs",  # of the distribution that was sampled from, at its temperature
            worker_extension_cls=f"{__name__}.LoadShared",
        )

    def load(self, layout):
        if self.asleep:
            self.llm.wake_up(tags=["weights"])
        self.layout = layout
        self.llm.collective_rpc("load_shared", args=(self.path, layout))
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
            self.asleep = False
        self.llm.reset_prefix_cache()  # keys and values of the old weights

    def generate(self, prompts, max_new, temperature, top_p, seeds, stop_ids):
        """Completions of rows with at least one token to sample."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        if self.asleep:
            self.load(self.layout)  # the shared memory still holds the newest weights
        params = [
            SamplingParams(
                temperature=temperature,
                top_p=top_p,
                max_tokens=limit,
                seed=seed,
                stop_token_ids=stop_ids,
                ignore_eos=True,  # only the caller's stop ids end a response
                logprobs=0,  # only the sampled token's log-prob
                flat_logprobs=True,
                detokenize=False,
            )
            for limit, seed in zip(max_new, seeds, strict=True)
        ]
        outputs = self._run([TokensPrompt(prompt_token_ids=p) for p in prompts], params)
        if self.sleeps:
            self.llm.sleep(level=2)
            self.asleep = True
        done = [o.outputs[0] for o in outputs]
        return Rows(
            ids=np.concatenate([np.asarray(c.token_ids, dtype=np.int32) for c in done]),
            logprobs=np.concatenate([np.asarray(c.logprobs.logprobs, dtype=np.float64) for c in done]),
            lengths=np.array([len(c.token_ids) for c in done]),
            finished=np.array([c.finish_reason == "stop" for c in done]),
            prefilled=sum(len(o.prompt_token_ids) - (o.num_cached_tokens or 0) for o in outputs),
        )

    def score(self, ids):
        """[ids - 1]: log-probs of all tokens of a text but the first."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        params = SamplingParams(max_tokens=1, prompt_logprobs=0, flat_logprobs=True, detokenize=False, ignore_eos=True)
        output = self._run([TokensPrompt(prompt_token_ids=ids)], [params])[0]
        return np.asarray(output.prompt_logprobs.logprobs, dtype=np.float64)

    def _run(self, prompts, params):
        """The same as `LLM.generate`, with signs of life."""
        self.llm.enqueue(prompts, params, use_tqdm=False)
        engine, outputs, said = self.llm.llm_engine, [], time.monotonic()
        while engine.has_unfinished_requests():
            outputs += [o for o in engine.step() if o.finished]
            if time.monotonic() - said > SIGN_OF_LIFE:
                said = time.monotonic()
                self.pipe.send(("alive", len(prompts) - len(outputs)))
        return sorted(outputs, key=lambda o: int(o.request_id))


def main():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no engine outlives its run
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe, engine = Connection(int(sys.argv[1])), None
    while True:
        try:
            what, argument = pipe.recv()
        except EOFError:
            return
        try:
            if what == "start":
                engine = Engine(argument, pipe, int(sys.argv[2]))
                result = None
            else:
                result = getattr(engine, what)(*argument)
            answer = ("done", result)
        except Exception:
            answer = ("error", traceback.format_exc())
        pipe.send(answer)


if __name__ == "__main__":
    from prefix_rft.common.process import keep_freed_memory

    keep_freed_memory()

    from . import vllm_worker  # pickled objects need the module's real name

    vllm_worker.main()
