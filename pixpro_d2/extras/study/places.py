"""Name the folder where the commands of a study run."""

from pathlib import Path

from ...config_files import configs_folder

_CHECKOUT = Path(__file__).resolve().parents[3]
# The checkout, or the current folder if the package is installed without a checkout.
ROOT = _CHECKOUT if configs_folder().parent == _CHECKOUT else Path.cwd()
