"""The commands of ``rnnfast``, one module each: ``add_to(commands)`` names its options, ``run(args)`` does it.

A module imports what it needs to run inside ``run``: ``rnnfast --help`` should not wait for it.
"""
