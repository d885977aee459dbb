"""Training curves: one metric of metrics.jsonl over steps, mean over seeds with the range of the seeds as a band."""

import numpy as np

from . import style


def window_of(n_steps):
    """Smoothing window in steps: a twentieth of the run, odd, at least 1."""
    return max(1, n_steps // 20) // 2 * 2 + 1


def curve(member, key):
    """(steps [T], values [seeds, T] with NaN where a step has none) or None if the run never has `key`."""
    per_seed = [{r["step"]: r[key] for r in rows if r.get(key) is not None} for rows in member.metrics().values()]
    steps = sorted(set().union(*per_seed))
    if not steps:
        return None
    return np.array(steps), np.array([[seed.get(s, np.nan) for s in steps] for seed in per_seed], float)


def last(member, key):
    """Mean over the last tenth of the run's steps and over its seeds; None if the run never has `key`."""
    data = curve(member, key)
    return None if data is None else float(np.nanmean(data[1][:, -max(1, len(data[0]) // 10) :]))


def plot(axis, member, key, look, rows, *, label=None, window=None):
    """Draw a smoothed curve; append its points to `rows`; False if the run has no such metric."""
    data = curve(member, key)
    if data is None:
        return False
    steps, values = data
    values = style.smooth(values, window or window_of(len(steps)))
    mean, low, high = np.nanmean(values, 0), np.nanmin(values, 0), np.nanmax(values, 0)
    axis.plot(steps, mean, label=label or member.label, **style.line_look(look))
    if len(values) > 1:
        style.band(axis, steps, low, high, look)
    n = len(values)
    for i, step in enumerate(steps):
        rows.append(
            dict(method=member.run, metric=key, step=int(step), mean=mean[i], low=low[i], high=high[i], n_seeds=n)
        )
    return True


def words(rows, what="Curves"):
    """What the curves in `rows` are, for the caption."""
    longest = max(
        sum(1 for r in rows if (r["method"], r["metric"]) == key) for key in {(r["method"], r["metric"]) for r in rows}
    )
    window, seeds = window_of(longest), sorted({r["n_seeds"] for r in rows})
    smoothed = f"moving mean over {window} steps" if window > 1 else "not smoothed"
    if seeds[-1] == 1:
        return f"{what}: 1 seed, {smoothed}."
    many = seeds[0] if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{what}: mean of {many} seeds, {smoothed}; bands: range of the seeds."
