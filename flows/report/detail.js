// What there is to say of one branch: the whole text from the root, how likely each token was, what came of it.

const SHADES = 10;
const MOST = 20000; // tokens that are shaded one by one

// the same in every tree: above a probability of 0.9 not at all
const shade = (percent) => Math.min(SHADES - 1, Math.floor(((100 - percent) * SHADES) / 100));

// a step, a span a token; the lengths count characters, not UTF-16's halves
function shaded(tree, at) {
  const made = said("", "shaded");
  const letters = Array.from(tree.data.text[at]);
  const lengths = tree.data.lengths[at];
  const chances = tree.data.chances[at];
  let start = 0;
  for (let token = 0; token < Math.min(lengths.length, MOST); token++) {
    const text = letters.slice(start, start + lengths[token]).join("");
    start += lengths[token];
    made.append(el("span", { class: `k${shade(chances[token])}`, title: `probability ${decimal(chances[token] / 100, 2)}`, text }));
  }
  made.append(letters.slice(start).join(""));
  return made;
}

function legend() {
  const boxes = Array.from({ length: SHADES }, (_, index) => el("i", { class: `k${SHADES - 1 - index}` }));
  return el(
    "p",
    { class: "legend-sure" },
    el("span", { text: "probability of a token: 0" }),
    el("span", { class: "ramp", "aria-hidden": "true" }, ...boxes),
    el("span", { text: "1" }),
  );
}

function facts(tree, at) {
  const score = tree.of("score", at);
  const correct = tree.of("correct", at);
  const number = (name, unit) => {
    const value = tree.of(name, at);
    return value === null ? null : `${decimal(value, 3)} ${unit}`;
  };
  const cause = tree.word("cause", at);
  const list = [
    ["path", said(tree.paths[at], "path")],
    ["score", score === null ? el("span", {}, "none: ", said(tree.word("why", at) || "not scored")) : el("span", {}, chip(score))],
    ["state", el("span", { title: tree.word("state", at) }, said(tree.state(at) || "not known"), cause ? ": " : null, cause ? said(cause) : null)],
    ["ended by", tree.word("finish", at) && said(tree.word("finish", at))],
    ["answer", tree.word("answer", at) === null ? null : said(tree.word("answer", at))],
    ["is", correct === null ? null : el("span", { class: correct ? "right" : "wrong", text: correct ? "✓ right" : "✗ wrong" })],
    ["tokens", count(tree.data.tokens[at])],
    ["log-probability", number("logprob", "nats")],
    ["certainty", number("certainty", "nats a token")],
  ];
  const shown = list.filter(([, value]) => value !== null && value !== "");
  return el("dl", { class: "facts" }, ...shown.map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", {}, value))));
}

// how the answer was chosen: each answer with what it weighed, and a way to a solution that gave it
function votes(tree, go) {
  const { reason, votes: rows } = tree.data;
  if (!rows.length && !reason) return null;
  const chosen = tree.word("answer", tree.chosen);
  const solutions = tree.solutions();
  const weighed = rows.some((row) => row[2] !== null);
  const line = ([answer, many, weight, correct]) => {
    const at = solutions.get(answer);
    const name = at === undefined ? said(answer) : el("button", { type: "button", class: "to", title: "to its solution", onclick: () => go(at) }, said(answer));
    const is = correct === null ? el("span", { text: "not decided" }) : el("span", { class: correct ? "right" : "wrong", text: correct ? "✓ right" : "✗ wrong" });
    const tag = tree.chosen >= 0 && answer === chosen ? el("span", { class: "tag chosen", text: "chosen" }) : null;
    const cells = [el("th", { scope: "row" }, name), el("td", {}, is, " ", tag), el("td", { class: "num", text: count(many) })];
    return el("tr", {}, ...cells, weighed ? el("td", { class: "num", text: weight === null ? "–" : String(Number(weight.toPrecision(4))).replace("-", "−") }) : null);
  };
  const heads = [["answer"], ["is"], ["solutions", "num"], weighed && ["weight", "num"]].filter(Boolean);
  const head = el("tr", {}, ...heads.map(([text, kind]) => el("th", { scope: "col", class: kind, text })));
  const table = el("table", { class: "data", "aria-label": "Votes" }, el("thead", {}, head), el("tbody", {}, ...rows.map(line)));
  const many = `${count(rows.length)} ${rows.length === 1 ? "answer" : "answers"}`;
  const made = el(
    "details",
    { class: "votes" },
    el("summary", {}, "Votes: ", many, reason ? "; " : null, reason ? said(reason) : null),
    el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table: votes" }, table),
  );
  made.open = kept.tree.votes;
  made.addEventListener("toggle", () => (kept.tree.votes = made.open));
  return made;
}

// controls that show nothing, or turn the text around: said, since they are not seen
function hiddenIn(text) {
  const found = text.match(/[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\uffff]/g);
  return found ? [...new Set(found)].map((each) => "U+" + each.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")) : [];
}

function detail(tree, at, prompt, plain) {
  const made = el("div", { class: "detail-in" });
  if (at < 0) return made;
  const sure = tree.data.lengths?.[at]?.length > 0;
  made.append(facts(tree, at));
  if (sure && !plain) made.append(legend());
  const steps = el("ol", { class: "steps" });
  if (prompt) steps.append(el("li", { class: "step problem" }, el("span", { class: "nth", text: "problem" }), el("div", {}, said(prompt))));
  tree.line(at).forEach((each, index) => {
    const here = each === at;
    const body = here && sure && !plain ? shaded(tree, each) : said(tree.data.text[each]);
    const nth = el("span", { class: "nth", text: `step ${index + 1}` });
    steps.append(el("li", { class: here ? "step here" : "step" }, nth, el("div", {}, body)));
  });
  made.append(steps);
  const odd = hiddenIn(tree.data.text[at]);
  if (odd.length) made.append(el("p", { class: "odd", text: `This step has characters that show nothing: ${odd.join(", ")}` }));
  return made;
}
