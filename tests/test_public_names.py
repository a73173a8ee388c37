"""The names that a release promises: adding one is a decision, losing one a break."""

from __future__ import annotations

from importlib import import_module

import pytest

PUBLIC = {
    "edge": [
        "Artifact",
        "Chat",
        "EdgeError",
        "Generation",
        "Graphs",
        "Model",
        "ModelSpec",
        "__version__",
        "load",
        "open_artifact",
    ],
    "runtimes": [
        "ENGINES",
        "Cache",
        "CancelToken",
        "Engine",
        "LayerGroup",
        "Logits",
        "Step",
        "default_threads",
        "open_engine",
    ],
    "boards": [
        "Catalogue",
        "Conflict",
        "Detection",
        "Evidence",
        "Figure",
        "PowerMode",
        "Profile",
        "RELEASES",
        "Release",
        "catalogue",
        "detect",
        "profile",
        "profiles",
        "user_folder",
    ],
    "export": ["ConvertReport", "ExportReport", "convert", "export"],
}


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names(package: str) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == sorted(PUBLIC[package])
    for name in PUBLIC[package]:
        assert getattr(module, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'edge' has no attribute 'lode'"):
        import_module("edge").lode  # noqa: B018


def test_dir_lists_the_public_names() -> None:
    assert set(PUBLIC["edge"]) <= set(dir(import_module("edge")))
