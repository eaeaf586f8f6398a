"""One rank of a run, as torchrun would start it, but in a process forked after torch was imported, which is fast.

Run by ``runpy`` with the global SETTINGS: environment, output (a path; standard output and errors go to output.out and
output.err), program (a path, or ``sono-train``) and arguments.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import torch

settings: dict[str, Any] = globals()["SETTINGS"]
os.environ |= settings["environment"]
for suffix, descriptor in (("out", 1), ("err", 2)):
    with Path(f"{settings['output']}.{suffix}").open("wb") as file:
        os.dup2(file.fileno(), descriptor)
torch.set_num_threads(1)
sys.argv = [settings["program"], *settings["arguments"]]
if settings["program"] == "sono-train":
    from sono.training.cli import main

    main()
else:
    runpy.run_path(settings["program"], run_name="__main__")
