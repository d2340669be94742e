"""What the documents do differently for each family: names in the file, flags of ATC."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conventions:
    """Of one family of classifiers.

    Attributes:
        input_name, output_name: of the exported file.
        atc_flags: that its document adds to the command, in its order.
        op_precision: contents of the op_precision.ini that its document names; "": none.
    """

    input_name: str = "image"
    output_name: str = "output"
    atc_flags: tuple[str, ...] = ()
    op_precision: str = ""


_FAST_GELU = ("--optypelist_for_implmode=Gelu", "--op_select_implmode=high_performance")
_CONVENTIONS = {
    "vit": Conventions(atc_flags=(*_FAST_GELU, "--enable_small_channel=1")),
    "beit": Conventions(output_name="class", atc_flags=_FAST_GELU),
    "lvvit": Conventions(output_name="features"),
    "smlpnet": Conventions(input_name="input", op_precision="Gelu=high_performance\n"),
}


def conventions_of(family: str) -> Conventions:
    """Those of a family; a family that no document knows gets the plain ones."""
    return _CONVENTIONS.get(family, Conventions())
