"""The example that makes a plain SAC of an MBPO."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC

from examples import plain_sac as example
from tests.mbpo.small import small_agent


@pytest.mark.parametrize("kwargs", [{}, {"ent_coef": 0.1, "use_sde": True}], ids=["default", "fixed temperature, gSDE"])
def test_the_zip_is_sb3s_own_and_acts_and_learns_as_the_agent(
    kwargs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = small_agent(dynamics="linear", gamma=0.9, **kwargs).learn(60)
    agent.save(tmp_path / "mbpo.zip")
    with pytest.raises(KeyError):
        SAC.load(tmp_path / "mbpo.zip")
    monkeypatch.setattr(sys, "argv", ["plain_sac", str(tmp_path / "mbpo.zip"), str(tmp_path / "sac.zip")])
    example.main()
    sac = SAC.load(tmp_path / "sac.zip", gym.make("Pendulum-v1"))
    assert type(sac) is SAC and (sac.gamma, sac.ent_coef, sac.num_timesteps) == (0.9, agent.ent_coef, 60)
    observations = agent.observation_space.sample()[None].repeat(5, 0) * np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    assert np.array_equal(sac.predict(observations, deterministic=True)[0], agent.predict(observations, deterministic=True)[0])
    found = sac.get_parameters()
    th.testing.assert_close(found, {name: agent.get_parameters()[name] for name in found}, rtol=0.0, atol=0.0)
    if agent.log_ent_coef is not None:
        assert sac.log_ent_coef.item() == agent.log_ent_coef.item() != 0.0
    updates = sac._n_updates
    assert sac.learn(110, reset_num_timesteps=False)._n_updates > updates
