"""Command `base`."""

from . import options
from .group import command


@command("prefix-rft base --preset tiny --base base")
@options.layout("its section `base`")
@options.named("--base", "name of the base model; a file of setup/bases", required=False)
@options.seed(required=False, help="seed of the study, for a base model with `seed: run`")
@options.config("unset: setup/bases/<base>.yaml of the preset")
@options.data("folder made by the command `data`; unset: results/<preset>/data")
@options.out(
    "folder for the model, replaced if it exists; unset: results/<preset>/models/<base>, with --seed its folder seed<N>",
    metavar="DIR",
)
def cli(layout, override, base, seed, config_file, data, out):
    """Make a base model: pretrain a small one, convert a packaged one, or fetch one."""
    from ..bases.make import make_base

    options.need(base or (config_file and out), "--base")
    config_file = config_file or layout().setup(f"bases/{base}")
    make_base(config_file, data or layout().data, out or layout().base(base, seed), override, seed)
