"""The forms of graphs with a static cache, as a runtime has to tell them apart."""

from __future__ import annotations

from dataclasses import dataclass

from edge.artifact import Variant
from edge.errors import ArtifactTooNew
from edge.version import VERSION


@dataclass(frozen=True)
class Form:
    """An `in_place` graph writes keys and values into the cache; another returns the new rows alone.

    One with `lengths` is told how many tokens there are, where others get positions and masks.
    """

    name: str
    in_place: bool
    lengths: bool = False


FORMS = (Form("opset24", True), Form("opset21", False))
"""Of the portable dialect, the newest first."""
LENGTHS = Form("onnxruntime", True, lengths=True)
"""The onnxruntime dialect, whose attention works out the rest."""
_BY_DIALECT = {f"portable-{form.name}": form for form in FORMS}


def form_of(variant: Variant) -> Form:
    """The form that a variant is in.

    Raises:
        ArtifactTooNew: none that this version knows.
    """
    if variant.dialect not in _BY_DIALECT:
        raise ArtifactTooNew(
            f"{variant.model} is in dialect {variant.dialect!r}, and edgewise {VERSION} knows "
            f"{', '.join(_BY_DIALECT)}; upgrade with pip install --upgrade edgewise"
        )
    return _BY_DIALECT[variant.dialect]
