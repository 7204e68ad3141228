// A path of the API in; its events out, for as long as the page is open, across every break of the connection.
// EventSource cannot send a key, so this is fetch. Where the API has no such path, the callers poll.

import { Problem, request } from "./api.js";
import { Frames } from "./sse.js";

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 30_000;
const SILENCE = 45_000; // three pings missed: the connection is dead, whatever TCP thinks
const GONE = [404, 405, 501];

// Calls onEvent(name, data) for each event and onState(open) when the stream opens or breaks. Ends where there is none.
export async function follow(path, { onEvent, onState, signal, pause = FIRST_PAUSE }) {
  const frames = new Frames();
  let wait = pause;
  while (!signal?.aborted) {
    try {
      await read(path, frames, (frame) => {
        wait = frames.retry ?? pause;
        onEvent(frame.event, JSON.parse(frame.data));
      }, onState, signal);
    } catch (error) {
      if (error instanceof Problem && GONE.includes(error.status)) return;
    } finally {
      onState(false);
    }
    await new Promise((resolve) => setTimeout(resolve, wait * (0.75 + Math.random() / 2)));
    wait = Math.min(wait * 2, LONGEST_PAUSE);
  }
}

async function read(path, frames, onFrame, onState, signal) {
  const breaker = new AbortController();
  const stop = () => breaker.abort();
  signal?.addEventListener("abort", stop, { once: true });
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(stop, SILENCE);
  };
  try {
    const headers = { Accept: "text/event-stream", ...(frames.lastId && { "Last-Event-ID": frames.lastId }) };
    const answer = await request("GET", path, { headers, signal: breaker.signal });
    frames.restart();
    onState(true);
    heard();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      frames.push(value).forEach(onFrame);
    }
  } finally {
    clearTimeout(silence);
    signal?.removeEventListener("abort", stop);
  }
}
