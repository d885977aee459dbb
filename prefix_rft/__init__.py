"""Prefix-RFT (arXiv 2507.01679): the training package. It knows nothing of Snakemake or DVC.

Reading order, which is also the way the data takes through one training step:

    tasks -> demos -> methods (compose) -> rollout -> rewards -> methods (weigh) -> objectives -> learner

`train.py` calls them in that order; `evaluate.py`, `tables.py` and `figures/` only read the files that it wrote.
"""

__version__ = "0.1.0"
