"""The words with which a prompt may be enhanced. Data only; the demo's enhancer is trained to know them."""

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
