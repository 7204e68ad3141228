"""Train the demo model from nothing: a drawn world in, the folders in demo/weights out. Hours on two cores.

It ends with the gates that tests hold the shipped weights to (demo/gates.py).

Every stage is skipped when it is done and goes on where it was cut off. ``.kiln/training/log.txt`` tells how far it
is, and the PNG files beside it show what the models can do.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from torch.multiprocessing.spawn import spawn

from common.models import DEMO_WEIGHTS
from demo.gates import JUDGES, tell
from demo.shapes import NATIVE, SMALL
from demo.training.enhancer import train_enhancer
from demo.training.export import export_unet, export_vae, ship
from demo.training.loop import Plan, train
from demo.training.pictures import draw_shard
from demo.training.scorer import train_scorer
from demo.training.styles import train_styles
from demo.training.unet import UnetTask, encode_shard
from demo.training.vae import VaeTask

SEED, JUDGE_SEED = 1, 2
SHARDS = 24  # of drawn pictures
PROCESSES = 2

app = typer.Typer(add_completion=False)


@app.command()
def main(
    folder: Annotated[Path, typer.Option(help="where pictures, checkpoints, sheets and the log are kept")] = Path(
        ".kiln/training"
    ),
    vae_minutes: Annotated[float, typer.Option(help="of each process's own computing, as all of these")] = 50,
    unet_small_minutes: Annotated[float, typer.Option(help="at half the size, where it sees four times as much")] = 40,
    unet_minutes: Annotated[float, typer.Option()] = 215,
    scorer_minutes: Annotated[float, typer.Option(help="for each of the two scorers")] = 18,
    styles_minutes: Annotated[float, typer.Option(help="for the classifier that only the gates use")] = 6,
    ship_to: Annotated[Path, typer.Option(help="the folder that Kiln loads the model from")] = DEMO_WEIGHTS,
) -> None:
    """Train every part of the demo model, and write the folders that ship with Kiln."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_tokenizers(folder)
    stages: dict[str, Callable[[], None]] = {
        "draw": lambda: share(draw_shards, folder),
        "vae": lambda: train(VaeTask, (folder, SEED), Plan("vae", vae_minutes, rate=3e-4), folder),
        "whiten": lambda: export_vae(folder, SEED),
        "latents": lambda: share(encode_shards, folder),
        "unet-small": lambda: train(
            UnetTask, (folder, SEED, SMALL), Plan("unet-small", unet_small_minutes, rate=7e-4), folder
        ),
        "unet": lambda: train(
            UnetTask, (folder, SEED, NATIVE), Plan("unet", unet_minutes, rate=5e-4, begin_with="unet-small"), folder
        ),
        "export": lambda: export_unet(folder),
        "scorer": lambda: train_scorer(folder, "scorer", SEED, scorer_minutes),
        "judge": lambda: train_scorer(folder, "judge", JUDGE_SEED, scorer_minutes),
        "styles": lambda: train_styles(folder, styles_minutes),
        "enhancer": lambda: train_enhancer(folder),
        "ship": lambda: ship(folder, ship_to, ("vae", "unet", "text_encoder", "tokenizer", "enhancer", "scorer")),
        "ship the judges": lambda: ship(folder, JUDGES, ("judge", "styles")),
    }
    console = Console()
    for name, stage in stages.items():
        console.log(name)
        stage()
    console.log("gates")
    raise typer.Exit(int(not tell(ship_to, JUDGES)))


def copy_tokenizers(folder: Path) -> None:
    """Training goes on with the words that ship: ``python -m demo.vocabulary`` is for changing them."""
    for part in ("tokenizer", "enhancer"):
        (folder / part).mkdir(exist_ok=True)
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            if not (folder / part / name).exists():
                shutil.copy(DEMO_WEIGHTS / part / name, folder / part / name)


def share(work: Callable[[int, Path], None], folder: Path) -> None:
    """Run ``work`` in PROCESSES processes; each does its share of the shards."""
    spawn(work, (folder,), nprocs=PROCESSES)  # type: ignore[no-untyped-call]


def draw_shards(rank: int, folder: Path) -> None:
    for number in range(rank, SHARDS, PROCESSES):
        draw_shard(folder / "pictures", SEED, number)


def encode_shards(rank: int, folder: Path) -> None:
    for number in range(rank, SHARDS, PROCESSES):
        for size in (SMALL, NATIVE):
            encode_shard(folder, SEED, number, size)


if __name__ == "__main__":
    app()
