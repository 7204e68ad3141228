// Batches: how far each is, when it may run, and the four calls that steer it; its report in a frame of its own.

import { batchPath, get, key, post, request } from "./api.js";
import { $, arrange, closable, el, save, say, show, toast } from "./dom.js";
import { capital, clock, count, duration } from "./words.js";

const PAGE = 20;
const PAUSE = 2000;
const STATES = ["succeeded", "running", "queued", "failed", "expired", "canceled"];
const LIVE = ["queued", "running", "paused"];

const batches = new Map();
const cards = new Map();
let last = null;
let timer;

export function start() {
  closable($("report"));
  $("older").addEventListener("click", () => load(last));
}

export function enter() {
  load();
}

async function load(after) {
  clearTimeout(timer);
  try {
    const page = await get("/v1/batches", { limit: PAGE, after });
    for (const batch of page.data) batches.set(batch.id, batch);
    if (after || last === null) {
      last = page.last_id;
      show($("older"), page.has_more);
    }
    draw();
  } catch {
    // the header tells that Kiln does not answer
  }
  if (!$("view-nights").hidden) timer = setTimeout(load, document.hidden ? 5 * PAUSE : PAUSE);
}

function draw() {
  const wanted = [...batches.values()].sort((one, two) => (one.id > two.id ? -1 : 1));
  arrange($("batches"), wanted.map(card));
  show($("batches-empty"), !wanted.length);
}

function card(batch) {
  if (!cards.has(batch.id)) cards.set(batch.id, build(batch));
  const made = cards.get(batch.id);
  made.update(batch);
  return made.box;
}

function build(batch) {
  const { id } = batch;
  const title = batch.name || `Batch of ${clock(batch.created_at)}`;
  const state = el("span", { class: "badge" });
  const bar = el("div", { class: "bars", "aria-hidden": "true" }, ...STATES.map((status) => el("i", { "data-status": status })));
  const told = el("p", { class: "counts" });
  const when = el("p", { class: "soft" });
  const named = (text, call, attributes = {}) =>
    el("button", { type: "button", "aria-label": `${text}: ${title}`, onclick: call, ...attributes }, text);
  const buttons = {
    pause: named("Pause", () => steer(id, "pause")),
    resume: named("Resume", () => steer(id, "resume")),
    cancel: named("Cancel", () => twice(buttons.cancel, () => steer(id, "cancel")), { class: "quiet" }),
    retry: named("Try failed ones again", () => steer(id, "retry-failed")),
    report: named("Report", () => openReport(id, title)),
    archive: named("Download all", () => archive(id, title), { class: "quiet" }),
  };
  const pictures = el("a", { class: "button", href: `#gallery?batch_id=${encodeURIComponent(id)}&sort=-clip_score`, "aria-label": `Pictures: ${title}` }, "Pictures");
  const box = el("li", { class: "batch card" },
    el("header", {}, el("h2", {}, title), state), bar, told, when,
    el("div", { class: "actions" }, pictures, buttons.report, buttons.pause, buttons.resume, buttons.retry, buttons.archive, buttons.cancel));
  return { box, update: (now) => update(now, { state, bar, told, when, buttons, pictures }) };
}

function update(batch, { state, bar, told, when, buttons, pictures }) {
  const { counts, status } = batch;
  const total = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const live = LIVE.includes(status);
  const lost = (counts.failed ?? 0) + (counts.expired ?? 0);
  say(state, status);
  state.dataset.status = status;
  for (const part of bar.children) {
    const jobs = counts[part.dataset.status] ?? 0;
    show(part, jobs > 0);
    part.style.flexGrow = String(jobs);
  }
  const parts = STATES.filter((name) => counts[name]).map((name) => `${counts[name].toLocaleString("en")} ${name}`);
  say(told, `${parts.join(" · ")} of ${count(total, "job")}`);
  say(when, [pace(batch), batch.eta_seconds != null && status !== "paused" && `about ${duration(batch.eta_seconds)} left`,
    batch.keep_best && `keeps the best ${batch.keep_best}`, nightly(batch)].filter(Boolean).join(" · "));
  show(buttons.pause, live && status !== "paused");
  show(buttons.resume, status === "paused");
  show(buttons.cancel, live);
  show(buttons.retry, lost > 0 && status !== "canceled");
  for (const one of [pictures, buttons.report, buttons.archive]) show(one, (counts.succeeded ?? 0) > 0 || one === buttons.report && lost > 0);
}

// Jobs a minute since the first one started.
function pace(batch) {
  const over = (batch.counts.succeeded ?? 0) + (batch.counts.failed ?? 0);
  if (!batch.started_at || !over) return "";
  const minutes = (new Date(batch.finished_at ?? Date.now()) - new Date(batch.started_at)) / 60_000;
  const rate = over / Math.max(minutes, 1 / 60);
  return rate >= 1 ? `${rate.toFixed(rate < 10 ? 1 : 0)} a minute` : `${(rate * 60).toFixed(1)} an hour`;
}

function nightly({ window, closes_at: closing, status }) {
  if (!window) return "";
  const days = window.days.length < 7 ? ` (${window.days.join(", ")})` : "";
  const until = closing && LIVE.includes(status) ? `, closes ${clock(closing)}` : "";
  return `runs ${window.start} to ${window.end} ${window.tz}${days}${until}`;
}

async function steer(id, call) {
  try {
    const batch = await post(`${batchPath(id)}/${call}`);
    batches.set(id, batch);
    draw();
  } catch (problem) {
    toast(capital(problem.message));
  }
}

// What cannot be taken back asks once more, on the button itself.
function twice(button, act) {
  if (button.dataset.sure) {
    calm(button);
    act();
    return;
  }
  button.dataset.sure = "yes";
  button.textContent = "Really cancel?";
  setTimeout(() => calm(button), 4000);
}

function calm(button) {
  delete button.dataset.sure;
  button.textContent = "Cancel";
}

// The report is a file of its own: shown in a frame that may run nothing, from an address that only this tab has.
async function openReport(id, title) {
  const dialog = $("report");
  $("report-title").textContent = title;
  dialog.querySelector("iframe")?.remove();
  say($("report-wait"), "The report is being made …");
  dialog.showModal();
  try {
    const blob = await (await request("GET", `${batchPath(id)}/report`)).blob();
    const url = URL.createObjectURL(new Blob([blob], { type: "text/html;charset=utf-8" }));
    const frame = el("iframe", { sandbox: "", title: `Report: ${title}`, src: url });
    say($("report-wait"), "");
    dialog.append(frame);
    dialog.addEventListener("close", () => (frame.remove(), URL.revokeObjectURL(url)), { once: true });
    $("report-save").onclick = () => save(blob, `${title}.html`);
  } catch (problem) {
    say($("report-wait"), problem.message);
  }
}

// Without a key the browser itself saves the archive, however large; with one it has to come through this page.
async function archive(id, title) {
  const path = `${batchPath(id)}/archive`;
  if (!key.get()) {
    location.assign(path);
    return;
  }
  toast("The archive is on its way.");
  try {
    save(await (await request("GET", path)).blob(), `${title}.zip`);
  } catch (problem) {
    toast(capital(problem.message));
  }
}
