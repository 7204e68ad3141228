// A request as the page would send it in; the same as a line for the shell, or as a program in Python, out. Pure.

const python = (value) => {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one)}`).join(", ")}}`;
  }
  return JSON.stringify(value); // what JSON escapes in a string, Python reads the same
};

const named = (fields) => Object.entries(fields).map(([name, value]) => `, ${name}=${python(value)}`).join("");

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// The key itself is never in it: whoever pastes this somewhere gives nothing away.
export function asCurl(origin, path, body, hasKey) {
  return [
    `curl -s ${quoted(origin + path)}`,
    "  -H 'Content-Type: application/json'",
    ...(hasKey ? ['  -H "Authorization: Bearer $KILN_API_KEY"'] : []),
    `  -d ${quoted(JSON.stringify(body))}`,
  ].join(" \\\n");
}

export const asPython = (origin, path, body) => (path.endsWith("/batches") ? batchInPython : jobInPython)(origin, body);

function jobInPython(origin, { prompt, ...fields }) {
  return `from pathlib import Path

from client.api import Kiln

with Kiln(${python(origin)}) as kiln:  # where keys are in use: KILN_API_KEY
    job = kiln.wait(kiln.submit(${python(prompt)}${named(fields)})["id"])
    for image in job["images"]:
        if image["url"]:
            Path(f"{image['id']}.png").write_bytes(kiln.image(image))
`;
}

function batchInPython(origin, { matrix, defaults = {}, window, ...options }) {
  const { prompts, styles, seeds_per_prompt: seeds } = matrix;
  if (styles) options.styles = styles;
  if (seeds) options.seeds_per_line = seeds;
  if (window) Object.assign(options, { window: `${window.start}-${window.end}`, tz: window.tz });
  return `import json

from client.api import Kiln

prompts = ${python(prompts)}
fields = ${python(defaults)}
lines = "\\n".join(json.dumps({"prompt": prompt, **fields}) for prompt in prompts).encode()

with Kiln(${python(origin)}) as kiln:  # where keys are in use: KILN_API_KEY
    batch = kiln.submit_batch(lines${named(options)})
    print(kiln.wait_batch(batch["id"])["counts"])
`;
}
