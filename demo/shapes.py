"""The sizes of the demo model's parts: Stable Diffusion's own layout, only narrower and shallower. Loads nothing."""

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, GPT2Config, GPT2LMHeadModel

NATIVE = 256  # pixels a side that the model paints
SMALL = 128  # pixels a side at which its judges' pictures are drawn
FACTOR = 8  # pixels a side of one latent
LATENTS = 4
WIDTH = 128  # of what the text encoder says about each token
POSITIONS = 77  # tokens of a text
GPT2_POSITIONS = 128
SCALING = 0.18215  # Stable Diffusion's: latents times this have deviation 1
SCORER_SIDE = 64  # pixels a side that the scorer sees
START, END = "<|startoftext|>", "<|endoftext|>"


def make_vae() -> AutoencoderKL:
    """Four levels, so factor 8, and four latent channels; no attention, so that it is the same at every size."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 96, 192),
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=NATIVE,
        scaling_factor=SCALING,
    )


def make_unet() -> UNet2DConditionModel:
    """Four levels as in Stable Diffusion, but the one without attention is the finest: most work is done below it."""
    return UNet2DConditionModel(
        sample_size=NATIVE // FACTOR,
        in_channels=LATENTS,
        out_channels=LATENTS,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
        up_block_types=(*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
        block_out_channels=(48, 96, 160, 224),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=(1, 3, 5, 7),  # heads of each level, whatever its name says: 32 wide each
        norm_num_groups=16,
    )


def make_text_encoder(vocabulary: dict[str, int]) -> CLIPTextModel:
    """Three layers over the tokens of ``vocabulary``."""
    return CLIPTextModel(make_text_config(vocabulary))


def make_text_config(vocabulary: dict[str, int]) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        hidden_act="quick_gelu",
        projection_dim=WIDTH,
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
    )


def make_scorer(vocabulary: dict[str, int]) -> CLIPModel:
    """Two towers of three layers, for the tokens of ``vocabulary`` and for the patches of a small picture."""
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "hidden_act": "quick_gelu",
        "image_size": SCORER_SIDE,
        "patch_size": 8,
        "projection_dim": WIDTH,
    }
    text = make_text_config(vocabulary).to_dict()
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def scorer_preprocessor() -> dict[str, object]:
    """The scorer's image preparation; the constants are the mean and deviation of CLIP's training pictures."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": SCORER_SIDE, "width": SCORER_SIDE},
        "size": {"shortest_edge": SCORER_SIDE},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "rescale_factor": 1 / 255,
    }


def make_enhancer(vocabulary: dict[str, int]) -> GPT2LMHeadModel:
    """Three layers over the tokens of ``vocabulary``."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(vocabulary),
            n_positions=GPT2_POSITIONS,
            n_embd=WIDTH,
            n_layer=3,
            n_head=4,
            bos_token_id=vocabulary[END],
            eos_token_id=vocabulary[END],
        )
    )
