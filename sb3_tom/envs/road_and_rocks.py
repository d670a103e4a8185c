"""Road-and-Rocks: a car on a map whose rocks turn and scale its actions (Ma et al. 2023, Sec. 5.1)."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_tom.checks.validation import check_integer, check_number

HALF_WIDTH = 0.15
"""Half width of the road, which runs from west to east through the middle of the map."""
START, GOAL = (-0.8, 0.0), (0.8, 0.0)
GOAL_RADIUS = 0.15
STEP = 0.1
"""Distance of an action of length 1 on the road; also the unit of the reward."""
ROCK_PENALTY, GOAL_REWARD = 1.0, 10.0
_PIXELS = 300


def on_road(positions: Any) -> Any:
    """
    Which positions are on the road.

    :param positions: ``[..., 2]``, an array or a tensor
    :return: bool ``[...]``
    """
    return abs(positions[..., 1]) <= HALF_WIDTH


def goal_distance(positions: Any) -> Any:
    """
    Distance to the goal.

    :param positions: ``[..., 2]``, an array or a tensor
    :return: ``[...]``, in a straight line
    """
    return ((positions[..., 0] - GOAL[0]) ** 2 + (positions[..., 1] - GOAL[1]) ** 2) ** 0.5


def arrived(positions: Any) -> Any:
    """
    Which positions are at the goal.

    :param positions: ``[..., 2]``, an array or a tensor
    :return: bool ``[...]``, True where an episode ends
    """
    return goal_distance(positions) <= GOAL_RADIUS


def step_reward(positions: Any, next_positions: Any) -> Any:
    """
    Progress towards the goal in steps, less a penalty on the rocks, plus a reward at the goal.

    :param positions: ``[..., 2]``, an array or a tensor
    :param next_positions: ``[..., 2]``
    :return: ``[...]``
    """
    progress = (goal_distance(positions) - goal_distance(next_positions)) / STEP
    on_rocks = 1.0 - 1.0 * on_road(next_positions)
    return progress - ROCK_PENALTY * on_rocks + GOAL_REWARD * arrived(next_positions)


class RoadAndRocksEnv(gym.Env[np.ndarray, np.ndarray]):
    """
    Drive from the start to the goal. The paper draws the map but gives no numbers: shape, sizes and reward are ours.

    - Observation: position ``[2]`` on the map [-1, 1]^2.
    - Action: ``[2]`` in [-1, 1], the displacement in units of 0.1.
    - On the road the car moves by the action, plus normal noise. On the rocks the displacement is turned by an angle and
      scaled by a factor of 0.5 to 1.5, both different in every cell of a grid and fixed for a ``map_seed``.
    - Reward: see :func:`step_reward`. An episode ends at the goal; it is truncated after 100 steps.
    - ``reset(options={"position": (x, y)})`` starts anywhere.

    :param deflection: least and greatest angle (radians) that the rocks turn a displacement by. The default sends the car
        backwards on average, so that a model of the whole map is wrong on the road; with (-pi, pi) the mean effect is none
    :param noise: standard deviation of the motion in units of 0.1
    :param n_cells: cells of the rocks per side
    :param map_seed: chooses the rocks
    :param render_mode: None or "rgb_array"
    :raises ValueError: naming the argument, what came and what is allowed
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # gymnasium's own annotation

    def __init__(
        self,
        deflection: tuple[float, float] = (np.pi / 2, 3 * np.pi / 2),
        noise: float = 0.1,
        n_cells: int = 10,
        map_seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r} is not allowed; allowed: None or 'rgb_array'")
        low = check_number("deflection[0]", deflection[0])
        high = check_number("deflection[1]", deflection[1], low)
        self.noise = check_number("noise", noise, 0.0)
        self.render_mode = render_mode
        shape = (check_integer("n_cells", n_cells, 1),) * 2
        rocks = np.random.default_rng(check_integer("map_seed", map_seed, 0))
        self.angles = rocks.uniform(low, high, shape)
        self.factors = rocks.uniform(0.5, 1.5, shape)
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._position = np.array(START)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Place the car near the start, or at ``options["position"]``."""
        super().reset(seed=seed)
        place = (options or {}).get("position")
        start = START + self.np_random.uniform(-0.05, 0.05, 2) if place is None else np.asarray(place, dtype=np.float64)
        self._position = np.clip(start, -1.0, 1.0)
        return self._observation(), {"on_road": bool(on_road(self._position))}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Drive; see the class."""
        before = self._position
        moved = self.motion(before, np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0))
        noise = self.np_random.normal(0.0, self.noise * STEP, 2) if self.noise else 0.0
        self._position = np.clip(before + moved + noise, -1.0, 1.0)
        ended = bool(arrived(self._position))
        reward = float(step_reward(before, self._position))
        return self._observation(), reward, ended, False, {"on_road": bool(on_road(self._position)), "is_success": ended}

    def motion(self, positions: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """
        Displacement without noise and without the map's border.

        :param positions: ``[..., 2]``
        :param actions: ``[..., 2]``
        :return: ``[..., 2]``
        """
        cells, smooth = self._cells(positions), on_road(positions)
        angle = np.where(smooth, 0.0, self.angles[cells])
        factor = np.where(smooth, 1.0, self.factors[cells])
        east, north = actions[..., 0], actions[..., 1]
        turned = (np.cos(angle) * east - np.sin(angle) * north, np.sin(angle) * east + np.cos(angle) * north)
        return STEP * np.stack(turned, axis=-1) * factor[..., None]

    def render(self) -> np.ndarray | None:
        """
        Picture of the map, north up: the road green, rocks from dark to bright by their angle, start, goal and car.

        :return: uint8 ``[300, 300, 3]``, or None without a ``render_mode``
        """
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: choose render_mode='rgb_array' in gym.make")
            return None
        axis = (np.arange(_PIXELS) + 0.5) / _PIXELS * 2.0 - 1.0
        places = np.stack(np.meshgrid(axis, -axis), axis=-1)
        shade = (self.angles[self._cells(places)] % (2 * np.pi)) / (2 * np.pi)
        picture = np.stack([110 + 120 * shade, 50 + 60 * shade, 40 + 50 * shade], axis=-1)
        picture[on_road(places)] = (120, 190, 110)
        for center, radius, colour in ((START, 0.04, (60, 60, 60)), (GOAL, GOAL_RADIUS, (250, 220, 90))):
            picture[((places - center) ** 2).sum(-1) <= radius**2] = colour
        picture[((places - self._position) ** 2).sum(-1) <= 0.04**2] = (30, 60, 220)
        return picture.astype(np.uint8)

    def _cells(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of the grid, each ``[...]``."""
        n_cells = self.angles.shape[0]
        cells = np.clip(((positions + 1.0) / 2.0 * n_cells).astype(int), 0, n_cells - 1)
        return cells[..., 0], cells[..., 1]

    def _observation(self) -> np.ndarray:
        return self._position.astype(np.float32)
