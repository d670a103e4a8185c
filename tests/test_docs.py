"""The documentation's promises that a build alone does not check."""

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import sb3_tom
from sb3_tom.contracts.resolve import resolve_plug
from sb3_tom.mbpo.axes import AXES
from tests.mbpo.small import SMALL_MODELS, SMALL_WEIGHTERS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "_generated"} & set(path.relative_to(DOCS).parts))


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(DOCS))
    import generated_tables

    yield generated_tables
    sys.modules.pop("generated_tables")


@pytest.mark.parametrize("name", ["mbpo", "mbpo_pmac", "mbpo_tom", "dhmbpo", "dhmbpo_pmac", "dhmbpo_tom"])
def test_hyperparameter_table_has_every_value_of_the_file(name: str, tables: object) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install pyyaml")
    path = ROOT / "hyperparams" / f"{name}.yml"
    text = tables.hyperparameters(path)
    rows = {
        re.match(r"\| `([^`]+)` \|", line)[1]: line for line in text.splitlines() if line.startswith("| `") and "-v" in line
    }
    entries = yaml.safe_load(path.read_text())
    assert set(rows) == set(entries) - {"default"}
    for task, entry in ((task, entry) for task, entry in entries.items() if task in rows):
        cells = [cell.strip() for cell in rows[task].strip("|").split(" | ")]
        for key, value in entry.items():
            shown = f"{int(value):,}" if isinstance(value, float) and value >= 1000 else str(value)
            everywhere = key in entries["default"] and all(one.get(key) == value for one in entries.values())
            place = text if everywhere and key not in tables.COLUMNS else rows[task] if key not in tables.COLUMNS else cells
            assert (f"`{key}: {shown}`" if place is not cells else shown) in place, (task, key)


def test_hyperparameter_table_refuses_a_shared_value_that_is_not(tables: object, tmp_path: Path) -> None:
    changed = (ROOT / "hyperparams" / "mbpo.yml").read_text().replace("Swimmer-v5:\n", "Swimmer-v5:\n  real_ratio: 0.5\n")
    (tmp_path / "mbpo.yml").write_text(changed.replace("  <<: *mujoco\n  real_ratio: 0.5", "  real_ratio: 0.5"))
    with pytest.raises(ValueError, match=r"mbpo\.yml: Swimmer-v5 has other values"):
        tables.hyperparameters(tmp_path / "mbpo.yml")


def test_presets_table_has_exactly_the_differences(tables: object) -> None:
    from sb3_tom import TOMWeighter

    rows = re.findall(r"^\| `(\w+)` \| `(.+)` \| `(.+)` \|$", tables.presets(), flags=re.MULTILINE)
    settings = {preset: TOMWeighter(preset=preset).settings for preset in ("default", "official")}
    differing = {name for name, value in vars(settings["default"]).items() if value != getattr(settings["official"], name)}
    assert {name for name, *_ in rows} == differing
    for name, default, official in rows:
        assert (default, official) == (repr(getattr(settings["default"], name)), repr(getattr(settings["official"], name)))


def test_axes_table_says_what_the_constructor_takes(tables: object) -> None:
    lines = tables.axes().splitlines()[2:]
    rows = {
        cells[0].strip("`"): cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    }
    parameters = inspect.signature(sb3_tom.MBPO).parameters
    plug_kwargs = {name for name in parameters if name.endswith("_kwargs")} - {"policy_kwargs", "replay_buffer_kwargs"}
    assert {cells[3].strip("`") for cells in rows.values()} == plug_kwargs and set(rows) <= set(parameters)
    agent = sb3_tom.MBPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]})
    for argument, (contract, names, default, _, attribute) in rows.items():
        module, _, cls = re.fullmatch(r"\{class\}`~(.+)`", contract)[1].rpartition(".")
        kind, plug = getattr(import_module(module), cls), getattr(agent, attribute.strip("`"))
        assert plug is None if default == "none" else isinstance(plug, kind) and default in names, argument
        for name in re.findall(r'`"(\w+)"`', names):
            assert isinstance(resolve_plug(argument, AXES[argument], name, None), kind), name


def test_pictures_say_what_is_there() -> None:
    """The rooms are those of the rules, floor by floor; the files on a transition's way exist, and its verbs too."""
    rooms = (DOCS / "pictures" / "rooms.svg").read_text()
    floors: dict[str, list[str]] = {}
    for height, name in re.findall(r'<text class="room" x="[\d.]+" y="(\d+)">(\w+)</text>', rooms):
        floors.setdefault(height, []).append(name)
    (layers,) = re.findall(r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE | re.DOTALL)
    assert list(floors.values()) == [line.split(" | ") for line in re.findall(r'"(.+)"', layers)]
    way = re.findall(r'<text class="file"[^>]*>(.+)</text>', (DOCS / "pictures" / "transition.svg").read_text())
    paths = [path for line in way for path in line.split(", ") if "/" in path]
    assert len(paths) > 10 and [path for path in paths if not (ROOT / "sb3_tom" / path).exists()] == []
    verbs = [line.removeprefix("MBPO.") for line in way if line.startswith("MBPO.")]
    assert verbs == ["fit_weights", "fit_model", "imagine", "train_policy"]
    assert all(hasattr(sb3_tom.MBPO, verb) for verb in verbs)


def test_rooms_of_the_rules_are_on_the_pages() -> None:
    rooms = {path.stem for path in (ROOT / "sb3_tom").iterdir() if not path.name.startswith("_")} - {"py", "version"}
    for page in (DOCS / "architecture.md", ROOT / "CONTRIBUTING.md"):
        text = page.read_text()
        assert [room for room in sorted(rooms) if f"`{room}" not in text] == [], page.name


def test_every_contract_is_on_a_page_of_the_api() -> None:
    text = "\n".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
    modules = [path.stem for path in (ROOT / "sb3_tom" / "contracts").glob("*.py") if path.stem != "__init__"]
    assert [name for name in modules if f".. automodule:: sb3_tom.contracts.{name}\n" not in text] == []


def test_code_on_the_pages_is_that_of_tested_examples() -> None:
    """Guides show files of ``examples/``, which tests run, and no Python of their own."""
    guides = [path for path in PAGES if path.parent.name == "guides"]
    assert len(guides) >= 3
    for path in guides:
        text = path.read_text()
        assert "```python" not in text and re.search(r"literalinclude:?:?\} \.\./\.\./examples/\w+\.py", text), path


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_python_on_the_pages_is_python(path: Path) -> None:
    for code in re.findall(r"^```python\n(.*?)^```", path.read_text(), flags=re.MULTILINE | re.DOTALL):
        compile(code, str(path), "exec")


def test_every_example_and_plug_is_on_a_page() -> None:
    text = "\n".join(path.read_text() for path in PAGES if path.parent.name != "api")
    missing = [path.name for path in (ROOT / "examples").glob("*.py") if path.name not in text]
    missing += [name for axis in AXES.values() for name in axis.aliases if f'"{name}"' not in text]
    for folder in ("weighters", "dynamics", "objectives", "confidences", "rollout_stops"):
        code = "\n".join(path.read_text() for path in (ROOT / "sb3_tom" / folder).glob("*.py"))
        plugs = re.findall(
            r"^class (\w+)\(\w*(?:Weighter|DynamicsModel|Objective|Confidence|RolloutStop)\):", code, flags=re.MULTILINE
        )
        assert plugs
        missing += [name for name in plugs if name not in text]
    assert missing == []


def test_the_agents_page_shows_what_it_names(tmp_path: Path) -> None:
    """Sphinx leaves out what it does not find on a class without a word."""
    pytest.importorskip("sphinx", reason="sphinx is not installed: pip install -e '.[docs]'")
    from sphinx.cmd.build import build_main

    (tmp_path / "index.md").write_text((DOCS / "api" / "agent.md").read_text())
    settings = "extensions=myst_parser,sphinx.ext.autodoc"
    assert build_main(["-q", "-C", "-D", settings, "-b", "html", str(tmp_path), str(tmp_path / "html")]) == 0
    ids = re.findall(r'id="sb3_tom\.mbpo\.mbpo\.MBPO\.(\w+)"', (tmp_path / "html" / "index.html").read_text())
    assert {"fit_weights", "fit_model", "imagine", "train_policy"} < set(ids)
    assert {"learn", "load", "from_sac", "set_env", "resume", "save_checkpoint", "load_checkpoint"} < set(ids)


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md", "docs/models.md", "docs/imagination.md"])
def test_code_of_the_first_pages_runs(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As it stands, block after block, with agents of the size of a test and a thousandth of the steps."""
    pytest.importorskip("rich", reason="rich is not installed: pip install 'sb3_tom[extra]'")
    sizes = {"learning_starts": 50, "batch_size": 16, "buffer_size": 500, "policy_kwargs": {"net_arch": [8]}}
    sizes |= {"rollout_batch_size": 20, "model_train_freq": 50, "update_to_data_ratio": 0.1}
    trained = []

    def shrunk(cls: type[sb3_tom.MBPO], dynamics: str) -> type[sb3_tom.MBPO]:
        class Small(cls):  # type: ignore[valid-type,misc]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                if kwargs.get("weighter") == "tom":
                    kwargs["weighter_kwargs"] = {**SMALL_WEIGHTERS["tom"], **kwargs.get("weighter_kwargs", {})}
                super().__init__(*args, **{**kwargs, **sizes, "dynamics_kwargs": SMALL_MODELS[dynamics]})

            def learn(self, total_timesteps: float, *args: Any, **kwargs: Any) -> Any:
                trained.append(self)
                return super().learn(max(total_timesteps / 1000, 60), *args, **kwargs)

        return Small

    monkeypatch.setattr(sb3_tom, "MBPO", shrunk(sb3_tom.MBPO, "ensemble"))
    monkeypatch.setattr(sb3_tom, "DHMBPO", shrunk(sb3_tom.DHMBPO, "smooth"))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for code in blocks:
        exec(compile(code, page, "exec"), {})
    assert len(trained) == sum("learn(" in code for code in blocks)
    assert trained or page in ("docs/models.md", "docs/imagination.md"), "its blocks make agents only"
    assert all(agent.policy_version > 0 for agent in trained)
