"""Makes ``python -m pixpro_d2.tools.visualize`` the command line."""

from .command_line import main

main()
