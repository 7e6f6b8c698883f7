"""Documents as `collect --format json` prints them, made up: the page's tests need no runs."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
from statistics import fmean, pstdev

ALGORITHMS = ("ERM", "ERM_BatchFormer", "CORAL", "CORAL_BatchFormer", "SWAD", "SWAD_BatchFormer", "MixStyle")
NASTY = (
    '<script>alert("1")</script><!--<script>',
    "Größe \"ä\" & 'ß' </script> {{script}}",
)
TITLES = {
    "training-domain": "training-domain validation",
    "leave-one-domain-out": "leave-one-domain-out cross-validation",
    "last": "last checkpoint",
    "oracle": "oracle",
}
ENVIRONMENTS = {"PACS": ("A", "C", "P", "S"), "VLCS": ("C", "L", "S", "V")}
STEPS = list(range(0, 5001, 300))
OVER = ("Avg", "Worst", "Macro")


def embedded(page):
    """The data of a page."""
    packed = re.search(r'<script type="application/gzip" id="data">([A-Za-z0-9+/=]*)</script>', page)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def document(algorithms=(*ALGORITHMS, *NASTY), trials=3):
    """Every selection and dataset; a published row, missing cells, comparisons, curves, labels that would do harm."""
    rng = random.Random(0)
    results = [
        result(rng, f"r{i}", selection, dataset, algorithms, trials)
        for i, (selection, dataset) in enumerate((s, d) for s in TITLES for d in (*ENVIRONMENTS, "Avg"))
    ]
    return {
        "made_by": "dg-batchformer 0.2.0",
        "made_at": "2026-01-02 03:04 UTC",
        "title": "Selection table",
        "folders": ["sweep", "older sweep"],
        "runs": 480,
        "legend": ["Accuracy in percent on the environment left out.", "Mean ± standard error (ddof 0) over trials."],
        "problems": [
            {"kind": "unfinished runs", "n": 2, "texts": ["sweep/0a1b: no `done`", f"sweep/{NASTY[0]}"]},
            {"kind": "folders that hold no run", "n": 1, "texts": ["older sweep/notes"]},
        ],
        "apart": ["VLCS, protocol tllib, is apart from VLCS, protocol domainbed: protocol tllib and domainbed"],
        "results": results,
    }


def minimal():
    """One row of one environment and one trial; nothing to compare, no curves."""
    made = document(("ERM",), trials=1)
    (first, *_) = made["results"]
    row = first["rows"][0]
    row |= {"cells": {"A": row["cells"]["A"] | {"best": False}}, "curves": [], "edges": [], "source": ""}
    first |= {"columns": ["A"], "environments": ["A"], "rows": [row], "comparisons": []}
    return made | {"results": [first], "problems": [], "apart": [], "legend": []}


def result(rng, name, selection, dataset, algorithms, trials):
    """One table. Leave-one-domain-out lacks its runs; over datasets there are no curves."""
    over_datasets = dataset == "Avg"
    environments = list(ENVIRONMENTS) if over_datasets else list(ENVIRONMENTS[dataset])
    columns = [*environments, *OVER]
    lacking = "no number: needs pair runs (`--pairs`)" if selection == "leave-one-domain-out" else None
    rows = [] if lacking else [row(rng, algorithm, environments, trials, selection) for algorithm in algorithms]
    if rows and dataset == "PACS":
        rows[min(1, len(rows) - 1)]["edges"] = [
            "lr: 7 of the 12 chosen rows have the highest value of the search (0.6 expected by chance)"
        ]
        rows.append(published(environments))
        if len(algorithms) > 4:
            rows[4]["cells"]["S"] = empty("0 of 3 trials")
            rows[4]["cells"] |= {column: empty("3 of 4 columns") for column in OVER}
            rows[5]["cells"]["S"] |= {"missing": "2 of 3 trials", "n": 2, "done": 41}
    mark_best(rows, columns)
    if over_datasets:
        for own in rows:
            own["curves"] = []
    return {
        "id": name,
        "selection": selection,
        "selection_title": TITLES[selection],
        "oracle": selection == "oracle",
        "dataset": dataset,
        "setting": {
            "dataset": dataset,
            "protocol": "domainbed" if dataset != "VLCS" else "tllib",
            "backbone": "resnet50",
        },
        "caption": f"{dataset}, protocol domainbed, backbone resnet50; {TITLES[selection]}; {trials} trials",
        "lacking": lacking,
        "columns": columns,
        "environments": environments,
        "measures": [],
        "rows": rows,
        "comparisons": comparisons(rows, environments),
    }


def row(rng, algorithm, environments, trials, selection):
    level = 78 + 4 * rng.random()
    cells, curves = {}, []
    for at, environment in enumerate(environments):
        values = {str(trial): round(level + 5 * (at % 3) + rng.gauss(0, 1), 2) for trial in range(trials)}
        cells[environment] = cell(algorithm, environment, values)
        curves += [curve(rng, algorithm, environment, trial, values[str(trial)]) for trial in range(trials)]
    cells |= {
        name: over([cells[environment] for environment in environments], min if name == "Worst" else fmean)
        for name in OVER
    }
    label = f'{algorithm} {{"lr": 0.001}}' if algorithm == "MixStyle" else algorithm
    return {
        "algorithm": algorithm,
        "label": label,
        "source": "",
        "rank": None,
        "seeds": "redrawn",
        "cells": cells,
        "edges": [],
        "curves": curves,
    }


def cell(algorithm, environment, values):
    choices = [
        {
            "trial_seed": int(trial),
            "hparams_seed": 7,
            "step": 3000,
            "environment": environment,
            "validation": 96.1,
            "accuracy": value,
            "folder": f"sweep/{algorithm[:9].lower()}-{environment}-{trial}",
            "command": f"python -m dg_batchformer train --algorithm '{algorithm}' --trial_seed {trial}",
        }
        for trial, value in values.items()
    ]
    return {
        **numbers(values),
        "done": 20 * len(values),
        "expected": 20 * len(values),
        "missing": "",
        "best": False,
        "command": f"dg-batchformer collect --input_dir sweep --command 'PACS/{algorithm}/{environment}'",
        "choices": choices,
    }


def numbers(values):
    error = pstdev(values.values()) / len(values) ** 0.5 if len(values) > 1 else None
    return {"mean": fmean(values.values()), "error": error, "error_kind": "stderr", "n": len(values), "values": values}


def over(cells, combine):
    values = {trial: combine([own["values"][trial] for own in cells]) for trial in cells[0]["values"]}
    counts = {name: sum(own[name] for own in cells) for name in ("done", "expected")}
    choices = [choice for own in cells for choice in own["choices"]]
    return {**cells[0], **numbers(values), **counts, "choices": choices}


def empty(missing):
    return {"mean": None, "error": None, "error_kind": "stderr", "n": 0, "values": {}, "done": 12, "expected": 60,
            "missing": missing, "best": False, "command": "", "choices": []}  # fmt: skip


def published(environments):
    given = {"error": 1.0, "error_kind": "std", "n": 5, "done": 0, "expected": 0}
    cells = {environment: {**empty(""), **given, "mean": 79.9} for environment in environments}
    cells["Avg"] = {**empty(""), "mean": 79.1}
    return {"algorithm": "ERM", "label": "ERM", "source": "paper, table 6", "rank": None, "seeds": "", "cells": cells,
            "edges": [], "curves": []}  # fmt: skip


def mark_best(rows, columns):
    for column in columns:
        own = [row["cells"][column] for row in rows if not row["source"] and row["cells"][column]["mean"] is not None]
        if own:
            max(own, key=lambda cell: cell["mean"])["best"] = True


def curve(rng, algorithm, environment, trial, accuracy):
    rise = [1 - 0.8**i for i in range(1, len(STEPS) + 1)]
    return {
        "environment": environment,
        "trial_seed": trial,
        "hparams_seed": 7,
        "steps": STEPS,
        "validation": [round(60 + 36 * share + rng.gauss(0, 0.4), 2) for share in rise],
        "test": [round(50 + (accuracy - 50) * share + rng.gauss(0, 1.2), 2) for share in rise],
        "chosen": 3000,
        "swad_window": [1200 + 300 * trial, 3600] if algorithm.startswith("SWAD") else None,
    }


def comparisons(rows, environments):
    by_name = {row["algorithm"]: row for row in rows if not row["source"]}
    pairs = [("BatchFormer", f"{base}_BatchFormer", base) for base in ("ERM", "CORAL", "SWAD")]
    pairs += [("SWAD", "SWAD", "ERM"), ("SWAD", "SWAD_BatchFormer", "ERM_BatchFormer")]
    return [comparison(*pair, by_name, environments) for pair in pairs if {*pair[1:]} <= by_name.keys()]


def comparison(modifier, variant, base, by_name, environments):
    units = []
    for environment in environments:
        ours, theirs = (by_name[name]["cells"][environment]["values"] for name in (variant, base))
        units += [
            {"environment": environment, "trial_seed": int(trial), "difference": ours[trial] - theirs[trial]}
            for trial in ours.keys() & theirs.keys()
        ]
    overall = difference(units)
    mean, half = overall["mean"] or 0, 1.2
    low, high = mean - half, mean + half
    return {
        "modifier": modifier,
        "variant": variant,
        "base": base,
        "overall": overall,
        "shots": {},
        "environments": {
            environment: difference([unit for unit in units if unit["environment"] == environment])
            for environment in environments
        },
        "p": 0.41,
        "verdict": "worse",
        "interval": [low, high],
        "new_verdict": "too few (4, at least 6)",
        "new_interval": [mean - 2 * half, mean + 2 * half],
        "sign_flip": None,
        "n_comparisons": 3,
        "rope": 0.5,
        "improvement": 0.61,
        "detectable": 1.9,
        "probabilities": {"worse": 0.1, "equivalent": 0.3, "better": 0.6},
        "table": [f"{mean:+.1f}", f"{low:+.1f} to {high:+.1f}", "0.410", "too few (4)", "61 %", "1.9", f"{mean:+.1f}"],
        "as_selected": overall["mean"],
        "title": f"{modifier} on {base}",
        "words": f"{overall['mean'] or 0:+.1f} points, 95 % {low:+.1f} to {high:+.1f}, {len(units)} pairs: worse",
    }


def difference(units):
    values = [unit["difference"] for unit in units]
    wins, losses = sum(value > 0 for value in values), sum(value < 0 for value in values)
    return {
        "mean": fmean(values) if values else None,
        "n": len(values),
        "n_trials": len({unit["trial_seed"] for unit in units}),
        "wins": wins,
        "ties": len(values) - wins - losses,
        "losses": losses,
        "these": None,
        "new": None,
        "units": units,
    }
