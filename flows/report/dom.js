// What all parts share: elements are made here, and text goes into the page as text nodes only.

const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// what a model has written: apart from the text around it, whichever way it runs
const said = (text, className = "") => el("span", { class: "t " + className, dir: "auto", text });

const GROUPED = new Intl.NumberFormat("en-US");
const count = (value) => GROUPED.format(Number(value));
const decimal = (value, digits) => value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");

// kept in memory only: what a reader has set, through every refresh of a live page
const kept = { theme: "auto", groups: {}, sorts: {}, whole: {}, tree: { only: "all", plain: false, votes: false } };

function choice(label, options, value, change, key) {
  const select = el("select", { "data-key": key }, ...options.map(([name, text]) => el("option", { value: name, text })));
  select.value = value;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
  select.addEventListener("change", () => change(select.value));
  return el("label", {}, el("span", { text: label }), select);
}

function tick(label, value, change, key) {
  const box = el("input", { type: "checkbox", "data-key": key });
  box.checked = value;
  box.addEventListener("change", () => change(box.checked));
  return el("label", { class: "tick" }, box, el("span", { text: label }));
}
