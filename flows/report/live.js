// A page of a run that is at work: asks its server for the version, and puts a new body where the old one was.

const OFTEN = 3000; // ms between two questions while a run is at work
const SELDOM = 30000;

const detailsKey = (each) => `${each.closest("[id]")?.id}/${find("summary", each)?.textContent}`;

// where the reader is: the element at the top of the window, by its id
function spot() {
  const marks = all("main [id]").filter((each) => each.getClientRects().length);
  const top = marks.filter((each) => each.getBoundingClientRect().top <= 80).pop();
  return top ? { id: top.id, off: top.getBoundingClientRect().top } : { y: scrollY };
}

function returned(place) {
  const mark = place.id && document.getElementById(place.id);
  if (mark) scrollBy({ top: mark.getBoundingClientRect().top - place.off, behavior: "instant" });
  else if (place.y !== undefined) scrollTo({ top: place.y, behavior: "instant" });
}

function renewed(text) {
  // its style is ours already, and has a nonce that our policy does not know
  const fresh = new DOMParser().parseFromString(text.replace(/<style[^]*?<\/style>/, ""), "text/html");
  const place = spot();
  const open = new Map(all("details").map((each) => [detailsKey(each), each.open]));
  const sides = new Map(all(".scroll").map((each) => [each.getAttribute("aria-label") + each.closest("[id]")?.id, [each.scrollLeft, each.scrollTop]]));
  const active = document.activeElement;
  const key = active?.dataset?.key ?? null;
  const link = active?.getAttribute?.("href") ?? null;
  const caret = key && active.selectionStart !== undefined ? [active.selectionStart, active.selectionEnd] : null;
  for (const part of ["header.top", "nav.jump", "main"]) find(part).replaceWith(document.adoptNode(find(part, fresh)));
  document.title = fresh.title;
  document.documentElement.dataset.version = fresh.documentElement.dataset.version;
  if (fresh.documentElement.dataset.working === undefined) delete document.documentElement.dataset.working;
  else document.documentElement.dataset.working = "";
  dress();
  for (const each of all("details")) each.open = open.get(detailsKey(each)) ?? each.open;
  for (const each of all(".scroll")) {
    const was = sides.get(each.getAttribute("aria-label") + each.closest("[id]")?.id);
    if (was) [each.scrollLeft, each.scrollTop] = was;
  }
  returned(place);
  const again = key ? all("[data-key]").find((each) => each.dataset.key === key) : link ? all("main a").find((each) => each.getAttribute("href") === link) : null;
  if (again && !find("#panel").open) {
    again.focus({ preventScroll: true });
    if (caret && caret[0] !== null && again.setSelectionRange) again.setSelectionRange(...caret);
  }
}

// an open tree, as it has become: same branch, same ones open, same place
async function regrown() {
  if (!panel.rows) return;
  const { attempt, tree, rows } = panel;
  const data = await panel.fetched(attempt);
  if (!data || panel.attempt !== attempt || panel.rows !== rows || JSON.stringify(data) === JSON.stringify(tree.data)) return;
  const path = tree.paths[rows.at];
  const top = rows.box.scrollTop;
  const opened = new Map(tree.paths.map((each, at) => [each, tree.open[at]]));
  const grown = new Tree(data);
  grown.paths.forEach((each, at) => (grown.open[at] = opened.get(each) ?? grown.open[at]));
  rows.sized.disconnect();
  const place = panel.place(attempt);
  find(".about", panel.box).replaceWith(panel.about(place));
  if (place) panel.name(place);
  panel.show(grown, path);
  panel.rows.box.scrollTop = top;
}

const working = () => document.documentElement.dataset.working !== undefined;

async function asked() {
  const state = find("#live");
  const was = working();
  try {
    if (!document.hidden) {
      const { version } = await (await fetch("version", { cache: "no-store" })).json();
      if (version !== document.documentElement.dataset.version) {
        renewed(await (await fetch("./", { cache: "no-store" })).text());
        await regrown();
      }
      find("#live").textContent = working() ? "live" : "up to date";
    }
  } catch {
    if (state) find("#live").textContent = "the server is away";
  }
  // once more soon where work has just ended: between its last row and its end a run looks abandoned
  setTimeout(asked, was || working() ? OFTEN : SELDOM);
}
