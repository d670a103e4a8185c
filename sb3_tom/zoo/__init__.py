"""
Everything that touches the RL Zoo (``rl_zoo3``). It is optional: nothing here imports it. Importing this package (``import
sb3_tom`` does) lets the zoo find the algorithms as soon as somebody imports it, see :mod:`_sb3_tom_zoo_hook`.
"""

try:
    from _sb3_tom_zoo_hook import install
except ImportError:  # a copy of the package's folder alone; python -m sb3_tom.train works all the same
    pass
else:
    install()
