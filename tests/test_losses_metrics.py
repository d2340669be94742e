import numpy as np
import pytest
import torch

from mindformers_vit.errors import DataError, TrainingError
from mindformers_vit.metrics import Accuracy

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((6, 10)).astype(np.float32) * 4
LABELS = RNG.integers(0, 10, 6).astype(np.int32)


# ---- losses (MindSpore is imported in the test, so that the fast set needs none)


def test_soft_target_cross_entropy_equals_torch():
    from mindspore import Tensor

    from mindformers_vit.losses import soft_target_cross_entropy

    target = torch.softmax(torch.tensor(RNG.standard_normal((6, 10))), -1).float()
    ours = soft_target_cross_entropy(Tensor(LOGITS), Tensor(target.numpy()))
    theirs = torch.nn.functional.cross_entropy(torch.tensor(LOGITS), target)
    assert float(ours.asnumpy()) == pytest.approx(float(theirs), rel=1e-6)


def test_the_loss_is_float32_and_holds_large_logits():
    import mindspore as ms
    from mindspore import Tensor

    from mindformers_vit.losses import soft_target_cross_entropy

    logits = np.zeros((2, 4), np.float16)
    logits[:, 0] = 60000
    one_hot = np.eye(4, dtype=np.float16)[[0, 1]]
    loss = soft_target_cross_entropy(Tensor(logits), Tensor(one_hot))
    assert loss.dtype == ms.float32
    assert float(loss.asnumpy()) == pytest.approx(30000, rel=1e-3)


def test_loss_gradient_equals_torch():
    import mindspore as ms
    from mindspore import Tensor

    from mindformers_vit.losses import soft_target_cross_entropy

    soft = np.eye(10, dtype=np.float32)[LABELS] * 0.9 + 0.01
    logits = torch.tensor(LOGITS, requires_grad=True)
    torch.nn.functional.cross_entropy(logits, torch.tensor(soft)).backward()

    @ms.jit
    def gradient(x, target):
        return ms.grad(soft_target_cross_entropy)(x, target)

    grad = gradient(Tensor(LOGITS), Tensor(soft))
    np.testing.assert_allclose(grad.asnumpy(), logits.grad, atol=1e-6)


# ---- metrics


@pytest.mark.fast
def test_accuracy_counts_every_sample_once_whatever_the_batches():
    logits = RNG.standard_normal((101, 10)).astype(np.float32)
    labels = RNG.integers(0, 10, 101)
    top = torch.tensor(logits).topk(5).indices.numpy()
    top1 = (top[:, 0] == labels).sum() / 101
    top5 = (top == labels[:, None]).any(1).sum() / 101
    for batch in (1, 7, 101):
        accuracy = Accuracy()
        for i in range(0, 101, batch):
            accuracy.add(logits[i : i + batch], labels[i : i + batch])
        assert accuracy.result() == {"Top1 Accuracy": top1, "Top5 Accuracy": top5}
    assert all(type(v) is float for v in accuracy.result().values())


@pytest.mark.fast
def test_padding_is_not_looked_at():
    accuracy = Accuracy()
    logits = np.array([[1.0, 0.0], [np.nan, np.nan]])
    accuracy.add(logits, np.array([0, 99]), np.array([True, False]))
    accuracy.add(logits[1:], np.array([-1]), np.array([False]))
    assert accuracy.counts.tolist() == [1, 1, 1]


@pytest.mark.fast
def test_of_equal_logits_the_lowest_index_is_first():
    accuracy = Accuracy((1, 2))
    accuracy.add(np.zeros((3, 3)), np.array([0, 1, 2]))
    assert accuracy.counts.tolist() == [3, 1, 2]


@pytest.mark.fast
def test_fewer_classes_than_k():
    accuracy = Accuracy()
    accuracy.add(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([0, 1]))
    assert accuracy.result() == {"Top1 Accuracy": 0.5, "Top5 Accuracy": 1.0}


@pytest.mark.fast
def test_counts_of_ranks_add_up():
    whole, first, second = Accuracy(), Accuracy(), Accuracy()
    whole.add(LOGITS, LABELS)
    first.add(LOGITS[:4], LABELS[:4])
    second.add(LOGITS[4:], LABELS[4:])
    first.merge([second.counts])
    assert first.result() == whole.result()
    with pytest.raises(ValueError, match="are not of top"):
        first.merge([np.zeros(2)])


@pytest.mark.fast
def test_nonsense_is_refused():
    accuracy = Accuracy()
    with pytest.raises(DataError, match="no sample was evaluated"):
        accuracy.result()
    with pytest.raises(DataError, match="label 2 is outside the network's 2 classes"):
        accuracy.add(np.zeros((2, 2)), np.array([0, 2]))
    with pytest.raises(DataError, match="label -1 is outside"):
        accuracy.add(np.zeros((1, 2)), np.array([-1]))
    with pytest.raises(TrainingError, match="logits of 1 of 2 samples are NaN"):
        accuracy.add(np.array([[np.nan, 1.0], [0.0, 1.0]]), np.array([0, 0]))
    with pytest.raises(DataError, match="do not fit together"):
        accuracy.add(np.zeros((2, 2)), np.zeros(3, int))
    with pytest.raises(ValueError, match="positive"):
        Accuracy((0,))


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("ground_truth", [False, True])
def test_token_label_loss_from_its_definition(dense, ground_truth):
    """Against a loop in numpy: 4 images, 6 tokens, a box of 2 tokens, 5 classes."""
    from mindspore import Tensor

    from mindformers_vit.losses import token_label_cross_entropy

    rng = np.random.default_rng(0)
    x_cls, x_aux = rng.normal(size=(4, 5)), rng.normal(size=(4, 6, 5))
    target = rng.dirichlet(np.ones(5), size=(4, 8) if dense else (4,))
    if dense:
        target[0, 0] = target[0, 1]  # the truth agrees with the class token's label
    expected = 0.0
    for i in range(4):
        mixed = np.zeros(5)
        for j, share in ((i, 4 / 6), (3 - i, 2 / 6)):
            label = target[j, 1] if dense else target[j]
            if dense and ground_truth:
                ratio = 0.5 if label.argmax() == target[j, 0].argmax() else 0.9
                label = ratio * label + (1 - ratio) * target[j, 0]
            mixed += share * label
        expected += -0.7 * (mixed * log_softmax(x_cls[i])).sum() / 4
        for n in range(6):
            label = target[i, 2 + n] if dense else target[i]
            expected += -0.3 * (label * log_softmax(x_aux[i, n])).sum() / 24
    loss = token_label_cross_entropy(
        *(Tensor(a.astype(np.float32)) for a in (x_cls, x_aux, target)),
        mixed=Tensor(np.full((4, 1), 2 / 6, np.float32)),
        cls_weight=0.7,
        dense_weight=0.3,
        ground_truth=ground_truth,
    )
    assert float(loss.asnumpy()) == pytest.approx(expected, rel=1e-5)
