"""Costs before anything runs: shapes, FLOPs, decoding and memory against numbers worked out by hand, and memory against a real run."""

import json
import subprocess
import sys

import pytest
import torch
import yaml

from prefix_rft.common.errors import UserError
from prefix_rft.methods import get_method
from prefix_rft.model import shapes
from prefix_rft.planning import cost, roofline
from prefix_rft.runs.ablations import run_names
from prefix_rft.runs.load import load_run
from prefix_rft.training import memory
from prefix_rft.training.memory import GIB
from scripts.training_speed import model_of
from tests.conftest import ENVIRONMENT, ROOT
from tests.helpers.commands import call
from tests.helpers.small import run_config, small_model

PARAMETERS = {  # of the models' own cards
    "Qwen/Qwen2.5-Math-7B": 7_615_616_512,
    "Qwen/Qwen2.5-Math-1.5B": 1_543_714_304,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
}
SHAPE = shapes.Shape(layers=2, width=8, heads=2, kv_heads=1, mlp=16, vocabulary=100)
# by hand: q, k, v 8 x (2 + 2) 4 = 128, o 64, three of the MLP 384; norms 16
PRODUCTS, LAYER = 576, 592
HARDWARE = roofline.Hardware(
    label="x",
    tflops=1e-6,  # 1e6 FLOP/s
    tflops_float32=1e-7,
    bandwidth_tb_s=1e-6,  # 1e6 bytes/s
    memory_gib=1.0,
    utilisation=roofline.Utilisation(train=0.5, forward=1.0, decode_vllm=0.5, decode_native=0.25),
)


@pytest.mark.parametrize("name", shapes.KNOWN)
def test_parameters_of_known_models_are_those_of_transformers(name):
    s = shapes.KNOWN[name]
    with torch.device("meta"):
        model = model_of(name)
    assert s.parameters == model.num_parameters() == PARAMETERS.get(name, s.parameters)
    assert shapes.of_values(model.config.to_dict()) == s


def test_flops_and_cache_by_hand():
    assert SHAPE.layer_parameters == LAYER and SHAPE.parameters == 2 * LAYER + 8 + 2 * 800
    # 10 tokens that attend to 5 each: 2 FLOPs a weight of a product, 4 a head dimension; the head for 3 of them
    assert SHAPE.forward_flops(10, 5, heads=3) == 10 * (2 * 2 * PRODUCTS + 4 * 2 * 2 * 4 * 5) + 2 * 800 * 3
    assert SHAPE.cache_bytes(2) == 2 * 2 * 1 * 4 * 2
    # forward, twice that backward, once more with recomputed activations
    once = SHAPE.forward_flops(10, 4, 6)
    assert (
        roofline.training_flops(SHAPE, 10, 8, 6) == 3 * once
        and roofline.training_flops(SHAPE, 10, 8, 6, True) == 4 * once
    )


def test_decoding_reads_weights_and_cache_each_step():
    # 4 rows at once, 10 tokens each: 20 steps at least (twice the mean; the longest may be 50); prompts of 6, so 6 + 5 attended to
    weights, moved = 2 * SHAPE.parameters, 20 * 2 * SHAPE.parameters + 4 * 10 * 11 * 32
    prefill = SHAPE.forward_flops(4 * 6, 3, 4) / 1e6
    found = roofline.decode_seconds(SHAPE, HARDWARE, "vllm", 4, 6, 10, 50)
    assert found == pytest.approx(moved / (1e6 * 0.5) + prefill)
    # a cache of 40 tokens' bytes holds two rows of 16: twice as many steps as rows at once
    small = 40 * 32 / GIB
    with pytest.raises(
        UserError, match=r"^x: kv_cache_gib = 1.19209e-06: too little; one response of 50 tokens takes 1.7e-06 GiB"
    ):
        roofline.decode_seconds(SHAPE, HARDWARE, "vllm", 4, 6, 10, 50, cache=("x: kv_cache_gib", small))
    with pytest.raises(UserError, match=r"\(key x: kv_cache_gib = 2\) do not fit into 1 x"):
        roofline.decode_seconds(SHAPE, HARDWARE, "vllm", 4, 6, 10, 50, cache=("x: kv_cache_gib", 2.0))
    two = roofline.decode_seconds(SHAPE, HARDWARE, "vllm", 8, 6, 10, 20, cache=("x", small))
    assert two == pytest.approx((40 * weights + 8 * 10 * 11 * 32) / (1e6 * 0.5) + SHAPE.forward_flops(48, 3, 8) / 1e6)


def test_numbers_of_four_bytes_take_twice_the_bandwidth_and_the_peak_of_float32():
    weights, moved = 4 * SHAPE.parameters, 20 * 4 * SHAPE.parameters + 4 * 10 * 11 * 64
    prefill = SHAPE.forward_flops(4 * 6, 3, 4) / 1e5
    assert weights == 2 * 2 * SHAPE.parameters
    computed = SHAPE.forward_flops(40, 11) / 1e5
    found = roofline.decode_seconds(SHAPE, HARDWARE, "native", 4, 6, 10, 50, size=4)
    assert found == pytest.approx(max(moved / (1e6 * 0.25), computed) + prefill)
    assert HARDWARE.seconds_of(1e6, "train") == 2 and HARDWARE.seconds_of(1e6, "forward", 2, size=4) == 5


def test_groups_are_those_of_the_method():
    def of(method, mean, length, **more):
        return roofline.group_of(get_method(run_config(method=method, demos="strong", **more)), mean, length).tolist()

    assert of("rft", 10, 0) == [4, 40, 0, 40]  # four rollouts
    assert of("luffy", 10, 30) == [3, 30, 0, 60]  # three rollouts and the demonstration
    rollouts, sampled, read, tokens = of("prefix_rft", 10, 100)
    assert (
        rollouts == 4 and sampled + read == tokens == 30 + 100
    )  # what continues a prefix ends where the demonstration does
    assert 0.5 < read / 100 < 0.95  # the window opens from 0.95 to 0.5


def test_memory_by_hand():
    p = SHAPE.parameters
    run = run_config(method="rft")
    parts = memory.training(run, SHAPE, get_method(run), "cpu", longest=64)
    assert (parts["weights"], parts["gradients"], parts["AdamW"]) == (4 * p, 4 * p, 8 * p)
    assert parts["rollout: cache"] == 16 * 64 * SHAPE.cache_bytes(4)  # four groups of four
    # two normed states, their inputs, qkv, attention, three of the MLP; and joined weights of the products
    assert parts["activations"] == 4 * 256 * 2 * (4 * 8 + 16 + 8 + 3 * 16) + 4 * 2 * 8 * (16 + 32)
    spread = {"nodes": 1, "processes_per_node": 4, "zero": 3}
    run = run_config(method="rft", dtype="bfloat16", part_norms_every=0, parallel=spread)
    parts = memory.training(run, SHAPE, get_method(run), "cuda")
    assert (parts["weights"], parts["buffer of gradients"], parts["AdamW"]) == (p / 2, p, 2 * p)
    # gathered: at most all weights, in bfloat16, in a pass and at the hand-over
    assert parts["gathered weights"] == parts["sync: gathered weights"] == 2 * p
    assert parts["fp32 weights of ZeRO"] == p
    first = run_config(method="prefix_rft", demos="x")
    assert memory.training(first, SHAPE, get_method(first))["gradient of the prefix part"] == 4 * p


def test_the_worst_of_three_moments_by_hand():
    """Kept between updates: weights and the engine. Update: also activations. Sampling: what the engine wakes up with. Hand-over: gathered
    weights while it sleeps."""
    parts = {"weights": 3, "buffer of gradients": 2, "activations": 10, "gathered weights": 1, "engine: libraries": 4}
    assert memory.peak(parts) == 20
    assert memory.peak(parts | {"rollout: weights of vLLM": 8, "rollout: cache of vLLM": 7}) == 3 + 2 + 4 + 15
    asleep = parts | {"rollout: weights of vLLM": 8, "rollout: cache of vLLM": 7, "sync: gathered weights": 16}
    assert memory.peak(asleep) == 3 + 2 + 4 + 16


def test_work_space_of_vllm_by_hand():
    """8,192 tokens of two states, q, k, v, gate, up and their product, 2 bytes each; four fp32 numbers a word for 16 rows."""
    assert memory.vllm_work_bytes(SHAPE, 16) == 8192 * 2 * (2 * 8 + 16 + 3 * 16) + 16 * 100 * 4 * 4
    vllm = {"engine": "vllm", "vllm": {"kv_cache_gib": 1}, "group_size": 4, "max_response": 60}
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        run = run_config(method="rft", dtype=dtype, rollout=vllm)
        parts = memory.training(run, SHAPE, get_method(run))
        assert parts["engine: weights of vLLM"] == size * SHAPE.parameters
        assert parts["engine: work space of vLLM"] == memory.vllm_work_bytes(SHAPE, 512)


MEASURE = """
import json, resource
import prefix_rft.__main__
import numpy as np
from transformers import LlamaConfig, LlamaForCausalLM
from prefix_rft.training import memory
from prefix_rft.model import shapes
from prefix_rft.training.learner import Learner
from prefix_rft.methods import get_method
from tests.helpers.small import episode, run_config
shape = dict(vocab_size=8000, hidden_size=384, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=6)
config = LlamaConfig(**shape, num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=False)
run = run_config(method="sft", demos="x", batch_prompts=6, minibatch_prompts=None, micro_tokens=3072, optimizer={"lr": 1e-4})
method, rng = get_method(run), np.random.default_rng(0)
ids = lambda n: rng.integers(2, 8000, n).tolist()
episodes = [episode(i, ids(32), ids(480), [], 1.0, sample=False) for i in range(6)]
learner = Learner(LlamaForCausalLM(config).eval(), run, 2)
for _ in range(2):
    learner.update(episodes, method.weigh(episodes))
parts = memory.training(run, shapes.of_values(config.to_dict()), method, "cpu", longest=512)
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, memory.peak(parts)]))
"""


def test_estimate_brackets_the_measured_peak():
    """Two updates of a model of 19 million parameters in a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured, estimated = json.loads(done.stdout.splitlines()[-1])
    assert 0.75 * measured < estimated < 1.25 * measured, (measured / GIB, estimated / GIB)


def test_a_run_that_does_not_fit_is_refused_before_a_weight_is_read(tmp_path):
    values = dict(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, model_type="qwen2"
    )
    values |= dict(num_attention_heads=28, num_key_value_heads=4)
    (tmp_path / "config.json").write_text(json.dumps(values))
    run = run_config(method="rft")
    with pytest.raises(UserError) as e:
        memory.refuse_too_little("config/x.yaml", run, get_method(run), tmp_path, "cpu", have=24 * GIB)
    message = str(e.value)
    assert message.startswith("config/x.yaml: training needs about 16") and "has 24.0 (GiB: AdamW 56.7" in message
    assert "\n" not in message
    memory.refuse_too_little("config/x.yaml", run, get_method(run), tmp_path, "cpu", have=200 * GIB)
    (tmp_path / "config.json").write_text("{}")  # nothing is known of it
    memory.refuse_too_little("config/x.yaml", run, get_method(run), tmp_path, "cpu", have=1)


def test_preset_tiny_is_never_refused():
    tiny = shapes.Shape(layers=4, width=96, heads=6, kv_heads=6, mlp=256, vocabulary=64)  # larger than its models
    for name in run_names(ROOT / "config/tiny"):
        run = load_run(ROOT / f"config/tiny/{name}.yaml")
        assert memory.peak(memory.training(run, tiny, get_method(run), "cpu")) < 1.5 * GIB


@pytest.mark.parametrize("preset", ["paper-7b", "paper-1.5b", "paper-llama"])
def test_runs_of_the_paper_presets_fit_their_gpus_and_have_a_price(preset, monkeypatch):
    monkeypatch.chdir(ROOT)
    hardware = roofline.load_hardware("h100")
    prices = cost.Preset(ROOT / "config" / preset, hardware)
    for name in run_names(ROOT / "config" / preset):
        job = prices.train(load_run(ROOT / f"config/{preset}/{name}.yaml"), name)
        assert job.memory < 0.95 * hardware.memory_gib * GIB, name
        assert job.gpus == 8 and 0.1 < job.seconds / 3600 < 100, name


@pytest.mark.parametrize("preset", ["paper-7b", "paper-1.5b", "paper-llama"])
def test_time_limits_and_memory_of_the_paper_presets_leave_room(preset, monkeypatch):
    """A job that takes 1.5 times what is estimated is over within its first attempt; so is its main memory with a tenth to spare."""
    monkeypatch.chdir(ROOT)
    folder = ROOT / "config" / preset
    prices = cost.Preset(folder, roofline.load_hardware("h100"))
    given = yaml.safe_load((folder / "preset.yaml").read_text())
    limits = {rule: 60 * values["runtime"] for rule, values in given["resources"].items()}
    runs = [*run_names(folder), *prices.runs.variants]
    jobs = [("train", prices.train(prices.runs.load(name), name)) for name in runs]
    for kind, file in (("eval", "benchmarks"), ("pass_at_k", "pass_at_k")):
        for name in cost.load_benchmarks(prices.find(f"setup/{file}.yaml"))[0].names:
            rule = "pass_at_k" if kind == "pass_at_k" else "evaluate_on_benchmark"
            jobs.append((rule, prices.benchmark(kind, "base", name)))
    jobs += [("teach", prices.teach(name)) for name in prices.runs.files.listed("setup/teachers")]
    jobs += [("probe", prices.probe(name)) for name in given["studies"].get("analysis", {}).get("runs", [])]
    for rule, job in jobs:
        assert 1.5 * job.seconds < limits[rule], (job.what, job.seconds / 60)
    for name in runs:
        assert 1.1 * prices.main_memory(prices.runs.load(name)) < 1e6 * given["resources"]["train"]["mem_mb"], name


def test_a_probe_pays_its_likelihoods_in_float32(monkeypatch):
    """By hand: what is left of the price when the likelihoods cost nothing is the sampling of 21 snapshots."""
    monkeypatch.chdir(ROOT)
    h100 = roofline.load_hardware("h100")
    prices = cost.Preset(ROOT / "config/paper-1.5b", h100)
    free = cost.Preset(prices.folder, h100.model_copy(update={"tflops_float32": 1e9}))
    shape = shapes.KNOWN["Qwen/Qwen2.5-Math-1.5B"]
    flops = 21 * shape.forward_flops(2048 * (160 + 3500), 1750, 2048 * 3500)
    both, sampling = (p.probe("analysis_rft").seconds for p in (prices, free))
    assert both - sampling == pytest.approx(flops / (67e12 * 0.4), rel=1e-6) and sampling > 3600


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"utilisation": {"train": 0}}, "hardware.yaml: x: key 'utilisation.train' = 0: must be > 0"),
        ({"utilisation": {"train": 35}}, "hardware.yaml: x: key 'utilisation.train' = 35: must be <= 1"),
        ({"utilisation": {"decode_vllm": None}}, "hardware.yaml: x: key 'utilisation.decode_vllm' is missing"),
        ({"utilisation": {"trian": 1}}, "unknown key 'utilisation.trian' = 1; did you mean 'utilisation.train'"),
        ({"tflops_float32": 0}, "hardware.yaml: x: key 'tflops_float32' = 0: must be > 0"),
    ],
)
def test_wrong_hardware_ends_in_one_line(tmp_path, monkeypatch, change, expected):
    values = yaml.safe_load((ROOT / roofline.HARDWARE).read_text())["h100"]
    shares = values["utilisation"] | change.get("utilisation", {})
    values |= change | {"utilisation": {k: v for k, v in shares.items() if v is not None}}
    (tmp_path / "hardware.yaml").write_text(yaml.safe_dump({"x": values}))
    monkeypatch.setattr(roofline, "HARDWARE", str(tmp_path / "hardware.yaml"))
    with pytest.raises(UserError) as e:
        roofline.load_hardware("x")
    assert expected in str(e.value)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("problems", 0, "key 'problems.train' = 0: must be > 0"),
        ("demonstrations", -5, "key 'demonstrations.train' = -5: must be > 0"),
        ("demonstration_tokens", 0, "key 'demonstration_tokens.train' = 0: must be > 0"),
    ],
)
def test_impossible_sizes_end_in_one_line(tmp_path, key, value, expected):
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump({"expected": {key: {"train": value}}}))
    with pytest.raises(UserError) as e:
        cost.Preset(tmp_path, HARDWARE)
    assert expected in str(e.value) and "preset.yaml: expected" in str(e.value)


def priced(*arguments):
    call("cost", *arguments)


def test_what_has_no_price_is_said_in_one_line(monkeypatch):
    monkeypatch.chdir(ROOT)
    for arguments in (("--preset", "tiny", "--run", "rft"), ("--preset", "tiny")):
        with pytest.raises(UserError, match="--preset tiny: its runs have device: cpu.* docs/costs.md has what was"):
            priced(*arguments)
    with pytest.raises(UserError, match="--preset nothing: there is no config/nothing/preset.yaml"):
        priced("--preset", "nothing")
    monkeypatch.setattr(cost, "planned", lambda preset, target: [("choose_lr", {}), ("lr_grid", {})])
    with pytest.raises(UserError, match="--target lr_grid: preset paper-7b has no job for it that trains"):
        priced("--preset", "paper-7b", "--target", "lr_grid")
    with pytest.raises(UserError, match=r"rft: rollout.vllm.kv_cache_gib = 0.1: too little"):
        priced("--preset", "paper-7b", "--run", "rft", "--set", "rollout.vllm.kv_cache_gib=0.1")


def test_every_job_of_smollm2_that_samples_or_trains_has_a_price(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    preset = cost.Preset(ROOT / "config/smollm2-gsm", HARDWARE)
    runs = [
        f"{rule}:{run}" for rule in ("train", "evaluate", "sample", "validate_grid") for run in ("sft", "prefix_rft")
    ]
    found = {j: preset.job(*(r := j.split(":"))[:1], {"run": r[1]}) for j in runs}
    assert all(job.seconds > 0 and job.memory > 0 for job in found.values())
    base = preset.job("evaluate_base", {"base": "base"})
    assert base.sampled == (300 + 1319) * 8 * 2 * 120  # test and ood, samples, temperatures, tokens
    assert base.sampled == found["evaluate:sft"].sampled == preset.job("evaluate", {"run": "prefix_rft"}).sampled
    priced("--preset", "smollm2-gsm", "--run", "prefix_rft")
    assert "**peak: the update**" in capsys.readouterr().out


def test_sizes_come_from_the_data_and_the_models_folder_where_they_are_there(tmp_path, monkeypatch):
    """A preset of one's own: no name of a known model, no expectations, but the data are made."""
    monkeypatch.chdir(tmp_path)
    folder, data = tmp_path / "config/mine", tmp_path / "results/mine/data"
    (folder / "setup/bases").mkdir(parents=True)
    data.mkdir(parents=True)
    (folder / "preset.yaml").write_text("runs: [sft]")
    (folder / "setup/bases/base.yaml").write_text("{kind: hub, path: model, stop: [x]}")
    (tmp_path / "model").mkdir()
    small_model().save_pretrained(tmp_path / "model")
    preset = cost.Preset(folder, HARDWARE)
    assert preset.shape("base").width == 16
    with pytest.raises(
        UserError, match="expected.problems.test' is missing: .*or make the data first: snakemake .*=mine"
    ):
        preset.problems("test")
    (data / "data.json").write_text('{"problems": {"test": {"easy": 3, "hard": 4}}}')
    assert preset.problems("test") == 7 and preset.measured == {"problems of test"}


def test_engine_and_its_options_change_time_and_memory_together(monkeypatch):
    monkeypatch.chdir(ROOT)
    hardware, file = roofline.load_hardware("h100"), ROOT / "config/paper-1.5b/rft.yaml"

    def job(engine=None, *sets):
        prices = cost.Preset(file.parent, hardware, engine=engine)
        run = prices.with_engine(load_run(file, None, sets))
        parts = memory.training(run, shapes.KNOWN["Qwen/Qwen2.5-Math-1.5B"], get_method(run), "cuda")
        return prices.train(run, "rft"), parts

    native, parts = job("native")
    same, _ = job(None, "rollout.engine=native", "rollout.vllm=null")
    assert (native.seconds, native.memory) == (same.seconds, same.memory) and native.memory == memory.peak(parts)
    assert "rollout: logits" in parts and "rollout: logits" not in job()[1]
    # without a section: the engine's default, 4 GiB, in both
    default, four = job(None, "rollout.vllm=null")[0], job(None, "rollout.vllm={kv_cache_gib: 4}")[0]
    assert (default.seconds, default.memory) == (four.seconds, four.memory)
    given, _ = job()
    assert given.seconds < default.seconds and given.memory > default.memory


@pytest.mark.parametrize("preset", ["paper-7b", "smollm2-gsm"])
def test_every_job_of_a_real_plan_is_read(preset, monkeypatch):
    """Jobs of a group, such as the evaluations of the paper presets, are printed otherwise than single ones."""
    monkeypatch.chdir(ROOT)
    jobs = cost.planned(preset, "all")
    evaluated = [w["run"] for rule, w in jobs if rule.startswith("evaluate") and "run" in w]
    assert {"sft", "rft", "sft_then_rft", "luffy", "prefix_rft"} <= set(evaluated)
    with pytest.raises(RuntimeError, match="counts 2 jobs, 1 were read"):
        cost.read_plan("x\nrule train:\n    wildcards: run=rft\ntotal      2\n")


def test_a_plan_becomes_jobs_and_the_command_a_table(monkeypatch, capsys):
    text = "x\n[time]\nrule train:\n    input: a\n    wildcards: run=prefix_rft, seed=0\n    x: y\nlocalrule all:\n    input: b\n"
    assert cost.read_plan(text) == [("train", {"run": "prefix_rft", "seed": "0"}), ("all", {})]
    monkeypatch.chdir(ROOT)
    plan = [("train", {"run": "prefix_rft", "seed": s}) for s in "012"] + [("table_benchmarks", {})]
    plan += [("evaluate_on_benchmark", {"kind": "eval", "run": "prefix_rft", "seed": "0", "benchmark": "aime24"})]
    plan += [("evaluate_base_on_benchmark", {"kind": "pass_at_k", "base": "base", "seed": "0", "benchmark": "aime25"})]
    monkeypatch.setattr(cost, "planned", lambda preset, target: plan)
    priced("--preset", "paper-7b", "--target", "figure_2")
    shown = capsys.readouterr().out
    assert "| train prefix_rft " in shown and "| evaluate prefix_rft " in shown and "| sample for pass@k base " in shown
    assert "Assumed, not measured" in shown and "too much" not in shown
    priced("--preset", "paper-7b", "--run", "prefix_rft")
    assert "Seconds a step: rollout" in capsys.readouterr().out
    with pytest.raises(UserError, match="--hardware x: config/hardware.yaml has h100"):
        priced("--preset", "paper-7b", "--run", "rft", "--hardware", "x")
