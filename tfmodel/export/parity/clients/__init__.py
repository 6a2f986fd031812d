"""Scripts that ask an exported file in its own runtime, each in a process of its own.

They are run by path and import nothing of tfmodel: the runtime may be in another interpreter, and
what a process takes must be the runtime's and the file's alone.
"""
