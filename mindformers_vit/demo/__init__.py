"""A local page to try a network on one's own pictures: `mindformers-vit demo`.

`studio` asks the network and draws, `app` is the page (gradio, an extra), `attention` looks inside.
"""
