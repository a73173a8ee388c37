"""The `portable` engine: what TensorRT would run, run by ONNX Runtime on the CPU.

For checking numbers, where no GPU is: weights are dequantized when it is opened, and lie in memory as floats.
"""

from __future__ import annotations

from edge.artifact import Artifact, Variant
from edge.errors import EngineError, EngineTooOld
from runtimes.onnxruntime.session import check_version, onnxruntime, open_session, session_options
from runtimes.portable.device import HostDevice
from runtimes.static.bindings import Interface
from runtimes.static.buckets import ladder
from runtimes.static.chunks import Profile
from runtimes.static.engine import StaticEngine
from runtimes.static.form import Form, form_of

CHUNK = 128
"""Tokens of one prefill call."""
# Weights are constants to it, then. Otherwise they are dequantized for every call: a hundred times slower.
_FOLDED = ("session.disable_quant_qdq", "1")
# Of the ONNX Runtimes that have the operators of opset 24 on CPUs, the oldest that these graphs were tried with.
OLDEST = {"opset24": "1.31.1", "opset21": "1.23.2"}
# Older ones take the codes of keys and values for unsigned (1.23.2), or were not tried.
OLDEST_FOR_CODES = "1.32.0"


class PortableEngine(StaticEngine):
    """See `runtimes.protocol.Engine`."""

    name = "portable"

    def __init__(
        self,
        artifact: Artifact,
        threads: int,
        context: int,
        kv_budget: int | None,
        kv: str | None = None,
        *,
        form: str | None = None,
    ) -> None:
        """`form` names one of `runtimes.static.form.FORMS`; without it the newest that this ONNX Runtime runs.

        Raises:
            EngineError, ArtifactError, MissingExtra
        """
        kind = self.kv_type(kv, artifact)
        ort = onnxruntime()
        variant, chosen = chosen_form(artifact, str(ort.__version__), form)
        interface = Interface(artifact.spec, chosen, kind)
        options = session_options(ort, threads, spin=False)
        options.add_session_config_entry(*_FOLDED)
        session = open_session(ort, artifact, variant, options, interface.inputs())
        device = HostDevice(ort, session, ladder(context), Profile(CHUNK, CHUNK))
        super().__init__(artifact, interface, device, threads, context, kv_budget)


def chosen_form(artifact: Artifact, installed: str, form: str | None) -> tuple[Variant, Form]:
    """The variant to run, and its form.

    Raises:
        EngineError: there is none, or this ONNX Runtime is too old for all.
    """
    artifact.variant(PortableEngine.variant)
    refusal: EngineTooOld | None = None
    for variant in artifact.manifest.variants:
        if variant.engine != PortableEngine.variant:
            continue
        found = form_of(variant)
        if form not in (None, found.name):
            continue
        try:
            check_version(installed, oldest(found.name, artifact))
        except EngineTooOld as e:
            refusal = refusal or e
        else:
            return variant, found
    if refusal is not None:
        raise refusal
    raise EngineError(f"{artifact.path} has no variant in form {form}; export it again without --kv int8")


def oldest(form: str, artifact: Artifact) -> str:
    """The oldest ONNX Runtime that runs a form of the artifact rightly."""
    coded = any(group.type == "int8" for group in artifact.manifest.kv)
    return OLDEST_FOR_CODES if coded else OLDEST[form]
