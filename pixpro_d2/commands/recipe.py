"""Which recipe suits the data and the machine, and how long and large the run is."""

from .machine import Machine

SMALL, LARGE, VIDEO = "pretrain/quickstart", "pretrain/pixpro_fpn", "pretrain/pixpro_video_quickstart"
FEW = 10_000  # images, below which the recipe for ImageNet would be too short to leave its random start
CPU_BATCH, CPU_ITERATIONS = 16, 5000  # an hour or two on two cores
LEAST = {"cpu": 500, "cuda": 2000}  # iterations: PixPro gained nothing from shorter runs (docs/choosing.md)
GIB_FIXED, GIB_PER_IMAGE = 4.0, 0.145  # of the recipe for ImageNet, estimated in docs/choosing.md
USABLE = 0.85  # share of a GPU's memory


def choose_recipe(images: int, is_video: bool, machine: Machine) -> tuple[str, str]:
    """Return the name of a config, and why it is this one."""
    if is_video:
        return VIDEO, "the data are videos"
    if machine.device == "cpu":
        return SMALL, "there is no GPU to use"
    if images < FEW:
        return SMALL, f"{images} images are few"
    return LARGE, f"there are {images} images and a GPU"


def choose_batch(wanted: int, images: int, crop_size: int, machine: Machine) -> int:
    """Return the images of a batch: what the config wants, as far as memory and data allow.

    Args:
        wanted: SOLVER.IMS_PER_BATCH of the config.
        images: of the data set.
        crop_size: side of a view in pixels; memory is taken to grow with its square.
        machine: to train on.

    Returns:
        A power of two for each process, unless it is what the config wants.
    """
    if machine.device == "cpu":
        fits = max(1, CPU_BATCH // machine.processes)
    else:
        fits = int((USABLE * machine.memory - GIB_FIXED) / (GIB_PER_IMAGE * (crop_size / 224) ** 2))
    limit = min(fits * machine.processes, images)
    if wanted <= limit and wanted % machine.processes == 0:
        return wanted
    each = max(1, min(wanted, limit) // machine.processes)
    return machine.processes * 2 ** (each.bit_length() - 1)


def choose_iterations(epochs: int, images: int, batch: int, device: str) -> int:
    """Return the iterations of so many epochs, but enough to learn something, and on a CPU not too many."""
    wanted = max(epochs * (images // batch), LEAST[device])
    return min(wanted, CPU_ITERATIONS) if device == "cpu" else wanted


def choose_workers(wanted: int, machine: Machine) -> int:
    """Return the worker processes of a data loader: at most what the config wants, or the cores of a process."""
    return max(1, min(wanted, machine.cores // machine.processes - (machine.device == "cpu")))
