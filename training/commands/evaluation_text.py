"""Results of measurements as lines to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sono.training.evaluation.suites import Suite

_LEFT_OUT = {
    "frames_without_plane": "without a plane",
    "frames_without_caption": "without a caption",
    "frames_without_regions": "without regions",
    "frames_without_predicted": "without predicted masks",
    "frames_left_out": "that cannot be compared",
    "regions_vanished": "regions of which no pixel is left",
}
_DISTANCES = {
    "none_region": "none, region",
    "none_shuffled": "none, shuffled",
    "region_shuffled": "region, shuffled",
    "among_regions": "among regions",
    "between_frames": "between frames",
}


def subject(result: Mapping[str, Any]) -> str:
    """Which checkpoint was scored, on which split, with how many frames."""
    checkpoint = result["checkpoint"]
    line = (
        f"{checkpoint['file']} (sha256 {checkpoint['sha256'][:12]}) on {result['split']}: {result['n_frames']} frames "
        f"of {result['n_patients']} patients"
    )
    if "planes_present" in result:
        line += f", {result['planes_present']} of {result['planes']} planes"
    left_out = [
        f"{result[key]} {reason}"
        for key, reason in _LEFT_OUT.items()
        if key in result
        and not (key == "frames_without_regions" and result.get("frames") == "all")
        and not (key == "regions_vanished" and not result[key])
    ]
    return f"{line}; left out: {', '.join(left_out)}" if left_out else line


def notes(result: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know before the figures."""
    for text in result["notes"].values():
        yield f"note: {text}"


def recognition(result: Mapping[str, Any]) -> Iterator[str]:
    """A table of accuracies by mask, and the differences between masks."""
    has_top5 = all(figures["top5"] for figures in result["masks"].values())
    columns = [("top1", "top-1", 7), *([("top5", "top-5", 9)] if has_top5 else []), ("f1", "F1", 9)]
    yield f"{'mask':<9}" + "".join(f"{title:>{width}}{'95 % interval':>18}" for _, title, width in columns)
    for mask, figures in result["masks"].items():
        cells = [f"{mask:<9}"]
        for name, _, width in columns:
            share = figures[name]
            cells.append(f"{share['value']:>{width}.1%}{_range_cell(share):>18}")
        yield "".join(cells)
    for mask, reference in (("region", "none"), ("predicted", "none"), ("predicted", "region")):
        if gain := result[f"minus_{reference}"].get(mask):
            line = f"{mask} - {reference}, in points: top-1 {_points(gain['top1'])}"
            if gain["top5"]:
                line += f", top-5 {_points(gain['top5'])}"
            yield line + (" on one plane only: see the note" if "one_plane" in result["notes"] else "")


def recalls(result: Mapping[str, Any]) -> Iterator[str]:
    """Recall at each rank, by images and by regions."""
    for kind, masks in (("image_to_text", ("none",)), ("region_to_text", ("region", "none"))):
        figures = result[kind]
        if figures is None:
            yield f"{kind}: no region has a caption"
            continue
        yield f"{kind}: {figures['n_queries']} queries, {figures['n_captions']} distinct captions"
        for mask in masks:
            at_ranks = [
                f"at {name.removeprefix('recall')} always, with so few captions"
                if share is None
                else f"at {name.removeprefix('recall')} {_share(share)}, chance {figures['chance'][name]:.1%}"
                for name, share in figures[mask].items()
            ]
            yield f"  mask {mask:<7}recall " + ", ".join(at_ranks)


def probe(result: Mapping[str, Any]) -> Iterator[str]:
    """What the validation split chose, and the accuracies."""
    yield f"C = {result['chosen']['C']:g}, chosen on the validation split"
    for name in ("mean_per_class", "accuracy", "f1"):
        yield _estimate(name, result[name])


def segmentation(result: Mapping[str, Any]) -> Iterator[str]:
    """What the validation split chose, and the overlaps."""
    yield f"after epoch {result['chosen']['epoch']}, chosen on the validation split"
    if result["masks_not_scored"]:
        yield f"{result['masks_not_scored']} masks without a pixel are not scored; {result['n_masks']} are"
    if result["masks_not_trained_on"]:
        yield f"{result['masks_not_trained_on']} masks of which no pixel is left were not trained on"
    for name in ("dice", "iou"):
        yield _estimate(name, result[name])


def ages(result: Mapping[str, Any]) -> Iterator[str]:
    """The error in days, and how many heads fit the estimated age."""
    error, within = result["mean_absolute_error_days"], result["within_95"]
    if error:
        yield (
            f"mean absolute error {error['value']:.1f} days {_between(error, '{:.1f}')} on "
            f"{error['n_frames']} frames; always the median: {error['always_the_median']:.1f}"
        )
    if within:
        yield (
            f"head circumference within the 95 % interval of the age: {_share(within)} of {within['n_frames']} frames; "
            f"always the middle age: {within['always_the_middle']:.1%}"
        )


def distances(result: Mapping[str, Any]) -> Iterator[str]:
    """How far features are apart, seen through different masks."""
    for name, summary in result["distances"].items():
        if summary["n_frames"]:
            mean, ratio = summary["mean"], result["ratio"].get(name)
            relative = f", {ratio:.2f} times that between frames" if ratio is not None else ""
            yield (f"{_DISTANCES[name]:<20} cosine distance {mean['value']:.3f} {_between(mean, '{:.3f}')}{relative}")


def suite(result: Mapping[str, Any]) -> Iterator[str]:
    """The protocol, and its figures."""
    yield result["suite"]["about"]
    for name, figure in result["suite"]["figures"].items():
        is_top5 = name.endswith("top5") and figure is None
        yield f"{name:<20} none: see the note" if is_top5 else _estimate(name, figure)


def suites(protocols: Mapping[str, Suite]) -> Iterator[str]:
    """Every protocol with its command, data and classes."""
    for name, protocol in protocols.items():
        yield f"{name:<18}{protocol.about}"
        yield f"{'':<18}runs {protocol.command} on {protocol.split}; data: {protocol.data}"
        for label, planes in protocol.classes.items():
            yield f"{'':<20}{label}: {', '.join(planes)}"


def _estimate(name: str, figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return f"{name:<20} no frame could be compared"
    return f"{name:<20}{figure['value']:>8.1%}  {_between(figure)}"


def _share(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.1%} {_between(figure)}"


def _points(difference: Mapping[str, Any]) -> str:
    points = {name: None if value is None else 100 * value for name, value in difference.items()}
    return f"{points['value']:+.1f} {_between(points, '{:+.1f}')}"


def _between(figure: Mapping[str, Any], number: str = "{:.1%}") -> str:
    """The interval in brackets."""
    if figure["low"] is None:
        return "(no interval: fewer than two patients per plane)"
    return f"({number.format(figure['low'])} to {number.format(figure['high'])})"


def _range_cell(share: Mapping[str, Any]) -> str:
    return "none" if share["low"] is None else f"{share['low']:.1%} -{share['high']:>6.1%}"
