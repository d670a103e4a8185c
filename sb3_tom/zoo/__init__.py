"""
Integration with the RL Zoo (``rl_zoo3``), which is optional: this file does not import it. Importing this package (``import
sb3_tom`` does) registers the algorithms as soon as the zoo is imported, see :mod:`_sb3_tom_zoo_hook`.
"""

try:
    from _sb3_tom_zoo_hook import install
except ImportError:  # a copy of the package's folder alone; python -m sb3_tom.train works nevertheless
    pass
else:
    install()
