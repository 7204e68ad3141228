// One picture, large: its words, its recipe, and what can be done with it. A list and a place in it in.

import { get, jobPath, post, request } from "./api.js";
import { $, closable, el, save, say, show, toast } from "./dom.js";
import { bytes, clock, duration } from "./words.js";

const dialog = $("picture");
const FORMATS = { "image/png": "png", "image/webp": "webp", "image/jpeg": "jpg" };

let list;
let place = 0;
let job = null;
let names = new Map();
let hooks = { made: () => {}, edit: () => {} };

// `made(job)` is told of each job that starts here, `edit(input)` is given a wish to change.
export function start(styles, given) {
  names = styles;
  hooks = given;
  closable(dialog);
  $("picture-before").addEventListener("click", () => step(-1));
  $("picture-after").addEventListener("click", () => step(1));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("close", () => {
    $("picture-image").removeAttribute("src");
    list.left?.(place);
  });
  $("again").addEventListener("click", () => repeat({ seed: null }));
  $("download").addEventListener("click", download);
  $("edit").addEventListener("click", () => {
    dialog.close();
    hooks.edit(job.input);
  });
}

// `pictures.at(place)` gives a picture or undefined; ahead(place) and left(place) are told where the reader is.
export function open(pictures, at) {
  list = pictures;
  place = at;
  if (!dialog.open) dialog.showModal();
  draw();
}

function step(by) {
  if (!list.at(place + by) || place + by < 0) return;
  place += by;
  list.ahead?.(place);
  draw();
}

async function draw() {
  const image = list.at(place);
  job = null;
  $("picture-before").disabled = place === 0;
  $("picture-after").disabled = !list.at(place + 1);
  for (const button of [$("again"), $("edit"), $("download")]) button.disabled = true;
  show($("picture-error"), false);
  const shown = $("picture-image");
  shown.alt = image.prompt;
  shown.src = image.url;
  say($("picture-prompt"), image.prompt);
  say($("picture-line"), `${names.get(image.style) ?? image.style} · score ${image.clip_score.toFixed(2)}`);
  $("about").scrollTop = 0;
  try {
    const found = await get(jobPath(image.job_id));
    if (list.at(place) === image) describe(found, image);
  } catch (problem) {
    if (list.at(place) === image) tell(problem);
  }
}

function describe(found, image) {
  job = found;
  const now = job.images.find((one) => one.id === image.id) ?? image;
  const shown = $("picture-image");
  if (!shown.complete || !shown.naturalWidth) shown.src = now.url ?? ""; // its address had expired
  for (const button of [$("again"), $("edit"), $("download")]) button.disabled = false;
  $("other-styles").replaceChildren(...[...names].filter(([id]) => id !== job.input.style).map(([id, name]) =>
    el("button", { type: "button", onclick: () => repeat({ style: id, seed: now.seed, num_images: 1, keep_best: null }) }, name)));
  $("picture-more").replaceChildren(
    el("h3", {}, "Final prompt"),
    el("p", { class: "final" }, job.enhanced_prompt ?? job.styled_prompt ?? job.input.prompt),
    el("h3", {}, "Recipe"),
    facts(now),
    el("details", {}, el("summary", {}, "Everything that was recorded"),
      el("pre", { tabindex: "0" }, JSON.stringify({ input: job.input, recipe: job.recipe, timings: job.timings }, null, 2))));
}

function facts(image) {
  const { input } = job;
  const spent = (new Date(job.finished_at) - new Date(job.started_at)) / 1000;
  const known = {
    Seed: String(image.seed),
    Size: `${image.width} × ${image.height}, ${bytes(image.bytes)}`,
    Steps: `${input.num_inference_steps}, guidance ${input.guidance_scale}`,
    Scheduler: input.scheduler.replaceAll("_", " "),
    Model: input.model,
    Made: clock(job.finished_at) + (job.started_at && !job.reused_from ? `, in ${duration(spent)}` : ""),
    "Not wanted": input.negative_prompt,
  };
  const rows = Object.entries(known).filter(([, value]) => value);
  return el("dl", {}, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

async function repeat(changes) {
  try {
    const made = await post(`${jobPath(job.id)}/retry`, { ...changes, lane: "interactive" });
    toast("In the queue.");
    dialog.close();
    hooks.made(made);
  } catch (problem) {
    tell(problem);
  }
}

async function download() {
  const image = list.at(place);
  try {
    const answer = await request("GET", `/v1/images/${encodeURIComponent(image.id)}/content`, { query: { proxy: 1 } });
    save(await answer.blob(), `${image.id}.${FORMATS[image.content_type] ?? "png"}`);
  } catch (problem) {
    tell(problem);
  }
}

function tell(problem) {
  $("picture-error").textContent = problem.message;
  show($("picture-error"));
}
