"""
Many runs on one machine or many: envs x algorithms x seeds x hyperparameters, ``python -m sb3_tom.sweep`` (docs/sweeps.md).

A run is a function of its :class:`~sb3_tom.sweep.spec.RunSpec` and of its folder (:mod:`sb3_tom.sweep.run`); what starts runs
where is an engine, today Ray (:mod:`sb3_tom.sweep.cluster`, the only module that imports it); what is done is read from the
files that runs leave, so that a sweep can be stopped and started again at any time (:mod:`sb3_tom.sweep.driver`).
"""
