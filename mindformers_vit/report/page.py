"""One run as one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindformers_vit.metrics import best, figure
from mindformers_vit.report.classes import confusion, per_class, worst_examples
from mindformers_vit.report.facts import Facts
from mindformers_vit.report.html import document, folded, long_table, picture, section, table, text
from mindformers_vit.report.svg import Curve, chart, charts

_CHARTS = (  # caption, name in metrics.jsonl, y begins at 0
    ("Training loss", "loss", False),
    ("Learning rate", "lr", True),
    ("Images per second", "images_per_second", True),
    ("Gradient norm, before clipping", "grad_norm", True),
)
_SHOWN = 20  # rows before the rest is folded away
_CURVES_NOTE = "Lines are means of neighbouring steps, the shade is their range."
_NO_STEPS = "No metrics.jsonl yet; the callback MetricsWriter (SummaryMonitor) writes it."


def page(facts: Facts, *, written: str = "") -> str:
    """The whole report; `written` says when."""
    parts = [
        f"<header><h1>{text(facts.name)}</h1><p class=sub>{text(_what(facts))}</p></header>",
        tiles(facts),
        section("Curves", curves(facts), _CURVES_NOTE if facts.last else ""),
        _pictures(facts),
        *_classifier(facts),
        _settings(facts),
        _table_section(
            "Warnings", ("warning", "times", "last"), [(w, *n) for w, n in facts.warnings.items()]
        ),
        _bad_samples(facts),
        _starts(facts),
        _environment(facts),
        f"<footer>mindformers_vit, {text(written)}</footer>" if written else "",
    ]
    return document(f"{facts.name}: report", "".join(parts))


def _what(facts: Facts) -> str:
    config = facts.config
    arch = config.get("model.arch.type", "")
    words = [config.get("run_mode", ""), arch, str(facts.directory)]
    return " · ".join(str(word) for word in words if word)


# ---- the tiles at the top


def tiles(facts: Facts) -> str:
    """The state of the run, and the last and the best figures, as metrics.jsonl has them."""
    items = [("state", _state(facts), "")]
    epochs = facts.config.get("runner_config.epochs")
    if facts.last:
        items.append(("epoch", str(facts.last.get("epoch")), f" of {epochs}" if epochs else ""))
        items.append(("step", str(facts.last["step"]), ""))
    if "loss" in facts.steps:
        items.append(("last loss", f"{facts.steps['loss'][-1][1]:.4f}", ""))
    items += [(name, *_best(name, values)) for name, values in facts.scores.items()]
    if facts.speed:
        items.append(("images/s (median)", facts.speed, ""))
    if facts.skipped:
        items.append(("steps skipped", str(facts.skipped), " not finite"))
    cells = "".join(
        f"<div><dt>{text(name)}</dt><dd>{value if name == 'state' else text(value)}"
        f"<small>{text(more)}</small></dd></div>"
        for name, value, more in items
    )
    return f"<dl class=tiles>{cells}</dl>"


def _best(name: str, values: list[float]) -> tuple[str, str]:
    """The last value, and of several the best."""
    last, most = (figure(name, v).replace(" ", "\u00a0") for v in (values[-1], best(name, values)))
    return last, f" best {most}" if len(values) > 1 else ""


def _state(facts: Facts) -> str:
    last = facts.starts[-1] if facts.starts else {}
    state = str(last.get("end", "running" if last else "unknown"))
    return f'<span class="state-{text(state)}">{text(state)}</span>'


# ---- sections


def curves(facts: Facts) -> str:
    """Every chart that there are numbers for."""
    found = [
        chart(caption, [Curve(name, facts.steps.get(name, []))], zero=zero)
        for caption, name, zero in _CHARTS
    ]
    accuracy = {n: p for n, p in facts.evaluations.items() if n.endswith("Accuracy")}
    if accuracy:
        scaled = [Curve(n, [(x, 100 * y) for x, y in p], marked=True) for n, p in accuracy.items()]
        found.insert(1, chart("Accuracy, %", scaled))
    for name, points in facts.evaluations.items():
        if name not in accuracy:
            found.insert(1, chart(f"{name}, evaluation", [Curve(name, points, marked=True)]))
    return charts(found)


def _pictures(facts: Facts) -> str:
    if not facts.strips:
        trains = not facts.last and facts.evaluation is None
        return section("Curves", f"<p class=note>{_NO_STEPS}</p>") if trains else ""
    rows = "".join(f"<span>{text(name)}</span>{picture(jpeg, name)}" for name, jpeg in facts.strips)
    source = next((s["pictures"] for s in reversed(facts.starts) if s.get("pictures")), "")
    note = "Hidden patches as the network paints them, visible ones as they are."
    return section("Reconstructions", f"<div class=strips>{rows}</div>", f"{note} {source}".strip())


def _classifier(facts: Facts) -> list[str]:
    evaluation = facts.evaluation
    if evaluation is None or not evaluation.counts:
        return []
    when = f", after epoch {evaluation.epoch}" if evaluation.epoch else ""
    images = f"{evaluation.images} images{when}."
    note = f"{images} Rows are the true classes, columns the answers."
    both = f"<div>{per_class(evaluation)}</div><div>{confusion(evaluation)}</div>"
    return [
        section("Classes", f"<div class=pair>{both}</div>", note),
        section("Worst examples", worst_examples(evaluation), "Wrong answers, the surest first."),
    ]


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(key, theirs, ours) of every setting that is not the same."""
    keys = sorted(ours.keys() | theirs.keys())
    missing = object()
    return [
        (key, _word(theirs.get(key, missing), missing), _word(ours.get(key, missing), missing))
        for key in keys
        if ours.get(key, missing) != theirs.get(key, missing)
    ]


def _word(value: Any, missing: object = None) -> str:
    return "not set" if value is missing else str(value) or "empty"


def _settings(facts: Facts) -> str:
    if not facts.config_text:
        return ""
    body, note = "", ""
    if facts.recipe is not None:
        rows = [r for r in differences(facts.config, facts.recipe) if "id2label" not in r[0]]
        note = "What this run sets otherwise than its recipe." if rows else "As in the recipe."
        body = table(("setting", "recipe", "this run"), rows, kind="keys") if rows else ""
    body += folded("The whole configuration", f"<pre>{text(facts.config_text)}</pre>")
    return section("Settings", body, note)


def _table_section(title: str, head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    return section(title, long_table(head, rows, _SHOWN) if rows else "")


def _bad_samples(facts: Facts) -> str:
    samples = facts.bad_samples[:200]
    head = tuple(dict.fromkeys(key for sample in samples for key in sample))
    rows: list[tuple[Any, ...]] = [tuple(s.get(key, "") for key in head) for s in samples]
    return _table_section(f"Bad samples ({len(facts.bad_samples)})", head, rows)


def _starts(facts: Facts) -> str:
    rows: list[tuple[Any, ...]] = []
    for item in facts.starts:
        what = item.get("end") or ("resumed" if item.get("step") else "started")
        rows.append((item.get("time", ""), what, item.get("step", ""), item.get("epoch", "")))
    return _table_section("Starts and resumes", ("time", "what", "step", "epoch"), rows)


def _environment(facts: Facts) -> str:
    known = [s["environment"] for s in facts.starts if isinstance(s.get("environment"), dict)]
    rows = list(known[-1].items()) if known else []
    return _table_section("Environment", ("", ""), rows)
