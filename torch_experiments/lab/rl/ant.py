"""MuJoCo's Ant as gymnasium's Ant-v5 has it, for arrays of states: a state holds all that its next step depends on.

A row of a state is what MuJoCo calls the integration state (time, positions, velocities, the accelerations that the
solver starts from, controls and applied forces), then where gymnasium takes the torso to be, whose ``xpos`` lags
behind the positions by a part of a step, then what is seen: positions without x and y, velocities, and contact
forces cut at ±1. One `mujoco.MjData` moves all rows in turn, so nothing is left in it that a row would miss.

Sources: Schulman et al. (2016), arXiv 1506.02438, for the robot; ``gymnasium.envs.mujoco.ant_v5`` for the task; the
file of the robot is read from gymnasium.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
OBSERVATIONS, ACTIONS, LIMIT = 105, 8, 1000
FRAMES = 5  # steps of MuJoCo, of 0.01 s, in a step of the task
TORSO = 1  # a body
HEALTHY = (0.2, 1.0)  # heights of the torso
CONTROL, CONTACT = 0.5, 5e-4  # what squares cost
NOISE = 0.1  # at the start of an episode
INSTALL = "pip install 'lop-companion[rl]'"


@lru_cache(maxsize=8)
def simulation(friction: float) -> Simulation:
    """Return the simulation whose geoms all have this coefficient of sliding friction.

    Raises:
        ModuleNotFoundError: without MuJoCo or gymnasium; the message has the line that installs them.
    """
    return Simulation(friction)


class Simulation:
    """The robot with one friction.

    Attributes:
        model, data: of MuJoCo.
    """

    def __init__(self, friction: float) -> None:
        self.mujoco, robot = _mujoco(), _robot()
        self.model = self.mujoco.MjModel.from_xml_path(str(robot))
        # of all geoms: a contact has the larger friction of its two, so that the floor's alone would change nothing
        self.model.geom_friction[:, 0] = friction
        self.data = self.mujoco.MjData(self.model)
        self.kept = self.mujoco.mjtState.mjSTATE_INTEGRATION
        self.size = self.mujoco.mj_stateSize(self.model, self.kept)
        self.seconds = self.model.opt.timestep * FRAMES

    def begin(self, copies: int, source: np.random.Generator) -> Array:
        """Return states at the start of an episode ``[copies, …]``, drawn as gymnasium draws them."""
        return np.stack([self._begin(source) for _ in range(copies)])

    def move(self, states: Array, actions: Array) -> tuple[Array, Array, Array]:
        """Return states, rewards and ends after actions ``[copies, 8]``, which are cut at ±1 first.

        The reward of a step is the torso's speed along x, 1 while its height is in `HEALTHY`, minus 0.5 times the
        square of the action and 5e-4 times that of the contact forces. An episode ends at another height.
        """
        cut = np.clip(actions, -1.0, 1.0)
        moved = [self._move(state, action) for state, action in zip(states, cut, strict=True)]
        found, rewards, ended = zip(*moved, strict=True)
        return np.stack(found), np.array(rewards), np.array(ended)

    def _begin(self, source: np.random.Generator) -> Array:
        data, model = self.data, self.model
        self.mujoco.mj_resetData(model, data)
        data.qpos[:] = model.qpos0 + source.uniform(-NOISE, NOISE, model.nq)
        data.qvel[:] = NOISE * source.standard_normal(model.nv)
        self.mujoco.mj_forward(model, data)
        return self._row(self._forces())

    def _move(self, state: Array, action: Array) -> tuple[Array, float, bool]:
        data, before = self.data, state[self.size]
        self.mujoco.mj_setState(self.model, data, state[: self.size], self.kept)
        data.ctrl[:] = action
        self.mujoco.mj_step(self.model, data, nstep=FRAMES)
        self.mujoco.mj_rnePostConstraint(self.model, data)  # else contact forces are not computed
        forces = self._forces()
        row = self._row(forces)
        well = HEALTHY[0] <= data.qpos[2] <= HEALTHY[1] and bool(np.isfinite(row).all())
        costs = CONTROL * np.sum(np.square(action)) + CONTACT * np.sum(np.square(forces))
        reward = (row[self.size] - before) / self.seconds + well - costs
        return row, float(reward), not well

    def _forces(self) -> Array:
        found: Array = np.minimum(np.maximum(self.data.cfrc_ext, -1.0), 1.0)
        return found

    def _row(self, forces: Array) -> Array:
        data, row = self.data, np.empty(self.size + 1 + OBSERVATIONS)
        self.mujoco.mj_getState(self.model, data, row[: self.size], self.kept)
        row[self.size] = data.xpos[TORSO, 0]
        np.concatenate([data.qpos[2:], data.qvel, forces[1:].ravel()], out=row[self.size + 1 :])
        return row


def seen(states: Array) -> Array:
    """Return what is seen of states ``[copies, …]``, ``[copies, 105]``."""
    return states[:, -OBSERVATIONS:]


def check_friction(friction: float, name: str = "friction") -> None:
    """Raise a ValueError for a friction that is no positive number."""
    if not 0 < friction < math.inf:
        raise ValueError(f"{name}: got {friction}; it has to be a finite number above 0")


def _mujoco() -> Any:
    try:
        import mujoco
    except ImportError as error:
        said = f"environment: 'ant' needs MuJoCo, which is not installed: {INSTALL}"
        raise ModuleNotFoundError(said, name="mujoco") from error
    return mujoco


def _robot() -> Path:
    """Return gymnasium's file of the robot; nothing of gymnasium is imported."""
    found = find_spec("gymnasium")
    if found is None or not found.submodule_search_locations:
        said = f"environment: 'ant' needs gymnasium's file of the robot, which is not installed: {INSTALL}"
        raise ModuleNotFoundError(said, name="gymnasium")
    return Path(found.submodule_search_locations[0]) / "envs" / "mujoco" / "assets" / "ant.xml"
