// Elements from names, attributes and children. Text goes in as text nodes alone: what users wrote is never markup.

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child != null && child !== false));
  return made;
}

export function show(element, visible = true) {
  if (element.hidden === visible) element.hidden = !visible;
}

// Sets the text only where it differs: a screen reader hears a live region once.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let fading;
export function toast(text) {
  const box = $("toast");
  box.textContent = text;
  box.classList.add("seen");
  clearTimeout(fading);
  fading = setTimeout(() => box.classList.remove("seen"), 4000);
}

// Elements of `box` in the order of `wanted`, moving as few as possible.
export function arrange(box, wanted) {
  const keep = new Set(wanted);
  for (const child of [...box.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, place) => {
    if (box.children[place] !== child) box.insertBefore(child, box.children[place] ?? null);
  });
}

// Closes on its ×, on Escape (the browser's own), and on a click beside it.
export function closable(dialog) {
  for (const button of dialog.querySelectorAll(".close")) button.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
