"""Several runs on one page: figures side by side, curves together, settings that differ."""

from __future__ import annotations

from collections.abc import Sequence

from mindformers_vit.metrics import best, figure
from mindformers_vit.report.facts import Facts
from mindformers_vit.report.html import document, section, table, text
from mindformers_vit.report.svg import Curve, chart, charts

_HEAD = ("run", "steps", "last loss", "evaluation, best", "images/s (median)")


def names_of(runs: Sequence[Facts]) -> list[str]:
    """The directories' own names where these tell them apart, else their paths."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.directory) for run in runs]


def figures(run: Facts, name: str) -> tuple[str, ...]:
    """One row: the name and the run's figures, as metrics.jsonl has them."""
    loss = run.steps.get("loss")
    return (
        name,
        str(run.last.get("step", "")),
        f"{loss[-1][1]:.4f}" if loss else "",
        ", ".join(f"{k} {figure(k, best(k, values))}" for k, values in run.scores.items()),
        run.speed,
    )


def comparison(runs: Sequence[Facts]) -> str:
    """The whole page."""
    names = names_of(runs)
    rows = [figures(run, name) for run, name in zip(runs, names, strict=True)]
    title = f"{len(runs)} runs compared"
    body = [
        f"<header><h1>{title}</h1><p class=sub>{text(', '.join(names))}</p></header>",
        section("Figures", table(_HEAD, rows)),
        section("Curves", _curves(runs, names)),
        section("Settings that differ", _settings(runs, names)),
    ]
    return document(title, "".join(body))


def _curves(runs: Sequence[Facts], names: Sequence[str]) -> str:
    by_update = {"loss": "Training loss", "lr": "Learning rate"}
    by_update["images_per_second"] = "Images per second"
    found = [
        chart(
            caption,
            [Curve(n, run.steps.get(key, [])) for n, run in zip(names, runs, strict=True)],
            zero=key != "loss",
        )
        for key, caption in by_update.items()
    ]
    for key in dict.fromkeys(key for run in runs for key in run.evaluations):
        curves = [
            Curve(name, run.evaluations.get(key, []), marked=True)
            for name, run in zip(names, runs, strict=True)
        ]
        found.insert(1, chart(f"{key}, evaluation", curves))
    return charts(found)


def _settings(runs: Sequence[Facts], names: Sequence[str]) -> str:
    keys = sorted({key for run in runs for key in run.config if "id2label" not in key})
    rows = [(key, *(str(run.config.get(key, "not set")) for run in runs)) for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    return table(("setting", *names), rows, kind="keys") if rows else ""
