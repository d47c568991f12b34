"""The commands of `python -m dip4d`, a module each: SUMMARY, `add_arguments(parser)` and `run(arguments)`."""
