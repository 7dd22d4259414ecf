// One message as the person it went to would see it. An e-mail's HTML is shown only in a frame without rights.

import { arrows, clock, element, facts, text, told } from "./elements.js";

function person(value) {
  if (!value) return "";
  if (Array.isArray(value)) return value.map(person).join(", ");
  return value.name ? `${value.name} <${value.email}>` : value.email ?? String(value);
}

function shown(value) {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function mail(item) {
  const frame = element("iframe", { title: "the e-mail as its reader sees it" });
  frame.setAttribute("sandbox", "");
  frame.src = `/_page/messages/${item.id}/html`;
  return frame;
}

function phone(kind, top, ...inside) {
  return element("div", { className: `phone ${kind}` }, element("div", { className: "top" }, ...top),
    element("div", { className: "screen" }, ...inside));
}

function initial(name) {
  return Object.assign(text("span", "face", (/\p{L}/u.exec(name) ?? ["#"])[0].toUpperCase()), { ariaHidden: "true" });
}

function sms(message) {
  const { from, text: body, segments, encoding } = message.content;
  const sender = person(from) || "unknown";
  const size = [segments && `${segments} ${segments === 1 ? "segment" : "segments"}`, encoding, `${[...(body ?? "")].length} characters`];
  return element("div", {},
    phone("sms", [initial(sender), text("strong", "", sender)], text("time", "", clock(message.accepted_at, false)), text("p", "bubble", body ?? "")),
    text("p", "size", size.filter(Boolean).join(" · ")));
}

function push(message) {
  const { title, body, from, app, data, image } = message.content;
  const name = app ?? from ?? message.provider;
  const card = element("div", { className: "card" }, initial(name),
    element("div", {},
      element("p", { className: "app" }, text("span", "", name), text("time", "", clock(message.accepted_at, false))),
      text("strong", "", title ?? ""), text("p", "", body ?? "")));
  const more = Object.entries({ ...(image ? { image } : {}), ...data });
  return element("div", {}, phone("push", [text("span", "hour", clock(message.accepted_at, false))], card),
    ...(more.length ? [element("div", { className: "data" }, facts(more.map(([key, value]) => [key, shown(value)])))] : []));
}

// One tick: taken; two: delivered; two in blue: read. As the provider has told by now.
function ticks(happened) {
  const [state, marks] = happened.includes("bounced") ? ["failed", "!"] : happened.includes("opened") ? ["read", "✓✓"]
    : happened.includes("delivered") ? ["delivered", "✓✓"] : ["sent", "✓"];
  return Object.assign(text("span", `ticks ${state}`, marks), { role: "img", ariaLabel: state, title: state });
}

// A template as it was filled; where nobody knows its words, what it was filled with.
function filled(template, words) {
  const values = Object.values(template.parameters ?? {}).flat();
  const list = words || !values.length ? [] : [element("ul", {}, ...values.map((value) => text("li", "", shown(value))))];
  return [...(words ? [text("p", "", words)] : []), ...list,
    element("p", { className: "named" }, text("span", "badge", "template"), ` ${template.name} (${template.language})`)];
}

function whatsapp(message) {
  const { from, text: body, template } = message.content;
  const sender = person(from) || "unknown";
  const bubble = element("div", { className: "bubble" }, ...(template ? filled(template, body) : [text("p", "", body ?? "")]),
    element("p", { className: "when" }, text("time", "", clock(message.accepted_at, false)), ticks(message.happened ?? [])));
  return element("div", {}, phone("whatsapp", [initial(sender), text("strong", "", sender)], bubble));
}

const PHONES = { sms, push, whatsapp };

// Names and what shows them, the way a person would see it first.
function views(item, message) {
  const { html, text: plain, body } = message.content;
  const found = [];
  const pre = (className, textContent) => () => text("pre", className, textContent);
  if (html) found.push(["HTML", () => mail(item)]);
  if (PHONES[item.channel]) found.push(["Phone", () => PHONES[item.channel](message)]);
  else if (plain ?? body) found.push(["Text", pre("", plain ?? body)]);
  found.push(["All of it", pre("mono", JSON.stringify(message, null, 2))]);
  return found;
}

function tabs(found, body) {
  const bar = element("div", { className: "tabs", role: "tablist" });
  const show = (button, make) => {
    for (const other of bar.children) {
      other.setAttribute("aria-selected", other === button);
      other.tabIndex = other === button ? 0 : -1;
    }
    body.replaceChildren(make());
  };
  for (const [name, make] of found) {
    const button = element("button", { type: "button", role: "tab", textContent: name });
    button.addEventListener("click", () => show(button, make));
    bar.append(button);
  }
  arrows(bar, "ArrowLeft", "ArrowRight");
  show(bar.firstChild, found[0][1]);
  return bar;
}

// Head and body of a message.
export function opened(item, message) {
  const { content } = message;
  const body = element("div", { className: "body", role: "tabpanel" });
  const taken = element("span", {}, `${new Date(message.accepted_at).toLocaleString()} by ${message.provider}, answered `, told(message.answered));
  const head = element("div", { className: "head" },
    text("h2", "", content.subject ?? content.title ?? `To ${message.to}`),
    facts([
      ["From", person(content.from)], ["To", message.to], ["Reply to", person(content.reply_to)],
      ["Reference", text("span", "mono", message.reference ?? "none")], ["Taken", taken], ["Since then", (message.happened ?? []).join(", ")],
    ]),
    tabs(views(item, message), body));
  return [head, body];
}
