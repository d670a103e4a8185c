"""From words to runs: which there are, what they are called, with which hyperparameters, and what is refused."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import rl_zoo3

from sb3_tom.sweep.spec import make_runs
from sb3_tom.zoo.checks import check_hyperparams
from sb3_tom.zoo.registration import hyperparams_folder
from sb3_tom.zoo.runs import zoo_algorithms, zoo_hyperparams
from tests.sweep.small import ENV, MBPO, small_words

ZOO_FILES = Path(rl_zoo3.__file__).parent / "hyperparams"


def entry(path: Path, env: str) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())[env]


def test_every_method_of_an_env_with_a_seed_before_the_next_seed() -> None:
    runs = make_runs({"env": ["Pendulum-v1", "Hopper-v5"], "algo": ["sac", "mbpo"], "seed": [0, 5]})
    order = product((0, 5), ("Pendulum-v1", "Hopper-v5"), ("sac", "mbpo"))
    assert [run.name for run in runs] == [f"{env}/{algo}/seed_{seed}" for seed, env, algo in order]
    assert [(run.env, run.algo, run.seed) for run in runs[:2]] == [("Pendulum-v1", "sac", 0), ("Pendulum-v1", "mbpo", 0)]


def test_hyperparameters_are_the_zoos_file_then_params_then_an_algorithms_own_then_the_grid() -> None:
    """An entry is replaced whole, as the zoo's ``-params`` does."""
    own = {"algo": "mbpo_tom", "params": {"tau": 0.2, "weighter_kwargs": {"divergence": "chi2"}}}
    words = {"env": "Hopper-v5", "algo": {"sac": None, "mine": own}, "params": {"tau": 0.1, "batch_size": 8}}
    runs = make_runs({**words, "grid": {"gamma": [0.9, 0.99], "batch_size": [16]}})
    assert [run.method for run in runs] == [
        f"{label},gamma={gamma},batch_size=16" for label in ("sac", "mine") for gamma in (0.9, 0.99)
    ]
    sac, tom = entry(ZOO_FILES / "sac.yml", "default"), entry(hyperparams_folder() / "mbpo_tom.yml", "Hopper-v5")
    assert runs[0].hyperparams == {**sac, "tau": 0.1, "batch_size": 16, "gamma": 0.9}
    assert runs[3].hyperparams == {**tom, **own["params"], "batch_size": 16, "gamma": 0.99}
    assert (runs[3].algo, runs[3].n_timesteps) == ("mbpo_tom", int(tom["n_timesteps"]))


def test_a_file_of_ones_own_in_place_of_the_zoos(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("default: {policy: MlpPolicy, n_timesteps: 70, tau: 0.5}\n")
    (run,) = make_runs({"env": "Hopper-v5", "algo": {"sac": {"config": str(path)}}})
    assert run.hyperparams == {"policy": "MlpPolicy", "n_timesteps": 70, "tau": 0.5} and run.n_timesteps == 70


def test_how_often_a_run_is_evaluated_and_saved() -> None:
    (run,) = make_runs({"env": ENV, "algo": "sac", "n_timesteps": 1000})
    assert (run.n_timesteps, run.eval_freq, run.save_freq, run.eval_episodes) == (1000, 50, 50, 10)
    (run,) = make_runs({"env": ENV, "algo": "sac", "n_timesteps": 1000, "eval_freq": 100, "save_freq": 500})
    assert (run.eval_freq, run.save_freq) == (100, 500)


def test_values_of_a_grid_are_one_folder() -> None:
    words = small_words(algo=["mbpo"], params=MBPO, seed=0, grid={"policy_kwargs": [{"net_arch": [8]}, {"net_arch": [8, 8]}]})
    runs = make_runs(words)
    assert runs[0].method == 'mbpo,policy_kwargs={"net_arch":[8]}'
    assert len({run.name for run in runs}) == 2 and all(run.name.count("/") == 2 and '"' not in run.name for run in runs)


def test_long_values_of_a_grid_that_begin_alike_have_folders_of_their_own() -> None:
    long = {"divergence": "kl", "recent_size": 1000, "max_weight": 10.0, "discriminator_net_arch": [64] * 30}
    grid = {"weighter_kwargs": [{**long, "ratio_bound": bound} for bound in (5.0, 6.0)]}
    first, second = (run.name.split("/")[1] for run in make_runs({"env": ENV, "algo": "mbpo_tom", "grid": grid}))
    assert first != second and len(first) == len(second) == 150 and first[:142] == second[:142]
    assert all(letter in "0123456789abcdef" for letter in first[142:] + second[142:])
    short = make_runs({"env": ENV, "algo": {"a" * 150: {"algo": "sac"}}})[0]
    assert short.name == f"{ENV}/{'a' * 150}/seed_0"


@pytest.mark.parametrize("letter", ["ö", "語", "𠀀"])
def test_a_folder_of_other_letters_has_a_name_that_file_systems_allow(letter: str, tmp_path: Path) -> None:
    """They count bytes."""
    long = letter * 140
    first, second = make_runs({"env": ENV, "algo": {name: {"algo": "sac"} for name in (long, long + letter)}})
    assert first.name != second.name and f"/{letter * 30}" in first.name
    (tmp_path / first.name).mkdir(parents=True)


@pytest.mark.parametrize("algo", sorted(set(zoo_algorithms()) & {path.stem for path in ZOO_FILES.glob("*.yml")}))
def test_no_entry_of_the_zoos_own_files_is_refused(algo: str) -> None:
    """But for wrappers: of packages that are not installed here, or moved since."""
    for env, hyperparams in yaml.safe_load((ZOO_FILES / f"{algo}.yml").read_text()).items():
        others = {key: value for key, value in hyperparams.items() if key != "env_wrapper"}
        check_hyperparams(others, zoo_algorithms()[algo], lambda key, env=env: f"{algo}, {env}, {key}")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"envs": ENV}, "envs='InvertedPendulum-v5' is not allowed; allowed: 'env'"),
        ({"env": None}, "env=None is not allowed"),
        ({"env": [ENV, ENV]}, "each once"),
        ({"env": "InvertdPendulum-v5"}, "env='InvertdPendulum-v5' is not allowed: .*allowed: 'InvertedPendulum-v5'"),
        ({"algo": "mbop"}, "algo='mbop' is not allowed; allowed: one of"),
        ({"algo": {}}, "algo={} is not allowed"),
        ({"algo": {"sac": {"param": {}}}}, "algo.sac.param={} is not allowed"),
        ({"algo": {"mine": {"algo": 3}}}, "algo=3 is not allowed"),
        ({"algo": {"sac": {"config": "missing.yml"}}}, "config='missing.yml' cannot be read"),
        ({"seed": [0, 0]}, r"seed=\[0, 0\] is not allowed"),
        ({"seed": -1}, "seed=-1 is not allowed"),
        ({"seed": True}, "seed=True is not allowed"),
        ({"params": ["tau"]}, "params=.* is not allowed; allowed: a mapping"),
        ({"params": {"taux": 0.1}}, "the key taux=0.1 is unknown; did you mean tau"),
        ({"algo": "mbpo", "params": {"weighter_kwargs": "dict(a=f(1))"}}, "weighter_kwargs='dict.*allowed: a mapping"),
        ({"params": {"tau": "1e3"}}, "tau='1e3' is a string, since YAML"),
        ({"params": {"policy_kwargs": {"net_arch": {1, 2}}}}, "params of algo='sac': .* allowed: plain values"),
        ({"grid": {"tau": 0.1}}, "grid.tau=0.1 is not allowed; allowed: a list"),
        ({"grid": {"tau": []}}, r"grid.tau=\[\] is not allowed"),
        ({"grid": {"policy": ["Mlp/", "Mlp!"]}}, "would share the folder"),
        ({"algo": {"..": {"algo": "sac"}}}, r"algo='\.\.' is not allowed: no folder of a run has this name"),
        ({"algo": {".": {"algo": "sac"}}}, r"algo='\.' is not allowed"),
        ({"algo": {"": {"algo": "sac"}}}, "algo='' is not allowed"),
        ({"n_timesteps": "1e5"}, "n_timesteps='1e5' is not allowed; allowed: an integer"),
        ({"n_timesteps": 0}, "n_timesteps=0 is not allowed"),
        ({"n_timesteps": 10, "eval_freq": 20}, "eval_freq=20 is not allowed"),
        ({"save_freq": 0}, "save_freq=0 is not allowed"),
        ({"eval_episodes": 0}, "eval_episodes=0 is not allowed"),
        ({"num_threads": 0}, "num_threads=0 is not allowed"),
        ({"device": 0}, "device=0 is not allowed"),
        ({"device": "gpu"}, "device='gpu' is not allowed; allowed: 'auto', 'cpu', 'cuda'"),
        ({"device": "cuda:x"}, "device='cuda:x' is not allowed"),
        ({"device": ""}, "device='' is not allowed"),
        ({"gym_packages": "no.such"}, "gym_packages='no.such' cannot be imported"),
    ],
)
def test_what_is_wrong_is_named_before_any_run(words: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make_runs({"env": ENV, "algo": "sac", **words})


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:3"])
def test_a_device_need_not_be_one_of_the_machine_that_starts_the_sweep(device: str) -> None:
    assert [run.device for run in make_runs({"env": ENV, "algo": "sac", "device": device})] == [device]


def test_a_file_without_the_env_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("Hopper-v5: {policy: MlpPolicy, n_timesteps: 70}\n")
    with pytest.raises(ValueError, match=f"not found for sac-{ENV}"):
        zoo_hyperparams("sac", ENV, str(path), {})
    path.write_text("- a list")
    with pytest.raises(ValueError, match=r"mine\.yml' cannot be read"):
        zoo_hyperparams("sac", ENV, str(path), {})
