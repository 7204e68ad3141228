"""The seed's four prompts in all eight styles in, one labeled sheet of what the demo model paints out.

``python -m demo.sheet`` writes the sheet that README opens with.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image, ImageDraw, ImageFont

from common.models import BUILT_IN
from demo.captions import DEMO_PROMPTS
from demo.painter import WIDE, Pictures, paint
from demo.trials import make_spec
from demo.world.scene import LOOKS
from worker.diffusion.device import Device
from worker.weights import load_model

ROOT = Path(__file__).parent.parent
MARGIN = 18  # pixels above each row, for its prompt


def main(
    output: Annotated[Path, typer.Option(help="the file to write")] = ROOT / "docs" / "pictures" / "demo.jpg",
    seed: Annotated[int, typer.Option(help="of every picture")] = 1,
) -> None:
    """Paint the contact sheet: as a worker paints, with the weights that ship and the defaults of the API."""
    device = Device(WIDE)
    try:
        model = load_model("demo", BUILT_IN["demo"], home=ROOT, device=torch.device("cpu"), dtype=torch.float32)
        specs = [make_spec(prompt, style, seed) for prompt in DEMO_PROMPTS for style in LOOKS]
        lay_out(paint(specs, model, device)).save(output, quality=88)
    finally:
        device.close()


def lay_out(pictures: Pictures) -> Image.Image:
    """A row for each prompt, a column for each style, their names above them."""
    side, columns = pictures.shape[1], len(LOOKS)
    sheet = Image.new("RGB", (columns * side, len(DEMO_PROMPTS) * (side + MARGIN) + MARGIN), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for column, style in enumerate(LOOKS):
        pen.text((column * side + 4, 2), style, "black", font)
    for row, prompt in enumerate(DEMO_PROMPTS):
        top = MARGIN + row * (side + MARGIN)
        pen.text((4, top + 2), prompt, "black", font)
        for column in range(columns):
            sheet.paste(Image.fromarray(pictures[row * columns + column]), (column * side, top + MARGIN))
    return sheet


if __name__ == "__main__":
    typer.run(main)
