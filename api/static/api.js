// Calls of the API: a method and a path in, an answer out; Problem where it refuses. The key lives as long as the tab.

const KEY = "kiln-key";
let askForKey = async () => false;

// What problem+json says: `errors` has a pointer and a detail for each field that is wrong.
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || `The server answered ${status}.`);
    this.status = status;
    this.errors = body.errors ?? [];
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

// `ask` is called with the key that was refused, and says whether there is another now.
export function whenRefused(ask) {
  askForKey = ask;
}

export async function request(method, path, { body, query = {}, headers = {}, signal } = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) if (value != null && value !== "") url.searchParams.set(name, value);
  for (;;) {
    const used = key.get();
    const answer = await fetch(url, {
      method,
      signal,
      headers: { ...headers, ...(used && { Authorization: `Bearer ${used}` }), ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
    if (answer.ok) return answer;
    if (answer.status === 401 && (await askForKey(used))) continue;
    throw new Problem(answer.status, await answer.json().catch(() => ({})));
  }
}

export const get = async (path, query, options) => (await request("GET", path, { query, ...options })).json();

// A new thing, made once however often the call is repeated.
export const post = async (path, body) =>
  (await request("POST", path, { body, headers: { "Idempotency-Key": unique() } })).json();

export const jobPath = (id) => `/v1/jobs/${encodeURIComponent(id)}`;
export const batchPath = (id) => `/v1/batches/${encodeURIComponent(id)}`;

// crypto.randomUUID is there on secure origins alone, and Kiln may be reached by plain http.
function unique() {
  return [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16)).join("-");
}
