"""Two folders of results side by side: by hand, and from tables that the command `tables` made."""

import shutil

import pytest

from prefix_rft.common.errors import UserError
from prefix_rft.report import tables
from prefix_rft.report.compare import AGREE, CONTRADICT, OVERLAP, Row, compare, relation
from tests.conftest import ROOT, run
from tests.helpers import synthetic

MAIN = "method,split,metric,temperature,mean,ci_low,ci_high,n_seeds,n_problems\n"
CLAIMS = (
    "claim,source,unit,split,metric,temperature,paper,difference,ci_low,ci_high,p,n_seeds,n_problems,verdict,target\n"
)


def folder(path, rft, claims, method="rft"):
    """A results folder with one run and the claims {text: (difference, low, high, verdict)}, all in shares."""
    path.mkdir(parents=True)
    (path / "main.csv").write_text(f"{MAIN}{method},test,avg@8,1,{rft},{rft - 0.02},{rft + 0.02},5,360\n")
    rows = [
        f"{c},Table 1,points,test,avg@8,1,6.3,{d},{lo},{hi},0.1,5,360,{v},tables"
        for c, (d, lo, hi, v) in claims.items()
    ]
    rows.append("Lengths,Figure 9,tokens,train,length,,,5,4,6,0.01,5,,holds,tables")
    rows.append("Elsewhere,Table 9,points,,,,,,,,,,,not tested,figure_2")
    (path / "claims.csv").write_text(CLAIMS + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ((0.02, 0.01, 0.03, "holds"), (0.2, 0.1, 0.3, "holds"), AGREE),
        ((-0.017, -0.043, 0.01, "undecided"), (-0.056, -0.07, -0.042, "does not hold"), OVERLAP),
        ((0.01, -0.01, 0.03, "undecided"), (0.06, 0.04, 0.08, "holds"), CONTRADICT),
        ((0.02, 0.01, 0.03, "holds"), (-0.02, -0.03, -0.01, "does not hold"), CONTRADICT),
    ],
)
def test_relation_by_hand(a, b, expected):
    assert relation(Row(*a), Row(*b)) == relation(Row(*b), Row(*a)) == expected


def test_scores_and_verdicts_stand_side_by_side(tmp_path):
    a = folder(
        tmp_path / "a", 0.558, {"X beats Y": (0.02, 0.01, 0.03, "holds"), "X beats Z": (0.01, -0.01, 0.03, "undecided")}
    )
    b = folder(
        tmp_path / "b", 0.632, {"X beats Y": (0.05, 0.02, 0.08, "holds"), "X beats Z": (0.06, 0.04, 0.08, "holds")}
    )
    (b / "tables").mkdir()  # as in results/<preset>
    for name in ("main.csv", "claims.csv"):
        (b / name).rename(b / "tables" / name)
    text = compare(a, b)
    assert "55.8 [53.8, 57.8]" in text and "63.2 [61.2, 65.2]" in text and "apart" in text
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| X")}
    assert "+2.0 [+1.0, +3.0] holds" in lines["X beats Y"] and lines["X beats Y"].rstrip(" |").endswith(AGREE)
    assert "+6.0 [+4.0, +8.0] holds" in lines["X beats Z"] and lines["X beats Z"].rstrip(" |").endswith(CONTRADICT)
    assert "Lengths" not in text and "Elsewhere" not in text
    assert text.splitlines()[-1] == (
        f"{a} contradicts {b}: of 2 verdicts of the main comparison, same: 1, other with overlapping intervals: 0,"
        " contradicting: 1; X beats Z (avg@8, T = 1)"
    )


def test_the_command_ends_with_0_whatever_it_finds(tmp_path):
    a = folder(tmp_path / "a", 0.5, {"X beats Y": (0.02, 0.01, 0.03, "holds")})
    b = folder(tmp_path / "b", 0.5, {"X beats Y": (-0.02, -0.03, -0.01, "does not hold")})
    text = run(f"python -m prefix_rft compare {a} {b} --brief", ROOT)
    assert text.count("\n") == 1 and "contradicting: 1; X beats Y" in text
    assert f"{a} agrees with {a}: of 1 verdicts" in run(f"python -m prefix_rft compare {a} {a}", ROOT)


def test_tables_of_the_command_agree_with_themselves_and_with_a_committed_copy(tmp_path):
    preset, results = synthetic.build(tmp_path)
    tables.make_tables(preset, results, results / "tables")
    committed = tmp_path / "committed"
    committed.mkdir()
    for name in ("main.csv", "claims.csv"):
        shutil.copy(results / "tables" / name, committed / name)
    text = compare(results, committed)
    assert "agrees with" in text.splitlines()[-1] and text.splitlines()[-1].endswith("contradicting: 0")


def test_a_claim_is_found_again_whatever_compute_was_measured(tmp_path):
    a = folder(tmp_path / "a", 0.5, {"X beats Y (with 1.01 of its compute)": (0.02, 0.01, 0.03, "holds")})
    b = folder(tmp_path / "b", 0.5, {"X beats Y (with 0.98 of its compute)": (0.02, 0.01, 0.03, "holds")})
    assert "of 1 verdicts of the main comparison, same: 1" in compare(a, b)


def test_the_committed_results_can_be_read():
    assert "agrees with" in compare(ROOT / "docs/results/extension", ROOT / "docs/results/extension")


def add(path, row):
    (path / "main.csv").write_text(f"{MAIN}{row}\n")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: shutil.rmtree(f), "b: no such folder; name a results folder, such as results/tiny"),
        (lambda f: (f / "main.csv").unlink(), "b: has no tables/main.csv and no main.csv; make it with"),
        (lambda f: (f / "main.csv").write_text(MAIN), "main.csv: has no rows"),
        (lambda f: (f / "main.csv").write_text("method,split\na,b\n"), "main.csv: column 'metric' is missing"),
        (lambda f: add(f, "rft,test,avg@8,1,many,0,1,5,9"), "row 1: column 'mean' = 'many': must be a number"),
        (lambda f: add(f, "rft,test,avg@4,1,0.5,0,1,5,9"), "no score in common: the first has rft test avg@8"),
    ],
)  # fmt: skip
def test_bad_folders_end_in_one_line(tmp_path, damage, message):
    a, b = folder(tmp_path / "a", 0.5, {}), folder(tmp_path / "b", 0.5, {})
    damage(b)
    with pytest.raises(UserError, match=message) as e:
        compare(a, b)
    assert "\n" not in str(e.value)
