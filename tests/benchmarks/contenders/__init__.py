"""The contenders: one file and one class each, named in ``bench/environments.py``.

A contender runs in a process of its own with an interpreter of its own, so its file imports the standard library,
``bench.measure`` and the one library that it stands for.
"""
