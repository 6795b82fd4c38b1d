// Real tables made of data when they are first seen: sorted by a heading, filtered by each column, some rows at a time.
const SOME = 200, PRINTED = 2000;
const element = (name, words = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(words)) {
    if (key in made && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};
const textOf = (value) => (Array.isArray(value) ? value[0] : value);
const keyOf = (value) => (Array.isArray(value) ? value[1] : value === "" ? null : value);

// `<5`, `>= 2` for numbers; else every word must occur.
function matcher(typed) {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  const limit = typed.match(/^\s*([<>]=?)\s*([\d.]+)\s*$/);
  if (limit) {
    const than = Number(limit[2]), tests = { "<": (v) => v < than, "<=": (v) => v <= than, ">": (v) => v > than, ">=": (v) => v >= than };
    return (value) => typeof keyOf(value) === "number" && tests[limit[1]](keyOf(value));
  }
  return (value) => words.every((w) => textOf(value).toLowerCase().includes(w));
}
const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
const VERDICTS = ["reproduced", "contradicted", "undecided"];

class DataTable {
  // table: name, title, caption, columns [{title, numeric, group}], rows of texts or [text, key], notes; `pick` gives a row's variant.
  constructor(place, table, pick = null) {
    Object.assign(this, { place, table, pick, filters: table.columns.map(() => ""), sorted: null, limit: SOME });
    this.build();
  }

  build() {
    const { table } = this, head = element("thead");
    const groups = [];
    for (const c of table.columns) {
      if (groups.length && groups[groups.length - 1][0] === c.group) groups[groups.length - 1][1] += 1;
      else groups.push([c.group, 1]);
    }
    if (groups.some(([name]) => name)) head.append(element("tr", { class: "groups" }, ...groups.map(([name, wide]) => element("th", { colSpan: wide, ...(name ? { scope: "colgroup" } : {}) }, name || ""))));
    this.heads = table.columns.map((c, i) => {
      const button = element("button", { type: "button" }, c.title);
      button.addEventListener("click", () => this.sort(i));
      return element("th", { scope: "col", class: c.numeric ? "n" : "" }, button);
    });
    head.append(element("tr", {}, ...this.heads));
    head.append(element("tr", { class: "filters" }, ...table.columns.map((c, i) => {
      const input = element("input", { type: "search", "aria-label": `Filter ${c.title}`, placeholder: c.numeric ? ">, <" : "filter" });
      input.addEventListener("input", () => { this.filters[i] = input.value; this.limit = SOME; this.fill(); });
      return element("td", {}, input);
    })));
    this.body = element("tbody");
    this.count = element("span", { role: "status", "data-count": table.name });
    this.more = element("button", { type: "button" }, "Show more rows");
    this.more.addEventListener("click", () => { this.limit += 1000; this.fill(); });
    const id = `table-${table.name}-h`;
    const scroll = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": id }, element("table", { "data-table": table.name }, head, this.body));
    this.place.replaceChildren(
      element("h3", { id }, table.title), element("p", { class: "soft" }, table.caption), scroll,
      element("p", { class: "soft rowcount" }, this.count, " ", this.more), ...table.notes.map((n) => element("p", { class: "soft" }, n)),
    );
    this.fill();
  }

  sort(place) {
    const up = this.sorted && this.sorted[0] === place ? !this.sorted[1] : !this.table.columns[place].numeric || this.table.columns[place].low === true;
    this.sorted = [place, up];
    this.heads.forEach((h, i) => (i === place ? h.setAttribute("aria-sort", up ? "ascending" : "descending") : h.removeAttribute("aria-sort")));
    this.fill();
  }

  kept() {
    const tests = this.filters.map((f, i) => [i, f && matcher(f)]).filter(([, f]) => f);
    const rows = this.table.rows.filter((row) => tests.every(([i, f]) => f(row[i])));
    if (!this.sorted) return rows;
    const [place, up] = this.sorted;
    return [...rows].sort((a, b) => {
      const x = keyOf(a[place]), y = keyOf(b[place]);
      if (x === null || y === null) return (x === null) - (y === null);
      return up ? compare(x, y) : compare(y, x);
    });
  }

  fill() {
    const rows = this.kept(), { columns } = this.table;
    this.body.replaceChildren(...rows.slice(0, this.limit).map((row) => {
      const cells = row.slice(0, columns.length).map((value, i) => {
        const text = textOf(value), td = element("td", { class: columns[i].numeric ? "n" : text.length > 40 ? "why" : text.length > 24 ? "t" : "s" });
        if (this.pick && i === 0) td.append(this.picker(this.pick(row), text));
        else if (VERDICTS.includes(text)) td.append(element("span", { class: text }, text));
        else if (text.length > 160) td.append(element("details", {}, element("summary", {}, `${text.slice(0, 70)}…`), text));
        else td.append(text);
        if (columns[i].warn && typeof keyOf(value) === "number" && keyOf(value) > columns[i].warn) td.classList.add("undecided");
        return td;
      });
      return element("tr", {}, ...cells);
    }));
    this.count.textContent = `${rows.length} of ${this.table.rows.length} rows${rows.length > this.limit ? `, the first ${this.limit} shown` : ""}`;
    this.more.hidden = rows.length <= this.limit;
  }

  picker(variant, text) {
    const button = element("button", { type: "button", class: "pick", "aria-pressed": String(state.pick.includes(variant)) }, text);
    const place = state.pick.indexOf(variant);
    if (place >= 0) button.style.borderColor = `var(--c${place})`;
    button.addEventListener("click", () => { toggle(variant); const again = all("button.pick", this.body).find((b) => b.textContent === text); if (again) again.focus(); });
    return button;
  }
}

// The cells of the chosen condition, or of all conditions, as a table.
const column = (title, numeric = false, more = {}) => ({ title, numeric, group: "", ...more });
const numeric = (x, digits = 3) => (x === null ? "" : [number(x, digits), x]);
const interval = (e, digits = 3) => (e ? [estimate(e, digits), e.value] : "");
const macs = (c, shown) => (shown && isLowerBound(c) ? [`≥ ${shown[0]}`, shown[1]] : shown);
const CELL_COLUMNS = [
  ["variant", (c) => c.variant], ["kind", (c) => SHOWN_KIND(c)],
  ["latency (ms)", (c) => interval(c.time, 4), { numeric: true, low: true }],
  ["± %", (c) => { const p = percent(c.ratio && !c.base ? c.ratio : c.speed); return p === null ? "" : [p.toFixed(1), p]; }, { numeric: true, warn: 10, low: true }],
  ["throughput (img/s)", (c) => interval(c.speed, 4), { numeric: true }],
  ["speed ratio (x)", (c) => interval(c.ratio), { numeric: true }],
  ["peak memory (MiB)", (c) => numeric(c.memory, 4), { numeric: true, low: true }],
  ["MACs (G)", (c) => macs(c, numeric(c.macs === null ? null : c.macs / 1e9, 4)), { numeric: true, low: true }],
  ["parameters (M)", (c) => numeric(c.params === null ? null : c.params / 1e6, 4), { numeric: true, low: true }],
  ["top-1 as published (%)", (c) => (c.top1 === null ? "" : [c.top1.toFixed(1), c.top1]), { numeric: true }],
  ["ties", (c) => c.ties], ["outcome", (c) => c.outcome], ["why", (c) => c.why], ["flags", (c) => c.flags],
];
const SHOWN_KIND = (c) => (c.reach ? `${c.kind}, ${c.reach}` : c.kind);
const CONDITION_COLUMNS = ["scope", "machine", "device", "res", "batch", "precision", "pass", "dim", "heads", "stride", "threads", "allocator", "protocol", "run"];
function cellTable(everything) {
  const cells = everything ? conditions.flatMap((c) => cellsOf(c)) : shown;
  const varying = everything ? CONDITION_COLUMNS.filter((a) => index.axes[a].length > 1) : [];
  const ways = ["runtime", "kernel", "ran"].filter((w) => new Set(cells.map((c) => c[w])).size > 1 || (w === "ran" && cells.some((c) => c.ran)));
  const used = CELL_COLUMNS.map(([title, read, more = {}]) => [column(title, more.numeric, more), read]);
  const extra = [...varying.map((a) => [column(a === "res" ? "resolution" : a), (c) => c.condition[a]]), ...ways.map((w) => [column(w === "ran" ? "what ran" : w), (c) => c[w]])];
  let columns = [used[0], ...(everything ? [] : [[column("rank", true, { low: true }), (c) => (c.rank === null ? "" : [`${c.shared ? "=" : ""}${c.rank}`, c.rank])]]), used[1], ...extra, ...used.slice(2)];
  let rows = cells.map((c) => columns.map(([, read]) => read(c)));
  const filled = columns.map((_, i) => i < 2 || rows.some((r) => textOf(r[i]) !== ""));
  columns = columns.filter((_, i) => filled[i]);
  rows = rows.map((r) => r.filter((_, i) => filled[i]));
  return {
    name: "cells", title: everything ? "Every cell of every run" : `Every cell shown above: ${conditionWords(condition)}`,
    caption: everything ? "Every planned cell, whatever its outcome." : `The fastest first. The speed ratio is over ${shown.over || "the reference"}. ± % is half the interval of the ratio (of the speed for the reference). Press a name to choose it.`,
    columns: columns.map(([c]) => c), rows, notes: [],
  };
}

// Tabs: a panel is filled when it is first opened, and every panel before the page is printed.
const tabs = all("#tabs [role=tab]");
const filled = new Set();
function fillPanel(panel) {
  if (!filled.has(panel.id)) {
    filled.add(panel.id);
    all("[data-from]", panel).forEach((place) => new DataTable(place, json(place.dataset.from)));
    all("img[data-of]", panel).forEach((img) => { img.src = json(img.dataset.of).source; });
  }
  if (panel.id === "panel-cells") fillCells();
  if (panel.id === "panel-resolution") drawResolution();
}
function fillCells() {
  if (condition) new DataTable(byId("cells-table"), cellTable(byId("cells-all").checked), (row) => textOf(row[0]));
}
function openTab(name, focus = false) {
  state.tab = tabs.some((t) => t.dataset.tab === name) ? name : "";
  tabs.forEach((t, i) => {
    const open = t.dataset.tab === state.tab, panel = byId(`panel-${t.dataset.tab}`);
    t.setAttribute("aria-selected", String(open));
    t.tabIndex = open || (!state.tab && i === 0) ? 0 : -1;
    panel.classList.toggle("open", open);
    if (open) { fillPanel(panel); if (focus) t.focus(); }
  });
}
