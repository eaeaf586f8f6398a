"""The networks of this folder: a file of each for frames in colour, and the same function of grey ones at a lower cost.

They were trained by ``python -m tools.text_detector``; their metadata says on what.
"""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from sono.curation.cleaning.required import missing

if TYPE_CHECKING:
    import onnxruntime

NAMES = ("text_detector", "mark_detector")


def network_bytes(name: str, *, grey: bool) -> bytes:
    return resources.files(__package__).joinpath(f"{name}{'_grey' * grey}.onnx").read_bytes()


@functools.cache
def networks_sha256() -> str:
    """Other networks may find other things, so that frames are cleaned again; asked for with every part of a folder."""
    contents = (network_bytes(name, grey=grey) for name in NAMES for grey in (False, True))
    return hashlib.sha256(b"".join(contents)).hexdigest()


@functools.cache
def session(name: str, *, grey: bool) -> onnxruntime.InferenceSession:
    """A network, read once per process; on one thread, since a process per core cleans frames."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise missing("onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(network_bytes(name, grey=grey), options, providers=["CPUExecutionProvider"])
