"""Stage 1, enhance: the user's prompt in; its styled form and the final text, with GPT-2's quality words, out."""

from functools import partial

import torch

from common.jobs.spec import JobSpec
from common.styles import apply_style
from worker.diffusion.device import Device
from worker.stages.words import WORDS, put_pairs_first
from worker.ticket import Enhanced
from worker.weights import Model

MAX_TOKENS = 50  # the styled prompt and its enhancement together
TOP_K = 50

Tokens = tuple[int, ...]


def enhance(spec: JobSpec, model: Model, device: Device) -> Enhanced:
    """The job's texts. The same prompt, style and seed give the same words, whatever ran before or beside."""
    styled = apply_style(spec.prompt, spec.style)
    words = device.run(partial(choose_words, styled, spec.seed, model)) if spec.enhance else ()
    return Enhanced(
        prompt=spec.prompt,
        styled_prompt=styled,
        enhanced_prompt=", ".join([styled, *put_pairs_first(words)]),
    )


def choose_words(text: str, seed: int, model: Model) -> tuple[str, ...]:
    """Let GPT-2 continue ``text`` with quality words, each whole and at most once; () where there is no room.

    Samples among the TOP_K likeliest tokens that begin or continue an unused word. A word of several tokens is
    begun only where its last one still fits. The generator is this call's own, and nothing outlives the call.
    """
    spelling: dict[str, Tokens] = {
        word: tuple(model.enhancer_tokenizer(f" {word}", add_special_tokens=False).input_ids) for word in WORDS
    }
    ids = torch.tensor([model.enhancer_tokenizer(text, add_special_tokens=False).input_ids], device=model.device)
    generator = torch.Generator().manual_seed(seed)
    chosen: list[str] = []
    spelled: Tokens = ()  # the word being written
    cache = None
    room = min(MAX_TOKENS, model.enhancer.config.n_positions) - ids.shape[1]
    while allowed := _next_tokens(spelling, spelled, room):
        output = model.enhancer(ids, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        token = _sample(output.logits[0, -1], allowed, generator)
        spelled += (token,)
        room -= 1
        ids = torch.tensor([[token]], device=model.device)
        if word := _completed(spelling, spelled):
            chosen.append(word)
            del spelling[word]
            spelled = ()
    return tuple(chosen)


def _next_tokens(spelling: dict[str, Tokens], spelled: Tokens, room: int) -> list[int]:
    """The tokens that continue what is spelled towards a word that ends within ``room``, in ascending order."""
    at = len(spelled)
    fitting = (tokens for tokens in spelling.values() if tokens[:at] == spelled and len(tokens) - at <= room)
    return sorted({tokens[at] for tokens in fitting if len(tokens) > at})


def _completed(spelling: dict[str, Tokens], spelled: Tokens) -> str | None:
    return next((word for word, tokens in spelling.items() if tokens == spelled), None)


def _sample(logits: torch.Tensor, allowed: list[int], generator: torch.Generator) -> int:
    """One of the ``allowed`` tokens, by their likelihood among the TOP_K likeliest. Drawn on the CPU in float32."""
    likely = logits[torch.tensor(allowed, device=logits.device)].to("cpu", torch.float32)
    values, places = likely.topk(min(TOP_K, len(allowed)))
    drawn = torch.multinomial(values.softmax(dim=0), 1, generator=generator)
    return allowed[int(places[drawn])]
