"""The commands of ``rnnfast``, one module each: ``add_to(commands)`` adds its options, ``run(args)`` executes it.

The modules import heavy dependencies inside ``run``, so that ``rnnfast --help`` is fast.
"""
