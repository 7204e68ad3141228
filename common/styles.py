"""The eight styles and the words around a prompt: templates in, styled text out. Pure."""

DEFAULT_PROMPT = "an orange cat staring off with pretty eyes"
DEFAULT_STYLE = "cinematic"
NO_STYLE = "none"

DEFAULT_NEGATIVE_PROMPT = (
    "blurry, out of focus, low resolution, jpeg artifacts, grainy noise, overexposed, washed out colors, "
    "cropped subject, duplicate subject, extra limbs, missing limbs, malformed hands, distorted face, "
    "bad proportions, watermark, signature, caption text, frame"
)

STYLES: dict[str, str] = {
    "gogh": "oil painting of {prompt} in the manner of Van Gogh, swirling brush strokes, thick paint, bold color",
    "surrealistic": "surrealist painting of {prompt}, dreamlike scene, impossible shapes, melting forms",
    "cinematic": "cinematic film still of {prompt}, wide screen, dramatic lighting, shallow depth of field",
    "anime": "anime artwork of {prompt}, clean outlines, cel shading, vivid flat color",
    "photographic": "photograph of {prompt}, natural light, 50mm lens, fine film grain",
    "comic": "comic book panel of {prompt}, bold ink outlines, halftone dots, bright color",
    "lineart": "line art drawing of {prompt}, black ink on white paper, thin clean lines, no shading",
    "pixelart": "pixel art of {prompt}, low resolution sprite, large square pixels, limited palette",
    NO_STYLE: "{prompt}",
}

ALIASES: dict[str, str] = {
    "van gogh": "gogh",
    "line art": "lineart",
    "pixel art": "pixelart",
    "surrealism": "surrealistic",
    "photo": "photographic",
}


def resolve_style(name: str) -> str | None:
    """The style that ``name`` means in any case and with its aliases, or None where there is none."""
    folded = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    style = ALIASES.get(folded, folded.replace(" ", ""))
    return style if style in STYLES else None


def apply_style(prompt: str, style: str) -> str:
    """``prompt`` inside its style's template; braces in the prompt are left alone."""
    return STYLES[style].replace("{prompt}", prompt)
