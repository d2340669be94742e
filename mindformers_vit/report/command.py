"""`report DIR [DIR ...]`: write a run's page anew, or compare runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from mindformers_vit.errors import ConfigError
from mindformers_vit.report.compare import comparison, figures, names_of
from mindformers_vit.report.facts import read_facts
from mindformers_vit.report.write import replace_text, write_report


def main(argv: list[str]) -> int:
    """Write the page and say where it is; ConfigError if a directory is not one of a run."""
    parser = argparse.ArgumentParser(
        prog="mindformers-vit report",
        description="Write DIR/report.html anew; of several directories, one page that compares.",
        epilog="example: mindformers-vit report quickstart/finetune quickstart/scratch",
        allow_abbrev=False,
    )
    parser.add_argument("directory", nargs="+", metavar="DIR", help="output_dir of a run")
    parser.add_argument(
        "--output", default="comparison.html", metavar="FILE", help="of a comparison (%(default)s)"
    )
    arguments = parser.parse_args(argv)
    directories = [Path(given).expanduser() for given in arguments.directory]
    problems = [problem for path in directories for problem in _not_a_run(path)]
    if problems:
        raise ConfigError(problems)
    if len(directories) == 1:
        print(write_report(directories[0]))
        return 0
    runs = [read_facts(path) for path in directories]
    for run, name in zip(runs, names_of(runs), strict=True):
        print("  ".join(word for word in figures(run, name) if word))
    target = Path(arguments.output).expanduser()
    target.parent.mkdir(parents=True, exist_ok=True)
    print(replace_text(target, comparison(runs)))
    return 0


def _not_a_run(path: Path) -> list[str]:
    if not path.is_dir():
        return [f"report: '{path}': no such directory"]
    if (path / "metrics.jsonl").is_file() or any(path.glob("config_*.yaml")):
        return []
    return [
        f"report: '{path}': no output directory of a run: neither metrics.jsonl nor "
        f"config_<run_mode>.yaml is there"
    ]
