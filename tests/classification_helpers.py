"""Small classifiers, images that any features tell apart, and what one of several processes makes of them."""

import torch
from data_helpers import make_cfg
from detectron2.data.samplers import InferenceSampler
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model

from pixpro_d2.evaluation.classification import ClassificationEvaluator

COLORS = torch.tensor([[220, 40, 40], [40, 220, 40], [40, 40, 220], [130, 130, 130]])


def classifier_cfg(architecture, *train, **keys):
    """Config of a ResNet-18 classifier of four classes on the CPU."""
    defaults = {
        "MODEL__META_ARCHITECTURE": architecture,
        "MODEL__DEVICE": "cpu",
        "MODEL__BACKBONE__NAME": "build_resnet_backbone",
        "MODEL__BACKBONE__FREEZE_AT": 0,
        "MODEL__RESNETS__DEPTH": 18,
        "MODEL__RESNETS__RES2_OUT_CHANNELS": 64,
        "MODEL__RESNETS__OUT_FEATURES": ["res5"],
        "MODEL__RESNETS__NORM": "BN",
        "MODEL__CLASSIFIER__NUM_CLASSES": 4,
        "MODEL__CLASSIFIER__NEIGHBORS": [1, 3],
        "INPUT__CLASSIFICATION__CROP_SIZE": 32,
        "INPUT__CLASSIFICATION__RESIZE": 40,
    }
    return make_cfg(*train, **{**defaults, **keys})


def build(architecture, **keys):
    """The model of :func:`classifier_cfg`, with the same random weights each time."""
    torch.manual_seed(0)
    return build_model(classifier_cfg(architecture, **keys))


def colored_images(count, seed=0, size=32):
    """``count`` samples as a mapper gives them; the category, 0 to 3 in turn, is the colour below the noise."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for i in range(count):
        noise = torch.randint(-30, 31, (3, size, size), generator=generator)
        image = (COLORS[i % 4].view(3, 1, 1) + noise).to(torch.uint8)
        samples.append({"image": image, "category_id": i % 4, "image_id": i})
    return samples


def share(samples, batch_size=1):
    """Batches of this process's share of ``samples``, as detectron2's test loader hands them out."""
    mine = [samples[i] for i in InferenceSampler(len(samples))]
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]


def evaluate_knn(bank, queries):
    """The memory of a kNN classifier that the processes share, and its results."""
    model = build("KNNClassifier")
    model.fit(share(bank, batch_size=2))
    results = inference_on_dataset(model, share(queries), ClassificationEvaluator())
    return {"bank": model.bank, "labels": model.labels, "results": dict(results)}
