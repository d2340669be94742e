"""One page about a model on its way to a device, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mindformers_vit.checkpoint import files
from mindformers_vit.deploy.benchmark import Throughput, table
from mindformers_vit.deploy.model_manifest import ModelManifest
from mindformers_vit.deploy.score import Score


def write_report(
    folder: Path,
    manifest: ModelManifest,
    found: Score,
    throughput: Sequence[Throughput],
    atc: Sequence[str],
) -> Path:
    """`report.md` and `report.json` in a folder; returns the former."""
    content = {
        "model": manifest.model_dump(mode="json"),
        "score": found.metrics(),
        "throughput": [item.as_dict() for item in throughput],
        "atc": list(atc),
    }
    pages = {
        "report.md": _page(manifest, found, throughput, atc),
        "report.json": json.dumps(content, indent=1) + "\n",
    }
    for name, text in pages.items():
        with files.replacing(folder / name) as temporary:
            files.write_file(temporary, text.encode())
    return folder / "report.md"


def _page(
    manifest: ModelManifest, found: Score, throughput: Sequence[Throughput], atc: Sequence[str]
) -> str:
    checked = manifest.verification
    assert checked is not None
    top1, top5 = (100 * found.hits[k] / found.images for k in (0, 4))
    lines = [
        f"# {manifest.model}",
        "",
        f"{manifest.arch}, opset {manifest.opset}, {manifest.nodes} nodes, {manifest.precision}; "
        f"against the network on {checked.images} images: largest difference of a logit "
        f"{checked.max_difference:.2g}, top-1 agreement {checked.top1_agreement:.2%}.",
        "",
        f"{found.images} images: top-1 {found.hits[0]} ({top1:.2f}%), "
        f"top-5 {found.hits[4]} ({top5:.2f}%).",
        "",
        table(throughput),
        "",
        "For the 310P (printed, not run here):" if atc else "",
        "",
        *[f"    {line}" for line in atc],
    ]
    return "\n".join(lines).rstrip() + "\n"
