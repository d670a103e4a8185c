"""
Many runs on one machine or many: envs x algorithms x seeds x hyperparameters, ``python -m sb3_tom.sweep`` (docs/sweeps.md).

A run is a function of its :class:`~sb3_tom.sweep.spec.RunSpec` and of its folder (:mod:`sb3_tom.sweep.run`). An engine starts
runs, today Ray (:mod:`sb3_tom.sweep.cluster`, the only module that imports it). Progress is read from the files of runs, so
that a sweep can be stopped and started again at any time (:mod:`sb3_tom.sweep.driver`).
"""
