"""Choose the recipe, batch size, length, processes and workers of a run by data and machine."""

from .machine import Machine

QUICK, SMALL = "pretrain/quickstart", "pretrain/small_data_r18_fpn"
LARGE, VIDEO = "pretrain/pixpro_fpn", "pretrain/pixpro_video_quickstart"
VIDEO_EPOCHS = 20  # as QUICK has
FEW_IMAGES = 2_000  # with fewer images, the recipe for small data would see each of them more than 160 times
MANY_IMAGES = 100_000  # with fewer images, the recipe for ImageNet is too short to leave its random start
CPU_BATCH, CPU_CROP_SIZE, CPU_ITERATIONS = 16, 96, 5000  # an hour or two on two cores
LEAST_ITERATIONS = {"cpu": 500, "cuda": 2000}  # shorter runs gained nothing (docs/choosing.md)
GIB_FIXED, GIB_PER_IMAGE = 4.0, 0.145  # of the recipe for ImageNet, estimated in docs/choosing.md
USABLE_MEMORY = 0.85  # share of a GPU's memory
MOST_WORKERS = 16  # of a process


def choose_recipe(images: int, is_video: bool, machine: Machine) -> tuple[str, str]:
    """Return the name of a config, and the reason for it."""
    if is_video:
        return VIDEO, "the data are videos"
    if images < FEW_IMAGES:
        return QUICK, f"{images} images are few"
    if machine.device == "cpu":
        return SMALL, f"there are {images} images and no GPU"
    if images < MANY_IMAGES:
        return SMALL, f"{images} images are few for the recipe for ImageNet"
    return LARGE, f"there are {images} images and a GPU"


def choose_batch(wanted: int, images: int, crop_size: int, machine: Machine) -> int:
    """Return the batch size: the size in the config, or less if memory or data do not allow it.

    Args:
        wanted: SOLVER.IMS_PER_BATCH of the config.
        images: number of images of the data set.
        crop_size: side of a view in pixels; memory is assumed to grow with its square.
        machine: machine to train on.

    Returns:
        ``wanted``, or a smaller size with a power of two for each process.
    """
    if machine.device == "cpu":
        views = max(1.0, (CPU_CROP_SIZE / crop_size) ** 2)  # small views are quick
        fits = max(1, int(CPU_BATCH * views) // machine.processes)
    else:
        fits = int((USABLE_MEMORY * machine.memory - GIB_FIXED) / (GIB_PER_IMAGE * (crop_size / 224) ** 2))
    limit = min(fits * machine.processes, images)
    if wanted <= limit and wanted % machine.processes == 0:
        return wanted
    each = max(1, min(wanted, limit) // machine.processes)
    return machine.processes * 2 ** (each.bit_length() - 1)


def choose_iterations(epochs: int, images: int, batch: int, device: str) -> int:
    """Return the iterations of ``epochs``: at least ``LEAST_ITERATIONS``, on a CPU at most ``CPU_ITERATIONS``."""
    wanted = max(epochs * (images // batch), LEAST_ITERATIONS[device])
    return min(wanted, CPU_ITERATIONS) if device == "cpu" else wanted


def choose_processes(batch: int, available: int) -> int:
    """Return the largest number of processes, at most ``available``, that share a batch evenly."""
    return max(count for count in range(1, available + 1) if batch % count == 0)


def choose_workers(wanted: int, machine: Machine) -> int:
    """Return the number of workers of a data loader.

    Beside a GPU, the number is that of a process's cores, at most MOST_WORKERS. On the CPU, it is the number in the
    config, at most the cores that the computation leaves.
    """
    cores = machine.cores // machine.processes
    return max(1, min(MOST_WORKERS, cores) if machine.device == "cuda" else min(wanted, cores - 1))
