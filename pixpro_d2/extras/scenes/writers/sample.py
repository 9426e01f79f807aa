"""Define the rendered scene that the writers take."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..scene import Scene, SceneObject, render_scene


@dataclass(frozen=True)
class Sample:
    """Hold a rendered scene; ``masks[i]`` shows ``scene.objects[i]``, and no mask is empty."""

    number: int  # number of the image in the data set, from 0; its file name
    scene: Scene
    image: np.ndarray  # uint8 (height, width, 3), RGB
    masks: np.ndarray  # bool (objects, height, width)

    @property
    def stem(self) -> str:
        """Return the name of the sample's files, without the suffix."""
        return f"{self.number:06d}"


def silhouette(sample: Sample, obj: SceneObject) -> np.ndarray:
    """Return the mask, bool (height, width), of an object of a sample as if no other object hid it."""
    return render_scene(replace(sample.scene, objects=(obj,), clutter=False))[1][0]


def write_jpeg(root: Path, sample: Sample) -> None:
    """Write the image to ``JPEGImages`` unless another layout has written it."""
    path = root / "JPEGImages" / f"{sample.stem}.jpg"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(sample.image).save(path, quality=95)
