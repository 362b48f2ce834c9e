"""The small experiments: does SFT teach a model of ours to solve tasks, and does PPO then make it better?

    python -m training.small sft --out runs/small            tasks, demonstrations, tokenizer, model, SFT, evaluation
    python -m training.small ppo --out runs/small --seed 0   a shorter SFT, calibration, PPO, evaluation of both
    python -m training.small report --out runs/small         what came out, with intervals, and the curves as a plot

Every step leaves its result in the folder and is passed over when it is there, so a run that was stopped goes on where
it was. All tasks are generated here; the tasks of the test split are of patients that no demonstration shows, and are
attempted through the real environment. Of the calculators the simplest are taken: those with the shortest solutions.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer
from rich.console import Console

from training.checkpoints import checkpoints
from training.cli import exit_on_error
from training.config import RolloutSection
from training.errors import ExampleError
from training.scale import SCALES, Scale, ppo_recipe, sft_recipe
from training.summary import plot, summary

if TYPE_CHECKING:
    from agent.models import Model
    from tasks.attempt import AttemptRecord
    from tasks.registry import Registry

FAMILY = "medcalcbench"
console = Console(stderr=True)


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
OutOption = Annotated[
    Path, typer.Option("--out", file_okay=False, help="Folder of the experiment; one that exists is gone on with.")
]
ScaleOption = Annotated[str, typer.Option("--scale", help="hour | minute")]


class Experiment:
    """The steps, each over a folder."""

    def __init__(self, out: Path, scale: Scale) -> None:
        self.out, self.scale = out, scale
        self.rollout = scale.rollout.model_copy(update={"data": out / "data", "families": (FAMILY,)})

    def tasks(self) -> list[str]:
        """Generate the tasks; the names of the simplest categories."""
        from tasks.data import DataRoot
        from tasks.datasets import generate_dataset, synthetic_name
        from tasks.family import GenerateOptions

        options = GenerateOptions(seed=0, patients=self.scale.patients, per_category=self.scale.per_category)
        if not (self.out / "categories.json").is_file():
            root = DataRoot(self.out / "data")
            if synthetic_name(FAMILY) not in {manifest.name for manifest in root.datasets()}:
                report = generate_dataset(root, FAMILY, options, progress=lambda *_: None)
                console.print(f"{report.tasks} tasks generated")
            _write(self.out / "categories.json", _simplest(self._registry(), self.scale.categories))
        found: list[str] = json.loads((self.out / "categories.json").read_text())
        return found

    def demonstrations(self) -> Path:
        """The solutions of the train tasks of these categories, acted out over MCP: run the code, submit its answer."""
        from agent.models import Scripted, call
        from agent.rollout import Rollout, Settings
        from agent.rollout import Tally as State
        from training.collect import serve_environment

        folder, registry = self.out / "demonstrations", self._registry()
        tasks = self._ids(registry, self.tasks(), "train")

        def player(task: str, number: int) -> "Model":
            code = registry.truth(task).oracle.rstrip()
            return Scripted([call("execute_code", code=code), call("submit_answer", variable="answer")], "teacher")

        def watch(state: State) -> None:
            if state.done and (state.done % 500 == 0 or state.done == state.total):
                console.print(f"demonstrations {state.done}/{state.total}, score {state.score}")

        rollout = Rollout(tasks, 1, player, Settings("teacher"), folder, watch=watch)
        anyio.run(rollout.run, lambda: serve_environment(self.rollout, self.out / "server"))
        return folder

    def start(self) -> Path:
        """The tokenizer, made from the demonstrations, and a model of random weights."""
        from training.data import as_seen, load
        from training.render import COMPACT, plain_message
        from training.scratch import make_model, make_tokenizer, parameters

        folder = self.out / "start"
        if not (folder / "config.json").is_file():
            template = _template(COMPACT)
            records = [as_seen(record) for record in load([self.demonstrations()])]
            texts = [template([plain_message(message) for message in record.messages]) for record in records]
            scale = self.scale
            tokenizer = make_tokenizer(texts, folder, size=scale.pieces, lines=scale.lines)
            model = make_model(
                len(tokenizer),
                hidden=scale.hidden,
                layers=scale.layers,
                heads=scale.heads,
                context=scale.max_tokens * 2,
            )
            console.print(f"{len(tokenizer)} tokens, {parameters(model) / 1e6:.2f} M weights")
            model.save_pretrained(folder)
        return folder

    def reading(self) -> Path:
        """Teach the model to look values up in the notes of the train tasks: from the demonstrations alone that is
        learned last, though most of the answer hangs on it."""
        from training.data import as_seen, load
        from training.policy import load_model
        from training.render import Renderer, load_tokenizer
        from training.scratch import lookups
        from training.sft import fit, model_folder

        start, records = self.start(), self.demonstrations()
        passes = self.scale.reading
        recipe = sft_recipe(self.out / "reading", self.scale, start, records, passes, schedule="constant_with_warmup")
        folder = model_folder(recipe)
        if not (folder / "config.json").is_file():
            tokenizer = load_tokenizer(str(start))
            examples = lookups([as_seen(record) for record in load([records])], Renderer(tokenizer))
            model = load_model(recipe.model, len(tokenizer))
            console.print(f"reading: {fit(recipe, model, tokenizer, examples)}", markup=False, highlight=False)
        return folder

    def sft(self) -> Path:
        """Supervised fine-tuning on the demonstrations."""
        return self._fine_tuned("sft", self.scale.epochs)

    def short(self) -> Path:
        """A shorter SFT, among whose checkpoints PPO finds its beginning. In the middle of the long one the learning
        rate is still so high that held-out notes are hardly read."""
        return self._fine_tuned("short", self.scale.short, keep=1_000)

    def _fine_tuned(self, name: str, epochs: float, *, keep: int = 1) -> Path:
        from training.sft import model_folder, train_sft

        recipe = sft_recipe(self.out / name, self.scale, self.reading(), self.demonstrations(), epochs, keep=keep)
        folder = model_folder(recipe)
        if not (folder / "config.json").is_file():
            console.print(f"{name}: {train_sft(recipe, console=console)}", markup=False, highlight=False)
        return folder

    def evaluate(self, model: Path, name: str, categories: Sequence[str], *, sampled: bool = False) -> dict[str, Any]:
        """Attempt held-out tasks with a model; what came out, in all and by category. `sampled`: at the temperature of
        the rollouts instead of greedily."""
        ids = self._ids(self._registry(), categories, "test")
        count = min(len(ids), self.scale.held_out)
        ids = [ids[place * len(ids) // count] for place in range(count)]
        chosen = [(task, 1) for task in ids]
        return self._attempt(model, name, chosen, self.rollout.temperature if sampled else 0.0)

    def calibrate(self) -> tuple[Path, list[str]]:
        """What PPO begins with: a checkpoint of the shorter SFT, and the categories whose sampled success is in the
        band there.

        Success on train tasks grows with the steps, so the first checkpoint that reaches the middle of the band is
        found by halving. Raises ExampleError where no category is in the band then.
        """
        path = self.out / "calibrated.json"
        if not path.is_file():
            found = checkpoints(self.short().parent)
            low, high = 0, len(found) - 1
            while low < high:
                middle = (low + high) // 2
                if self._probe(found[middle])["all"]["success"] < statistics.mean(self.scale.band):
                    low = middle + 1
                else:
                    high = middle
            rows = self._probe(found[low])["categories"]
            least, most = self.scale.band
            categories = [category for category, row in rows.items() if least <= row["success"] <= most]
            if not categories:
                raise ExampleError(f"No category's sampled success is in {self.scale.band}: see result-probe-*.json.")
            _write(path, {"model": str(found[low].relative_to(self.out)), "categories": categories})
        told = json.loads(path.read_text())
        return self.out / told["model"], list(told["categories"])

    def _probe(self, model: Path) -> dict[str, Any]:
        """Sampled success on train tasks."""
        registry = self._registry()
        probes = []
        for category in self.tasks():
            probes += [(task, 1) for task in self._ids(registry, [category], "train")[: self.scale.probes]]
        return self._attempt(model, f"probe-{model.name}", probes, self.rollout.temperature)

    def ppo(self, seed: int) -> None:
        """PPO from the calibrated model on its categories; success on held-out tasks of them before and after."""
        from training.ppo import train_ppo

        start, categories = self.calibrate()
        recipe = ppo_recipe(self.out, self.scale, start, self.rollout, categories, seed)
        self.evaluate(start, "before", categories, sampled=True)
        if not (recipe.output / "model" / "config.json").is_file():
            train_ppo(recipe)
        self.evaluate(recipe.output / "model", f"after-{seed}", categories, sampled=True)

    def report(self) -> dict[str, Any]:
        """All results of the folder, and the curves as <out>/curves.svg where matplotlib is installed."""
        found = {path.stem[len("result-") :]: json.loads(path.read_text()) for path in self.out.glob("result-*.json")}
        curves = {path.parent.name: path for path in sorted(self.out.glob("ppo-*/metrics.jsonl"))}
        if curves:
            plot(curves, self.out / "curves.svg")
        return dict(sorted(found.items()))

    def _attempt(self, model: Path, name: str, chosen: Sequence[tuple[str, int]], temperature: float) -> dict[str, Any]:
        from training.render import load_tokenizer

        path = self.out / f"result-{name}.json"
        if path.is_file():
            done: dict[str, Any] = json.loads(path.read_text())
            return done
        from transformers import AutoModelForCausalLM

        tokenizer = load_tokenizer(str(model))
        actor: Any = AutoModelForCausalLM.from_pretrained(str(model))
        records = anyio.run(self._play, actor.eval(), tokenizer, chosen, temperature, name)
        result = {"temperature": temperature, **summary(records)}
        _write(path, result)
        console.print(f"{name}: {json.dumps(result['all'])}", markup=False, highlight=False)
        return result

    async def _play(
        self, actor: Any, tokenizer: Any, chosen: Sequence[tuple[str, int]], temperature: float, name: str
    ) -> "list[AttemptRecord]":
        from agent.local import LocalModel
        from tasks.record import RecordWriter
        from training.collect import play, serve_environment

        async with (
            serve_environment(self.rollout, self.out / "server") as environment,
            LocalModel(actor, tokenizer, name=name, batch=self.rollout.concurrency, seed=0) as model,
        ):
            played = await play(environment, model, chosen, self.rollout, temperature=temperature, run_id=name)
        records = [record for record in played if record is not None]
        writer = RecordWriter(self.out / f"records-{name}")
        for record in records:
            writer.write(record)
        writer.close()
        return records

    def _registry(self) -> "Registry":
        from tasks.data import DataRoot
        from tasks.registry import Registry

        return Registry(DataRoot(self.out / "data"))

    def _ids(self, registry: "Registry", categories: Sequence[str], split: str) -> list[str]:
        wanted = set(categories)
        return [task for task in registry.ids(family=FAMILY, split=split) if registry.get(task).category in wanted]


@app.command("sft")
@exit_on_error()
def run_sft(out: OutOption, scale: ScaleOption = "hour") -> None:
    """Demonstrations, tokenizer, model, SFT; success on held-out tasks before and after."""
    experiment = _experiment(out, scale)
    categories = experiment.tasks()
    experiment.demonstrations()
    experiment.evaluate(experiment.start(), "start", categories)
    experiment.evaluate(experiment.sft(), "sft", categories)


@app.command("ppo")
@exit_on_error()
def run_ppo(
    out: OutOption,
    scale: ScaleOption = "hour",
    seed: Annotated[list[int] | None, typer.Option("--seed", help="Repeatable. Default: 0, 1 and 2.")] = None,
) -> None:
    """PPO from a checkpoint of a shorter SFT, on a calibrated subset."""
    experiment = _experiment(out, scale)
    for one in seed or [0, 1, 2]:
        experiment.ppo(one)


@app.command("report")
@exit_on_error()
def run_report(out: OutOption, scale: ScaleOption = "hour") -> None:
    """Print what came out as JSON, and draw the curves."""
    typer.echo(json.dumps(_experiment(out, scale).report(), indent=1))


def _experiment(out: Path, scale: str) -> Experiment:
    """An experiment keeps the scale that it was begun with."""
    if scale not in SCALES:
        raise typer.BadParameter(f"{scale!r} is not one of {', '.join(SCALES)}.", param_hint="--scale")
    path = out / "scale.json"
    if path.is_file():
        known = json.loads(path.read_text())
        rollout = RolloutSection.model_validate(known["rollout"])
        return Experiment(out, Scale(**known | {"rollout": rollout, "band": tuple(known["band"])}))
    chosen = SCALES[scale]
    out.mkdir(parents=True, exist_ok=True)
    _write(path, asdict(chosen) | {"rollout": chosen.rollout.model_dump(mode="json")})
    return Experiment(out, chosen)


def _simplest(registry: "Registry", count: int) -> list[str]:
    """The categories with the shortest solutions. Tasks that cannot be answered have none and do not count."""
    lengths: dict[str, list[int]] = {}
    for task in registry.ids(family=FAMILY, split="train"):
        category = registry.get(task).category
        if len(lengths.get(category, ())) < 5 and (truth := registry.truth(task)).value is not None:
            lengths.setdefault(category, []).append(len(truth.oracle))
    ordered = sorted(lengths, key=lambda category: (statistics.median(lengths[category]), category))
    return sorted(ordered[:count])


def _template(source: str) -> Callable[[list[dict[str, Any]]], str]:
    """A chat template without a tokenizer: there is none yet."""
    from transformers.utils.chat_template_utils import render_jinja_template

    def render(messages: list[dict[str, Any]]) -> str:
        return str(render_jinja_template(conversations=[messages], chat_template=source)[0][0])

    return render


def _write(path: Path, value: Any) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(value, indent=1))
    partial.replace(path)


if __name__ == "__main__":
    app()
