"""Summarise a run in a few words and numbers."""

import math
from datetime import timedelta

from ...monitoring.curves import Curve, finite
from ...monitoring.health import assess, verdict
from .runs import Run

_METHODS = {"pixpro": "PixPro", "pixcontrast": "PixContrast", "densecl": "DenseCL", "slotcon": "SlotCon"}
_VARIANTS = {("pixpro", False): "PixPro without PPM", ("pixcontrast", True): "PixContrast with PPM"}
_TASKS = {
    "RetinaNet": "RetinaNet",
    "FCOSDetector": "FCOS",
    "SemanticSegmentor": "semantic segmentation",
    "PanopticFPN": "Panoptic FPN",
    "LinearClassifier": "linear classification",
    "KNNClassifier": "kNN classification",
}


def describe(run: Run) -> str:
    """Return in one sentence the method and the data of a run; "" without a config."""
    if not run.config:
        return ""
    data = ", ".join(map(_short, run.key("DATASETS.TRAIN", ()))) or "no data"
    if run.is_pretraining:
        return f"{_method(run)} of {_backbone(run)} on {data}."
    task = task_of(run)
    return f"{task[:1].upper()}{task[1:]} with {_backbone(run)} on {data}, from {start_of(run)}."


def start_of(run: Run) -> str:
    """Return the start of a downstream task in words."""
    return _short(run.key("MODEL.WEIGHTS") or "random weights")


def _short(name: str) -> str:
    """Return a path, or a data set named by one, with only the two last parts of the path."""
    scheme, colon, path = name.rpartition(":")
    parts = path.split("/")
    return name if len(parts) < 4 else f"{scheme}{colon}…/{'/'.join(parts[-2:])}"


def _method(run: Run) -> str:
    levels = run.key("MODEL.PIXPRO.IN_FEATURES")  # None if unknown
    instance = ""
    if run.key("MODEL.PIXPRO.INSTANCE.WEIGHT", 0) > 0:
        instance = f"instance loss ({run.key('MODEL.PIXPRO.INSTANCE.LOSS')})"
    if instance and levels == []:
        return f"Pre-training by the {instance} alone"
    method = run.key("MODEL.PIXPRO.METHOD", "pixpro")
    name = _VARIANTS.get((method, run.key("MODEL.PIXPRO.PPM.ENABLED"))) or _METHODS.get(method, method)
    frames = run.key("INPUT.PIXPRO.N_FRAMES", 0)
    video = f" across {frames} frames of video" if frames > 1 else ""
    at = f" at {', '.join(levels)}" if levels else ""
    return f"{name} pre-training{at}{video}{' and ' if instance else ''}{instance}"


def task_of(run: Run) -> str:
    """Return the downstream task of a run in words."""
    architecture = run.key("MODEL.META_ARCHITECTURE", "")
    if architecture == "GeneralizedRCNN":
        return "Mask R-CNN" if run.key("MODEL.MASK_ON") else "Faster R-CNN"
    return _TASKS.get(architecture, architecture)


def _backbone(run: Run) -> str:
    name = run.key("MODEL.BACKBONE.NAME", "")
    pyramid = " FPN" if "fpn" in name else ""
    if "resnet" in name:
        return f"ResNet-{run.key('MODEL.RESNETS.DEPTH')}{pyramid}"
    if "timm" in name:
        return f"{run.key('MODEL.TIMM.NAME')}{pyramid}"
    return f"RegNet{pyramid}" if "regnet" in name else name


def progress(run: Run) -> str:
    """Return the progress of a run in words."""
    length = run.key("SOLVER.MAX_ITER")
    of = f" of {length}" if length else ""
    return f"{run.iterations}{of} iterations, {'finished' if run.is_finished else 'not finished'}"


def spread_std(run: Run) -> float | None:
    """Return the standard deviation of well-spread projections, 1 / sqrt(C); None for a downstream task."""
    channels = run.key("MODEL.PIXPRO.PROJECTOR.OUT_DIM")
    return 1 / math.sqrt(channels) if channels and run.is_pretraining else None


def collapsed_share(run: Run) -> float:
    """Return the share of :func:`spread_std` below which features count as collapsed."""
    return run.key("MODEL.PIXPRO.COLLAPSE_STD", 0.1)


def health(run: Run) -> tuple[int | None, str, str]:
    """Return grade, verdict and reasons; see :func:`.health.verdict`."""
    grade, judged, reasons = verdict(assess(run.curves, spread_std(run), collapsed_share(run)))
    return grade, "Too short to judge" if grade is None and run.is_finished else judged, reasons


def facts(run: Run) -> list[tuple[str, str]]:
    """Return (name, text) of the most important numbers."""
    found = [("progress", progress(run))] if run.iterations else []
    times = step_times(run)
    if times:
        seconds = training_time(times)
        found.append(("training time", str(timedelta(seconds=round(seconds)))))
        speed = run.key("SOLVER.IMS_PER_BATCH", 0) * (times[-1][0] + 1) / seconds
        found += [("images/s", f"{speed:.3g}")] if speed else []
    if run.curves.get("skipped_steps"):
        found.append(("skipped steps", f"{run.curves['skipped_steps'][-1][1]:.0f}"))
    if run.curves.get("max_mem"):
        found.append(("GPU memory", f"{run.curves['max_mem'][-1][1] / 1024:.1f} GiB"))
    return found


def step_times(run: Run) -> Curve:
    """Return the seconds per iteration: means, or medians where an old run has no others."""
    times = dict(run.curves.get("time", [])) | dict(run.curves.get("step_time", []))
    return [(i, value) for i, value in finite(sorted(times.items())) if value > 0]


def training_time(times: Curve) -> float:
    """Return the total seconds of all iterations from the curve of seconds per iteration."""
    seconds, before = 0.0, -1
    for iteration, value in times:
        seconds, before = seconds + (iteration - before) * value, iteration
    return seconds
