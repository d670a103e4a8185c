"""Road-and-Rocks: a correct Gymnasium environment whose actions do what is meant on the road only."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.utils.env_checker import check_env as check_gymnasium
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_sb3

import sb3_tom  # noqa: F401  # registers the environment
from sb3_tom.envs.road_and_rocks import GOAL, GOAL_REWARD, ROCK_PENALTY, START, STEP, arrived, on_road, step_reward

ID = "sb3_tom/RoadAndRocks-v0"
ROAD_PLACES = [(-0.8, 0.0), (0.0, -0.1), (0.5, 0.1), (-0.9, 0.1)]
ROCK_PLACES = [(0.0, 0.5), (-0.7, 0.7), (-0.3, 0.9), (0.3, -0.3)]


def make(**kwargs: object) -> gym.Env:
    return gym.make(ID, **kwargs)


def test_checkers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_sb3(make().unwrapped)
        check_gymnasium(make(render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("place", ROAD_PLACES)
def test_the_road_obeys(place: tuple[float, float]) -> None:
    env = make(noise=0.0)
    env.reset(options={"position": place})
    action = np.array([0.5, -0.3], dtype=np.float32)
    observation, _, _, _, info = env.step(action)
    np.testing.assert_allclose(observation - place, STEP * action, atol=1e-6)
    assert info["on_road"]


def test_the_rocks_turn_every_action_differently() -> None:
    """Angles and lengths of the displacements by one action, against the map's table."""
    env = make(noise=0.0)
    turns = []
    for place in ROCK_PLACES:
        env.reset(options={"position": place})
        observation, *_ = env.step(np.array([0.5, 0.0], dtype=np.float32))
        moved = (observation - place).astype(float)
        column, row = (int((coordinate + 1) * 5) for coordinate in place)
        turns.append(np.arctan2(moved[1], moved[0]) % (2 * np.pi))
        assert turns[-1] == pytest.approx(env.unwrapped.angles[column, row], abs=1e-4)
        assert np.linalg.norm(moved) == pytest.approx(0.5 * STEP * env.unwrapped.factors[column, row], rel=1e-4)
    assert len({round(turn, 2) for turn in turns}) == len(ROCK_PLACES)


def test_an_episode_ends_at_the_goal_and_at_a_hundred_steps() -> None:
    env = make(noise=0.0)
    env.reset(options={"position": (0.6, 0.0)})
    _, reward, terminated, truncated, info = env.step(np.array([1.0, 0.0], dtype=np.float32))
    assert terminated and info["is_success"] and not truncated
    assert reward == pytest.approx(1.0 + GOAL_REWARD, abs=1e-6)
    env.reset()
    ends = [env.step(np.zeros(2, dtype=np.float32))[2:4] for _ in range(100)]
    assert ends == [(False, False)] * 99 + [(False, True)]


def test_reward_is_progress_less_a_penalty_on_the_rocks() -> None:
    before, after = np.array([0.0, 0.1]), np.array([0.1, 0.1])
    progress = (np.hypot(0.8, 0.1) - np.hypot(0.7, 0.1)) / STEP
    assert step_reward(before, after) == pytest.approx(progress)
    rocks = np.array([0.1, 0.2])
    progress = (np.hypot(0.8, 0.1) - np.hypot(0.7, 0.2)) / STEP
    assert step_reward(before, rocks) == pytest.approx(progress - ROCK_PENALTY)


@given(st.lists(st.tuples(*[st.floats(-1, 1, width=32)] * 4), min_size=1, max_size=5))
def test_geometry_is_the_same_for_tensors(rows: list[tuple[float, ...]]) -> None:
    """A user hands these functions to the agent, which calls them with tensors."""
    array = np.array(rows)
    tensor = th.from_numpy(array)
    np.testing.assert_array_equal(on_road(tensor[:, :2]).numpy(), on_road(array[:, :2]))
    np.testing.assert_array_equal(arrived(tensor[:, :2]).numpy(), arrived(array[:, :2]))
    np.testing.assert_allclose(step_reward(tensor[:, :2], tensor[:, 2:]).numpy(), step_reward(array[:, :2], array[:, 2:]))


def test_maps_are_fixed_and_episodes_seeded() -> None:
    one, two, other = make(), make(), make(map_seed=1)
    np.testing.assert_array_equal(one.unwrapped.angles, two.unwrapped.angles)
    assert not np.array_equal(one.unwrapped.angles, other.unwrapped.angles)
    runs = []
    for env in (one, two):
        env.reset(seed=3)
        runs.append([env.step(np.array([0.7, 0.1], dtype=np.float32))[0] for _ in range(20)])
    np.testing.assert_array_equal(*runs)


def test_picture() -> None:
    env = make(render_mode="rgb_array")
    env.reset(options={"position": (0.0, -0.1)})
    picture = env.render()
    assert picture.shape == (300, 300, 3) and picture.dtype == np.uint8

    def pixel(place: tuple[float, float]) -> tuple[int, ...]:
        column, row = int((place[0] + 1) * 150), int((1 - place[1]) * 150)
        return tuple(picture[row, column].tolist())

    assert pixel((0.0, -0.1)) == (30, 60, 220), "the car, with the south at the bottom"
    assert pixel((0.0, 0.1)) == pixel((-0.5, 0.0)) == (120, 190, 110), "the road"
    assert pixel(GOAL) == (250, 220, 90)
    assert pixel(START) == (60, 60, 60)
    assert pixel((-0.7, 0.7)) not in [(120, 190, 110), (250, 220, 90)]
    assert len({pixel(place) for place in ROCK_PLACES[1:]}) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"noise": -1.0},
        {"n_cells": 0},
        {"map_seed": 0.5},
        {"deflection": (0.0, "a")},
        {"deflection": (3.0, 1.0)},
        {"render_mode": "human"},
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object]) -> None:
    from sb3_tom.envs.road_and_rocks import RoadAndRocksEnv

    with pytest.raises(ValueError, match=next(iter(arguments))):
        RoadAndRocksEnv(**arguments)
