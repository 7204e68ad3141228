// Numbers, times and states in; words for people out. Pure.

export function duration(seconds) {
  if (seconds == null) return "";
  if (seconds < 1) return "a moment";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(seconds < 36_000 ? 1 : 0)} h`;
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// "Van Gogh" for gogh: where a style has an alias of two words, that is its name.
export function styleName(style) {
  const alias = style.aliases.find((name) => name.includes(" "));
  return (alias ?? style.id).split(" ").map(capital).join(" ");
}

export function clock(text) {
  const at = new Date(text);
  const now = new Date();
  const time = at.toLocaleTimeString("en-GB", { timeStyle: "short" });
  if (at.toDateString() === now.toDateString()) return time;
  const year = at.getFullYear() === now.getFullYear() ? {} : { year: "numeric" };
  return `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short", ...year })}, ${time}`;
}

export function bytes(size) {
  return size < 1 << 20 ? `${Math.round(size / 1024)} KiB` : `${(size / (1 << 20)).toFixed(1)} MiB`;
}

const STAGES = { enhance: "Choosing words", diffuse: "Painting", score: "Scoring", store: "Storing" };

// Where a job stands, in one line.
export function standing(job) {
  const left = job.eta_seconds == null ? "" : ` · ${duration(job.eta_seconds).replaceAll(" ", "\u00a0")}`;
  switch (job.status) {
    case "queued":
      if (job.servable === false) return "Waiting: no worker has this model";
      if (new Date(job.input.not_before) > new Date()) return "Waiting for its time";
      return job.queue_position ? `Waiting · number ${job.queue_position.toLocaleString("en")}${left}` : "Waiting";
    case "running":
      return `${STAGES[job.stage] ?? "Starting"} · ${Math.floor(job.progress.percent)}\u00a0%${left}`;
    case "failed":
      return job.error?.message ?? job.error?.detail ?? "Failed";
    case "canceled":
      return "Canceled";
    case "expired":
      return "Its deadline passed";
    default:
      return "";
  }
}
