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
}
_DISTANCES = {
    "none_region": "none, region",
    "none_shuffled": "none, shuffled",
    "region_shuffled": "region, shuffled",
    "among_regions": "among regions",
    "between_frames": "between frames",
}

ONE_MODEL = "one model seen with and without masks: not a gain over training without masks, nor one at a scanner"
"""What a difference from ``none`` is, and what it is not."""


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
        if key in result and not (key == "frames_without_regions" and result.get("frames") == "all")
    ]
    return f"{line}; left out: {', '.join(left_out)}" if left_out else line


def recognition(result: Mapping[str, Any]) -> Iterator[str]:
    """A table of accuracies by mask and of the leak, the differences between them, and what these are not."""
    columns = (("top1", "top-1", 7), ("top5", "top-5", 9), ("f1", "F1", 9))
    yield f"{'mask':<9}" + "".join(f"{title:>{width}}{'95 % interval':>18}" for _, title, width in columns)
    leak = result["leak"] or {}
    for mask, figures in {**result["masks"], **({"leak": leak} if "top1" in leak else {})}.items():
        cells = [f"{mask:<9}"]
        for name, _, width in columns:
            share = figures[name]
            cells.append(f"{share['value']:>{width}.1%}{share['low']:>10.1%} -{share['high']:>6.1%}")
        yield "".join(cells)
    for mask, reference in (("region", "none"), ("predicted", "none"), ("predicted", "region"), ("region", "leak")):
        if gain := result[f"minus_{reference}"].get(mask):
            yield f"{mask} - {reference}, in points: top-1 {_points(gain['top1'])}, top-5 {_points(gain['top5'])}"
    if result["minus_none"]:
        yield f"a difference from none is {ONE_MODEL}"
    yield from leak_lines(leak)


def leak_lines(leak: Mapping[str, Any]) -> Iterator[str]:
    """What the leak is, or why it was not measured; nothing if no mask was one of the dataset's regions."""
    if "not_measured" in leak:
        yield f"leak, the masks alone without an image: not measured, because {leak['not_measured']}"
    elif leak:
        fitted = leak["fitted_on"]
        yield (
            "leak: no image and no model, only the masks' area, place and second moments; logistic regression on "
            f"{fitted['n_frames']} frames of {fitted['n_patients']} patients of {fitted['split']}"
        )


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
                f"at {name.removeprefix('recall')} {_share(share)[:-1]}, chance {figures['chance'][name]:.1%})"
                for name, share in figures[mask].items()
            ]
            yield f"  mask {mask:<7}recall " + ", ".join(at_ranks)


def probe(result: Mapping[str, Any]) -> Iterator[str]:
    """What the validation split chose, and the accuracies."""
    yield f"C = {result['chosen']['C']:g}, chosen on the validation split"
    for name in ("mean_per_class", "accuracy", "f1"):
        yield _estimate(name, result[name])
    if result["mask"] == "region":
        yield "the masks alone may tell the plane: see the leak that evaluate --mask region measures"


def segmentation(result: Mapping[str, Any]) -> Iterator[str]:
    """What the validation split chose, and the overlaps."""
    yield f"after epoch {result['chosen']['epoch']}, chosen on the validation split"
    for name in ("dice", "iou"):
        yield _estimate(name, result[name])
    always, difference = result["always_the_average"]["dice"], result["minus_always_the_average"]["dice"]
    yield f"always the average mask of the train split: dice {_share(always)}"
    yield f"dice - always the average, in points: {_points(difference)}"


def ages(result: Mapping[str, Any]) -> Iterator[str]:
    """The error in days, and how many heads fit the estimated age."""
    error, within = result["mean_absolute_error_days"], result["within_95"]
    if error:
        yield (
            f"mean absolute error {error['value']:.1f} days ({error['low']:.1f} to {error['high']:.1f}) on "
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
            yield (
                f"{_DISTANCES[name]:<20} cosine distance {mean['value']:.3f} "
                f"({mean['low']:.3f} to {mean['high']:.3f}){relative}"
            )


def suite(result: Mapping[str, Any]) -> Iterator[str]:
    """The protocol, and its figures."""
    yield result["suite"]["about"]
    for name, figure in result["suite"]["figures"].items():
        yield _estimate(name, figure)
    if leak := result.get("leak"):
        if "top1" in leak:
            yield _estimate("leak.top1", leak["top1"])
        yield from leak_lines(leak)


def suites(protocols: Mapping[str, Suite]) -> Iterator[str]:
    """Every protocol with its command, data and classes."""
    for name, protocol in protocols.items():
        yield f"{name:<18}{protocol.about}"
        yield f"{'':<18}runs {protocol.command} on {protocol.split}; data: {protocol.data}"
        for label, planes in protocol.classes.items():
            yield f"{'':<20}{label}: {', '.join(planes)}"


def _estimate(name: str, figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return f"{name:<20} no frame could be compared"
    return f"{name:<20}{figure['value']:>8.1%}  ({figure['low']:.1%} to {figure['high']:.1%})"


def _share(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.1%} ({figure['low']:.1%} to {figure['high']:.1%})"


def _points(difference: Mapping[str, float]) -> str:
    value, low, high = (100 * difference[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
