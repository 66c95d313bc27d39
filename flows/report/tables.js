// Tables that sort by their headers, code that can be copied, and the colours.

const valueOf = (cell) => {
  if (!cell) return null;
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent.trim();
  return text === "–" || text === "" ? null : text;
};

function before(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

// what is not known comes last, whichever the direction
function ordered(items, keyOf, down) {
  const keyed = items.map((item, index) => ({ item, index, key: keyOf(item) }));
  keyed.sort((one, other) => {
    if (one.key === null || other.key === null) return (one.key === null) - (other.key === null) || one.index - other.index;
    return (down ? -1 : 1) * before(one.key, other.key) || one.index - other.index;
  });
  return keyed.map((each) => each.item);
}

// once: by it, numbers from the highest; twice: the other way; three times: as it was
function sortable(table, key, apply) {
  const heads = [...table.tHead.rows[0].cells];
  const set = (column, down, again = false) => {
    heads.forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    kept.sorts[key] = { column, down };
    apply(column, down, again);
  };
  heads.forEach((head, index) => {
    const button = el("button", { type: "button", class: "sort", "data-key": `${key}/${index}` }, ...head.childNodes);
    const first = head.classList.contains("num") || head.classList.contains("run");
    button.addEventListener("click", () => {
      const was = head.getAttribute("aria-sort");
      if (!was) set(index, first);
      else if ((was === "descending") === first) set(index, !first);
      else set(-1, false);
    });
    head.append(button);
  });
  const was = kept.sorts[key];
  if (was && was.column >= 0 && was.column < heads.length) set(was.column, was.down, true);
}

function sortTable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  sortable(table, `${table.dataset.group}/${table.dataset.sheet}`, (column, down) => {
    body.append(...(column < 0 ? rows : ordered(rows, (row) => valueOf(row.cells[column]), down)));
    table.dispatchEvent(new Event("sorted"));
  });
}

const SEEN = 10; // rows of a long table that are wholly seen while it is not open, as in page.css

// a long table opens by its button, or where find-in-page goes to a row below its first ones
function foldable(box) {
  const table = find("table", box);
  const rows = table.tBodies[0].rows.length;
  const key = `${table.dataset.group}/${table.dataset.sheet}`;
  const button = el("button", { type: "button", class: "quiet unfold", "data-key": `${key}/fold` });
  const set = (whole) => {
    box.classList.toggle("whole", whole);
    button.textContent = whole ? "Fewer rows" : `Show the ${count(rows)} rows`;
    button.setAttribute("aria-expanded", String(whole));
    kept.whole[key] = whole;
    reached();
  };
  // links of rows that are not seen would be hundreds of stops on the keyboard's way down the page
  const reached = () => {
    const whole = kept.whole[key];
    [...table.tBodies[0].rows].forEach((row, place) => all("a", row).forEach((link) => (link.tabIndex = whole || place < SEEN ? 0 : -1)));
  };
  table.addEventListener("sorted", reached);
  button.addEventListener("click", () => {
    if (kept.whole[key]) box.scrollTop = 0;
    set(!kept.whole[key]);
  });
  box.addEventListener("scroll", () => box.scrollTop > 0 && !kept.whole[key] && set(true), { passive: true });
  box.after(button);
  set(kept.whole[key] === true);
}

// a box that can be moved sideways fades out at its right until its end is reached
function edged(box) {
  const set = () => {
    box.classList.toggle("more-right", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
    box.style.setProperty("--bar", `${box.offsetWidth - box.clientWidth - 2 * box.clientLeft}px`);
  };
  const sized = new ResizeObserver(set);
  for (const each of [box, ...box.children]) sized.observe(each);
  box.addEventListener("scroll", set, { passive: true });
}

async function copied(button) {
  const code = find("code", button.closest(".code"));
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

const THEMES = { auto: ["Auto", "as the system has them"], light: ["Light", "light"], dark: ["Dark", "dark"] };

function dressed(theme) {
  kept.theme = theme;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = find("#theme");
  button.textContent = THEMES[theme][0];
  button.setAttribute("aria-label", "Colours: " + THEMES[theme][1]);
}
