import numpy as np
import pytest

from mindformers_vit.checkpoint.merge import merge
from mindformers_vit.errors import CheckpointError

pytestmark = pytest.mark.fast


def file_of(**shapes):
    return {name.replace("__", "."): np.full(s, 7, np.float32) for name, s in shapes.items()}


def test_what_fits_is_taken_as_it_is():
    loaded = file_of(a=(2,), b=(2, 3))
    arrays, report = merge(loaded, {"a": (2,), "b": (2, 3)})
    assert arrays["a"] is loaded["a"]
    assert arrays["b"] is loaded["b"]
    assert report.loaded == ("a", "b")
    assert report.resized == report.new == report.unused == ()
    assert str(report) == "2 tensors loaded"


def test_every_misfit_is_listed():
    loaded = file_of(a=(2,), pos_embed=(1, 5), decoder__w=(3,))
    with pytest.raises(CheckpointError) as error:
        merge(loaded, {"a": (2,), "pos_embed": (1, 9), "head.weight": (10, 2)})
    assert str(error.value).splitlines() == [
        "the weights do not fit the network:",
        "1 in the network, not in the file (-):",
        "  - head.weight (10, 2)",
        "1 in the file, not in the network (+):",
        "  + decoder.w (3,)",
        "1 of another shape (~):",
        "  ~ pos_embed: file (1, 5), network (1, 9)",
    ]


def test_no_suffix_matching():
    """MindSpore's own loader would fill pos_embed from decoder_pos_embed."""
    with pytest.raises(CheckpointError, match="- pos_embed"):
        merge(file_of(decoder_pos_embed=(2,)), {"pos_embed": (2,)})


def test_a_long_list_is_cut():
    with pytest.raises(CheckpointError, match=r"(?s)50 in the network.*\.\.\. 10 more") as error:
        merge({}, {f"p{i:02}": (1,) for i in range(50)})
    assert "p39" in str(error.value)
    assert "p40" not in str(error.value)


def test_fine_tuning_from_a_pretraining_file():
    loaded = file_of(
        w=(2,), pos_embed=(1, 5), head__weight=(1000, 2), decoder__a=(1,), decoder__b=(1,)
    )
    network = {"w": (2,), "pos_embed": (1, 9), "head.weight": (10, 2), "fc_norm.gamma": (2,)}
    arrays, report = merge(
        loaded,
        network,
        allow_new=[r"head\..*", r"fc_norm\..*"],
        allow_unused=[r"decoder\..*"],
        resize={"pos_embed": lambda array, shape: np.resize(array, shape)},
    )
    assert set(arrays) == {"w", "pos_embed"}
    assert arrays["pos_embed"].shape == (1, 9)
    assert report.loaded == ("w",)
    assert report.resized == ("pos_embed",)
    assert report.new == ("fc_norm.gamma", "head.weight")
    assert report.unused == ("decoder.a", "decoder.b", "head.weight")
    assert str(report) == (
        "1 tensors loaded, 1 resized (pos_embed), 2 new (fc_norm.gamma, head.weight), "
        "3 unused (decoder.a, decoder.b, head.weight)"
    )


def test_a_tensor_that_may_be_new_is_still_taken_if_it_fits():
    arrays, report = merge(file_of(head=(2,)), {"head": (2,)}, allow_new=["head"])
    assert set(arrays) == {"head"}
    assert report.new == ()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("allow_new", ["heed"]),
        ("allow_unused", ["heed"]),
        ("resize", {"heed": lambda array, shape: array}),
    ],
)
def test_a_pattern_must_match_or_say_that_it_may_not(option, value):
    loaded, network = file_of(a=(2,)), {"a": (2,)}
    with pytest.raises(
        CheckpointError, match=rf"{option}: 'heed' matches no name \(write '\?heed'"
    ):
        merge(loaded, network, **{option: value})
    optional = {f"?{p}": value[p] for p in value} if option == "resize" else ["?heed"]
    merge(loaded, network, **{option: optional})


def test_patterns_match_whole_names():
    with pytest.raises(CheckpointError, match=r"- head.weight"):
        merge({}, {"head.weight": (2,)}, allow_new=["head"])


def test_an_optional_pattern_works_like_the_other_when_it_matches():
    arrays, report = merge(file_of(extra=(2,)), {}, allow_unused=["?extra"])
    assert (arrays, report.unused) == ({}, ("extra",))


def test_bad_pattern_and_bad_resize():
    with pytest.raises(CheckpointError, match=r"allow_new: '\(' is no regular expression"):
        merge({}, {}, allow_new=["("])
    with pytest.raises(CheckpointError, match=r"resizing 'a' gave \(2,\), the network has \(3,\)"):
        merge(file_of(a=(2,)), {"a": (3,)}, resize={"a": lambda array, shape: array})
