// One card for each provider: its counts, and how it is made to misbehave.

import { $, call, element, text } from "./elements.js";

const COUNTS = { accepted: "taken", refused: "refused", repeated: "repeated" };
const FAULTS = {
  down: "down: connections refused", refuse: "refuse for good", slow: "slow", rate_limit: "rate limit",
  error: "error", accept_then_error: "accept, then error", accept_then_hang: "accept, then hang",
  accept_then_reset: "accept, then reset", reset: "reset, not taken", garbage: "garbage", bad_address: "bad address",
  unauthorized: "unauthorized",
};
const RECEIPTS = {
  delivered: ["delivered", {}],
  opened: ["delivered, opened", { share_opened: 1 }],
  bounced: ["bounced", { share_delivered: 0, share_bounced: 1 }],
  mixed: ["a third bounced", { share_delivered: 0.67, share_bounced: 0.33 }],
  late: ["after 10 s", { delay_ms: 10000 }],
  repeated: ["thrice, shuffled", { repeat: 3, shuffle: true }],
  nothing: ["no receipts", { share_delivered: 0 }],
};

function choice(label, options, chosen) {
  const made = element("select", { title: label, ariaLabel: label });
  for (const [value, textContent] of options) made.append(element("option", { value, textContent }));
  made.addEventListener("change", () => chosen(made.value).finally(() => made.blur()));
  return made;
}

function faultChoice(name) {
  const options = [["", "healthy"], ...Object.entries(FAULTS)];
  return choice(`how ${name} answers`, options, (fault) => {
    const path = `/_sandbox/faults/${name}`;
    return call(path, fault ? { method: "PUT", body: JSON.stringify({ fault }) } : { method: "DELETE" });
  });
}

function receiptsChoice(name) {
  const options = [...Object.entries(RECEIPTS).map(([value, [label]]) => [value, label]), ["other", "as set by call"]];
  return choice(`what ${name} tells later`, options, (kind) => {
    const body = JSON.stringify(RECEIPTS[kind]?.[1] ?? {});
    return call(`/_sandbox/receipts/${name}`, { method: "PUT", body });
  });
}

function card({ name, channel, receipts }) {
  const counts = element("p", { className: "counts" }, ...Object.keys(COUNTS).map((count) => text("span", count, "")));
  const choices = element("div", { className: "choices" }, faultChoice(name), ...(receipts ? [receiptsChoice(name)] : []));
  const made = element("div", { className: "provider", id: `provider-${name}` }, text("span", `badge ${channel}`, name), counts, choices);
  $("providers").append(made);
  return made;
}

// Which of the choices these settings are; what a choice leaves out has its default.
function kindOf(receipts) {
  const same = ([, changes]) => Object.entries({ ...usual(receipts), ...changes }).every(([name, value]) => receipts[name] === value);
  return Object.entries(RECEIPTS).find(([, one]) => same(one))?.[0] ?? "other";
}

function usual(receipts) {
  const none = Object.fromEntries(Object.keys(receipts).filter((name) => name.startsWith("share_")).map((name) => [name, 0]));
  return { ...none, share_delivered: 1, delay_ms: 500, repeat: 1, shuffle: false };
}

function settle(select, value) {
  if (document.activeElement === select) return;
  select.value = value;
  select.dataset.now = value;
}

export function showProvider(provider) {
  const shown = $(`provider-${provider.name}`) ?? card(provider);
  shown.classList.toggle("faulty", provider.fault !== null);
  for (const [count, word] of Object.entries(COUNTS)) {
    const [made, number] = [shown.querySelector(`.${count}`), provider.stats[count]];
    made.textContent = `${number.toLocaleString()} ${word}`;
    made.hidden = number === 0 && count !== "accepted";
  }
  const [fault, receipts] = shown.querySelectorAll("select");
  settle(fault, provider.fault?.fault ?? "");
  if (provider.receipts) settle(receipts, kindOf(provider.receipts));
}
