// What is chosen, in the address and in the controls; and which condition was measured nearest to it.
const CHOICES = ["scope", "machine", "device", "runtime", "kernel", "res", "batch", "precision", "pass", "dim", "heads", "stride", "threads", "allocator", "run", "kind", "reach", "find", "memory"];
const PICKS = 5;
const anyKind = (scope) => (scope === "layer" ? "attention" : "all");
const state = { pick: [], tab: "", sort: "" };
let condition = null; // the measured one that is shown

const opening = conditions[Number(byId("index").dataset.first)] || null;
const values = (axis, where) => [...new Set(conditions.filter(where).map((c) => c[axis]))];
const natural = (a, b) => a.localeCompare(b, "en", { numeric: true });

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const right = { res: /^[1-9]\d{0,4}([x×][1-9]\d{0,4})?$/i, batch: /^[1-9]\d{0,5}$/ };
  for (const axis of Object.keys(right)) if (given.has(axis) && !right[axis].test(given.get(axis))) given.delete(axis);
  for (const axis of AXES) state[axis] = given.get(axis) ?? (opening ? opening[axis] : "");
  state.runtime = given.get("runtime") ?? "any";
  state.kernel = given.get("kernel") ?? "any";
  state.kind = given.get("kind") ?? anyKind(state.scope);
  for (const name of ["reach", "find", "memory", "tab"]) state[name] = given.get(name) ?? "";
  state.pick = given.getAll("pick").slice(0, PICKS);
  asked = new Set(AXES.filter((axis) => given.has(axis)));
}
let asked = new Set(); // axes that the address or a control names, which count more than those that follow

function writeAddress() {
  const words = new URLSearchParams();
  const plain = { runtime: "any", kernel: "any", kind: anyKind(state.scope), reach: "", find: "", memory: "" };
  for (const name of CHOICES) {
    const usual = name in plain ? plain[name] : opening && opening[name];
    if (state[name] !== usual || (name in plain ? false : asked.has(name) && state[name] !== "")) words.set(name, state[name]);
  }
  state.pick.forEach((variant) => words.append("pick", variant));
  if (state.tab) words.set("tab", state.tab);
  const hash = words.toString();
  if (location.hash.slice(1) !== hash) history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

const sides = (text) => { const s = text.toLowerCase().split(/[x×]/).map(Number); return [s[0], s[s.length - 1]]; };
const pixels = (text) => { const [h, w] = sides(text); return h * w; };
const size = (text) => { const [h, w] = sides(text); return `${h}x${w}`; };

const WEIGHTS = { scope: 1e6, machine: 1e5, device: 1e4, pass: 300, precision: 100, dim: 60, heads: 30, stride: 40, threads: 3, allocator: 2, protocol: 1, run: 0.5 };
function distance(c) {
  let far = c.timed ? 0 : 5e4;
  for (const axis of Object.keys(WEIGHTS)) {
    if (state[axis] !== "" && c[axis] !== state[axis]) far += WEIGHTS[axis] * (asked.has(axis) ? 4 : 1);
  }
  const apart = (a, b) => (a > 0 && b > 0 ? Math.abs(Math.log(a / b)) : 0);
  far += (size(state.res) === c.res ? 0 : 1 + 20 * apart(c.pixels, pixels(state.res))) * (asked.has("res") ? 2 : 1);
  return far + (state.batch === c.batch ? 0 : 1 + 10 * apart(c.images, Number(state.batch)));
}
const nearest = () => conditions.reduce((best, c) => (best && distance(best) <= distance(c) ? best : c), null);

// After a control or the address changed: which measured condition to show. What was not asked for follows it.
function settle() {
  const found = nearest();
  if (!found) return null;
  for (const axis of AXES) if (!["res", "batch"].includes(axis) && (!asked.has(axis) || axis === "run" || axis === "protocol")) state[axis] = found[axis];
  for (const axis of ["res", "batch"]) if (!asked.has(axis)) state[axis] = found[axis];
  return found;
}
const unmet = () => ["scope", "machine", "device", "res", "batch", "precision", "pass", "dim", "heads", "stride"].filter((axis) => (axis === "res" ? size(state.res) : state[axis]) !== condition[axis]);

// The cells to show: one a variant where runtime and kernel are free (the fastest); the reference always.
function chosenCells(from = condition) {
  const words = state.find.toLowerCase().split(/[\s|,]+/).filter(Boolean);
  const most = Number(state.memory);
  const fits = (c) => (state.kind === "all" || c.kind === state.kind) && (!state.reach || c.reach === state.reach)
    && (!words.length || words.some((w) => c.variant.toLowerCase().includes(w)))
    && (!(most > 0) || (c.memory !== null && c.memory <= most));
  const ways = cellsOf(from).filter((c) => (state.runtime === "any" || c.runtime === state.runtime) && (state.kernel === "any" || c.kernel === state.kernel));
  const best = new Map();
  for (const cell of ways) {
    const held = best.get(cell.variant);
    if (!held || (cell.speed && (!held.speed || cell.speed.value > held.speed.value))) best.set(cell.variant, cell);
  }
  const found = [...best.values()].map((cell) => Object.assign(cell, { fits: fits(cell) })).filter((c) => c.fits || c.reference);
  return Object.assign(rank(found), { reference: cellsOf(from).reference, limit: cellsOf(from).limit, over: cellsOf(from).over });
}

const quote = (word) => (/^[\w.,:=x/-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
const short = (res) => { const [h, w] = sides(res); return h === w ? String(h) : `${h}x${w}`; };
// What measures the asked condition, for the variants that are chosen, or for those shown.
function command(cells) {
  const option = { layer: "--mechanism", backbone: "--backbone", task: "--task" }[state.scope] || "--mechanism";
  const names = state.pick.length ? state.pick : state.scope === "layer" && cells.length > 12 ? [] : cells.map((c) => c.variant);
  const list = [...new Set(cells.reference && names.length && !names.includes(cells.reference) ? [cells.reference, ...names] : names)];
  const words = ["attnbench run"];
  if (list.length) words.push(option, quote(list.join(",")));
  words.push("--res", quote(short(state.res)), "--batch", quote(state.batch), "--device", quote(state.device));
  const usual = { precision: "fp32", pass: "forward", dim: "768", heads: "12", stride: "16", allocator: "pinned" };
  for (const [axis, value] of Object.entries(usual)) if (state[axis] !== "" && state[axis] !== value) words.push(`--${axis}`, quote(state[axis]));
  if (cells.reference && cells.reference !== "msa") words.push("--reference", quote(cells.reference));
  if (!["any", "eager"].includes(state.kernel)) words.push("--kernel", quote(state.kernel));
  const [runtime, graphs] = state.runtime.split(" ");
  if (!["any", "eager"].includes(runtime)) words.push("--runtime", quote(runtime));
  if (graphs) words.push("--graphs yes");
  return words.join(" ");
}

// The controls: one select an axis; resolution and batch also take what was not measured.
const TITLES = { scope: "Scope", machine: "Machine and device", device: "Device", runtime: "Runtime", kernel: "Kernel", res: "Resolution", batch: "Batch", precision: "Precision", pass: "Pass", dim: "dim", heads: "heads", stride: "stride", threads: "Threads", allocator: "Allocator", run: "Run", kind: "Kind", reach: "Reach", find: "Find", memory: "Memory at most (MiB)" };
const SHOWN = { layer: "layers", backbone: "backbones", task: "detectors", forward: "inference", train: "training", "": "any", any: "any: the fastest", all: "all kinds", attention: "attention only", fourier: "Fourier", "state-space": "state space" };
const OTHER = "other…";
function options(axis) {
  if (axis === "kind") return ["attention", "all", ...[...new Set(index.mixing.map(([kind]) => kind))].filter((k) => k !== "attention").sort()];
  if (axis === "reach") return ["", ...REACHES];
  if (axis === "runtime" || axis === "kernel") {
    const found = index.words[axis];
    return found.length > 1 ? ["any", ...found] : found;
  }
  const held = [...({ scope: [], machine: ["scope"], device: ["scope", "machine"] }[axis] || ["scope", "machine", "device"])];
  const timed = conditions.some((c) => c.timed);
  if (axis === "run") held.push(...AXES.filter((a) => !["run", "protocol", ...held].includes(a)));
  return values(axis, (c) => (c.timed || !timed) && held.every((h) => c[h] === condition[h])).sort(axis === "machine" || axis === "scope" ? () => 0 : natural);
}
function fillControls() {
  for (const name of CHOICES) {
    const label = byId(`choose-${name}`), input = label.querySelector("select, input");
    if (input.tagName === "INPUT") { if (document.activeElement !== input) input.value = state[name]; continue; }
    const free = name === "res" || name === "batch";
    const found = options(name), value = name === "res" ? size(state.res) : state[name];
    const now = found.length === 1 && ["runtime", "kernel"].includes(name) ? found[0] : value;
    const shown = [...found, ...(free ? [OTHER] : [])];
    if (!found.includes(now)) shown.unshift(now);
    input.replaceChildren(...shown.map((v) => new Option(SHOWN[v] ?? v, v, false, v === now)));
    input.value = now;
    const always = ["scope", "machine", "runtime", "res", "batch", "precision", "pass", "kind", "reach"].includes(name);
    label.hidden = !always && found.length < 2 && found.includes(now);
  }
}
