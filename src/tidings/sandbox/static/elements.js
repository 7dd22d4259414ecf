// Everything from outside becomes text, never markup.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export const text = (name, className, textContent) => element(name, { className, textContent });

export function clock(at, seconds = true) {
  const second = seconds ? "2-digit" : undefined;
  return new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second, hour12: false });
}

export async function call(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
}

export function told(answered) {
  const fine = answered.startsWith("2");
  return Object.assign(text("span", `badge ${fine ? "told" : "wrong"}`, answered), { title: "what the client was told" });
}

// A definition list of what is known; pairs without a value are left out.
export function facts(pairs) {
  const list = element("dl");
  for (const [name, value] of pairs) {
    if (value) list.append(text("dt", "", name), element("dd", {}, value));
  }
  return list;
}

// The arrow keys go from one of the buttons to the next.
export function arrows(group, back, on) {
  group.addEventListener("keydown", (event) => {
    const step = { [back]: -1, [on]: 1 }[event.key];
    const all = [...group.querySelectorAll("button")];
    const next = all[all.indexOf(document.activeElement) + step];
    if (!step || !next) return;
    event.preventDefault();
    next.focus();
    next.click();
  });
}
