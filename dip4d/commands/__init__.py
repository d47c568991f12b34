"""What one can do at a command line, one file a command. Each imports what it needs only when it runs.

A command has SUMMARY, a line for the list of commands; add_arguments(parser) and run(arguments); and ARGUMENTS, what
its users write for an argument of the library that an `InputError` names. One whose arguments are keys of the
configuration has main(arguments) instead, which takes them as they are.
"""
