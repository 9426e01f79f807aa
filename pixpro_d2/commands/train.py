"""``pixpro-d2 train``: the launcher with detectron2's arguments, which is ``train_net.py`` of the checkout."""

from collections.abc import Sequence

from .checks import check_config_file, check_detectron2


def main(argv: Sequence[str]) -> None:
    """Run the command line ``argv``.

    Raises:
        UsageError: for a config that does not exist.
    """
    check_config_file(argv)
    check_detectron2()
    from ..engine.main import run  # it loads PyTorch

    run(argv)
