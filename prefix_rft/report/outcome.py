"""The one outcome that a comparison is judged by, and the family of tests that Holm corrects.

With two metrics, two temperatures, several splits and eleven rivals, some difference is always significant, and a correction for all of
them leaves nothing with a handful of seeds. So the outcome is fixed before: avg@k on the whole test split at the paper's temperature,
Prefix-RFT against each rival. All other differences are descriptive.
"""

from ..evaluation.statistics import holm
from .claims import within
from .formats import markdown, p_value, percent

TEMPERATURE = 0.6  # the paper's; an evaluation without it is judged at its lowest

DESCRIPTIVE = (
    "Descriptive: these intervals are not corrected for their number; about one in twenty would miss a true 0."
)


def family(rows: list[dict]) -> list[dict]:
    """The rows of paired.csv that are judged; the base model is no rival."""
    if not rows:
        return []
    found = {float(r["temperature"]) for r in rows}
    temperature = TEMPERATURE if TEMPERATURE in found else min(found)
    return [
        r
        for r in rows
        if (r["split"], float(r["temperature"])) == (rows[0]["split"], temperature)
        and r["metric"].startswith("avg@")
        and r["rival_kind"] != "base"
    ]


def correct(rows: list[dict]):
    """Set `p_holm` in the rows that are judged."""
    own = family(rows)
    for row, p in zip(own, holm([row["p"] for row in own]), strict=True):
        row["p_holm"] = float(p)


def standing(difference: float, p: float, low: float, high: float) -> str:
    """What a corrected p-value and the interval say of the method."""
    if p >= 0.05:
        return "about equal" if within(low, high) else "undecided"
    return "better" if difference > 0 else "worse"


def outcome_md(rows: list[dict], labels: dict[str, str]) -> str:
    """The rows that are judged, as Markdown; "" where there are none. rows: with `p_holm` (`correct`), numbers or None."""
    own = [r for r in rows if r["p_holm"] is not None]
    if not own:
        return ""
    lines = [
        [
            labels.get(r["rival"], r["rival"]),
            percent(r["difference"], r["ci_low"], r["ci_high"], "+"),
            p_value(r["p"]),
            p_value(r["p_holm"]),
            standing(r["difference"], r["p_holm"], r["ci_low"], r["ci_high"]),
        ]
        for r in own
    ]
    header = ["Rival", "difference", "p", "p, Holm", f"{labels.get(own[0]['method'], own[0]['method'])} is"]
    what = f"{own[0]['metric']} on {own[0]['split']}, temperature {own[0]['temperature']:g}"
    return f"**The outcome** is {what}; Holm corrects for its {len(own)} rivals.\n\n{markdown(header, lines)}\n"
