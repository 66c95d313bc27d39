// The search of one attempt, over the page. Its address is #tree=ATTEMPT, with &at=PATH for a branch.

const ONLY = [
  ["all", "all branches"],
  ["finished", "paths to whole solutions"],
  ["right", "paths to right answers"],
  ["kept", "without pruned ones"],
];

const WAYS = [
  ["chosen", "onChosen", "the way to what was chosen"],
  ["right", "onRight", "the way to a right answer"],
  ["lost", "onLost", "the way to what was lost"],
];

const ASTRAY = { text: "astray", title: "the known way to a right answer, which was left here" };

class Panel {
  constructor() {
    this.box = find("#panel");
    this.attempt = null;
    this.ours = 0; // addresses that we have put on the browser's way back
    this.turn = 0; // of the openings: a late answer to an earlier one is dropped
    this.box.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.leave();
    });
    this.box.addEventListener("click", (event) => event.target === this.box && this.leave());
    document.addEventListener("keydown", (event) => this.key(event));
  }

  // the tree's keys, wherever the focus is, but for those that mean something there
  key(event) {
    if (!this.rows || !this.box.open || event.target.closest("select")) return;
    const outside = !this.rows.box.contains(event.target);
    if (outside && (["Enter", " "].includes(event.key) || (event.target.closest(".detail, .scroll") && !["n", "N", "*"].includes(event.key)))) return;
    this.rows.key(event);
    if (event.defaultPrevented) this.rows.box.focus({ preventScroll: true });
  }

  place(attempt) {
    for (const table of problemTables.values()) {
      const found = table.cell(attempt);
      if (found) return found;
    }
    return null;
  }

  async open(attempt, at) {
    const turn = ++this.turn;
    const from = performance.now();
    if (this.attempt !== attempt) this.frame(attempt, this.place(attempt));
    if (!this.box.open) {
      this.from = document.activeElement;
      this.box.showModal();
    }
    if (this.attempt === attempt && this.rows) return this.goTo(at);
    this.attempt = attempt;
    try {
      const data = await this.fetched(attempt);
      if (turn !== this.turn) return;
      if (data) this.show(new Tree(data), at);
      else this.say("This attempt's tree is not in this page.");
      this.box.dataset.attempt = attempt;
      this.box.dataset.ms = (performance.now() - from).toFixed(1);
    } catch (error) {
      if (turn === this.turn) this.say(`The tree cannot be shown: ${error.message}`);
    }
  }

  async fetched(attempt) {
    if (document.documentElement.dataset.live !== undefined) {
      const answer = await fetch(`tree/${encodeURIComponent(attempt)}`);
      if (answer.status === 404) return null;
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      return answer.json();
    }
    const block = document.getElementById(`tree-${attempt}`);
    if (!block) return null;
    if (typeof DecompressionStream === "undefined") throw new Error("this browser has no DecompressionStream; a newer one has");
    return unpacked(block.textContent);
  }

  say(text) {
    this.rows = null;
    this.split.replaceChildren(el("p", { class: "none", text }));
  }

  frame(attempt, place) {
    this.rows?.sized.disconnect();
    this.rows = null;
    const title = el("h2", { id: "panel-title" }, "Search of ", place ? said(find("b", place.line.row).textContent) : `attempt ${attempt}`);
    const close = el("button", { type: "button", class: "quiet close", text: "Close", onclick: () => this.leave() });
    this.split = el("div", { class: "split" }, el("p", { class: "none", text: "Unpacking the tree…" }));
    this.tools = el("div", { class: "tools" });
    this.votes = el("div");
    this.box.replaceChildren(el("header", { class: "panel-head" }, title, ...(place ? this.others(attempt, place) : []), close), this.about(place), this.votes, this.tools, this.split);
  }

  // the other problems, and the other runs on this one
  others(attempt, { table, line }) {
    const options = this.tried(table, line);
    const go = (by) => () => {
      const next = table.passing[table.passing.indexOf(line) + by];
      const column = line.cells.findIndex((cell) => cell.dataset.attempt === attempt);
      const id = next && (next.cells[column].dataset.attempt ?? next.cells.find((cell) => cell.dataset.attempt)?.dataset.attempt);
      if (id) this.move(`#tree=${id}`);
    };
    const step = (text, by, name) => el("button", { type: "button", class: "quiet", text, "aria-label": name, title: name, onclick: go(by) });
    return [
      el("div", { class: "turn" }, step("‹", -1, "the problem before"), step("›", 1, "the next problem")),
      el("div", { class: "others" }, choice("Run", options, attempt, (id) => this.move(`#tree=${id}`), "panel/run")),
    ];
  }

  tried(table, line) {
    const found = line.cells.map((cell, index) => [cell.dataset.attempt, `${cell.textContent[0]} ${table.runs[index].label}`]);
    return found.filter(([id]) => id !== undefined);
  }

  // the runs again, with what has come of them meanwhile
  name({ table, line }) {
    const texts = new Map(this.tried(table, line));
    for (const option of all(".others option", this.box)) option.textContent = texts.get(option.value) ?? option.textContent;
  }

  about(place) {
    if (!place) return el("p", { class: "about" });
    const { verdict, answer, tokens, candidates, right, solutions, lost } = place.cell.dataset;
    const part = (name, value) => (value === undefined ? null : el("span", {}, `${name} `, value instanceof Node ? value : el("b", { text: value })));
    return el(
      "p",
      { class: "about" },
      el("b", { class: `m ${kindOf(place.cell)}`, text: `${place.cell.textContent[0]} ${WORDS[kindOf(place.cell)]}` }),
      part("verdict", verdict === WORDS[kindOf(place.cell)] ? undefined : said(verdict)),
      part("answer", answer === undefined ? undefined : said(answer)),
      part("reference", said(find(".ref .t", place.line.row).textContent)),
      part("tokens", tokens && count(tokens)),
      part("candidates", candidates && count(candidates)),
      solutions === undefined ? null : part("right solutions", `${right ?? "?"} of ${solutions}`),
      part(wentAstray(place.cell) ? "astray at step" : "lost at step", lost),
    );
  }

  show(tree, at) {
    this.tree = tree;
    const place = this.place(this.attempt);
    this.prompt = place ? find(".prompt", place.line.row).textContent : "";
    tree.only(kept.tree.only);
    this.pane = el("div", { class: "detail", tabindex: "0", role: "region", "aria-label": "The branch" });
    this.rows = new Rows(tree, (each) => this.pick(each));
    this.rows.onHidden = () => this.filter("all");
    this.split.replaceChildren(this.rows.box, this.pane);
    this.votes.replaceChildren(votes(tree, (at) => this.rows.go(at)) ?? "");
    this.toolbar();
    const first = [tree.places.get(at), tree.lost, tree.chosen, tree.preorder.find((each) => tree.notable(each)), tree.top[0]];
    const start = first.find((each) => each !== undefined && each >= 0);
    if (start === undefined) return this.say("There are no branches in this tree.");
    tree.openTo(start);
    if (!tree.keep[start]) this.filter("all");
    this.rows.list();
    this.rows.into(start, true);
    this.rows.pick(start, false);
    this.rows.box.focus({ preventScroll: true });
  }

  goTo(at) {
    const found = this.tree.places.get(at);
    if (found !== undefined && found !== this.rows.at) this.rows.go(found);
  }

  filter(which) {
    kept.tree.only = which;
    this.tree.only(which);
    this.toolbar();
    this.rows.list();
    if (this.rows.index.has(this.rows.at)) this.rows.into(this.rows.at, true);
    else if (this.rows.seen.length) this.rows.pick(this.rows.seen[0]);
  }

  toolbar() {
    const { tree, rows } = this;
    const total = tree.data.in_all > tree.size ? `${count(tree.size)} of ${count(tree.data.in_all)} branches` : `${count(tree.size)} ${tree.size === 1 ? "branch" : "branches"}`;
    const plain = (value) => {
      kept.tree.plain = value;
      this.pick(rows.at);
    };
    const press = (text, does, title, there = true) => el("button", { type: "button", text, title, disabled: !there, onclick: () => (does(), rows.box.focus()) });
    const tools = [
      choice("Show", ONLY, kept.tree.only, (value) => this.filter(value), "panel/only"),
      press("Chosen", () => rows.go(tree.chosen), "to the branch that was chosen", tree.chosen >= 0),
      press("Next right or lost", () => rows.next(), "key: n", tree.preorder.some((at) => tree.notable(at))),
      press("Expand all", () => rows.openAll(), "key: *"),
      tree.data.chances ? tick("plain text", kept.tree.plain, plain, "panel/plain") : null,
      el("span", { class: "size", text: total }),
      ...WAYS.filter(([, on]) => tree[on].includes(1)).map(([way, , title]) => el("span", { class: `way ${way}`, ...(way === "lost" && tree.astray ? ASTRAY : { text: way, title }) })),
      el("span", { class: "keys", text: "keys: arrows, n, *" }),
    ];
    this.tools.replaceChildren(...tools.filter((each) => each !== null));
  }

  pick(at) {
    this.pane.replaceChildren(detail(this.tree, at, this.prompt, kept.tree.plain));
    const here = find(".step.here", this.pane);
    if (here) this.pane.scrollTop = Math.max(0, here.offsetTop - this.pane.clientHeight / 2);
    clearTimeout(this.later); // browsers allow a page few changes of its address a second
    this.later = setTimeout(() => {
      if (this.box.open && this.tree.paths[at]) history.replaceState(history.state, "", `#tree=${this.attempt}&at=${encodeURIComponent(this.tree.paths[at])}`);
    }, 400);
  }

  move(hash) {
    clearTimeout(this.later);
    history.replaceState(history.state, "", hash);
    route();
  }

  // the way back, where we opened it; elsewhere the page without it
  leave() {
    if (history.state?.opened) history.back();
    else {
      history.replaceState(null, "", location.pathname + location.search);
      this.close();
    }
  }

  close() {
    clearTimeout(this.later);
    this.turn++;
    if (!this.box.open) return;
    this.box.close();
    this.rows?.sized.disconnect();
    this.attempt = this.rows = null;
    // a live page may have put another link in its place
    const href = this.from?.getAttribute?.("href");
    const from = this.from?.isConnected ? this.from : href && all("main a").find((each) => each.getAttribute("href") === href);
    if (from) from.focus();
  }
}
