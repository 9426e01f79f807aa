"""Names of classes in the checkpoints of detectors."""

import pytest
import torch
from detectron2.modeling import build_model

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.initialize import initialize
from pixpro_d2.utils.errors import UsageError


def test_a_run_and_an_evaluation_keep_the_classes_of_the_training(tmp_path):
    detector = build_model(configs.tiny(config="voc/faster_rcnn_R_18_FPN_small.yaml"))
    PixProCheckpointer(detector, str(tmp_path), classes=["cat", "dog"]).save("model_final", iteration=3)
    path = str(tmp_path / "model_final.pth")

    def load(classes, resume=False, complete=True):
        if resume:
            return PixProCheckpointer(detector, str(tmp_path), classes=classes).resume()
        return initialize(detector, path, complete=complete, classes=classes)

    for classes in (["cat", "dog"], None):  # None: the data set has numbers alone
        load(classes)
        assert load(classes, resume=True)["iteration"] == 3
    for resume in (False, True):
        with pytest.raises(UsageError, match="^Class 1 is 'dog' in the training that wrote .*, but 'cow' in the data"):
            load(["cat", "cow"], resume)
        with pytest.raises(UsageError, match="^Class 2 is missing in the training .*, but 'cow' in the data sets of"):
            load(["cat", "dog", "cow"], resume)
    load(["cow", "hen"], complete=False)  # a fine-tuning begins with them
    torch.save({"model": detector.state_dict(), "classes": 7}, path)  # of other code
    load(["cat", "cow"])
