"""``edgewright build-runtime``: the native engine for another platform, as one archive for an app to link.

``triples.py`` is the table of platforms, ``toolchain.py`` makes CMake use the compiler of the ziglang package,
``archive.py`` writes the same bytes for the same files.
"""
