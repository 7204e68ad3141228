// The page: a view for each address behind #, the key, and how full the queue is.

import { get, key, Problem, whenRefused } from "./api.js";
import { $, closable, say, show } from "./dom.js";
import * as form from "./form.js";
import * as gallery from "./gallery.js";
import * as nights from "./nights.js";
import * as picture from "./picture.js";
import * as watch from "./watch.js";
import { styleName } from "./words.js";

const VIEWS = { make: "Make", gallery: "Gallery", nights: "Nights" };
const DEPTH_PAUSE = 4000;

let asking = null;
let declined = false;

// One question for the key, however many calls were refused; who declines is not asked again until they want to.
function ask(refused) {
  if (key.get() !== refused) return true;
  if (declined && !asking) return false;
  asking ??= openKey(refused ? "This key is not known here." : "").finally(() => (asking = null));
  return asking;
}

function openKey(complaint) {
  const dialog = $("key-dialog");
  $("key-error").textContent = complaint;
  show($("key-error"), Boolean(complaint));
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "use" ? $("key").value.trim() : "";
      $("key").value = "";
      dialog.returnValue = "";
      declined = !given;
      if (given) key.set(given);
      show($("key-button"));
      resolve(Boolean(given));
    }, { once: true });
  });
}

function installKey() {
  whenRefused(ask);
  closable($("key-dialog"));
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    $("key-dialog").close("use");
  });
  show($("key-button"), Boolean(key.get()));
  $("key-button").addEventListener("click", async () => {
    if (await openKey("")) location.reload();
  });
}

async function tellDepth() {
  try {
    const { lanes } = await get("/v1/queue");
    const sum = (name) => Object.values(lanes).reduce((all, lane) => all + lane[name], 0);
    const [running, queued] = [sum("running"), sum("queued")];
    const words = [running && `${running.toLocaleString("en")} in the fire`, queued && `${queued.toLocaleString("en")} waiting`];
    say($("depth"), words.filter(Boolean).join(" · ") || "The kiln is idle");
    $("depth").dataset.state = running ? "hot" : queued ? "full" : "idle";
  } catch (problem) {
    say($("depth"), problem instanceof Problem ? problem.message : "Kiln does not answer");
    $("depth").dataset.state = "away";
  }
  setTimeout(tellDepth, document.hidden ? 4 * DEPTH_PAUSE : DEPTH_PAUSE);
}

function enter() {
  const [name, query = ""] = location.hash.slice(1).split("?");
  if (name === "main") return; // the link that skips the header
  const view = name in VIEWS ? name : "make";
  for (const each of Object.keys(VIEWS)) show($(`view-${each}`), each === view);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${VIEWS[view]} · Kiln`;
  const wanted = new URLSearchParams(query);
  if (view === "gallery") gallery.enter(wanted);
  if (view === "nights") nights.enter();
  if (view === "make" && wanted.get("mode") === "batch") form.setMode("batch");
}

function go(view) {
  location.hash = view;
  scrollTo({ top: 0 });
}

function toWatch() {
  go("make");
  if (matchMedia("(max-width: 56rem)").matches) $("watch-title").scrollIntoView({ behavior: "smooth" });
}

function onMade(kind, thing) {
  if (kind === "batch") go("nights");
  else {
    watch.add(thing);
    toWatch();
  }
}

// What a job's card shows, as the dialog wants it.
function openJob(job, images, place) {
  const pictures = images.map((image) => ({ ...image, prompt: job.input.prompt, style: job.input.style }));
  picture.open({ at: (index) => pictures[index] }, place);
}

async function begin() {
  installKey();
  tellDepth();
  const [styles, schedulers, models] = await Promise.all(["styles", "schedulers", "models"].map((name) => get(`/v1/${name}`)));
  const names = new Map(styles.data.map((style) => [style.id, styleName(style)]));
  nights.start();
  gallery.start(names, (place) => picture.open(gallery.shown, place));
  picture.start(names, {
    made: (job) => onMade("job", job),
    edit: (input) => (go("make"), form.fill(input)),
  });
  await form.start({ styles: styles.data, schedulers: schedulers.data, models: models.data }, onMade);
  addEventListener("hashchange", enter);
  enter();
  await watch.start({ came: gallery.fresh, open: openJob, styles: names });
}

begin().catch((problem) => {
  show($("view-make"));
  $("make-error").textContent = problem instanceof Problem ? problem.message : "Kiln does not answer; load the page again.";
  show($("make-error"));
});
