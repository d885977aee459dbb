"""Numbers that the paper published (arXiv 2507.01679; collected from its abstract, reviews and later papers that tabulate them).

They stand beside ours only where `published` of preset.yaml says that the preset is the paper's setting. Percent; None: unknown.
Rows are kinds of runs (study.KINDS).
"""

MODELS = ("Qwen2.5-Math-7B", "Qwen2.5-Math-1.5B", "LLaMA-3.1-8B")
BENCHMARKS = ("AIME24", "AIME25", "AMC", "MATH-500", "Minerva", "Olympiad", "avg", "OOD avg")

TABLE_1 = {  # Qwen2.5-Math-7B
    "base": (11.5, 4.9, 31.3, 43.6, 7.4, 15.6, 19.0, 15.4),
    "sft": (22.2, 22.3, 52.8, 82.6, 40.8, 43.7, 44.1, 47.5),
    "rft": (25.1, 15.3, 62.0, 84.4, 39.3, 46.8, 45.5, 57.3),
    "rl_with_sft": (19.5, 16.4, 49.7, 80.4, 34.9, 39.4, 40.1, 46.0),
    "sft_then_rft": (25.8, 23.1, 62.7, 87.2, 39.7, 50.4, 48.2, 44.8),
    "uft": (None, None, None, None, None, None, 44.2, None),
    "relift": (28.2, 20.1, 64.9, 87.4, 33.8, 52.5, 47.8, None),
    "luffy": (29.4, 23.1, 65.6, 87.6, 37.5, 57.2, 50.1, 57.8),
    "prefix_rft": (31.8, 26.4, 68.2, 88.4, 40.3, 55.7, 51.8, 58.4),
}
TABLE_2 = {  # Qwen2.5-Math-1.5B, average of six; keys: kind, or kind and share or teacher
    "sft": 31.9,
    "rft": 30.0,
    "relift": 34.4,
    "luffy": 38.0,
    "prefix_rft": 41.1,
    "prefix_rft, 10": 40.8,
    "prefix_rft, 1": 37.6,
    "prefix_rft, R1-Distill-1.5B": 39.8,
    "prefix_rft, R1-Distill-32B": 40.6,
}
LLAMA = {"sft": 5.9, "rft": 9.6, "luffy": 13.2, "prefix_rft": 14.5}  # LLaMA-3.1-8B, average of six
TABLE_7 = {  # Qwen2.5-Math-7B, pass@2048 on AIME24
    "base": 86.67,
    "rft": 90.0,
    "luffy": 90.0,
    "prefix_rft": 96.67,
}
TABLE_8 = {  # Qwen2.5-Math-7B, average
    "rft": 45.5,
    "prefix_rft_frozen": 45.4,
    "prefix_rft_all": 45.7,
    "prefix_rft_static": 43.8,
    "rft_entropy": 43.8,
    "drpo": 33.8,
    "prefix_rft": 51.8,
}
TABLES = {
    "Qwen2.5-Math-7B": {
        "table_1": {k: v[6] for k, v in TABLE_1.items()},
        "table_7": TABLE_7,
        "table_8": TABLE_8,
    },
    "Qwen2.5-Math-1.5B": {
        "table_1": {k: v for k, v in TABLE_2.items() if "," not in k},
        "table_2": TABLE_2,
    },
    "LLaMA-3.1-8B": {"table_1": LLAMA},
}


def of(model, table) -> dict:
    """{row: percent} of one table for the model that a preset names as `published`; {} where the preset is not the paper's."""
    return TABLES.get(model, {}).get(table, {})
