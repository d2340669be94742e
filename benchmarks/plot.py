"""The results as a picture: `python benchmarks/plot.py` draws those of `DRAWN` as SVG.

A result is {"title", "unit", "date", "machine", "software", "bars": [{"name", "median", "low",
"high"}]}; `keep_result` writes one. Each is a group of bars, ours being those named "this
project ...".
"""

from __future__ import annotations

import contextlib
import datetime
import html
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
WIDTH, LABELS, VALUES, LINE = 720, 250, 150, 22  # pixels: whole, names, numbers, a bar's height
OURS, OTHERS, TEXT = "#1f6feb", "#9aa4b2", "#24292f"
DRAWN = ("train_08", "forward_08", "input_pipeline", "start_up")  # in this order
EXTENSIONS = {"avx512f": "AVX-512", "avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX"}  # CPU flags


def keep_result(name: str, title: str, unit: str, bars: Mapping[str, Sequence[float]]) -> None:
    """Write `results/<name>.json`; `bars` has the values of all rounds by name."""
    result = {
        "title": title,
        "unit": unit,
        "date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}",
        "machine": machine(),
        "software": software(),
        "bars": [
            {"name": bar, "median": statistics.median(v), "low": min(v), "high": max(v)}
            for bar, v in bars.items()
        ],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """Cores, their kind, what they multiply with, memory."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    told = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    flags = told.get("flags", "").split()
    extras = [name for flag, name in EXTENSIONS.items() if flag in flags] or ["no AVX-512"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kind = f"{told.get('model name', platform.machine())} ({', '.join(extras)})"
    return f"{len(os.sched_getaffinity(0))} cores of {kind}, {memory:.0f} GiB"


def software() -> str:
    """Versions of what is compared."""
    found = [f"Python {platform.python_version()}"]
    for name in ("numpy", "mindspore", "torch", "transformers", "onnxruntime"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return ", ".join(found)


def group(result: Mapping[str, Any], top: int) -> list[str]:
    """The heading and the bars of a result, from that height on."""
    where = html.escape(f"{result['machine']}, {result['date']}")
    parts = [
        f'<text x="0" y="{top + 16}" font-weight="600">{html.escape(result["title"])}</text>',
        f'<text x="0" y="{top + 32}" font-size="11" opacity=".7">{where}</text>',
    ]
    longest = max(bar["high"] for bar in result["bars"])
    scale = (WIDTH - LABELS - VALUES) / longest
    for place, bar in enumerate(result["bars"]):
        y = top + 42 + place * LINE
        colour = OURS if bar["name"].startswith("this project") else OTHERS
        start, end = (LABELS + bar[key] * scale for key in ("low", "high"))
        parts += [
            f'<text x="{LABELS - 8}" y="{y + 14}" text-anchor="end">'
            f"{html.escape(bar['name'])}</text>",
            f'<rect x="{LABELS}" y="{y}" width="{bar["median"] * scale:.1f}" height="{LINE - 5}" '
            f'rx="2" fill="{colour}"/>',
            f'<path d="M{start:.1f} {y + 8.5}H{end:.1f}" stroke="{TEXT}"/>',
            f'<text x="{end + 6:.1f}" y="{y + 14}">{number(bar["median"])} {result["unit"]}</text>',
        ]
    return parts


def number(value: float) -> str:
    """Three digits, or all of what is before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw(results: Sequence[Mapping[str, Any]]) -> str:
    """All results below each other."""
    parts, top = list[str](), 0
    for result in results:
        parts += group(result, top)
        top += 42 + len(result["bars"]) * LINE + 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -8 {WIDTH + 24} {top + 8}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{TEXT}">'
        f'<rect x="-12" y="-8" width="{WIDTH + 24}" height="{top + 8}" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def main() -> None:
    files = [RESULTS / f"{name}.json" for name in DRAWN]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in files if path.is_file()]
    if not found:
        raise SystemExit(f"no results in {RESULTS}; run the other benchmarks first")
    target = RESULTS / "benchmarks.svg"
    target.write_text(draw(found), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
