"""The one exception that means: what the user gave cannot be used, and this line says why and what to do."""


class InputError(ValueError):
    """A file, a key or a value that cannot be used. All programs print it and exit with code 2."""
