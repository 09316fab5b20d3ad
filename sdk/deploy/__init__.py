"""``edgewright deploy``: a bundle with all that a board needs to run it, in a folder or on the board.

``board/`` is what is copied, ``remote/`` what is only executed there over ssh.  Nothing of it
needs Edgewright on the board: Python 3.6, a POSIX shell, the engine and numpy are enough.
"""
