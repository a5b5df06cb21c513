// openapi.json, to be read by people.

const $ = (id) => document.getElementById(id);

function make(tag, ...children) {
  const element = document.createElement(tag);
  element.append(...children);
  return element;
}

// Text with `code` in it.
function rich(tag, text) {
  const parts = text.split("`").map((part, i) => (i % 2 ? make("code", part) : part));
  return make(tag, ...parts);
}

function table(rows) {
  const lines = rows.map(([name, text]) => make("tr", make("th", name), rich("td", text)));
  return make("table", make("tbody", ...lines));
}

function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.prefixItems) return `[${schema.prefixItems.map(kind).join(", ")}]`;
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  if (schema.type === "object") return `name to ${kind(schema.additionalProperties)}`;
  return schema.type;
}

function example(path, operation) {
  const post = operation.requestBody
    ? ` -H "Content-Type: image/jpeg" --data-binary @face.jpg`
    : "";
  return `curl${post} ${location.origin}${path}`;
}

function operation(method, path, about) {
  const title = make("h2", Object.assign(make("span", method.toUpperCase()), { className: "method" }));
  title.append(" ", make("code", path));
  const card = make("section", title, make("p", about.summary));
  card.className = "card";
  if (about.requestBody) {
    card.append(make("p", `Body: ${about.requestBody.description}.`));
  }
  for (const { name, in: where } of about.parameters ?? []) {
    card.append(rich("p", `In the ${where}, if you like: \`${name}\`.`));
  }
  card.append(make("pre", example(path, about)));
  const answers = Object.entries(about.responses).filter(([status]) => status !== "422");
  const rows = answers.map(([status, { description, content }]) => {
    const schema = content?.["application/json"]?.schema;
    return [status, status === "200" && schema ? kind(schema) : description];
  });
  card.append(table(rows));
  return card;
}

const document_ = await (await fetch("openapi.json")).json();
$("about").append(...document_.info.description.split("\n\n").map((text) => rich("p", text)));
for (const [path, methods] of Object.entries(document_.paths)) {
  for (const [method, about] of Object.entries(methods)) {
    $("operations").append(operation(method, path, about));
  }
}
for (const [name, schema] of Object.entries(document_.components.schemas)) {
  if (!schema.properties || /Validation/.test(name)) continue;
  const rows = Object.entries(schema.properties).map(([field, about]) => [
    field,
    `\`${kind(about)}\` ${about.description ?? ""}`,
  ]);
  $("schemas").append(make("h3", name), table(rows));
}

const checkpoints = await (await fetch("api/checkpoints")).json();
$("checkpoint").append(...checkpoints.map(({ name }) => new Option(name, name)));
async function send() {
  const [file] = $("file").files;
  if (!file) return;
  const query = new URLSearchParams({ checkpoint: $("checkpoint").value });
  const headers = { "Content-Type": file.type || "image/jpeg" };
  $("answer").hidden = false;
  try {
    const response = await fetch(`api/predict?${query}`, { method: "POST", headers, body: file });
    const answer = JSON.stringify(await response.json(), null, 2);
    $("answer").textContent = `${response.status}\n${answer}`;
  } catch {
    $("answer").textContent = "The server does not answer.";
  }
}
$("file").addEventListener("change", send);
$("checkpoint").addEventListener("change", send);
