// The list of a tree: rows of one height, of which only those in sight are in the document.

const HIGH = 28; // pixels of a row, as in tree.css
const MORE = 8; // rows beyond each edge
const MARKS = { live: "◌", finished: "●", pruned: "✕", merged: "◇", cancelled: "□", failed: "▲", aside: "○" };
const STEPS = 12; // deeper ones are not indented any more: their depth is said instead

function chip(score, why) {
  if (score === null) return el("span", { class: "chip none", text: "–", title: why || "no score" });
  return el("span", { class: `chip v${Math.min(10, Math.max(0, Math.round(score * 10)))}`, text: decimal(score, 3), title: `score ${score}` });
}

class Rows {
  constructor(tree, picked) {
    this.tree = tree;
    this.picked = picked;
    this.inner = el("div", { class: "rows", role: "none" });
    this.box = el("div", { class: "tree", role: "tree", tabindex: "0", "aria-label": "Search tree" }, this.inner);
    this.there = new Map();
    this.at = -1;
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    this.inner.addEventListener("click", (event) => this.click(event));
    this.sized = new ResizeObserver(() => this.draw());
    this.sized.observe(this.box);
    this.list();
  }

  // after anything was opened, closed or filtered
  list() {
    this.seen = this.tree.seen();
    this.index = new Map(this.seen.map((at, row) => [at, row]));
    this.inner.style.height = `${this.seen.length * HIGH}px`;
    for (const row of this.there.values()) row.remove();
    this.there.clear();
    this.draw();
  }

  draw() {
    const { scrollTop, clientHeight } = this.box;
    const first = Math.max(0, Math.floor(scrollTop / HIGH) - MORE);
    const last = Math.min(this.seen.length, Math.ceil((scrollTop + clientHeight) / HIGH) + MORE);
    for (const [at, row] of this.there) {
      const place = this.index.get(at);
      if (place === undefined || place < first || place >= last) {
        row.remove();
        this.there.delete(at);
      }
    }
    for (let place = first; place < last; place++) {
      const at = this.seen[place];
      if (this.there.has(at)) continue;
      const row = this.row(at);
      row.style.transform = `translateY(${place * HIGH}px)`;
      this.there.set(at, row);
      this.inner.append(row);
    }
    if (this.there.has(this.at)) this.box.setAttribute("aria-activedescendant", `b${this.at}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  row(at) {
    const tree = this.tree;
    const state = tree.word("state", at) || "";
    const known = Object.hasOwn(MARKS, state); // a word of ours, and no class of the reader's choosing
    const correct = tree.of("correct", at);
    const below = tree.below(at).length > 0;
    const kin = tree.kin(at);
    const deep = tree.depth[at];
    const says = [at === tree.chosen && "chosen", correct === 1 && "right", correct === 0 && "wrong", at === tree.lost && (tree.astray ? "astray here" : "lost here")];
    const ends = says.filter(Boolean);
    const guides = el("span", { class: "guides" });
    guides.style.setProperty("--steps", Math.min(deep - 1, STEPS));
    const row = el(
      "div",
      {
        class: ["row", tree.onChosen[at] && "on-chosen", tree.onRight[at] && "on-right", tree.onLost[at] && "on-lost", at === this.at && "at"].filter(Boolean).join(" "),
        id: `b${at}`,
        role: "treeitem",
        "data-state": state,
        "aria-level": deep,
        "aria-posinset": kin.indexOf(at) + 1,
        "aria-setsize": kin.length,
        "aria-selected": String(at === this.at),
        "aria-expanded": below ? String(tree.open[at] === 1) : null,
      },
      guides,
      el("span", { class: below ? "twist" : "twist leaf", "aria-hidden": "true", text: below ? (tree.open[at] ? "▾" : "▸") : "" }),
      deep - 1 > STEPS ? el("span", { class: "deep", text: `${deep}` }) : null,
      el("span", { class: known ? `state ${state}` : "state", "aria-hidden": "true", text: known ? MARKS[state] : "·", title: state }),
      el("span", { class: "word", text: tree.state(at), title: state }),
      el("span", { class: "line t", dir: "auto", text: tree.data.text[at].trim().slice(0, 300) || "(no text)" }),
      ...ends.map((word) => el("span", { class: "tag " + word.split(" ")[0].replace("astray", "lost"), text: word })),
      el("span", { class: "tokens", text: count(tree.data.tokens[at]), title: "tokens of this step" }),
      chip(tree.of("score", at), tree.word("why", at)),
    );
    return row;
  }

  pick(at, into = true) {
    const was = this.at;
    this.at = at;
    for (const each of [was, at]) {
      this.there.get(each)?.classList.toggle("at", each === at);
      this.there.get(each)?.setAttribute("aria-selected", String(each === at));
    }
    if (into) this.into(at);
    this.draw();
    this.picked(at);
  }

  // into sight, in the middle where it is far away
  into(at, middle = false) {
    const place = this.index.get(at);
    if (place === undefined) return;
    const [top, high] = [place * HIGH, this.box.clientHeight];
    const far = top < this.box.scrollTop - high || top > this.box.scrollTop + 2 * high;
    if (middle || far) this.box.scrollTop = top - high / 2 + HIGH;
    else if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + HIGH > this.box.scrollTop + high) this.box.scrollTop = top + HIGH - high;
  }

  toggle(at, open = !this.tree.open[at]) {
    if (!this.tree.below(at).length || this.tree.open[at] === Number(open)) return false;
    this.tree.open[at] = Number(open);
    this.list();
    return true;
  }

  go(at) {
    if (!this.tree.keep[at]) this.onHidden?.();
    this.tree.openTo(at);
    this.list();
    this.pick(at);
  }

  next(back = false) {
    const order = this.tree.preorder.filter((at) => this.tree.notable(at));
    if (!order.length) return;
    const rank = new Map(this.tree.preorder.map((at, place) => [at, place]));
    if (back) order.reverse();
    const here = rank.get(this.at) ?? -1;
    this.go(order.find((at) => (back ? rank.get(at) < here : rank.get(at) > here)) ?? order[0]);
  }

  openAll() {
    this.tree.open.fill(1);
    this.list();
    this.into(this.at, true);
  }

  click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const at = Number(row.id.slice(1));
    if (event.target.closest(".twist")) this.toggle(at);
    this.pick(at);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const place = this.index.get(this.at) ?? 0;
    const to = (row) => this.seen.length && this.pick(this.seen[Math.min(Math.max(row, 0), this.seen.length - 1)]);
    const page = Math.max(1, Math.floor(this.box.clientHeight / HIGH) - 1);
    const parent = this.tree.data.parent[this.at] ?? -1;
    const does = {
      ArrowDown: () => to(place + 1),
      ArrowUp: () => to(place - 1),
      PageDown: () => to(place + page),
      PageUp: () => to(place - page),
      Home: () => to(0),
      End: () => to(this.seen.length - 1),
      ArrowRight: () => this.toggle(this.at, true) || (this.tree.open[this.at] && this.tree.below(this.at).length && to(place + 1)),
      ArrowLeft: () => this.toggle(this.at, false) || (parent >= 0 && this.pick(parent)),
      Enter: () => this.toggle(this.at),
      " ": () => this.toggle(this.at),
      "*": () => this.openAll(),
      n: () => this.next(),
      N: () => this.next(true),
    }[event.key];
    if (!does || this.at < 0) return;
    event.preventDefault();
    does();
    if (["ArrowRight", "ArrowLeft", "Enter", " "].includes(event.key)) this.into(this.at);
  }
}
