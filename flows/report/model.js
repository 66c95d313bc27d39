// A search tree in columns: who is whose child, which are on the way to what, and what is to be seen.

class Tree {
  constructor(data) {
    this.data = data;
    const size = (this.size = data.parent.length);
    this.paths = new Array(size);
    this.depth = new Int32Array(size);
    this.children = Array.from({ length: size }, () => []);
    this.top = [];
    for (let at = 0; at < size; at++) {
      const parent = data.parent[at];
      const tail = data.tail[at];
      this.paths[at] = tail[0] === "=" ? tail.slice(1) : parent < 0 ? tail : `${this.paths[parent]}.${tail}`;
      this.depth[at] = parent < 0 ? 1 : this.depth[parent] + 1;
      (parent < 0 ? this.top : this.children[parent]).push(at);
    }
    this.places = new Map(this.paths.map((path, at) => [path, at]));
    this.chosen = this.places.get(data.chosen) ?? -1;
    this.lost = this.places.get(data.lost) ?? -1;
    this.astray = this.lost >= 0 && this.of("correct", this.lost) !== 1; // a step on a known way, and no right solution
    this.onChosen = this.lineage([this.chosen]);
    this.onLost = this.lineage([this.lost]);
    this.onRight = this.lineage(this.where((at) => this.of("correct", at) === 1));
    this.open = new Uint8Array(size);
    for (let at = 0; at < size; at++) this.open[at] = this.onChosen[at] | this.onRight[at] | this.onLost[at];
    if (this.chosen < 0 && this.top.length < 50) for (const at of this.top) this.open[at] = 1;
    this.preorder = this.walk(() => true, () => true);
    this.only("all");
  }

  of(name, at) {
    return this.data[name] ? this.data[name][at] : null;
  }

  word(name, at) {
    const column = this.data[name];
    return column && column[at] >= 0 ? this.data.words[column[at]] : null;
  }

  // "live" is a word of a search at work
  state(at) {
    const state = this.word("state", at) || "";
    return state === "live" ? (this.children[at].length ? "went on" : "open") : state;
  }

  where(test) {
    return Array.from({ length: this.size }, (_, at) => at).filter(test);
  }

  // these and all that lead to them
  lineage(ends) {
    const found = new Uint8Array(this.size);
    for (let at of ends) for (; at >= 0 && !found[at]; at = this.data.parent[at]) found[at] = 1;
    return found;
  }

  line(at) {
    const found = [];
    for (; at >= 0; at = this.data.parent[at]) found.unshift(at);
    return found;
  }

  // the branches in the order in which they are listed; not by recursion, as a tree may be thousands deep
  walk(wanted, opened) {
    const found = [];
    const stack = [...this.top].reverse();
    while (stack.length) {
      const at = stack.pop();
      if (!wanted(at)) continue;
      found.push(at);
      if (opened(at)) for (let last = this.children[at].length - 1; last >= 0; last--) stack.push(this.children[at][last]);
    }
    return found;
  }

  only(which) {
    const state = (at) => this.word("state", at);
    if (which === "finished") this.keep = this.lineage(this.where((at) => state(at) === "finished"));
    else if (which === "right") this.keep = this.onRight;
    else if (which === "kept") this.keep = this.lineage(this.where((at) => state(at) !== "pruned"));
    else this.keep = new Uint8Array(this.size).fill(1);
  }

  seen() {
    return this.walk((at) => this.keep[at], (at) => this.open[at]);
  }

  kin(at) {
    const parent = this.data.parent[at];
    return (parent < 0 ? this.top : this.children[parent]).filter((each) => this.keep[each]);
  }

  below(at) {
    return this.children[at].filter((each) => this.keep[each]);
  }

  openTo(at) {
    for (at = this.data.parent[at]; at >= 0; at = this.data.parent[at]) this.open[at] = 1;
  }

  // by answer, a whole one that gave it: what was chosen, else the first
  solutions() {
    const found = new Map();
    for (const at of [this.chosen, ...this.preorder]) {
      const answer = this.word("answer", at);
      if (answer !== null && !found.has(answer)) found.set(answer, at);
    }
    return found;
  }

  // where a right solution is, or where the last one was lost
  notable(at) {
    return this.of("correct", at) === 1 || at === this.lost;
  }
}

async function unpacked(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = letters.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}
