// The problems of a group: filters, pages, sorting, a cell a run. A page of rows is in the document, the others are not.

const PAGE = 100;
const WORDS = { y: "right", n: "wrong", o: "no answer", u: "not decided" };
const kindOf = (cell) => cell.classList[0] || "";
// of an attempt that never had a right solution, a dropped step was on the way to a known one
const wentAstray = (cell) => cell.dataset.right === "0";
const TESTS = {
  right: (cell) => kindOf(cell) === "y",
  wrong: (cell) => kindOf(cell) === "n",
  none: (cell) => kindOf(cell) === "o",
  undecided: (cell) => kindOf(cell) === "u",
  lost: (cell) => cell.dataset.lost !== undefined && !wentAstray(cell),
  astray: (cell) => cell.dataset.lost !== undefined && wentAstray(cell),
  nowhere: (cell) => cell.dataset.right === "0",
};
const OUTCOMES = [
  ["", "any outcome"],
  ["right", "right"],
  ["wrong", "wrong"],
  ["none", "no answer"],
  ["undecided", "not decided"],
  ["lost", "lost a right solution"],
  ["astray", "went astray: left a known way"],
  ["nowhere", "no right solution"],
];
const problemTables = new Map(); // by group

function spoken(cell) {
  const { tokens, right, solutions, lost } = cell.dataset;
  const parts = [WORDS[kindOf(cell)]];
  if (tokens !== undefined) parts.push(`${count(tokens)} tokens`);
  if (right !== undefined && solutions !== undefined) parts.push(`${right} of ${solutions} solutions right`);
  if (lost !== undefined) parts.push(`${wentAstray(cell) ? "astray" : "lost"} at step ${lost}`);
  return parts.join(", ");
}

class Problems {
  constructor(section) {
    this.section = section;
    this.group = section.closest("[data-group]").dataset.group;
    this.table = find("table.grid", section);
    this.runs = all("th.run", this.table).map((head) => ({ id: head.dataset.run, label: head.textContent }));
    this.lines = all("tbody > tr", this.table).map((row, index) => ({ row, index, cells: [...row.cells].slice(2), text: null }));
    this.order = this.lines;
    this.passing = this.lines;
    for (const body of [...this.table.tBodies].slice(1)) body.remove();
    this.body = this.table.tBodies[0];
    this.set = kept.groups[this.group] ??= { text: "", run: "", outcome: "", disagree: false, tokens: false, page: 0, open: new Set() };
    this.filters();
    this.pager();
    sortable(this.table, `${this.group}/problems`, (column, down, again) => this.sort(column, down, again));
    this.table.addEventListener("keydown", (event) => this.key(event));
    this.refresh(true);
  }

  filters() {
    const key = (name) => `${this.group}/filter/${name}`;
    const change = (name) => (value) => {
      this.set[name] = value;
      this.refresh();
    };
    const text = el("input", { type: "search", placeholder: "id, text, answer", "data-key": key("text"), autocomplete: "off" });
    text.value = this.set.text;
    text.addEventListener("input", () => change("text")(text.value));
    this.output = el("output", { class: "shown", "aria-live": "polite" });
    const runs = [["", "any run"], ...this.runs.map((run) => [run.id, run.label])];
    find(".filters", this.section).append(
      el("label", {}, el("span", { text: "Search" }), text),
      choice("Run", runs, this.set.run, change("run"), key("run")),
      choice("Outcome", OUTCOMES, this.set.outcome, change("outcome"), key("outcome")),
      tick("runs disagree", this.set.disagree, change("disagree"), key("disagree")),
      tick("show tokens", this.set.tokens, (value) => this.tokens(value, kept.sorts[`${this.group}/problems`]), key("tokens")),
      this.output,
    );
    this.tokens(this.set.tokens);
  }

  tokens(value, by) {
    this.set.tokens = value;
    this.table.classList.toggle("with-tokens", value);
    if (by) this.sort(by.column, by.down, true);
  }

  pager() {
    const turn = (by) => () => {
      this.set.page += by;
      this.show();
    };
    this.back = el("button", { type: "button", text: "Previous", onclick: turn(-1) });
    this.next = el("button", { type: "button", text: "Next", onclick: turn(1) });
    this.where = el("span");
    this.pages = find(".pages", this.section);
    this.pages.append(this.back, this.where, this.next);
  }

  passes(line) {
    const { text, run, outcome, disagree } = this.set;
    if (text) {
      line.text ??= [line.row.cells[0].textContent, ...line.cells.map((cell) => cell.dataset.answer || "")].join("\n").toLowerCase();
      if (!line.text.includes(text.toLowerCase())) return false;
    }
    const tried = line.cells.filter((cell) => cell.dataset.attempt !== undefined);
    const decided = tried.filter((cell) => !TESTS.undecided(cell)); // a run that has not come to it does not disagree
    if (disagree && !(decided.some(TESTS.right) && !decided.every(TESTS.right))) return false;
    if (!outcome) return true;
    const column = this.runs.findIndex((each) => each.id === run);
    if (column >= 0) return line.cells[column].dataset.attempt !== undefined && TESTS[outcome](line.cells[column]);
    if (outcome !== "nowhere") return tried.some(TESTS[outcome]);
    const known = tried.filter((cell) => cell.dataset.right !== undefined);
    return known.length > 0 && known.every(TESTS.nowhere);
  }

  sort(column, down, again) {
    const key = (line) => (column < 2 ? valueOf(line.row.cells[column]) : this.rank(line.cells[column - 2]));
    this.order = column < 0 ? this.lines : ordered(this.lines, key, down);
    this.refresh(again);
  }

  // runs are sorted by what their cells show: marks, or tokens
  rank(cell) {
    if (this.set.tokens) return cell.dataset.tokens === undefined ? null : Number(cell.dataset.tokens);
    return cell.dataset.attempt === undefined ? null : { y: 3, u: 2, n: 1, o: 0 }[kindOf(cell)];
  }

  refresh(same = false) {
    if (!this.body) return;
    this.passing = this.order.filter((line) => this.passes(line));
    if (!same) this.set.page = 0;
    this.output.textContent = `${count(this.passing.length)} of ${count(this.lines.length)} problems shown`;
    this.show();
  }

  show() {
    const last = Math.max(0, Math.ceil(this.passing.length / PAGE) - 1);
    const page = (this.set.page = Math.min(Math.max(this.set.page, 0), last));
    const lines = this.passing.slice(page * PAGE, (page + 1) * PAGE);
    lines.forEach((line) => this.dress(line));
    this.body.replaceChildren(...lines.map((line) => line.row));
    this.pages.hidden = last === 0;
    this.back.disabled = page === 0;
    this.next.disabled = page === last;
    this.where.textContent = `${count(page * PAGE + 1)}–${count(page * PAGE + lines.length)} of ${count(this.passing.length)}`;
    const links = all("td a", this.body);
    if (links.length && !links.some((link) => link.tabIndex === 0)) links[0].tabIndex = 0;
  }

  // what a row needs before it is seen for the first time
  dress(line) {
    if (line.dressed) return;
    line.dressed = true;
    const name = find("b", line.row);
    const button = el("button", { type: "button", class: "id", "aria-expanded": "false", title: "the whole problem" });
    name.before(button);
    button.append(name);
    line.name = name.textContent;
    this.unfold(line, this.set.open.has(line.name));
    button.addEventListener("click", () => this.unfold(line, !line.row.classList.contains("open")));
    for (const [index, cell] of line.cells.entries()) {
      const link = find("a", cell);
      if (!link) continue;
      link.tabIndex = -1;
      link.title = `${this.runs[index].label}: ${spoken(cell)}`;
      link.setAttribute("aria-label", spoken(cell));
      link.addEventListener("focus", () => this.rove(link));
    }
  }

  // the whole of a problem, and not its first words
  unfold(line, open) {
    line.row.classList.toggle("open", open);
    find(".id", line.row).setAttribute("aria-expanded", String(open));
    if (open) this.set.open.add(line.name);
    else this.set.open.delete(line.name);
  }

  rove(link) {
    for (const other of all('td a[tabindex="0"]', this.body)) other.tabIndex = -1;
    link.tabIndex = 0;
  }

  key(event) {
    const cell = event.target.closest("td");
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const move = moves[event.key];
    if (!cell || !move) return;
    event.preventDefault();
    let [row, column] = [cell.parentElement, cell.cellIndex];
    for (;;) {
      row = move[0] < 0 ? row.previousElementSibling : move[0] > 0 ? row.nextElementSibling : row;
      column += move[1];
      const link = row?.cells[column] && find("a", row.cells[column]);
      if (!row || column < 2 || column >= row.cells.length) return;
      if (link) return link.focus();
    }
  }

  // brings a row into view, whatever the filters say; false where it is not of this table
  reveal(id) {
    const line = this.lines.find((each) => each.row.id === id);
    if (!line) return false;
    if (!this.passing.includes(line)) {
      Object.assign(this.set, { text: "", outcome: "", disagree: false });
      find(".filters", this.section).replaceChildren();
      this.filters();
      this.refresh();
    }
    this.set.page = Math.floor(this.passing.indexOf(line) / PAGE);
    this.show();
    for (const row of all("tr.target", this.body)) row.classList.remove("target");
    line.row.classList.add("target");
    this.unfold(line, true);
    line.row.scrollIntoView({ block: "center" });
    find(".id", line.row).focus({ preventScroll: true });
    return true;
  }

  cell(attempt) {
    for (const line of this.lines) {
      const column = line.cells.findIndex((cell) => cell.dataset.attempt === attempt);
      if (column >= 0) return { table: this, line, column, cell: line.cells[column] };
    }
    return null;
  }
}
