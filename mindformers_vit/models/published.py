"""Where the publishers keep the PyTorch weights of each model name, and getting them from there.

`$MINDFORMERS_VIT_MIRROR`, if set, is asked instead: `<mirror>/<family>/<file name>`, which is how
the cache folder looks, so that a copy of it behind any web server is a mirror.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from mindformers_vit.checkpoint.weights import FORMATS
from mindformers_vit.errors import CheckpointError
from mindformers_vit.registry import ModelFamily, find_model

logger = logging.getLogger(__name__)

MIRROR_VARIABLE = "MINDFORMERS_VIT_MIRROR"


@dataclass(frozen=True)
class Published:
    """One PyTorch file of a publisher."""

    url: str
    licence: str
    md5_prefix: str = ""  # hexadecimal; as far as the publisher gives one
    sha256: str = ""

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]


_MAE = "https://dl.fbaipublicfiles.com/mae"  # checksums: github.com/facebookresearch/mae
_BEIT = "https://github.com/addf400/files/releases/download/v1.0"
_LVVIT = "https://github.com/zihangJiang/TokenLabeling/releases/download"
_SMLP = "https://github.com/microsoft/SPACH/releases/download/v1.0"
_HUAWEI = "https://ascend-pytorch-model-file.obs.cn-north-4.myhuaweicloud.com"
_SMLP_T = "%E9%AA%8C%E6%94%B6-%E6%8E%A8%E7%90%86/cv/classfication/sMLP/smlp_t.pth"


def _mae(path: str, md5_prefix: str = "") -> Published:
    return Published(f"{_MAE}/{path}.pth", "CC-BY-NC 4.0", md5_prefix)


def _beit(name: str) -> Published:
    return Published(f"{_BEIT}/{name}_pt22k_ft22kto1k.pth", "MIT")


def _lvvit(path: str) -> Published:
    return Published(f"{_LVVIT}/{path}", "Apache-2.0")


PUBLISHED = {
    "mae_vit_base_p16": _mae("pretrain/mae_pretrain_vit_base_full"),
    "mae_vit_large_p16": _mae("pretrain/mae_pretrain_vit_large_full"),
    "mae_vit_huge_p14": _mae("pretrain/mae_pretrain_vit_huge_full"),
    "vit_base_p16": _mae("finetune/mae_finetuned_vit_base", "1b25e9"),
    "vit_large_p16": _mae("finetune/mae_finetuned_vit_large", "51f550"),
    "vit_huge_p14": _mae("finetune/mae_finetuned_vit_huge", "2541f2"),
    "beit_base_p16_224": _beit("beit_base_patch16_224"),
    "beit_base_p16_384": _beit("beit_base_patch16_384"),
    "beit_large_p16_224": _beit("beit_large_patch16_224"),
    "beit_large_p16_384": _beit("beit_large_patch16_384"),
    "beit_large_p16_512": _beit("beit_large_patch16_512"),
    "lvvit_t": _lvvit("v0.2.0/lvvit_t.pth"),
    "lvvit_s": _lvvit("1.0/lvvit_s-26M-224-83.3.pth.tar"),
    "lvvit_s_384": _lvvit("1.0/lvvit_s-26M-384-84.4.pth.tar"),
    "lvvit_m": _lvvit("1.0/lvvit_m-56M-224-84.0.pth.tar"),
    "lvvit_m_384": _lvvit("1.0/lvvit_m-56M-384-85.4.pth.tar"),
    "lvvit_m_448": _lvvit("1.0/lvvit_m-56M-448-85.5.pth.tar"),
    "lvvit_l_448": _lvvit("1.0/lvvit_l-150M-448-86.2.pth.tar"),
    "lvvit_l_512": _lvvit("1.0/lvvit_l-150M-512-86.4.pth.tar"),
    "smlpnet_tiny": Published(f"{_HUAWEI}/{_SMLP_T}", "not stated"),
    "smlpnet_small": Published(f"{_SMLP}/smlp_s.pth", "MIT"),
    "smlpnet_base": Published(f"{_SMLP}/smlp_b.pth", "MIT"),
}


def obtain(name: str, folder: Path) -> Path:
    """The weights of a model name in our format, downloaded and converted into `folder`.

    What is there already, the publisher's file too, is used; the work is done once, however many
    processes ask.

    Raises:
        CheckpointError: nothing is published under that name, it cannot be fetched, or it is not
            what it should be; with what was looked for and what to do.
    """
    family, name = find_model(name)
    target = folder / f"{name}.{FORMATS[0]}"
    command = (
        f"python mindformers_vit/models/{family.name}/convert_weight.py --torch_path FILE "
        f"--mindspore_path {target}"
    )
    places = " nor ".join(str(target.with_suffix(f".{ending}")) for ending in FORMATS)
    missing = f"no weights for '{name}': neither {places} is there"
    if name not in PUBLISHED:
        raise CheckpointError(
            f"{missing}, and none are published. Put them there (converted from PyTorch by: "
            f"{command}), or make a network with initial weights: "
            f"AutoModel.from_config('{name}')"
        )
    published = PUBLISHED[name]
    torch_path = folder / published.file_name
    from mindformers_vit.checkpoint import download  # only here: it takes a tenth of `models`

    try:
        with download.locked(target):
            if not target.is_file():
                _fetch(published, family.name, torch_path)
                _convert(family, name, torch_path, target)
    except CheckpointError as error:
        to_do = f"Put {published.file_name} into {folder} and run this again"
        if torch_path.is_file():
            to_do = "If the file is a wrong one, remove it and run this again"
        raise CheckpointError(
            f"{missing}; {error}. {to_do}, or convert it elsewhere: {command}"
        ) from error
    return target


def _fetch(published: Published, family: str, torch_path: Path) -> None:
    from mindformers_vit.checkpoint import download

    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    url = f"{mirror}/{family}/{published.file_name}" if mirror else published.url
    if not torch_path.is_file():
        logger.info("fetching %s (licence: %s) to %s", url, published.licence, torch_path)
    download.fetch(url, torch_path, sha256=published.sha256, md5_prefix=published.md5_prefix)


def _convert(family: ModelFamily, name: str, torch_path: Path, target: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        raise CheckpointError(
            f"'{torch_path}' is there, but converting it needs PyTorch: "
            f"pip install 'mindformers_vit[convert]'"
        )
    module = importlib.import_module(f"mindformers_vit.models.{family.name}.convert_weight")
    settings = family.config_class(**family.variants[name]).settings()  # so no other network fits
    logger.info("converting %s to %s", torch_path, target)
    module.convert_weight(torch_path, target, settings=settings)
