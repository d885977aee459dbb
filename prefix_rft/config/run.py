"""The keys of a training run. Values that the paper leaves open carry the word "unknown" in their help text."""

from typing import Annotated

from pydantic import BeforeValidator

from .reading import Section, opt


class Optimizer(Section):
    """AdamW (paper section 3: lr 1e-6 constant for RL; 5e-5 with warm-up 10 % and cosine to 10 % for SFT)."""

    lr: float = opt(..., "peak learning rate; chosen on the validation split, the same grid for every method", gt=0)
    beta1: float = opt(0.9, "AdamW beta 1", ge=0, le=1)
    beta2: float = opt(0.999, "AdamW beta 2", ge=0, le=1)
    weight_decay: float = opt(0.01, "AdamW decoupled weight decay, on matrices only", ge=0)
    grad_clip: float = opt(1.0, "maximum global gradient norm", gt=0)
    schedule: str = opt("constant", "learning rate over steps", choices=("constant", "linear", "cosine"))
    warmup: float = opt(0.0, "share of the steps with a linear warm-up", ge=0, le=1)
    final: float = opt(1.0, "learning rate at the last step as a share of the peak (linear, cosine)", ge=0, le=1)


class Vllm(Section):
    """How vLLM runs (docs/vllm.md). These keys change speed and memory; they change samples by rounding only."""

    tensor_parallel: int = opt(1, "GPUs that one engine spreads its model over", ge=1)
    data_parallel: int = opt(
        1, "engines that share the rows; with several training processes a machine each has one of its own", ge=1
    )
    kv_cache_gib: float = opt(4.0, "memory for keys and values on each of an engine's devices, in GiB", gt=0)
    sleep: bool = opt(False, "give up GPU memory between sampling and the next weights; untested on a GPU yet")
    start_minutes: float = opt(30.0, "longest time for an engine to start", gt=0)
    timeout_minutes: float = opt(
        10.0, "longest time without a sign of life from an engine, after which the run ends", gt=0
    )


ENGINES = ("native", "vllm")
TOP_P = "sample from the most likely tokens alone, as few as have this probability together; unset: from all"


class Engine(Section):
    """What samples responses. Training, evaluation, benchmarks, teachers and probes have these keys in common."""

    engine: str = opt("native", "engine that samples the responses; vllm: docs/vllm.md", choices=ENGINES)
    vllm: Vllm | None = opt(None, "options of engine vllm", identity=False)
    max_rows: int = opt(
        512, "rows decoded at once; changes memory and speed, never the samples (vllm: by rounding only)", ge=1
    )

    def check(self):
        if self.engine != "vllm" and self.vllm is not None:
            raise ValueError(
                f"vllm: this section has no effect with engine: {self.engine}; leave it out, or set engine to vllm"
            )


class ModelEngine(Engine):
    """An engine that samples from a saved model, and so has a dtype of its own."""

    dtype: str = opt("float32", "dtype of the model", choices=("float32", "bfloat16"))


class Rollout(Engine):
    group_size: int = opt(8, "trajectories per prompt, N of Eq. 2", ge=1)
    temperature: float = opt(1.0, "sampling temperature in training", gt=0)
    max_response: int = opt(..., "response limit in tokens, the prefix included", ge=1)
    old_logprobs: str | None = opt(
        None,
        "source of pi_old for sampled tokens. learner: extra forward pass. sampler: the engine's log-probs (exact for the native"
        " engine in float32). unset: sampler if the engine is exact, else learner",
        choices=("learner", "sampler"),
    )

    def check(self):
        super().check()
        if self.engine == "vllm" and self.old_logprobs == "sampler":
            raise ValueError(
                "old_logprobs: sampler goes with engine native only: vLLM's log-probs come from other kernels, and it gives no entropies"
            )


class Objective(Section):
    """Paper section 2, step 8."""

    clip_low: float = opt(0.2, "lower clip of the importance ratio", ge=0, le=1)
    clip_high: float = opt(0.2, "upper clip of the importance ratio", ge=0)
    entropy_bonus: float = opt(
        0.0,
        "coefficient of the entropy bonus, the mean entropy of a mini-batch's sampled tokens in nats, the same in every method;"
        " unknown in the paper (its code has 0.001)",
        ge=0,
    )
    importance_cap: float | None = opt(
        None,
        "truncated importance sampling: the rl loss of a sampled token is multiplied by min(pi_old / sampler's probability, this);"
        " the loss of a prefix token is not; unset: off",
        gt=0,
    )


class Checkpoint(Section):
    every: int = opt(50, "steps between checkpoints; one is also written on SIGTERM and SIGUSR1", ge=1)
    keep: int = opt(2, "how many of the newest checkpoints stay on disk", ge=2)


class Parallel(Section):
    """How a run is spread over processes (docs/deepspeed.md)."""

    nodes: int = opt(1, "machines", ge=1)
    processes_per_node: int = opt(1, "processes on each machine, one a GPU", ge=1)
    zero: int | None = opt(
        None,
        "train by DeepSpeed with ZeRO of this stage: optimizer states (1), gradients too (2), weights too (3) are spread over"
        " the processes; unset: one process, plain PyTorch",
        choices=(1, 2, 3),
    )
    activation_checkpointing: bool = opt(
        False,
        "keep only the inputs of the model's layers and compute the rest again for the gradient: less memory, a third more time",
    )
    timeout_minutes: float = opt(
        30.0,
        "longest that a process waits for the others in one phase (an update, an exchange); then the run ends and says which",
        gt=0,
    )


class RewardFunction(Section):
    """A function that rewards responses (`verifier/rewards.py`), and its weight in the sum."""

    path: str | None = opt(
        None,
        "Python file with the function, seen from the folder you are in; its content is part of the run's identity, what it imports is"
        " not; unset: `name` is a verifier",
    )
    name: str = opt(
        ...,
        "function (prompts, completions, **columns) -> list of numbers; without `path`: task, exact, choice or math",
    )
    weight: float = opt(1.0, "factor in the sum of several functions")
    seconds: float = opt(60.0, "longest time of one call, which rewards all responses of a step", gt=0)

    def check(self):
        if self.path is None and self.name not in VERIFIERS:
            raise ValueError(
                f"name: {self.name!r} is no verifier ({', '.join(VERIFIERS)}); a function of your own needs `path`, its file"
            )


VERIFIERS = ("task", "exact", "choice", "math")


def _listed(value):
    """One function may stand without the brackets of a list."""
    return [value] if isinstance(value, dict) else value


class Prompts(Section):
    """A seed's own draw of training problems (`data/problems.py`, `draw`)."""

    half: str = opt(
        ...,
        "seed k cuts the problems at random into two halves, the same in all its runs; this run trains on one of them. demonstrations:"
        " the half for SFT; reinforcement: the other, so that the RL stage of SFT then RFT has prompts that SFT has not seen",
        choices=("demonstrations", "reinforcement"),
    )
    count: int | None = opt(None, "so many problems of the half; unset: the whole half", ge=1)


class Run(Section):
    """What every training run has. `epochs` or `steps`: exactly one of them.

    `build_run` adds the section with the options of the run's method.
    """

    method: str = opt(..., "the method, a file of prefix_rft/methods/")
    base: str = opt("base", "name of the base model under models/")
    init_from: str | None = opt(
        None, "run whose model (same seed) replaces the base model at the start, as in SFT then RFT"
    )
    demos: str | None = opt(None, "name of the demonstration set, data/demos.<name>.parquet; null for methods without")
    train_split: str = opt("train", "problem file to train on: data/problems.<name>.parquet")
    prompts: Prompts | None = opt(
        None, "a draw of these problems that differs by seed; unset: all of them, for every seed"
    )
    steps: int | None = opt(None, "optimizer steps for SFT, rollout-and-update steps for the others", ge=1)
    epochs: float | None = opt(None, "passes over the demonstrations (SFT only), instead of steps", gt=0)
    batch_prompts: int = opt(..., "prompts a step (SFT: demonstrations a step)", ge=1)
    minibatch_prompts: int | None = opt(
        None, "prompts per optimizer update; unset: batch_prompts, one update a step", ge=1
    )
    micro_tokens: int = opt(
        8192, "token budget of one forward and backward pass; changes memory, never the gradient", ge=1
    )
    optimizer: Optimizer = opt(..., "AdamW")
    rollout: Rollout | None = opt(None, "sampling; every method but SFT needs it")
    objective: Objective = opt(Objective(), "clip and entropy bonus")
    reward: Annotated[list[RewardFunction] | None, BeforeValidator(_listed)] = opt(
        None,
        "a function, or a list of functions whose weighted sum is the reward. A demonstration that is trained on whole has reward 1, and"
        " hpt, relift and srft take a reward above 0 for right. unset: 1 if the task's verifier finds the answer right, else 0",
    )
    reward_noise: float | None = opt(
        None, "label noise: probability that a verdict in training is flipped, for an ablation; unset: 0", ge=0, le=1
    )
    checkpoint: Checkpoint = opt(Checkpoint(), "when the run saves itself")
    report_to: list[str] | None = opt(
        None,
        "trackers of accelerate that get the metrics of every step: tensorboard, wandb, trackio, mlflow, dvclive and others; files are in"
        " the folder `tracking` beside run.json",
        identity=False,
    )
    head_chunk: int = opt(
        1 << 24,
        "logits in memory at once, 4 bytes each, when log-probs are computed; changes memory and speed only;"
        " the best value on a GPU is not measured",
        ge=1,
        identity=False,
    )
    part_norms_every: int = opt(
        1, "steps between logged gradient norms of prefix part and rollout part; 0: never", ge=0
    )
    device: str = opt("auto", "auto: cuda if there is one, else cpu", choices=("auto", "cpu", "cuda"))
    dtype: str = opt("float32", "dtype of the forward pass; the weights stay float32", choices=("float32", "bfloat16"))
    parallel: Parallel = opt(
        Parallel(),
        "processes; changes time, memory and rounding only, so no part of the run's identity",
        identity=False,
    )

    def check(self):
        self._check_parallel()
        self._check_vllm()
        self._check_reward()
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("steps, epochs: exactly one of them must be given")
        if self.epochs is not None and self.method != "sft":
            raise ValueError(f"epochs: only method sft counts in epochs; {self.method} takes steps")
        if self.method == "sft" and self.objective.entropy_bonus:
            raise ValueError(
                f"objective.entropy_bonus: {self.objective.entropy_bonus}: method sft samples no token, and the bonus is that of sampled"
                " tokens; set it to 0"
            )
        if self.method != "sft":
            if self.rollout is None:
                raise ValueError(f"rollout: method {self.method} samples, so this section is required")
            mini = self.minibatch_prompts or self.batch_prompts
            if self.batch_prompts % mini:
                raise ValueError(f"minibatch_prompts: {mini} does not divide batch_prompts = {self.batch_prompts}")

    def _check_reward(self):
        if self.reward is None:
            return
        if not self.reward:
            raise ValueError("reward: is an empty list; leave it out for the task's verifier")
        if self.method == "sft":
            raise ValueError("reward: method sft samples no response, so there is nothing to reward; leave it out")
        if self.reward_noise is not None:
            raise ValueError(
                "reward_noise: flips verdicts of the verifier, and cannot be combined with reward; unset one"
            )

    def _check_vllm(self):
        options, processes = self.rollout and self.rollout.vllm, self.parallel.processes_per_node
        if not options:
            return
        each, engines = options.tensor_parallel, options.data_parallel
        if processes > 1 and each * engines > 1:
            raise ValueError(
                f"rollout.vllm: tensor_parallel x data_parallel = {each} x {engines} does not go with parallel.processes_per_node ="
                f" {processes}: each process has one engine, on its own GPU; set both to 1"
            )
        if options.sleep and self.device == "cpu":
            raise ValueError(
                "rollout.vllm.sleep: True does not go with device: cpu: engines can only sleep on GPUs; set it to false"
            )

    def _check_parallel(self):
        p = self.parallel
        if p.zero is None and p.nodes * p.processes_per_node > 1:
            raise ValueError(
                f"parallel.zero: unset, but nodes x processes_per_node = {p.nodes} x {p.processes_per_node}: several processes"
                " train by DeepSpeed; set it to 1, 2 or 3"
            )
