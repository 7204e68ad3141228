"""Stage 1, enhance: the user's prompt in; its styled form and the final text, with GPT-2's quality words, out."""

from collections.abc import Sequence
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
    words: tuple[str, ...] = ()
    if spec.enhance:
        work = partial(choose_words, model)
        words = device.share(work, ("enhance", model.name), (styled, spec.seed))
    return Enhanced(
        prompt=spec.prompt,
        styled_prompt=styled,
        enhanced_prompt=", ".join([styled, *put_pairs_first(words)]),
    )


def choose_words(model: Model, asked: Sequence[tuple[str, int]]) -> list[tuple[str, ...]]:
    """Let GPT-2 continue each text with quality words, each whole and at most once; () where there is no room.

    Samples among the TOP_K likeliest tokens that begin or continue an unused word, with a generator of the text's
    own seed; a word of several tokens is begun only where its last one still fits. Texts are written side by side,
    each up to its own end, and nothing outlives the call.
    """
    writers = [_Writer(model, text, seed) for text, seed in asked]
    blank = (model.enhancer.config.eos_token_id,)
    prompts = [writer.prompt if writer.allowed else blank for writer in writers]
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[*blank * (width - len(prompt)), *prompt] for prompt in prompts], device=model.device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)[:, None]
    seen = (torch.arange(width, device=model.device) >= width - lengths).long()
    cache = None
    while any(writer.allowed for writer in writers):
        positions = (seen.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = model.enhancer(ids, attention_mask=seen, position_ids=positions, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        tokens = [writer.write(row[-1]) for writer, row in zip(writers, output.logits, strict=True)]
        ids = torch.tensor([[token] for token in tokens], device=model.device)
        seen = torch.nn.functional.pad(seen, (0, 1), value=1)
    return [tuple(writer.chosen) for writer in writers]


class _Writer:
    """One text being continued: which words are left, and the one that is being spelled."""

    def __init__(self, model: Model, text: str, seed: int) -> None:
        self.prompt: Tokens = tuple(model.enhancer_tokenizer(text, add_special_tokens=False).input_ids)
        self.chosen: list[str] = []
        self._spelling: dict[str, Tokens] = {
            word: tuple(model.enhancer_tokenizer(f" {word}", add_special_tokens=False).input_ids) for word in WORDS
        }
        self._generator = torch.Generator().manual_seed(seed)
        self._spelled: Tokens = ()
        self._room = min(MAX_TOKENS, model.enhancer.config.n_positions) - len(self.prompt)
        self._idle = model.enhancer.config.eos_token_id
        self.allowed = _next_tokens(self._spelling, self._spelled, self._room)

    def write(self, logits: torch.Tensor) -> int:
        """The next token, given its ``logits`` (vocabulary,); any token where the text has come to its end."""
        if not self.allowed:
            return int(self._idle)
        token = _sample(logits, self.allowed, self._generator)
        self._spelled += (token,)
        self._room -= 1
        if word := _completed(self._spelling, self._spelled):
            self.chosen.append(word)
            del self._spelling[word]
            self._spelled = ()
        self.allowed = _next_tokens(self._spelling, self._spelled, self._room)
        return token


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
