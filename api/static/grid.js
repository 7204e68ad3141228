// A list of any length in; the tiles of the rows in view out, and no others: the page stays as small as the window.

import { arrange } from "./dom.js";

const LEAST = 168; // pixels of a tile's side
const GAP = 14;
const CAPTION = 46;

export class Grid {
  // `make(item, place)` gives a tile, whose first button opens it; `near()` is called when the end comes near.
  constructor(box, { make, near }) {
    this._box = box;
    this._make = make;
    this._near = near;
    this._items = [];
    this._tiles = new Map();
    this._pending = 0;
    addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(box);
    box.addEventListener("keydown", (event) => this._walk(event));
  }

  set(items) {
    this._items = items;
    const known = new Set(items.map((item) => item.id));
    for (const id of this._tiles.keys()) if (!known.has(id)) this._tiles.delete(id);
    this.draw();
  }

  // Makes the tile anew: what it shows has changed.
  renew(id) {
    this._tiles.delete(id);
    this.draw();
  }

  draw() {
    this._pending ||= requestAnimationFrame(() => {
      this._pending = 0;
      this._draw();
    });
  }

  _draw() {
    const width = this._box.clientWidth;
    if (!width) return; // another view is shown
    const columns = Math.max(2, Math.floor((width + GAP) / (LEAST + GAP)));
    const side = (width - GAP * (columns - 1)) / columns;
    const row = side + CAPTION + GAP;
    const rows = Math.ceil(this._items.length / columns);
    this._columns = columns;
    this._box.style.height = `${Math.max(0, rows * row - GAP)}px`;

    const top = -this._box.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor((top - innerHeight) / row)) * columns;
    const to = Math.min(this._items.length, Math.ceil((top + 2 * innerHeight) / row) * columns);
    const wanted = [];
    for (let place = from; place < to; place += 1) {
      const tile = this._tile(this._items[place], place);
      tile.style.width = `${side}px`;
      tile.style.transform = `translate(${(place % columns) * (side + GAP)}px, ${Math.floor(place / columns) * row}px)`;
      wanted.push(tile);
    }
    arrange(this._box, wanted);
    const shown = new Set(wanted);
    for (const [id, tile] of this._tiles) if (!shown.has(tile)) this._tiles.delete(id);
    if (top + 3 * innerHeight > rows * row) this._near();
  }

  _tile(item, place) {
    let tile = this._tiles.get(item.id);
    if (!tile) {
      tile = this._make(item, place);
      this._tiles.set(item.id, tile);
    }
    tile.dataset.place = place;
    tile.setAttribute("aria-posinset", place + 1);
    tile.setAttribute("aria-setsize", this._items.length);
    return tile;
  }

  _walk(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this._columns, ArrowUp: -this._columns }[event.key];
    const tile = event.target.closest("[data-place]");
    if (!step || !tile || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.focus(Number(tile.dataset.place) + step);
  }

  // The tile at this place, scrolled to and focused.
  focus(place) {
    const item = this._items[place];
    const tile = item && this._tiles.get(item.id);
    tile?.querySelector("button").focus({ preventScroll: true });
    tile?.scrollIntoView({ block: "nearest" });
  }
}
