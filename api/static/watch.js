// What is in the kiln: jobs from the API, kept up to date by its events, or by asking where there are none; cards out.

import { get, jobPath, post, Problem } from "./api.js";
import { $, arrange, el, say, show, toast } from "./dom.js";
import { follow } from "./stream.js";
import { capital, standing } from "./words.js";

const ACTIVE = ["queued", "running"];
const SHOWN = { running: 12, queued: 6, over: 18 };
const PAUSE = { active: 1000, idle: 4000, streaming: 5000, hidden: 15_000 };
const AT_ONCE = 8; // jobs that are asked for one by one

const jobs = new Map();
const cards = new Map();
const previews = new Map();
const unsure = new Set(); // ids whose job changed in a way that only the API can tell
let streaming = false;
let waiting = 0;
let hooks = { came: () => {}, open: () => {}, styles: new Map() };
let timer;
let busy = false;

// `came()` is called for each finished picture, `open(pictures, place)` where one is to be seen.
export async function start(given) {
  hooks = given;
  for (const status of ["succeeded", "failed"]) {
    const { data } = await get("/v1/jobs", { status, limit: status === "failed" ? 3 : SHOWN.over });
    for (const job of data) jobs.set(job.id, job);
  }
  follow("/v1/events", { onEvent: hear, onState: (open) => ((streaming = open), open && soon(0)) });
  document.addEventListener("visibilitychange", () => document.hidden || soon(0));
  await refresh();
}

// A job that this page made: shown before anything is heard of it.
export function add(job) {
  put(job);
  draw();
  soon(0);
}

function soon(pause) {
  clearTimeout(timer);
  timer = setTimeout(refresh, pause);
}

function pauseNow() {
  if (document.hidden) return PAUSE.hidden;
  if (streaming) return PAUSE.streaming;
  return [...jobs.values()].some((job) => ACTIVE.includes(job.status)) ? PAUSE.active : PAUSE.idle;
}

async function refresh() {
  if (busy) return;
  busy = true;
  try {
    // the newest of all, too: a job may come and be over between two rounds
    const [running, queued, newest] = await Promise.all(
      ["running", "queued", ""].map((status) => get("/v1/jobs", { status, limit: SHOWN.running })),
    );
    const found = [...newest.data, ...running.data, ...queued.data];
    const seen = new Set(found.map((job) => job.id));
    for (const job of jobs.values()) if (ACTIVE.includes(job.status) && !seen.has(job.id)) unsure.add(job.id);
    found.forEach(put);
    waiting = queued.has_more ? Infinity : queued.data.length;
    await settle();
    draw();
  } catch {
    // the header tells that Kiln does not answer; the next round may
  } finally {
    busy = false;
    soon(pauseNow());
  }
}

// Asks for what is neither queued nor running any more, a few at a time: of a large batch the newest will do.
async function settle() {
  const ids = [...unsure].slice(-AT_ONCE);
  for (const id of unsure) {
    if (!ids.includes(id) && jobs.get(id)?.batch_id) {
      unsure.delete(id);
      jobs.delete(id);
    }
  }
  for (const job of await Promise.all(ids.map(find))) {
    if (job) put(job);
  }
}

async function find(id) {
  try {
    const job = await get(jobPath(id));
    unsure.delete(id);
    return job;
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 404) {
      unsure.delete(id);
      jobs.delete(id);
      draw();
    }
    return null;
  }
}

// Terminal is terminal: an answer that was overtaken on its way changes nothing.
function put(job) {
  const before = jobs.get(job.id);
  if (before && !ACTIVE.includes(before.status) && ACTIVE.includes(job.status)) return;
  jobs.set(job.id, job);
  if (!ACTIVE.includes(job.status)) previews.delete(job.id);
  if (job.status === "succeeded" && before?.status !== "succeeded") hooks.came();
}

function hear(name, told) {
  const job = jobs.get(told.job_id);
  if (name === "preview") {
    if (told.index === 0 && told.image.startsWith("data:image/")) previews.set(told.job_id, told.image);
  } else if (job && name === "progress") {
    job.progress = told.progress;
  } else if (job && name === "stage") {
    job.stage = told.stage;
  } else if (job && name === "running" && job.status === "queued") {
    Object.assign(job, { status: "running", queue_position: null });
  } else if (name !== "image" && !(job && job.status === name)) {
    unsure.add(told.job_id);
    catchUp();
  }
  draw();
}

let catching;
// Many events of one moment make one round of questions.
function catchUp() {
  catching ??= setTimeout(async () => {
    catching = null;
    await settle();
    draw();
  }, 150);
}

let drawing = 0;
function draw() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    const wanted = choose();
    const lists = { running: [], queued: [], finished: [] };
    for (const job of wanted) lists[ACTIVE.includes(job.status) ? job.status : "finished"].push(card(job));
    for (const [name, found] of Object.entries(lists)) {
      arrange($(name), found);
      show($(name), found.length > 0);
    }
    const ids = new Set(wanted.map((job) => job.id));
    for (const id of cards.keys()) if (!ids.has(id)) cards.delete(id);
    show($("over"), lists.finished.length > 0);
    show($("jobs-empty"), !lists.running.length && !lists.queued.length);
    say($("watch-note"), waiting > lists.queued.length ? "More are waiting than are shown." : "");
  });
}

// The jobs to show: at work, waiting, over; and what is beyond that, forgotten.
function choose() {
  const all = [...jobs.values()];
  const of = (...statuses) => all.filter((job) => statuses.includes(job.status));
  const over = all.filter((job) => !ACTIVE.includes(job.status) && !isOld(job)).sort(later);
  for (const job of over.slice(4 * SHOWN.over)) jobs.delete(job.id);
  return [
    ...of("running").sort((one, two) => (one.id < two.id ? -1 : 1)).slice(0, SHOWN.running),
    ...of("queued").filter(isNear).sort((one, two) => (one.queue_position ?? 1e9) - (two.queue_position ?? 1e9)).slice(0, SHOWN.queued),
    ...over.slice(0, SHOWN.over),
  ];
}

// What was canceled is of no interest for long; what a batch has for its night stands under Nights.
const isOld = (job) => job.status === "canceled" && Date.now() - new Date(job.finished_at) > 60_000;
const isNear = (job) => !job.batch_id || new Date(job.input.not_before) <= new Date();

const later = (one, two) => (one.finished_at > two.finished_at ? -1 : 1);

function card(job) {
  if (!cards.has(job.id)) cards.set(job.id, build(job));
  const made = cards.get(job.id);
  made.update(jobs.get(job.id));
  return made.box;
}

function build(job) {
  const style = hooks.styles.get(job.input.style) ?? job.input.style;
  const frame = el("div", { class: "frame" });
  const line = el("p", { class: "standing soft" });
  const bar = el("progress", { max: 100, "aria-label": `Progress of ${job.input.prompt}` });
  const button = el("button", { type: "button", class: "quiet" });
  const box = el("li", { class: "job" }, frame, bar,
    el("p", { class: "wish" }, job.input.prompt),
    el("div", { class: "foot" }, line, button));
  let shown = "";
  const update = (now) => {
    box.dataset.status = now.status;
    bar.value = now.progress.percent;
    show(bar, now.status === "running");
    const kept = now.images.filter((image) => image.url);
    const score = kept.length ? ` · ${Math.max(...kept.map((image) => image.clip_score)).toFixed(1)}` : "";
    say(line, now.status === "succeeded" ? style + score : standing(now));
    steer(button, now);
    const key = kept.length ? kept.map((image) => image.id).join() : (previews.get(now.id) ?? now.status);
    if (key !== shown) fillFrame(frame, now, kept);
    shown = key;
  };
  return { box, update };
}

function fillFrame(frame, job, kept) {
  frame.classList.toggle("many", kept.length > 1);
  if (kept.length) {
    frame.replaceChildren(...kept.map((image, place) =>
      el("button", { type: "button", "aria-label": `Open ${job.input.prompt}`, onclick: () => hooks.open(job, kept, place) },
        el("img", { src: kept.length > 1 ? image.thumbnail_url : image.url, alt: "" }))));
  } else if (previews.has(job.id)) {
    const image = frame.querySelector("img.preview") ?? el("img", { class: "preview", alt: "A preview of the picture" });
    image.src = previews.get(job.id);
    frame.replaceChildren(image);
  } else {
    frame.replaceChildren(el("span", { class: "ember", "aria-hidden": "true" }));
  }
}

function steer(button, job) {
  const call = ACTIVE.includes(job.status) ? "cancel" : ["failed", "expired", "canceled"].includes(job.status) ? "retry" : "";
  show(button, call !== "");
  if (!call || button.dataset.call === call) return;
  button.dataset.call = call;
  button.textContent = call === "cancel" ? "Cancel" : "Again";
  button.setAttribute("aria-label", `${button.textContent}: ${job.input.prompt}`);
  button.onclick = async () => {
    try {
      add(await post(`${jobPath(job.id)}/${call}`));
    } catch (problem) {
      toast(capital(problem.message));
    }
  };
}

