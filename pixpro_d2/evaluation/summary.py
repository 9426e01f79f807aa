"""Say the results of an evaluation in one line for each task."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detectron2.data import MetadataCatalog


def describe_results(results: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Yield a line such as ``Result on voc_2007_test: bbox AP 55.12, AP50 81.30 (VOC's metric of 2007)`` for each task.

    Args:
        results: as detectron2's trainer returns them: metrics by task, and by data set if there are several.
        names: of the data sets, in the order of the results.

    The lines skip the metrics of single classes, and metrics without a value.
    """
    for name, tasks in [(names[0], results)] if len(names) == 1 else list(results.items()):
        metadata = MetadataCatalog.get(name)
        is_voc = metadata.get("evaluator_type", None) == "pascal_voc"
        metric = f" (VOC's metric of {metadata.year})" if is_voc else ""
        for task, metrics in tasks.items():
            values = [f"{key} {value:.2f}" for key, value in metrics.items() if "-" not in key and math.isfinite(value)]
            yield f"Result on {name}: {task} {', '.join(values) or 'has no value'}{metric}"
