// The list of messages as they arrive, and the one that is open.

import { $, arrows, call, clock, element, text, told } from "./elements.js";
import { opened } from "./message.js";
import { showProvider } from "./providers.js";

const EVERY_MS = 700;
const MOST_ROWS = 200;
const asked = new URLSearchParams(location.search);
let provider = asked.get("provider") ?? "";
let last = 0;
let open = null;
let happened = "";

function row(item) {
  const title = item.title || item.snippet || "(no subject)";
  const button = element("button", { className: "row new", type: "button" },
    text("span", "to", item.to),
    element("time", { textContent: clock(item.accepted_at), dateTime: item.accepted_at }),
    text("span", "title", title),
    element("span", { className: "marks" }, text("span", `badge ${item.channel}`, item.provider), told(item.answered)));
  if (item.title && item.snippet) button.append(text("span", "snippet", item.snippet));
  button.addEventListener("click", () => read(item));
  const line = element("li", {}, button);
  line.dataset.id = item.id;
  return line;
}

async function read(item) {
  open = item;
  mark();
  const message = await call(`/_page/messages/${item.id}`).catch(() => null);
  if (open !== item) return;
  happened = String(message?.happened);
  if (message) $("reader").replaceChildren(...opened(item, message));
  else $("reader").replaceChildren(text("p", "hint", "This message is forgotten."));
}

// What became of the open message may be told later than it was opened.
async function readAgain() {
  const item = open;
  const message = await call(`/_page/messages/${item.id}`).catch(() => null);
  if (message && open === item && String(message.happened) !== happened) await read(item);
}

function mark() {
  for (const line of $("list").children) line.firstChild.setAttribute("aria-current", Number(line.dataset.id) === open?.id);
}

function showMessages(feed) {
  const list = $("list");
  for (const item of feed.items) list.prepend(row(item));
  for (const line of [...list.children]) if (Number(line.dataset.id) < feed.first) line.remove();
  while (list.children.length > MOST_ROWS) list.lastChild.remove();
  last = feed.last;
  $("none").hidden = list.children.length > 0;
  mark();
}

function filterBy(name) {
  provider = name;
  history.replaceState(null, "", name ? `?provider=${encodeURIComponent(name)}` : location.pathname);
  startAgain();
  for (const button of $("filter").children) button.setAttribute("aria-pressed", button.dataset.provider === name);
  return refresh().catch(() => null);
}

function startAgain() {
  last = 0;
  open = null;
  $("list").replaceChildren();
  $("reader").replaceChildren(text("p", "hint", "Choose a message to read it."));
}

function showFilter(names) {
  const known = new Set([...$("filter").children].map((button) => button.dataset.provider));
  for (const name of names) {
    if (known.has(name)) continue;
    const button = element("button", { type: "button", textContent: name });
    button.dataset.provider = name;
    button.setAttribute("aria-pressed", name === provider);
    $("filter").append(button);
  }
  $("filter").firstElementChild.setAttribute("aria-pressed", provider === "");
}

async function refresh() {
  const [wanted, after] = [provider, last];
  const feed = await call(`/_page/feed?after=${after}&provider=${encodeURIComponent(wanted)}`);
  if (wanted !== provider || after !== last) return;
  if (feed.last < last) return startAgain();
  showMessages(feed);
  showFilter(feed.providers.map((one) => one.name));
  feed.providers.forEach(showProvider);
  if (open === null && feed.items.length) await read(feed.items.at(-1));
  else if (open !== null) await readAgain();
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
$("filter").addEventListener("click", (event) => event.target.dataset.provider !== undefined && filterBy(event.target.dataset.provider));
arrows($("list"), "ArrowUp", "ArrowDown");
arrows($("filter"), "ArrowLeft", "ArrowRight");
follow();
