"""Options that make a downstream config small and name rendered data for it: ((train, test), KEY, VALUE, ...)."""

SMALL = [
    "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2,
    "SOLVER.BASE_LR", 0.001, "SOLVER.MAX_EPOCHS", 0, "SOLVER.WARMUP_EPOCHS", 0, "SOLVER.WARMUP_ITERS", 0,
    "SOLVER.STEPS", "()",
    "INPUT.MIN_SIZE_TRAIN", "(64, 64)", "INPUT.MIN_SIZE_TEST", 64, "TEST.PRECISE_BN.NUM_ITER", 2, "SEED", 1,
]  # fmt: skip
# Every proposal counts as a detection, so that the few iterations give numbers to compare.
RCNN = [
    "MODEL.RPN.POST_NMS_TOPK_TRAIN",
    20,
    "MODEL.RPN.POST_NMS_TOPK_TEST",
    20,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    0.0,
]
RETINANET = ["MODEL.RETINANET.SCORE_THRESH_TEST", 0.0]
FCOS = ["MODEL.FCOS.NUM_CLASSES", 5, "MODEL.FCOS.SCORE_THRESH_TEST", 0.0]
VOC = [("voc:{}@train", "voc:{}@test"), "MODEL.ROI_HEADS.NUM_CLASSES", 5, *RCNN]
COCO = [("coco:{0}/annotations/train.json@{0}/JPEGImages", "coco:{0}/annotations/test.json@{0}/JPEGImages")]
COCO += ["INPUT.MASK_FORMAT", "bitmask"]  # rendered masks are run-length encoded
CROP = ["INPUT.CROP.SIZE", "[64, 64]"]
CITYSCAPES = [("cityscapes:{}@train", "cityscapes:{}@val"), *CROP]
VOC_SEG = [("voc_seg:{}@train", "voc_seg:{}@test"), *CROP, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 6]
PNG = [("semseg:{0}/JPEGImages@{0}/SegmentationClass",) * 2, *CROP, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 6]
CLASSES = [
    ("classes:{}/train", "classes:{}/test"),
    "MODEL.CLASSIFIER.NUM_CLASSES",
    5,
    "INPUT.CLASSIFICATION.RESIZE",
    64,
]
CLASSES += ["INPUT.CLASSIFICATION.CROP_SIZE", 64]


def options(scenes, names, *opts):
    train, test = (name.format(scenes) for name in names)
    return ["DATASETS.TRAIN", f"('{train}',)", "DATASETS.TEST", f"('{test}',)", *SMALL, *opts]
