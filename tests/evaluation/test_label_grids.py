"""Labels at the grid of a feature, against loops and by hand."""

import numpy as np
from detectron2.structures import BoxMode

from pixpro_d2.evaluation.label_grids import box_classes, majority_grid


def test_majority_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    classes = rng.choice([0, 1, 2, 255], size=(7, 10))
    classes[:3, :3] = 255
    found = majority_grid(classes, (3, 4))
    for row in range(3):
        for column in range(4):
            cell = [
                classes[y, x] for y in range(7) for x in range(10) if (y * 3 // 7, x * 4 // 10) == (row, column)
            ]  # fmt: skip
            votes = [cell.count(c) for c in range(3)]
            assert found[row, column] == (votes.index(max(votes)) if any(votes) else 255)
    assert found[0, 0] == 255 and (found != 255).any()


def test_small_boxes_cover_large_ones():
    def box(category, *corners, **more):
        return {"category_id": category, "bbox": corners, "bbox_mode": BoxMode.XYXY_ABS, **more}

    found = box_classes([box(1, 1, 0, 2, 1), box(0, 0, 0, 3, 2), box(0, 3, 1, 9, 2, iscrowd=1)], (4, 2))
    assert found.tolist() == [[1, 2, 1, 0], [1, 1, 1, 255]]
