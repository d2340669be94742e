"""`demo --load_checkpoint WEIGHTS`: serve the page on this machine."""

from __future__ import annotations

import argparse
import importlib.util

from mindformers_vit.errors import ConfigError


def main(argv: list[str]) -> int:
    """Serve until interrupted; ConfigError without gradio."""
    parser = argparse.ArgumentParser(
        prog="mindformers-vit demo",
        description="A local page: drop a picture and see what the network paints, or which "
        "classes it names and where it looked.",
        epilog="example: mindformers-vit demo --load_checkpoint quickstart/pretrain",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--load_checkpoint", required=True, metavar="WEIGHTS",
        help="model name, directory of a saved network, or output_dir of a run",
    )  # fmt: skip
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; %(default)s: this machine only"
    )
    parser.add_argument("--port", type=int, default=7860, help="%(default)s")
    arguments = parser.parse_args(argv)
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("demo needs gradio: pip install 'mindformers_vit[demo]'")
    from mindformers_vit.demo.app import build, theme
    from mindformers_vit.demo.studio import Studio

    page = build(Studio(arguments.load_checkpoint))
    print(f"http://{arguments.host}:{arguments.port}", flush=True)
    page.launch(
        server_name=arguments.host, server_port=arguments.port, share=False, quiet=True,
        theme=theme(), max_file_size="32mb",
    )  # fmt: skip
    return 0
