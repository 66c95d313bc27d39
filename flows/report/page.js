// Begins: what every body needs, the address, and what is there once.

const ROW = /-p\d+$/; // the end of a problem's address

let panel = null;

function dress() {
  problemTables.clear();
  for (const section of all("section.problems")) {
    const made = new Problems(section);
    problemTables.set(made.group, made);
  }
  for (const table of all("table.data")) sortTable(table);
  for (const box of all(".long")) foldable(box);
  for (const box of all(".scroll, .chart")) edged(box);
  followed();
  for (const button of all(".copy")) button.addEventListener("click", () => copied(button));
  const themes = Object.keys(THEMES);
  find("#theme").addEventListener("click", () => dressed(themes[(themes.indexOf(kept.theme) + 1) % themes.length]));
  dressed(kept.theme);
  if (matchMedia("(max-width: 68rem)").matches) find("nav.jump details").open = false;
}

// the contents say which section is at the top of the window
function followed() {
  const contents = find("nav.jump");
  const links = new Map(all("ul ul a", contents).map((link) => [link.hash.slice(1), link]));
  const there = new Set();
  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) there[isIntersecting ? "add" : "delete"](target.id);
      const now = [...links.keys()].find((id) => there.has(id));
      const was = find("a[aria-current]", contents);
      if (now === undefined || was === links.get(now)) return;
      was?.removeAttribute("aria-current");
      links.get(now).setAttribute("aria-current", "true");
      contents.scrollTop = links.get(now).offsetTop - contents.clientHeight / 2;
    },
    { rootMargin: "-10% 0px -80% 0px" },
  );
  for (const section of all("section.sheet")) watch.observe(section);
}

// a whole address is a tree's, a problem's, or a place in the page that the browser goes to by itself
function route() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("tree")) return panel.open(given.get("tree"), given.get("at"));
  panel.close();
  const id = location.hash.slice(1);
  if (ROW.test(id)) for (const table of problemTables.values()) if (table.reveal(id)) return undefined;
  return undefined;
}

// a tree or a problem that is opened from the page is one step of the browser's way back
document.addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="#"]');
  const href = link?.getAttribute("href") ?? "";
  const tree = href.startsWith("#tree=");
  if (!(tree || ROW.test(href)) || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  link.focus({ preventScroll: true });
  history.pushState({ opened: tree }, "", href);
  route();
});

addEventListener("hashchange", route); // and not popstate: after it a browser goes to the address by itself
// a browser goes to its address once more when all is loaded, and puts a row at the very top
addEventListener("load", () => setTimeout(() => panel.box.open || route()));
// paper has the runs' table, and of the rest what the reader has opened
addEventListener("beforeprint", () => all("details.facts:not([open])").forEach((each) => (each.open = each.dataset.printed = true)));
addEventListener("afterprint", () => all("details[data-printed]").forEach((each) => (each.open = delete each.dataset.printed && false)));

dress();
panel = new Panel();
route();
if (document.documentElement.dataset.live !== undefined) setTimeout(asked, OFTEN);
