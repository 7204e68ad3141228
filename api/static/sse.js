// Server-sent events: text in, in pieces of any length; {event, id, data} out. Pure (WHATWG HTML, section 9.2.6).

export class Frames {
  constructor() {
    this.lastId = "";
    this.retry = null; // milliseconds, where the server asked for it
    this.restart();
  }

  // A new connection: half a frame of the one before is nothing.
  restart() {
    this._rest = "";
    this._id = this.lastId;
    this._clear();
  }

  // The frames that are complete by now.
  push(text) {
    const found = [];
    let buffer = this._rest + text;
    // A lone CR at the end may be half of a CRLF: it waits for what follows
    const held = buffer.endsWith("\r") ? "\r" : "";
    if (held) buffer = buffer.slice(0, -1);
    const lines = buffer.split(/\r\n|\n|\r/);
    this._rest = lines.pop() + held;
    for (const line of lines) {
      if (line === "") this._dispatch(found);
      else this._take(line);
    }
    return found;
  }

  _take(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment: the server's ping
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this._data.push(value);
    else if (name === "event") this._event = value;
    else if (name === "id" && !value.includes("\0")) this._id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
  }

  _dispatch(found) {
    this.lastId = this._id;
    if (this._data.length) {
      found.push({ event: this._event || "message", id: this.lastId, data: this._data.join("\n") });
    }
    this._clear();
  }

  _clear() {
    this._data = [];
    this._event = "";
  }
}
