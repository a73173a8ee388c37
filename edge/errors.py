"""Every error Edgewise raises on purpose.

EdgeError
├── InvalidArgument          a parameter, prompt or option out of range (also a ValueError)
│   ├── OutputExists         refusing to overwrite
│   └── UnknownTarget        no GPU or board of that name to build an engine for
├── MissingExtra             an optional dependency is not installed
│   ├── KernelsMissing       the library of CPU kernels is not built
│   └── TensorRTMissing      the TensorRT for this GPU is not installed
├── CheckpointError          the source model
│   ├── CheckpointNotFound   no such file, folder or hub id
│   ├── CheckpointCorrupt    truncated, wrong magic, lengths past the end, no JSON
│   ├── TensorError          a tensor is missing, misshapen or holds NaN/Inf
│   └── Unsupported          an architecture, option or tokenizer Edgewise does not know
├── ArtifactError            the .edge folder
│   ├── ArtifactNotFound
│   ├── ArtifactCorrupt      a file missing, shortened or changed; a manifest that is no manifest
│   ├── ArtifactTooNew       written by a later format version
│   ├── ArtifactTooOld       in a layout that is no longer read
│   ├── NotADecoder          graphs that are run from Python, where a decoder is wanted
│   └── UnsafePath           a manifest that names a file outside its folder
├── BoardError               the machine, or what is written about it
│   ├── UnknownBoard         no profile of that name
│   └── ProfileError         a profile's file that is none
├── EngineError              the engine under the runtime
│   ├── GpuMissing           no GPU, or no driver for it
│   ├── EngineTooOld
│   ├── EngineFailed
│   ├── EngineDamaged        an engine file is truncated or altered
│   ├── EngineMismatch       an engine file is for another artifact, TensorRT, GPU or platform
│   └── TargetRefused        no engine can be built for that GPU, of these weights or from here
├── CapacityError            it does not fit; nothing was written
│   ├── ContextExceeded      more tokens than the context holds
│   └── MemoryBudgetError    more memory than there is, or than the budget holds
├── StorageError             the disk is full or refuses the write
│   ├── RecordForeign        a file of the cache's folder that is not ours, or of another format version
│   ├── RecordDamaged        a file there that is not what was written
│   └── SessionInUse         another process has the named session open
└── Cancelled                a run was cancelled by its caller

Messages name the thing, the value and the next step.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Base of every error raised on purpose."""


class InvalidArgument(EdgeError, ValueError):
    """A parameter, prompt or option out of range."""


class OutputExists(InvalidArgument):
    """The output is there already and was not to be overwritten."""


class UnknownTarget(InvalidArgument):
    """There is no GPU or board of that name to build an engine for."""


class MissingExtra(EdgeError, ImportError):
    """An optional dependency is not installed."""


class KernelsMissing(MissingExtra):
    """The library of CPU kernels is not built."""


class TensorRTMissing(MissingExtra):
    """The TensorRT that builds or runs engines for this GPU is not installed."""


class CheckpointError(EdgeError):
    """The source model cannot be used."""


class CheckpointNotFound(CheckpointError):
    """No such file, folder or hub id."""


class CheckpointCorrupt(CheckpointError):
    """The bytes are not what their format promises."""


class TensorError(CheckpointError):
    """A tensor is missing, misshapen or holds NaN or Inf."""


class Unsupported(CheckpointError):
    """An architecture, option or tokenizer that Edgewise does not know."""


class ArtifactError(EdgeError):
    """The artifact cannot be used."""


class ArtifactNotFound(ArtifactError):
    """There is no artifact at that path."""


class ArtifactCorrupt(ArtifactError):
    """A file is missing, shortened or changed, or the manifest is no manifest."""


class ArtifactTooNew(ArtifactError):
    """The artifact was written by a later format version."""


class ArtifactTooOld(ArtifactError):
    """The artifact was written in a layout that is no longer read."""


class NotADecoder(ArtifactError):
    """The artifact holds graphs that are run from Python, where a decoder is wanted."""


class UnsafePath(ArtifactError):
    """The manifest names a file outside its folder."""


class BoardError(EdgeError):
    """The machine, or what is written about it, is not as it should be."""


class UnknownBoard(BoardError):
    """There is no profile of that name."""


class ProfileError(BoardError):
    """A profile's file is no profile; the message names the key and the line."""


class EngineError(EdgeError):
    """The engine under the runtime cannot serve."""


class GpuMissing(EngineError):
    """There is no GPU that CUDA sees, or not the one that was named."""


class EngineTooOld(EngineError):
    """The installed engine is older than the artifact needs."""


class EngineFailed(EngineError):
    """The engine refused the model or a run."""


class EngineDamaged(EngineError):
    """An engine file is truncated or altered."""


class EngineMismatch(EngineError):
    """An engine file was built for another artifact, TensorRT, GPU or platform."""


class TargetRefused(EngineError):
    """No engine can be built for that GPU: by the TensorRT here, of these weights or from this machine."""


class CapacityError(EdgeError):
    """It does not fit; nothing was written."""


class ContextExceeded(CapacityError):
    """More tokens than the context holds."""


class MemoryBudgetError(CapacityError):
    """More memory than there is, or than the budget holds."""


class StorageError(EdgeError):
    """The disk is full or refuses the write."""


class RecordForeign(StorageError):
    """A file of the cache's folder that is not ours, or of another format version."""


class RecordDamaged(StorageError):
    """A file of the cache's folder that is not what was written."""


class SessionInUse(StorageError):
    """Another process, or another conversation of this one, has the named session open."""


class Cancelled(EdgeError):
    """A run was cancelled by its caller."""
