// The form that makes pictures: choices from the API in; a job or a batch out, or each error beside its field.

import { get, key, post, Problem } from "./api.js";
import { asCurl, asPython } from "./code.js";
import { $, closable, el, say, show, toast } from "./dom.js";
import { count, duration, styleName } from "./words.js";

const form = $("make");
const fields = form.elements;
const NUMBERS = ["num_inference_steps", "guidance_scale", "width", "height", "num_images", "keep_best", "seed"];
const OF_A_BATCH = ["num_inference_steps", "guidance_scale", "width", "height"];
const LABELS = { one: ["Make a picture", "Prompt", "Style"], batch: ["Make a batch", "Prompts, one a line", "Styles"] };
const TEXTS = ["negative_prompt", "scheduler", "model"];

let defaults = {};
let made = () => {};
let estimating;
const typed = new Set(); // fields that the user was faster in than the defaults

// Fills the form with what there is to choose from. `onMade(kind, thing)` is told of each job and batch.
export async function start({ styles, schedulers, models }, onMade) {
  made = onMade;
  $("styles").append(...styles.map((style) => chip(style)));
  fields.scheduler.append(...schedulers.map(({ id }) => el("option", { value: id }, id.replaceAll("_", " "))));
  fields.model.append(...models.map(({ id, servable }) => el("option", { value: id }, servable ? id : `${id} (no worker)`)));
  fields.tz.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  for (const box of form.querySelectorAll("[data-field]")) {
    box.append(el("p", { class: "error", id: `${box.dataset.field}-error`, hidden: true }));
  }
  form.addEventListener("submit", submit);
  form.addEventListener("input", touched);
  await applyDefaults();
  fields.model.addEventListener("change", () => applyDefaults(fields.model.value).catch(tell));
  for (const mode of fields.mode) mode.addEventListener("change", () => setMode(mode.value));
  $("copy-curl").addEventListener("click", () => copy("curl"));
  $("copy-python").addEventListener("click", () => copy("Python"));
  closable($("code-dialog"));
  setMode("one");
}

export function setMode(mode) {
  fields.mode.value = mode;
  form.dataset.mode = mode;
  for (const box of form.querySelectorAll("#styles input")) box.type = mode === "batch" ? "checkbox" : "radio";
  const [title, prompt, style] = LABELS[mode];
  $("make-title").textContent = title;
  $("prompt-label").textContent = prompt;
  $("style-label").textContent = style;
  clearErrors();
  touched();
}

// The wish of a picture, to be changed.
export function fill(input) {
  setMode("one");
  fields.prompt.value = input.prompt;
  for (const box of form.querySelectorAll("#styles input")) box.checked = box.value === input.style;
  for (const name of [...NUMBERS, ...TEXTS]) fields[name].value = input[name] ?? "";
  fields.enhance.checked = input.enhance;
  $("more").open = true;
  touched();
  fields.prompt.focus();
}

const chip = (style) => {
  const box = el("input", { type: "radio", name: "style", value: style.id });
  return el("label", { title: style.template }, box, el("span", {}, styleName(style)));
};

// Fields that were not touched take the model's defaults; the others stay.
async function applyDefaults(model) {
  const before = defaults;
  defaults = await get("/v1/defaults", { model });
  for (const name of [...NUMBERS, ...TEXTS]) {
    const field = fields[name];
    const left = before.model ? field.value === String(before[name] ?? "") : !typed.has(name);
    if (left) field.value = defaults[name] ?? "";
  }
  if (!before.model) {
    if (!typed.has("prompt")) fields.prompt.value = defaults.prompt;
    if (!typed.has("enhance")) fields.enhance.checked = defaults.enhance;
    if (!typed.has("style")) for (const box of form.querySelectorAll("#styles input")) box.checked = box.value === defaults.style;
  }
  touched();
}

const isBatch = () => fields.mode.value === "batch";

const chosen = () => [...form.querySelectorAll("#styles input:checked")].map((box) => box.value);

// What the form says beyond the defaults; a field that holds no number throws, and is named.
function request() {
  return isBatch() ? { path: "/v1/batches", body: batchBody() } : { path: "/v1/jobs", body: jobBody() };
}

function jobBody() {
  const body = { prompt: fields.prompt.value.trim(), ...changed([...NUMBERS, ...TEXTS]) };
  const [style] = chosen();
  if (style && style !== defaults.style) body.style = style;
  return body;
}

function batchBody() {
  const prompts = fields.prompt.value.split("\n").map((line) => line.trim()).filter(Boolean);
  const matrix = { prompts: prompts.length ? prompts : [""] };
  const styles = chosen();
  if (styles.length) matrix.styles = styles;
  if (fields.seeds_per_prompt.value !== "") matrix.seeds_per_prompt = number("seeds_per_prompt");
  const body = { matrix };
  if (fields.name.value.trim()) body.name = fields.name.value.trim();
  const same = changed([...OF_A_BATCH, ...TEXTS]);
  if (Object.keys(same).length) body.defaults = same;
  if (fields.batch_keep_best.value !== "") body.keep_best = number("batch_keep_best");
  if (fields.night.checked) body.window = { start: fields.start.value, end: fields.end.value, tz: fields.tz.value };
  return body;
}

function changed(names) {
  const found = {};
  for (const name of names) {
    const value = NUMBERS.includes(name) ? number(name) : fields[name].value;
    if (value !== null && value !== (defaults[name] ?? null)) found[name] = value;
  }
  if (fields.enhance.checked !== defaults.enhance) found.enhance = fields.enhance.checked;
  return found;
}

function number(name) {
  const field = fields[name];
  if (field.validity.badInput) {
    throw new Problem(422, { detail: "", errors: [{ pointer: `/${name}`, detail: "must be a number" }] });
  }
  return field.value === "" ? null : Number(field.value);
}

async function submit(event) {
  event.preventDefault();
  clearErrors();
  $("fire").disabled = true;
  try {
    const { path, body } = request();
    const thing = await post(path, body);
    toast(isBatch() ? "The batch is in the queue." : "In the queue.");
    made(isBatch() ? "batch" : "job", thing);
  } catch (problem) {
    tell(problem);
  } finally {
    $("fire").disabled = false;
  }
}

function clearErrors() {
  show($("make-error"), false);
  for (const box of form.querySelectorAll("[data-field]")) clearError(box);
}

function clearError(box) {
  show(box.querySelector(".error"), false);
  for (const input of box.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
}

// Each error goes beside the field that its pointer names; what names none goes above the button.
function tell(problem) {
  const astray = problem.errors?.length ? [] : [problem instanceof Problem ? problem.message : "Kiln does not answer."];
  let first;
  for (const { pointer, detail } of problem.errors ?? []) {
    const box = form.querySelector(`[data-field="${fieldOf(pointer)}"]`);
    if (!box || getComputedStyle(box).display === "none") astray.push(`${pointer.slice(1)} ${detail}`);
    else {
      const input = mark(box, pointer, detail);
      first ??= input;
    }
  }
  if (astray.length) $("make-error").textContent = astray.join("; ");
  show($("make-error"), astray.length > 0);
  first?.focus();
}

function mark(box, pointer, detail) {
  const error = box.querySelector(".error");
  const line = pointer.match(/^\/matrix\/prompts\/(\d+)/);
  error.textContent = line ? `prompt ${Number(line[1]) + 1} ${detail}` : detail;
  show(error);
  box.closest("details")?.setAttribute("open", "");
  const input = box.querySelector("input, textarea, select");
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", error.id);
  return input;
}

const NAMES = { prompts: "prompt", styles: "style", seeds: "seeds_per_prompt", steps: "num_inference_steps", guidance: "guidance_scale" };

function fieldOf(pointer) {
  const parts = pointer.split("/").slice(1);
  if (parts[0] === "matrix" || parts[0] === "defaults") parts.shift();
  const name = NAMES[parts[0]] ?? parts[0];
  return CSS.escape(isBatch() && name === "keep_best" ? "batch_keep_best" : name);
}

function touched(event) {
  if (event) typed.add(event.target.name);
  const box = event?.target.closest("[data-field]");
  if (box) clearError(box);
  const pictures = Number(fields.num_images.value) || 1;
  say($("fire"), isBatch() ? "Start the batch" : pictures > 1 ? `Make ${pictures} pictures` : "Make it");
  clearTimeout(estimating);
  say($("estimate"), "");
  if (isBatch()) estimating = setTimeout(estimate, 400);
}

// What the batch would be, by the API's own reckoning. What is wrong with it is told when it is sent.
async function estimate() {
  try {
    const { body } = request();
    const told = await post("/v1/batches", { ...body, dry_run: true });
    const time = told.seconds == null ? "" : `, about ${duration(told.seconds)}`;
    if (isBatch()) say($("estimate"), count(told.images, "picture") + time);
  } catch {
    say($("estimate"), "");
  }
}

async function copy(language) {
  clearErrors();
  try {
    const { path, body } = request();
    const write = language === "curl" ? asCurl : asPython;
    await offer(write(location.origin, path, body, Boolean(key.get())), language);
  } catch (problem) {
    tell(problem);
  }
}

async function offer(text, language) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`Copied as ${language}.`);
  } catch {
    // no clipboard on plain http, or not allowed: then the user copies it
    $("code").value = text;
    $("code-dialog").showModal();
    $("code").select();
  }
}

