"""Labels at the grid of a feature, against loops and by hand."""

import numpy as np
from detectron2.structures import BoxMode
from PIL import Image

from pixpro_d2.evaluation.label_grids import box_classes, majority_grid, read_classes


def test_majority_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    classes = rng.choice([0, 1, 2, -1], size=(7, 10))
    classes[:3, :3] = -1
    found = majority_grid(classes, (3, 4))
    for row in range(3):
        for column in range(4):
            cell = [
                classes[y, x] for y in range(7) for x in range(10) if (y * 3 // 7, x * 4 // 10) == (row, column)
            ]  # fmt: skip
            votes = [cell.count(c) for c in range(3)]
            assert found[row, column] == (votes.index(max(votes)) if any(votes) else -1)
    assert found[0, 0] == -1 and (found != -1).any()


def box(category, *corners, **more):
    return {"category_id": category, "bbox": corners, "bbox_mode": BoxMode.XYXY_ABS, **more}


def test_small_boxes_cover_large_ones():
    found = box_classes([box(1, 1, 0, 2, 1), box(0, 0, 0, 3, 2), box(0, 3, 1, 9, 2, iscrowd=1)], (4, 2))
    assert found.tolist() == [[1, 2, 1, 0], [1, 1, 1, -1]]


def test_255_is_a_class_of_boxes():
    """LVIS and Objects365 have more than 255 classes."""
    classes = read_classes({"annotations": [box(254, 0, 0, 2, 1), box(300, 2, 0, 4, 1)]}, (4, 2))
    assert classes.tolist() == [[255, 255, 301, 301], [0, 0, 0, 0]]
    assert majority_grid(classes, (2, 2)).tolist() == [[255, 301], [0, 0]]
    assert majority_grid(classes[:1, :3], (1, 1)).tolist() == [[255]]  # of 255, 255 and 301


def test_255_in_a_label_map_is_no_class(tmp_path):
    Image.fromarray(np.array([[0, 255], [254, 255]], np.uint8)).save(tmp_path / "labels.png")
    classes = read_classes({"sem_seg_file_name": str(tmp_path / "labels.png")}, (2, 2))
    assert classes.tolist() == [[0, -1], [254, -1]]
