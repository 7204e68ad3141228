"""The words with which a prompt may be enhanced, and their order. Pure; the demo's enhancer is trained on them."""

from collections.abc import Sequence

WORDS = (
    "acclaimed", "airy", "ambient", "atmospheric", "award", "balanced", "beautiful", "bold", "breathtaking", "bright",
    "clear", "color", "composition", "contrast", "crisp", "delicate", "depth", "detailed", "dramatic", "elegant",
    "evocative", "exquisite", "fine", "focus", "glow", "golden", "graceful", "harmonious", "highly", "hour",
    "immersive", "intricate", "light", "luminous", "majestic", "masterful", "mood", "natural", "ornate", "polished",
    "radiant", "refined", "rich", "serene", "shadows", "sharp", "smooth", "soft", "striking", "stunning",
    "texture", "vibrant", "vivid", "warm", "winning",
)  # fmt: skip

PAIRS = (
    ("highly", "detailed"),
    ("sharp", "focus"),
    ("soft", "light"),
    ("golden", "hour"),
    ("fine", "texture"),
    ("rich", "color"),
    ("dramatic", "shadows"),
    ("award", "winning"),
    ("warm", "glow"),
    ("balanced", "composition"),
)


def put_pairs_first(words: Sequence[str]) -> list[str]:
    """Word pairs such as "highly detailed" put together, and first; the other words follow in their order."""
    pairs = [pair for pair in PAIRS if set(pair) <= set(words)]
    paired = {word for pair in pairs for word in pair}
    return [" ".join(pair) for pair in pairs] + [word for word in words if word not in paired]
