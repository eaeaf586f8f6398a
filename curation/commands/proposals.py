"""The commands ``masks propose`` and ``masks carry``: masks for a person to decide on."""

from __future__ import annotations

import enum
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sono.curation.masks.backends.registry import BACKENDS
from sono.manifests import console

from .options import (
    JsonOption,
    WorkersOption,
    WorkspaceArgument,
    check_and_show,
    print_exclusions,
    work_text,
    writing_to,
)

if TYPE_CHECKING:
    from sono.curation.masks.propose.run import ProposeReport

BackendName = enum.StrEnum("BackendName", list(BACKENDS))  # type: ignore[misc]
_WITHOUT_WEIGHTS = BackendName("grabcut")
_SHOWN_UNKNOWN = 5  # structures whose places are unknown

_CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The model's weights; of onnx, its encoder; of model, also the folder of masks fit."
    ),
]
_DecoderOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Of onnx, its decoder.")]
_PreprocessingOption = Annotated[
    str, typer.Option(metavar="NAME", help="sam, medsam or litemedsam: the files of all three look the same.")
]


def propose(
    workspace: WorkspaceArgument,
    backend: Annotated[
        BackendName, typer.Option(help=" ".join(f"{name}: {kind.runs}." for name, kind in BACKENDS.items()))
    ] = _WITHOUT_WEIGHTS,
    checkpoint: _CheckpointOption = None,
    decoder: _DecoderOption = None,
    preprocessing: _PreprocessingOption = "sam",
    structure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Propose only this structure; may be repeated. Other proposals stay."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Try it on N frames that have no proposals yet.")
    ] = None,
    cache_gb: Annotated[
        float, typer.Option(metavar="GB", min=0, help="What embeddings may take on disk; 0 for none.")
    ] = 20.0,
    workers: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Worker processes; 0 means one per processor, but one for networks."),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Propose masks for the structures of frames that have no accepted mask, and write a page that shows them.

    They are not part of any caption or dataset until somebody accepts them.

    Example: sono-curate masks propose archive --backend sam --checkpoint sam_vit_b_01ec64.pth --structure head
    """
    from sono.curation.masks.backends.registry import BackendChoice
    from sono.curation.masks.propose.run import propose_masks

    choice = BackendChoice(backend.value, checkpoint, decoder, preprocessing)
    processes = workers or (1 if choice.uses_all_processors else 0)
    with writing_to(workspace, processes, show_progress=not as_json) as (opened, engine, progress):
        report = propose_masks(
            opened,
            choice,
            structures=structure or (),
            limit=limit,
            cache_gb=cache_gb,
            engine=engine,
            progress=progress,
        )
        _, page = check_and_show(opened, engine, progress)
    if as_json:
        console.print_json({**asdict(report), "report": str(page)})
        return
    print(f"{report.run.rows:,} proposed regions. {work_text(report.run)}")
    print_exclusions(report.run.exclusions)
    print(f"{report.embedded:,} frames embedded, {report.cache_hits:,} taken from the cache.")
    _print_left_alone(report)
    print(f"Look at {page}")


def _print_left_alone(report: ProposeReport) -> None:
    """One line for everything for which nothing was proposed on purpose."""
    if report.decided:
        print(f"  left alone {report.decided:,} structures whose masks somebody has decided on")
    if report.without_plane:
        print(f"  left out {report.without_plane:,} frames without a plane: nobody knows what they show")
    unknown = list(report.unknown_places.items())
    for name, count in unknown[:_SHOWN_UNKNOWN]:
        print(f"  not proposed in {count:,} frames: {name}, whose place is unknown")
    if len(unknown) > _SHOWN_UNKNOWN:
        more = sum(count for _, count in unknown[_SHOWN_UNKNOWN:])
        print(f"  not proposed in {more:,} frames: {len(unknown) - _SHOWN_UNKNOWN} other structures")
    if unknown:
        from sono.curation.masks.propose.places import FEWEST_MASKS, FEWEST_PATIENTS

        print(f"Places are learned once {FEWEST_MASKS} masks of {FEWEST_PATIENTS} patients are accepted for a plane.")


def carry(
    workspace: WorkspaceArgument,
    structures: Annotated[
        list[str] | None,
        typer.Option(
            "--structure",
            metavar="NAME",
            help="Structure to carry, as named in planes.toml; may be repeated. If omitted, all of them.",
        ),
    ] = None,
    backend: Annotated[
        BackendName | None, typer.Option(help="Correct the carried masks by one of the backends of masks propose.")
    ] = None,
    checkpoint: _CheckpointOption = None,
    decoder: _DecoderOption = None,
    preprocessing: _PreprocessingOption = "sam",
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Carry accepted masks to the other frames of their cines, as proposals, by optical flow.

    A mask goes on for as long as it would return to itself; what a person decided upon stays as it is.

    Example: sono-curate masks carry archive
    """
    from sono.curation.masks.backends.registry import BackendChoice
    from sono.curation.masks.carry.run import carry_masks

    choice = BackendChoice(backend.value, checkpoint, decoder, preprocessing) if backend else None
    processes = workers or (1 if choice and choice.uses_all_processors else 0)
    with writing_to(workspace, processes, show_progress=not as_json) as (opened, engine, progress):
        report = carry_masks(opened, structures=structures or None, backend=choice, engine=engine, progress=progress)
        _, page = check_and_show(opened, engine, progress)
    if as_json:
        console.print_json({"run": asdict(report), "report": str(page)})
        return
    print(f"{report.rows:,} regions. {work_text(report)}")
    print_exclusions(report.exclusions)
    print(f"Look at {page}")
