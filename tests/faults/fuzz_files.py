"""Files that are cut off or changed at random, taken through the readers that a run has for them."""

import copy
import io
import json
import pickle
import shutil

import numpy as np
import safetensors.torch
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from configs import tiny
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.initialize import initialize
from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.data.downstream.detection_mapper import DetectionMapper
from pixpro_d2.data.downstream.train_stream import StreamDataset
from pixpro_d2.data.io.reader import restrict_pillow
from pixpro_d2.data.pretrain.mapper import TwoViewMapper
from pixpro_d2.extras.scenes.render_dataset import render_dataset
from pixpro_d2.utils.errors import UsageError


def harm(content, rng):
    """Bytes that are cut off, changed in some places (often among the first, which say most), or both doubled."""
    content = bytearray(content)
    how = rng.integers(4)
    if how == 0:
        return bytes(content[: rng.integers(len(content))])
    for _ in range(rng.geometric(0.3)):
        place = rng.integers(min(len(content), 64 if how == 1 else len(content)))
        content[place] = rng.integers(256)
    if how == 3:
        start, end = sorted(rng.integers(len(content), size=2))
        content[start:end] = content[start:end] * 2
    return bytes(content)


class Images:
    """Images of several formats, through the mapper of pre-training."""

    def __init__(self, folder):
        restrict_pillow(10_000_000)
        self.path = folder / "image"
        self.mapper = TwoViewMapper(tiny("INPUT.PIXPRO.CROP_SIZE", 32))
        self.files = [self._encode(*form) for form in self._forms()]

    @staticmethod
    def _forms():
        rgb = Image.effect_noise((48, 40), 80).convert("RGB")
        turned = Image.Exif()
        turned[0x0112] = 6
        yield rgb, "JPEG", {}
        yield rgb, "JPEG", {"progressive": True, "exif": turned}
        yield rgb.convert("CMYK"), "JPEG", {}
        yield rgb, "PNG", {}
        yield rgb.quantize(16), "PNG", {"transparency": 0}
        yield Image.fromarray(np.arange(48 * 40, dtype=np.uint16).reshape(40, 48)), "PNG", {}
        yield rgb, "TIFF", {"compression": "tiff_lzw"}
        yield rgb, "TIFF", {"compression": "jpeg"}
        yield rgb, "TIFF", {}
        yield rgb.quantize(16), "GIF", {}
        for name in ("WEBP", "BMP", "PPM"):
            yield rgb, name, {}

    @staticmethod
    def _encode(image, name, options):
        buffer = io.BytesIO()
        image.save(buffer, name, **options)
        return buffer.getvalue()

    def try_one(self, rng):
        """Two views of a harmed image."""
        self.path.write_bytes(harm(self.files[rng.integers(len(self.files))], rng))
        self.mapper({"file_name": str(self.path)}, rng)


class Checkpoints:
    """A run's checkpoint, cut off, as what a run resumes from and as MODEL.WEIGHTS; and weights in other formats."""

    def __init__(self, folder):
        self.folder = folder
        self.model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
        self.model.backbone = torch.nn.Linear(16, 16)
        for iteration in range(2):
            self._checkpointer().save(f"model_{iteration:07d}", iteration=iteration)
        self.last = folder / "model_0000001.pth"
        self.whole = self.last.read_bytes()
        weights = self.model.state_dict()
        legacy = io.BytesIO()
        torch.save({"model": weights}, legacy, _use_new_zipfile_serialization=False)
        arrays = {name: value.numpy() for name, value in weights.items()}
        self.others = {
            "pth": legacy.getvalue(),
            "pkl": pickle.dumps({"model": arrays}),
            "safetensors": safetensors.torch.save(weights),
        }

    def _checkpointer(self):
        return PixProCheckpointer(self.model, str(self.folder))

    def try_one(self, rng):
        """Resume with the last checkpoint cut off; and load weights that are harmed in some way."""
        self.last.write_bytes(self.whole[: rng.integers(len(self.whole))])
        iteration = self._checkpointer().resume()["iteration"]
        assert iteration == 0, f"resumed after {iteration}"
        try:
            initialize(self.model, str(self.last))
            raise AssertionError("a file that is cut off was loaded")
        except UsageError:
            pass
        suffix = list(self.others)[rng.integers(len(self.others))]
        path = self.folder / f"weights.{suffix}"
        path.write_bytes(harm(self.others[suffix], rng))
        initialize(self.model, str(path))


class Annotations:
    """VOC XML or COCO JSON, as text and as values, through registration, loading and the mapper of a detector."""

    ODD = (None, "", "x", True, -1, 0, 10**6, 10**400, 0.5, 1e308, float("nan"), float("inf"), [], [0], [[]], {}, "1 1")

    def __init__(self, folder, layout):
        self.folder, self.layout = folder, layout
        render_dataset(folder / "scenes", train=2, test=0, size=48, layouts=(layout,))
        self.cfg = tiny("INPUT.MASK_FORMAT", "bitmask", config="voc/faster_rcnn_R_18_FPN_small.yaml")
        self.count = 0

    def try_one(self, rng):
        """A training sample of each image of a data set with a harmed annotation file."""
        self.count += 1
        root = shutil.copytree(self.folder / "scenes", self.folder / f"copy_{self.count}")
        name = self._harm_voc(root, rng) if self.layout == "voc" else self._harm_coco(root, rng)
        try:
            ensure_registered([name])
            dicts = DatasetCatalog.get(name)
            samples = StreamDataset(dicts, DetectionMapper(self.cfg, True), seed=0)
            for i in range(len(dicts)):
                samples[i, i]
        finally:
            if name in DatasetCatalog.list():
                DatasetCatalog.remove(name)
            if name in MetadataCatalog.list():
                MetadataCatalog.remove(name)
            shutil.rmtree(root)

    def _harm_voc(self, root, rng):
        path = root / "Annotations" / "000000.xml"
        if rng.random() < 0.5:
            path.write_bytes(harm(path.read_bytes(), rng))
        else:
            lines = path.read_text().splitlines()
            for _ in range(rng.geometric(0.6)):
                place = rng.integers(len(lines))
                before, _, rest = lines[place].partition(">")
                odd = str(self.ODD[rng.integers(len(self.ODD))]) if rng.random() < 0.9 else "<a>" * 20_000
                lines[place] = ["", lines[place] * 2, f"{before}>{odd}<{rest.partition('<')[2]}"][rng.integers(3)]
            path.write_text("\n".join(lines))
        return f"voc:{root}@train"

    def _harm_coco(self, root, rng):
        path = root / "annotations" / "train.json"
        if rng.random() < 0.3:
            path.write_bytes(harm(path.read_bytes(), rng))
        else:
            content = json.loads(path.read_text())
            for _ in range(rng.geometric(0.6)):
                self._harm_value(content, rng)
            path.write_text(json.dumps(content))
        return f"coco:{path}@{root / 'JPEGImages'}"

    def _harm_value(self, content, rng):
        """Remove, double or replace something at some depth of nested lists and dicts."""
        while True:
            keys = list(content) if isinstance(content, dict) else list(range(len(content)))
            if not keys:
                return
            key = keys[rng.integers(len(keys))]
            if not isinstance(content[key], (dict, list)) or rng.random() < 0.2:
                break
            content = content[key]
        how = rng.integers(4)
        if how == 0:
            del content[key]
        elif how == 1 and isinstance(content, list):
            content.append(copy.deepcopy(content[key]))
        else:
            content[key] = copy.deepcopy(self.ODD[rng.integers(len(self.ODD))])
