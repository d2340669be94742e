"""A pipeline around a real MindSpore Cell: tensors in, arrays out, one compiled shape."""

import numpy as np

from mindformers_vit.pipelines import pipeline
from tests.pipelines.fakes import LabelConfig, Processor, noisy


def test_cell():
    import mindspore

    class Network(mindspore.nn.Cell):
        def __init__(self):
            super().__init__()
            self.config = LabelConfig({0: "r", 1: "g", 2: "b"})
            self.mean = mindspore.ops.ReduceMean()

        def construct(self, pixel_values):
            return self.mean(pixel_values, (2, 3)).astype(mindspore.float16)

    network, processor, images = Network(), Processor(), [noisy(k) for k in range(3)]
    network.set_train(True)
    results = pipeline("image_classification", network, processor, batch_size=2)(images)
    assert network.training is False
    logits = processor(images).mean((2, 3))
    order = ["rgb"[k] for k in np.argmax(logits, 1)]
    assert [r[0]["label"] for r in results] == order
    want = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose([r[0]["score"] for r in results], want.max(1), atol=1e-3)
