// The gallery: a filter in, the pictures that match it out, page by page as one scrolls.

import { get, Problem } from "./api.js";
import { $, el, say, show } from "./dom.js";
import { Grid } from "./grid.js";
import { count } from "./words.js";

const PAGE = 100;
const RENEWAL = 60_000; // milliseconds before a picture that does not load is asked for once more
const form = $("filters");

let items = []; // all that was loaded, each with the number of its page
let pages = []; // the cursor behind which each page begins
let more = true;
let loading = null;
let asked = 0; // grows with every new filter: an answer to an old one is dropped
let names = new Map();
let stale = false;
let started = false;
let open = () => {};
let grid;

export function start(styles, onOpen) {
  open = onOpen;
  names = styles;
  $("filter-style").append(...[...styles].map(([id, name]) => el("option", { value: id }, name)));
  grid = new Grid($("grid"), { make: tile, near: loadMore });
  let typing;
  form.addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(reload, event.target.type === "search" || event.target.type === "number" ? 300 : 0);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  $("fresh").addEventListener("click", () => {
    scrollTo({ top: 0 });
    reload();
  });
}

// Shows the gallery; `wanted` are filters by their names, from a link.
export async function enter(wanted) {
  const batch = wanted.get("batch_id");
  if (batch) $("filter-batch").append(el("option", { value: batch }, batch)); // its name comes with the list
  listBatches();
  if ([...wanted].length) {
    for (const field of form.elements) if (field.name) field.value = wanted.get(field.name) ?? (field.name === "sort" ? "-id" : "");
  }
  if (!started || [...wanted].length || stale) await reload();
  else grid.draw();
}

// A picture came. One who looks at the newest sees it at once, others are told.
export function fresh() {
  stale = true;
  if (!$("view-gallery").hidden) {
    if (scrollY < 200 && !$("picture").open) reload();
    else show($("fresh"));
  }
}

// What the picture's dialog walks through.
export const shown = {
  at: (place) => items[place],
  find: (id) => items.findIndex((item) => item.id === id),
  ahead: (place) => place + 3 > items.length && loadMore(),
  left: (place) => grid.focus(place),
};

async function listBatches() {
  const { data } = await get("/v1/batches", { limit: 50 }).catch(() => ({ data: [] }));
  const select = $("filter-batch");
  const chosen = select.value;
  const known = data.map((batch) => el("option", { value: batch.id }, batch.name || batch.id));
  if (chosen && !data.some((batch) => batch.id === chosen)) known.unshift(el("option", { value: chosen }, chosen));
  select.replaceChildren(el("option", { value: "" }, "any"), ...known);
  select.value = chosen;
}

async function reload() {
  started = true;
  stale = false;
  asked += 1;
  more = true;
  loading = null;
  show($("fresh"), false);
  const old = items;
  items = [];
  pages = [];
  await loadMore();
  if (old.length && !items.length) grid.set(items);
}

function loadMore() {
  if (!more || !started) return loading;
  if (loading) return loading;
  const now = load().finally(() => {
    if (loading === now) loading = null;
  });
  loading = now;
  return now;
}

async function load() {
  const mine = asked;
  const after = items.at(-1)?.id;
  try {
    const page = await fetchPage(after);
    if (mine !== asked) return;
    items = items.concat(page.data.map((item) => ({ ...item, page: pages.length })));
    pages.push(after);
    more = page.has_more;
    show($("gallery-error"), false);
  } catch (problem) {
    if (mine !== asked) return;
    more = false;
    $("gallery-error").textContent = problem instanceof Problem ? problem.message : "Kiln does not answer.";
    show($("gallery-error"));
  }
  grid.set(items);
  tell();
}

const fetchPage = (after) => get("/v1/images", { ...Object.fromEntries(new FormData(form)), limit: PAGE, after });

function tell() {
  const filtered = [...new FormData(form)].some(([name, value]) => name !== "sort" && value !== "");
  say($("gallery-empty"), filtered ? "No picture is like that." : "No pictures yet: make one.");
  show($("gallery-empty"), !items.length && !more);
  say($("gallery-count"), items.length ? `${count(items.length, "picture")}${more ? " so far" : ""}` : "");
}

function tile(item) {
  const image = el("img", { src: item.thumbnail_url, alt: "", decoding: "async", onerror: () => renew(item) });
  const style = names.get(item.style) ?? item.style;
  const score = item.clip_score.toFixed(1);
  return el("li", { class: "tile" },
    el("button", { type: "button", "aria-label": `${item.prompt}, ${style}, score ${score}`, onclick: () => open(shown.find(item.id)) },
      el("span", { class: "frame" }, image),
      el("span", { class: "caption" }, item.prompt),
      el("span", { class: "caption soft" }, `${style} · ${score}`)));
}

const renewing = new Map();

// Presigned addresses expire: the page that the picture came with is asked for again, once for all its pictures.
async function renew(item) {
  if (Date.now() - item.renewed < RENEWAL) return;
  const page = item.page;
  const mine = asked;
  if (!renewing.has(page)) renewing.set(page, fetchPage(pages[page]).finally(() => renewing.delete(page)));
  const found = await renewing.get(page).catch(() => ({ data: [] }));
  if (mine !== asked) return;
  item.renewed = Date.now();
  const again = found.data.find(({ id }) => id === item.id);
  if (again) Object.assign(item, again);
  if (again) grid.renew(item.id);
}
