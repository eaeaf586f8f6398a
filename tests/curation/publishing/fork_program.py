"""Runs ``sono-curate`` again and again, each time in a process of its own that need not import anything any more.

Its argument is a shard, which it reads once, so that all libraries are loaded. Every line of stdin is a command line as
JSON. It prints the process's id, and then how it ended: an exit code, or the negative number of a signal.
"""

from __future__ import annotations

import json
import os
import sys

import datasets
import duckdb
import huggingface_hub.hf_api
import yaml

from sono.curation import cli
from sono.curation.publishing import gate, verify
from sono.manifests import publishing

next(iter(datasets.load_dataset("parquet", data_files=sys.argv[1], streaming=True, split="train")))
loaded = (duckdb, gate, huggingface_hub.hf_api, publishing, verify, yaml)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        sys.argv = ["sono-curate", *json.loads(line)]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        cli.main()
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
