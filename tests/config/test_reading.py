"""Configuration: each method's keys are its own, read strictly, and no part of another run's identity."""

import subprocess
import sys

import pytest

from prefix_rft import methods
from prefix_rft.common.errors import UserError
from prefix_rft.config.reading import build, config_hash, opt, plain
from prefix_rft.config.run import Rollout
from prefix_rft.evaluation.benchmarks import Benchmarks
from prefix_rft.evaluation.evaluate import Evaluation
from prefix_rft.evaluation.probe import Probe
from prefix_rft.evaluation.teach import TeacherConfig
from prefix_rft.methods.luffy import Luffy
from prefix_rft.methods.prefix_rft import PrefixRFT
from prefix_rft.report.study import KINDS, kind_of
from prefix_rft.runs.ablations import run_names
from prefix_rft.runs.load import build_run, load_run
from prefix_rft.training.checkpoint import identity_of
from tests.helpers.small import RUN, run_config

PREFIX = {"method": "prefix_rft", "demos": "d"}


def refused(match, **changes):
    with pytest.raises(UserError, match=match):
        build_run(RUN | changes, "run.yaml")


def test_options_of_a_method_are_read_strictly():
    run = run_config(**PREFIX, prefix={"keep_share": 1})
    assert run.prefix.keep_share == 1.0 and run.prefix.per_group == 1
    refused(
        r"run.yaml: unknown key 'prefix.keep_shar' = 1; did you mean 'prefix.keep_share'",
        **PREFIX,
        prefix={"keep_shar": 1},
    )
    refused(r"key 'prefix.keep_share' = 2: must be <= 1", **PREFIX, prefix={"keep_share": 2})
    refused(r"key 'prefix.keep_share' = 'much': must be a number", **PREFIX, prefix={"keep_share": "much"})
    refused(r"key 'prefix' = 3: must be a mapping", **PREFIX, prefix=3)
    refused(r"prefix.high: 0.5 is below low_start = 0.95 or low_end", **PREFIX, prefix={"high": 0.5})
    refused(r"prefix.per_group: 5 is more than rollout.group_size = 4", **PREFIX, prefix={"per_group": 5})
    refused(r"outside needs a plain rollout", **PREFIX, prefix={"per_group": 4, "baseline": "outside"})
    refused(r"luffy.per_group: 5 is more than", method="luffy", demos="d", luffy={"per_group": 5})
    refused(r"unknown key 'prefx' = {}; did you mean 'prefix'", **PREFIX, prefx={})


def test_the_section_of_another_method_is_refused():
    refused(r"run.yaml: key 'luffy' = {'gamma': 0.2}: is the section of method luffy; this run's method is prefix_rft",
            **PREFIX, luffy={"gamma": 0.2})  # fmt: skip
    refused(r"key 'method' = 'prefixrft': must be one of", method="prefixrft")
    refused(r"key 'method' = 3: must be one of", method=3)
    with pytest.raises(UserError, match="key 'method' is missing"):
        build_run({k: v for k, v in RUN.items() if k != "method"}, "run.yaml")


def test_every_method_declares_its_options_as_a_run_reads_them():
    sections = [s for s in (methods.method_class(n).section for n in methods.names()) if s]
    assert len(set(sections)) == len(sections), "two methods name the same section"
    common = type(run_config()).model_fields.keys() - set(sections)
    assert not common & set(sections)
    for name in methods.names():
        cls = methods.method_class(name)
        run = run_config(method=name, demos="d" if cls.uses_demos else None)
        if cls.section:
            assert getattr(run, cls.section) == cls.Options()


def test_options_of_a_method_change_its_hash_alone(monkeypatch):
    """A new method, and a new option of another one, leave the hash of a run as it is; a value of its own does not."""
    before = config_hash(run_config(**PREFIX))
    assert config_hash(run_config(**PREFIX, prefix={"keep_share": 0.2})) == before  # the default, written out
    assert config_hash(run_config(**PREFIX, prefix={"keep_share": 0.5})) != before

    class More(Luffy.Options):
        further: float = opt(1.0, "a new option")

    luffy = config_hash(run_config(method="luffy", demos="d"))
    monkeypatch.setattr(Luffy, "Options", More)
    assert config_hash(run_config(method="luffy", demos="d")) != luffy
    assert config_hash(run_config(**PREFIX)) == before
    assert "luffy" not in plain(run_config(**PREFIX))


def test_what_is_unset_is_no_part_of_the_hash(monkeypatch):
    """So a new optional key, common or of the method, leaves the hashes of older runs as they are."""

    class More(PrefixRFT.Options):
        further: float | None = opt(None, "a new option")

    before = config_hash(run_config(**PREFIX))
    monkeypatch.setattr(PrefixRFT, "Options", More)
    assert config_hash(run_config(**PREFIX)) == before
    assert config_hash(run_config(**PREFIX, prefix={"further": 0.0})) != before
    rollout = RUN["rollout"] | {"old_logprobs": "learner"}
    assert run_config().rollout.old_logprobs is None
    assert "old_logprobs" not in plain(run_config())["rollout"]
    assert config_hash(run_config(rollout=rollout)) != config_hash(run_config())
    refused(
        r"key 'rollout.old_logprobs' = 'both': must be one of learner, sampler",
        rollout=rollout | {"old_logprobs": "both"},
    )
    assert Rollout(max_response=1).old_logprobs is None


def test_engine_settings_that_cannot_work_are_refused():
    """Before anything is loaded."""

    def rollout(**options):
        return {"rollout": RUN["rollout"] | {"engine": "vllm", "vllm": options}}

    ranks = {"part_norms_every": 0, "parallel": {"zero": 3, "processes_per_node": 2}}
    refused(
        r"run.yaml: rollout.vllm: tensor_parallel x data_parallel = 2 x 1 does not go with parallel.processes_per_node = 2",
        **ranks,
        **rollout(tensor_parallel=2),
    )
    refused(r"tensor_parallel x data_parallel = 1 x 4 does not", **ranks, **rollout(data_parallel=4))
    refused(r"run.yaml: rollout.vllm.sleep: True does not go with device: cpu", **rollout(sleep=True))
    refused(
        r"run.yaml: rollout.vllm: this section has no effect with engine: native; leave it out, or set engine to vllm",
        rollout=RUN["rollout"] | {"vllm": {}},
    )
    assert run_config(**rollout(tensor_parallel=2, data_parallel=2)).rollout.vllm.data_parallel == 2
    assert run_config(**ranks, **rollout(sleep=True), device="cuda").rollout.vllm.sleep


def test_how_the_head_is_chunked_is_no_part_of_the_hash():
    assert config_hash(run_config(head_chunk=1 << 28)) == config_hash(run_config())
    refused(r"key 'head_chunk' = 0: must be >= 1", head_chunk=0)


def test_how_vllm_runs_is_no_part_of_the_hash():
    """Its sizes change samples by rounding only; the engine itself and a cap on importance weights are another run."""
    vllm = RUN["rollout"] | {"engine": "vllm"}
    run = run_config(rollout=vllm)
    assert config_hash(run) != config_hash(run_config())
    sized = run_config(rollout=vllm | {"vllm": {"tensor_parallel": 2, "kv_cache_gib": 20}})
    assert sized.rollout.vllm.tensor_parallel == 2 and config_hash(sized) == config_hash(run)
    assert "vllm" not in plain(sized)["rollout"]
    assert config_hash(run_config(objective={"importance_cap": 2.0})) != config_hash(run_config())
    refused("old_logprobs: sampler goes with engine native only", rollout=vllm | {"old_logprobs": "sampler"})
    refused(r"key 'rollout.vllm.kv_cache_gib' = 0", rollout=vllm | {"vllm": {"kv_cache_gib": 0}})


def test_identity_names_common_values_and_the_methods_own():
    config = identity_of(run_config(**PREFIX), 0, {}, {}, {})["config"]
    assert config["prefix"]["keep"] == "top" and config["optimizer"]["lr"] == RUN["optimizer"]["lr"]
    assert "prefix" not in identity_of(run_config(), 0, {}, {}, {})["config"]


def test_reading_a_configuration_does_not_load_torch(root):
    """The workflow reads every run's file before it draws its graph."""
    code = "import sys; from prefix_rft.runs.load import load_run; load_run('config/tiny/prefix_rft.yaml'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_every_run_of_the_presets_is_read(root):
    files = [f.parent / f"{name}.yaml" for f in root.glob("config/*/preset.yaml") for name in run_names(f.parent)]
    assert len(files) > 20
    for file in files:
        load_run(file, file.parent / "smoke.yaml")


def test_kinds_tell_controls_from_methods(root):
    """Tables and figures call a run by what it is, whatever its file is called."""
    kinds = {"rft_entropy": "rft_entropy", "prefix_rft_static": "prefix_rft_static", "prefix_rft_all": "prefix_rft_all"}
    kinds |= {"prefix_rft_frozen": "prefix_rft_frozen", "sft_then_rft": "sft_then_rft", "rft": "rft"}
    kinds |= {"chord_mu": "chord_mu", "chord_phi": "chord_phi", "trapo": "trapo"}
    for name, kind in kinds.items():
        assert kind_of(load_run(root / "config" / "tiny" / f"{name}.yaml")) == kind and kind in KINDS
    assert kind_of(run_config(**PREFIX, prefix={"fixed": 0.001})) == "prefix_rft_static"
    assert kind_of(run_config(**PREFIX, prefix={"keep": "random"})) == "prefix_rft"


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (Rollout, {"max_response": 8}),
        (Evaluation, {"max_response": 8}),
        (Probe, {"max_response": 8, "demos": "d"}),
        (Benchmarks, {"table": "t", "names": ["n"], "template": "t", "choice_template": "t"}),
        (TeacherConfig, {"model": "m", "template": "t"}),
    ],
)
def test_every_section_that_samples_has_the_keys_of_one_engine(cls, values):
    config = build(cls, values | {"engine": "vllm", "vllm": {"kv_cache_gib": 2.0}, "max_rows": 3}, "a.yaml")
    assert (config.engine, config.vllm.kv_cache_gib, config.max_rows) == ("vllm", 2.0, 3)
    assert "vllm" not in plain(config) and plain(config)["engine"] == "vllm"  # the options change rounding only
    for wrong, expected in (
        (
            {"vllm": {}},
            "a.yaml: vllm: this section has no effect with engine: native; leave it out, or set engine to vllm",
        ),
        ({"engine": "vlm"}, "a.yaml: key 'engine' = 'vlm': must be one of native, vllm"),
        ({"max_rows": 0}, "a.yaml: key 'max_rows' = 0: must be >= 1"),
    ):
        with pytest.raises(UserError) as error:
            build(cls, values | wrong, "a.yaml")
        assert str(error.value).startswith(expected)
