"""Run the command line on ``python -m pixpro_d2.tools.visualize``."""

from .command_line import main

main()
