// The two linked charts and the one over resolution: rows for Vega, and what the pointer and the choice do to both.
const specs = json("charts");
const tip = byId("tip");
const views = {};
let hover = "";

function tooltip(handler, event, item, value) {
  tip.hidden = !value;
  if (!value) return;
  tip.textContent = value;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 4))}px`;
  tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 8 : event.clientY + 18}px`;
}
async function viewOf(id, name) {
  if (views[id] && views[id].name === name) return views[id].view;
  if (views[id]) views[id].view.finalize();
  const { view } = await vegaEmbed(byId(id), specs[name], { mode: "vega", ast: true, actions: false, renderer: "svg", tooltip, defaultStyle: false, logLevel: 1 });
  views[id] = { name, view };
  if (name === "ranked") await view.data("one", [{ x: 1 }]).runAsync();
  view.addEventListener("pointerover", (event, item) => point(item && item.datum ? (item.datum.key ?? "") : ""));
  view.addEventListener("pointerout", () => point(""));
  view.addEventListener("click", (event, item) => { if (item && item.datum && item.datum.variant) toggle(item.datum.variant); });
  return view;
}
// Mark a cell in every chart and say what it is.
function point(key) {
  if (key === hover) return;
  hover = key;
  const cell = shown.find((c) => c.key === key);
  for (const { name, view } of Object.values(views)) {
    view.signal("hover", key);
    if (name === "ranked") view.signal("ties", cell ? shown.filter((c) => c !== cell && tied(c, cell)).map((c) => c.key) : []);
    view.runAsync();
  }
  say(cell);
}
let shown = []; // the cells in the order of their ranks

function look(cell) {
  const place = state.pick.indexOf(cell.variant);
  const color = place >= 0 ? `var(--c${place})` : cell.reference ? "var(--ink)" : "var(--grey)";
  const shape = cell.kind === "attention" && cell.reach ? `attention, ${cell.reach}` : cell.kind;
  return { key: cell.key, variant: cell.variant, shape, color, ink: place >= 0 || cell.reference ? color : "var(--soft)", stands: place >= 0 || cell.reference };
}
const clamp = (v, [low, high]) => Math.min(Math.max(v, low), high);
function sentence(cell) {
  const parts = [];
  if (cell.time) parts.push(`${estimate(cell.time)} ms`);
  if (cell.ratio && !cell.base) parts.push(`${estimate(cell.ratio)} × ${shown.over}`);
  if (cell.memory !== null) parts.push(`${number(cell.memory)} MiB`);
  if (cell.macs !== null) parts.push(`${isLowerBound(cell) ? "≥ " : ""}${number(cell.macs / 1e9)} G MACs`);
  if (cell.params !== null) parts.push(`${number(cell.params / 1e6)} M parameters`);
  if (cell.top1 !== null) parts.push(`${cell.top1.toFixed(1)} % top-1 as published`);
  if (!cell.speed) parts.push(cell.outcome === "ok" ? "not timed" : `${cell.outcome}: ${cell.why}`);
  const inside = [way(cell), cell.base && "the reference"].filter(Boolean).join(", ");
  return `${cell.variant}${inside && ` (${inside})`}: ${parts.join(", ")}${cell.flags ? `; flags: ${cell.flags}` : ""}`;
}

function rankedRows(width) {
  const ratio = shown.some((c) => c.ratio), pick = (c) => (ratio ? c.ratio : c.speed);
  const usable = shown.filter((c) => pick(c) && !isUnresolved(pick(c)));
  const ends = range(usable.map((c) => pick(c).value), ratio ? [1] : []);
  const rows = shown.map((cell, i) => {
    const e = pick(cell), ok = usable.includes(cell);
    const out = ok && (e.value < ends[0] ? "◀" : e.value > ends[1] ? "▶" : "");
    const words = !e ? (cell.speed ? "no ratio" : cell.outcome === "ok" ? "not timed" : cell.outcome) : width < 480 ? (isUnresolved(e) ? "unresolved" : number(e.value)) : estimate(e);
    return {
      ...look(cell), i, rank: cell.rank === null || !cell.fits ? "" : `${cell.shared ? "=" : ""}${cell.rank}`, label: !cell.reference ? cell.variant : `${cell.variant} (${cell.base ? "reference" : way(cell)})`, words, tip: sentence(cell),
      value: ok && !out ? e.value : out ? clamp(e.value, ends) : null, out,
      low: ok ? clamp(e.low ?? e.value, ends) : null, high: ok ? clamp(e.high ?? e.value, ends) : null,
    };
  });
  return { rows, ends, ratio };
}
async function drawRanked() {
  const box = byId("ranked-chart"), width = box.clientWidth, narrow = width < 480;
  const { rows, ends, ratio } = rankedRows(width);
  const longest = (name, least) => Math.max(least, ...rows.map((r) => r[name].length));
  const left = Math.round(Math.min(narrow ? 150 : 260, 42 + 7 * longest("label", 8)));
  const right = narrow ? 66 : Math.round(16 + 6.8 * longest("words", 12));
  const view = await viewOf("ranked-chart", "ranked");
  view.padding({ left, right, top: 22, bottom: 4 });
  view.signal("left", left).signal("right", right).signal("x_low", ends[0]).signal("x_high", ends[1]).signal("x_ticks", logTicks(ends));
  view.data("one", ratio ? [{ x: 1 }] : []);
  await view.width(Math.max(60, width - left - right - 2)).data("rows", rows).resize().runAsync();
  byId("ranked-title").textContent = ratio ? `Speed over ${shown.over}` : "Images per second";
  const off = rows.filter((r) => r.out).map((r) => `${r.variant} (${r.words})`);
  byId("ranked-note").textContent = [
    shown.limit ? `Differences below ${shown.limit} are not distinguishable here; = marks equal ranks.` : "",
    off.length ? `Beyond the axis: ${off.join(", ")}.` : "",
  ].filter(Boolean).join(" ");
}
// How many rows the ranking holds below what is seen of it: it scrolls, and a reader of its end should know.
function sayMoreRanked() {
  const box = byId("ranked-chart"), more = byId("ranked-more"), end = box.getBoundingClientRect().bottom;
  const below = all(".mark-rect.layer_0_marks path", box).filter((row) => row.getBoundingClientRect().bottom > end + 1).length;
  if (!below && document.activeElement === more) box.focus();
  more.hidden = !below;
  more.textContent = `${below} more below ↓`;
}
function frontRows(everyName = false) {
  const accuracy = condition.scope === "backbone" && shown.some((c) => c.speed && c.top1 !== null);
  const cells = shown.filter((c) => c.time && !isUnresolved(c.time) && (accuracy ? c.top1 !== null : c.memory !== null))
    .map((c) => Object.assign(c, { fx: accuracy ? c.time.value : c.memory, fy: accuracy ? c.top1 : c.time.value }));
  const xs = range(cells.map((c) => c.fx)), ys = range(cells.map((c) => c.fy), [], !accuracy);
  const best = front(cells, "fx", "fy", accuracy);
  const rows = cells.map((cell) => {
    const on = best.includes(cell), { stands, ...rest } = look(cell), named = stands || on;
    const off = cell.fx < xs[0] || cell.fx > xs[1] || cell.fy < ys[0] || cell.fy > ys[1];
    return {
      ...rest, on, off, x: clamp(cell.fx, xs), y: clamp(cell.fy, ys), label: everyName || named || off || cell.rank <= 5 ? cell.variant : "", tip: sentence(cell),
      ink: stands ? rest.color : named ? "var(--ink)" : "var(--soft)", size: 11, weight: stands ? "bold" : "normal", first: stands ? 0 : on ? 1 : off ? 2 : 3,
    };
  });
  const stairs = best.map((c) => ({ x: clamp(c.fx, xs), y: clamp(c.fy, ys) }));
  return { accuracy, rows, stairs, xs, ys };
}
const [NEAR, FAR] = [16, 48]; // places of a name beside its point, of the charts' eight around it at each of six distances
async function drawFront(height, width = byId("front-chart").clientWidth - 4, everyName = false) {
  const { accuracy, rows, stairs, xs, ys } = frontRows(everyName);
  const view = await viewOf("front-chart", accuracy ? "accuracy" : "memory");
  view.signal("x_low", xs[0]).signal("x_high", xs[1]).signal("x_ticks", logTicks(xs)).signal("y_low", ys[0]).signal("y_high", ys[1]);
  view.signal("y_ticks", accuracy ? [] : logTicks(ys));
  view.signal("places", width < 480 ? NEAR : FAR); // in little room a name far from its point seems to be another's
  await view.width(width).height(height).data("rows", rows).data("front", stairs).resize().runAsync();
  byId("front-title").textContent = accuracy ? "Accuracy and latency" : "Latency and memory";
  const off = rows.filter((r) => r.off).map((r) => r.variant);
  byId("front-note").textContent = !rows.length ? "No cell here has both numbers." : [
    `${accuracy ? "Upper" : "Lower"} left is better; filled: nothing beats it in both.`,
    off.length ? `At the edge, beyond the axes: ${off.join(", ")}.` : "",
  ].filter(Boolean).join(" ");
}
const HEIGHTS = () => {
  const narrow = innerWidth < 700, above = byId("pair").getBoundingClientRect().top + scrollY;
  const room = innerHeight - above;
  return narrow ? Math.max(150, Math.min(320, (room - 120) / 2)) : Math.max(280, Math.min(660, room - 150));
};
async function draw() {
  const height = HEIGHTS();
  byId("ranked-chart").style.maxHeight = `${height}px`;
  await Promise.all([drawRanked(), drawFront(height - 4)]);
  sayMoreRanked();
}

// One line a variant over resolution, all else as chosen.
const MEASURES = {
  ratio: ["speed over the reference", (c) => c.ratio && !isUnresolved(c.ratio) && c.ratio],
  time: ["latency of a batch (ms)", (c) => c.time && !isUnresolved(c.time) && c.time],
  memory: ["peak memory (MiB)", (c) => c.memory !== null && { value: c.memory, low: c.memory, high: c.memory }],
  macs: ["MACs of an image (G)", (c) => c.macs > 0 && { value: c.macs / 1e9, low: c.macs / 1e9, high: c.macs / 1e9 }],
};
function sizesOfCondition() {
  const same = AXES.filter((a) => !["res", "run", "protocol"].includes(a));
  const found = conditions.filter((c) => same.every((a) => c[a] === condition[a]));
  const best = new Map();
  for (const c of found) if (!best.has(c.res) || c.block === condition.block || (best.get(c.res).block !== condition.block && c.timed > best.get(c.res).timed)) best.set(c.res, c);
  return [...best.values()].sort((a, b) => a.pixels - b.pixels);
}
async function drawResolution() {
  if (!condition) return;
  const sizes = sizesOfCondition(), measure = byId("resolution-measure").value, [title, read] = MEASURES[measure];
  const lines = new Map(), ranks = new Map(shown.map((c) => [c.variant, c.rank]));
  for (const at of sizes) for (const cell of chosenCells(at)) (lines.get(cell.variant) ?? lines.set(cell.variant, []).get(cell.variant)).push([at, cell]);
  const rows = [], ends = [];
  let bad = 0;
  for (const [variant, line] of lines) {
    const { stands, ...style } = look(line[0][1]);
    bad += line.some(([, c]) => !read(c)) ? 1 : 0;
    for (const [at, cell] of line) {
      const e = read(cell) || null;
      rows.push({ ...style, key: cell.key, side: Math.sqrt(at.pixels), value: e && e.value, low: e && (e.low ?? e.value), high: e && (e.high ?? e.value), bad: e || cell.outcome === "ok" ? 0 : bad, width: stands ? 2.4 : 0.8, tip: `${at.res}: ${sentence(cell)}`, order: stands ? 1 : 0 });
    }
    const last = line.map(([, c]) => read(c)).filter(Boolean).pop();
    if (last && (stands || (ranks.get(variant) ?? 99) <= 5)) ends.push({ label: variant, value: last.value, color: stands ? style.color : "var(--soft)" });
  }
  const numbers = rows.filter((r) => r.value !== null), ys = range(numbers.map((r) => r.value), measure === "ratio" ? [1] : []);
  for (const r of numbers) Object.assign(r, { value: clamp(r.value, ys), low: clamp(r.low, ys), high: clamp(r.high, ys) });
  const height = 380, at = (v) => height * (1 - Math.log(clamp(v, ys) / ys[0]) / Math.log(ys[1] / ys[0]));
  ends.sort((a, b) => b.value - a.value).forEach((e, i) => { e.at = Math.max(at(e.value), i ? ends[i - 1].at + 13 : 0); });
  const over = ends.length ? Math.max(0, ends[ends.length - 1].at - height) : 0;
  ends.forEach((e) => { e.at -= over; });
  const pxs = sizes.map((c) => Math.sqrt(c.pixels)), xs = [Math.min(...pxs) / 1.05, Math.max(...pxs) * 1.05];
  const view = await viewOf("resolution-chart", "resolution");
  view.signal("x_low", xs[0]).signal("x_high", xs[1]).signal("x_ticks", [...new Set(pxs)]).signal("y_low", ys[0]).signal("y_high", ys[1]).signal("y_ticks", logTicks(ys));
  view.data("one", measure === "ratio" ? [{ y: 1 }] : []);
  await view.width(Math.max(120, byId("resolution-chart").clientWidth - 210)).data("rows", rows.sort((a, b) => a.order - b.order)).data("front", ends).resize().runAsync();
  const off = [...new Set(rows.filter((r) => r.value !== null && (r.value <= ys[0] || r.value >= ys[1])).map((r) => r.variant))];
  byId("resolution-note").textContent = `${title}; ${conditionWords(condition, ["res"])}. ${sizes.length < 2 ? "One resolution was measured under this condition." : "Names: the reference, the chosen, and the five fastest at the chosen resolution. × is a cell without a number."}${off.length ? ` At the edge, beyond the axis: ${off.join(", ")}.` : ""}`;
}
