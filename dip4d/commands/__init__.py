"""The commands of ``python -m dip4d``: each module has a `main(arguments) -> int`."""
