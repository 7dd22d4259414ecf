// Everything from outside becomes text, never markup; an e-mail's HTML is shown only in a frame without rights.

const EVERY_MS = 700;
const MOST_ROWS = 200;
const FAULTS = {
  down: "down: connections refused", refuse: "refuse for good", slow: "slow", rate_limit: "rate limit",
  error: "error 503", accept_then_error: "accept, then error", accept_then_hang: "accept, then hang",
  accept_then_reset: "accept, then reset", garbage: "garbage", bad_address: "bad address", unauthorized: "unauthorized",
};
const $ = (id) => document.getElementById(id);
let last = 0;
let open = null;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function call(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
}

function clock(text) {
  return new Date(text).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

function told(answered) {
  const fine = answered.startsWith("2");
  return element("span", { className: `badge ${fine ? "told" : "wrong"}`, textContent: answered, title: "what the client was told" });
}

function row(item) {
  const title = item.title || item.snippet || "(no subject)";
  const button = element("button", { className: "row new", type: "button" },
    element("span", { className: "to", textContent: item.to }),
    element("time", { textContent: clock(item.accepted_at), dateTime: item.accepted_at }),
    element("span", { className: "title", textContent: title }),
    element("span", { className: "marks" }, element("span", { className: "badge", textContent: item.provider }), told(item.answered)));
  if (item.title && item.snippet) button.append(element("span", { className: "snippet", textContent: item.snippet }));
  button.addEventListener("click", () => read(item));
  const line = element("li", {}, button);
  line.dataset.id = item.id;
  return line;
}

function facts(pairs) {
  const list = element("dl");
  for (const [name, value] of pairs) {
    if (value) list.append(element("dt", { textContent: name }), element("dd", {}, value));
  }
  return list;
}

function person(value) {
  if (!value) return "";
  if (Array.isArray(value)) return value.map(person).join(", ");
  return value.name ? `${value.name} <${value.email}>` : value.email ?? String(value);
}

function frame(item) {
  const made = element("iframe", { title: "the e-mail as its reader sees it" });
  made.setAttribute("sandbox", "");
  made.src = `/_page/messages/${item.id}/html`;
  return made;
}

function views(item, message) {
  const { content } = message;
  const text = content.text ?? content.body;
  const found = [];
  if (content.html) found.push(["HTML", () => frame(item)]);
  if (text && item.channel === "email") found.push(["Text", () => element("pre", { textContent: text })]);
  if (text && item.channel !== "email") found.push(["Message", () => element("p", { className: "bubble", textContent: text })]);
  found.push(["All of it", () => element("pre", { className: "mono", textContent: JSON.stringify(message, null, 2) })]);
  return found;
}

function tabs(found, body) {
  const bar = element("div", { className: "tabs", role: "tablist" });
  const show = (button, make) => {
    for (const other of bar.children) other.setAttribute("aria-selected", other === button);
    body.replaceChildren(make());
  };
  for (const [name, make] of found) {
    const button = element("button", { type: "button", role: "tab", textContent: name });
    button.addEventListener("click", () => show(button, make));
    bar.append(button);
  }
  show(bar.firstChild, found[0][1]);
  return bar;
}

async function read(item) {
  open = item.id;
  mark();
  const message = await call(`/_page/messages/${item.id}`).catch(() => null);
  if (open !== item.id) return;
  if (!message) return $("reader").replaceChildren(element("p", { className: "hint", textContent: "This message is forgotten." }));
  const { content } = message;
  const body = element("div", { className: "body" });
  const reference = element("span", { className: "mono", textContent: message.reference ?? "none" });
  const head = element("div", { className: "head" },
    element("h2", { textContent: content.subject ?? content.title ?? `To ${message.to}` }),
    facts([
      ["From", person(content.from)], ["To", message.to], ["Reply to", person(content.reply_to)], ["Reference", reference],
      ["Taken", element("span", {}, `${new Date(message.accepted_at).toLocaleString()} by ${message.provider}, answered `, told(message.answered))],
    ]),
    tabs(views(item, message), body));
  $("reader").replaceChildren(head, body);
}

function mark() {
  for (const line of $("list").children) line.firstChild.setAttribute("aria-current", Number(line.dataset.id) === open);
}

function faultChoice(provider) {
  const choice = element("select", { title: "make it misbehave" }, element("option", { value: "", textContent: "answers as it should" }));
  for (const [value, textContent] of Object.entries(FAULTS)) choice.append(element("option", { value, textContent }));
  choice.addEventListener("change", () => {
    const path = `/_sandbox/faults/${provider.name}`;
    const body = JSON.stringify({ fault: choice.value });
    call(path, choice.value ? { method: "PUT", body } : { method: "DELETE" }).finally(() => choice.blur());
  });
  return choice;
}

function card(provider) {
  const counts = element("dl");
  for (const name of ["accepted", "refused", "repeated"]) {
    counts.append(element("div", {}, element("dt", { textContent: name }), element("dd", { className: name })));
  }
  const made = element("div", { className: "provider", id: `provider-${provider.name}` },
    element("span", { className: "badge", textContent: `${provider.name} · ${provider.channel}` }), counts, faultChoice(provider));
  $("providers").append(made);
  return made;
}

function showProvider(provider) {
  const shown = $(`provider-${provider.name}`) ?? card(provider);
  shown.classList.toggle("faulty", provider.fault !== null);
  for (const name of ["accepted", "refused", "repeated"]) {
    shown.querySelector(`.${name}`).textContent = provider.stats[name].toLocaleString();
  }
  shown.querySelector(".repeated").classList.toggle("bad", provider.stats.repeated > 0);
  const choice = shown.querySelector("select");
  if (document.activeElement !== choice) choice.value = provider.fault?.fault ?? "";
}

function showMessages(feed) {
  const list = $("list");
  if (feed.last < last) list.replaceChildren();
  for (const item of feed.items) list.prepend(row(item));
  for (const line of [...list.children]) if (Number(line.dataset.id) < feed.first) line.remove();
  while (list.children.length > MOST_ROWS) list.lastChild.remove();
  last = feed.last;
  $("none").hidden = list.children.length > 0;
  mark();
}

async function refresh() {
  const feed = await call(`/_page/feed?after=${last}`);
  if (feed.last < last) return void (last = 0);
  showMessages(feed);
  feed.providers.forEach(showProvider);
  if (open === null && feed.items.length) read(feed.items.at(-1));
}

async function follow() {
  if (!document.hidden) {
    const heard = await refresh().then(() => true, () => false);
    $("live").classList.toggle("lost", !heard);
    $("live").textContent = heard ? "live" : "the sandbox does not answer";
  }
  setTimeout(follow, EVERY_MS);
}

$("forget").addEventListener("click", () => call("/_sandbox/messages", { method: "DELETE" }));
follow();
