"""The page of the demo, made with gradio; nothing of it comes from another server."""

from __future__ import annotations

import os
from typing import Any

from mindformers_vit.demo.studio import TOP, Studio
from mindformers_vit.errors import MindFormersViTError

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def build(studio: Studio) -> Any:
    """The page for what this network does."""
    import gradio as gr

    with gr.Blocks(title="mindformers_vit", analytics_enabled=False) as page:
        what = "a masked autoencoder paints" if studio.paints else "a classifier sees"
        gr.Markdown(f"## What {what}")
        (_painter if studio.paints else _namer)(gr, studio)
    page.queue(max_size=32, default_concurrency_limit=1)
    return page


def theme() -> Any:
    """gradio's own without its web fonts."""
    import gradio as gr

    return gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])


def _painter(gr: Any, studio: Studio) -> None:
    with gr.Row():
        with gr.Column():
            given = gr.File(label="Picture", type="filepath", elem_id="picture")
            ratio = gr.Slider(0.05, 0.95, studio.mask_ratio, step=0.05, label="Hidden part")
            again = gr.Button("Hide other patches", elem_id="again")
        original = _image(gr, "Original", "original")
        masked = _image(gr, "Masked", "masked")
        painted = _image(gr, "Painted", "painted")
    words = gr.Markdown(elem_id="words")
    seed = gr.State(0)

    def paint(path: str | None, hidden: float, number: int) -> tuple[Any, ...]:
        if path is None:
            return None, None, None, ""
        result = _told(gr, lambda: studio.paint(path, hidden, number))
        return result.original, result.masked, result.painted, result.words

    outputs = [original, masked, painted, words]
    shown = {"fn": paint, "inputs": [given, ratio, seed], "outputs": outputs}
    given.change(**shown)
    ratio.change(**shown, trigger_mode="always_last")
    again.click(lambda number: number + 1, seed, seed).then(**shown, trigger_mode="always_last")


def _namer(gr: Any, studio: Studio) -> None:
    with gr.Row():
        given = gr.File(label="Picture", type="filepath", elem_id="picture")
        scores = gr.Label(label="Classes", num_top_classes=TOP, elem_id="classes")
        attention = _image(gr, "Where it looked", "attention")

    def name(path: str | None) -> tuple[Any, ...]:
        if path is None:
            return None, None
        result = _told(gr, lambda: studio.name_it(path))
        return result.scores, result.attention

    given.change(name, given, [scores, attention])


def _image(gr: Any, label: str, name: str) -> Any:
    return gr.Image(
        label=label, elem_id=name, format="png", interactive=False,
        buttons=["fullscreen"],
    )  # fmt: skip


def _told(gr: Any, work: Any) -> Any:
    """The answer, or the package's own words about what is wrong."""
    try:
        return work()
    except MindFormersViTError as error:
        raise gr.Error(str(error), print_exception=False) from None
