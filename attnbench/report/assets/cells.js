// The stored cells: an index of conditions, parsed at once, and a block of cells for each, parsed when it is chosen.
const byId = (id) => document.getElementById(id);
const all = (query, root = document) => [...root.querySelectorAll(query)];
const json = (id) => JSON.parse(byId(id).textContent);
const index = json("index");
const AXES = Object.keys(index.axes);
const conditions = index.conditions.map((codes, block) => {
  const found = { block, timed: codes[AXES.length] };
  AXES.forEach((axis, i) => { found[axis] = index.axes[axis][codes[i]]; });
  const sides = found.res.split("x").map(Number);
  return Object.assign(found, { pixels: sides[0] * sides[1], images: Number(found.batch) });
});

const REACHES = ["global", "sparse", "local"];
const parsed = new Map();

// How a cell was executed, where the report holds several ways.
const SHOWN_RUNTIME = (runtime) => (runtime === "eager" ? "eager PyTorch" : runtime);
const way = (cell) => [index.words.runtime.length > 1 ? SHOWN_RUNTIME(cell.runtime) : "", index.words.kernel.length > 1 ? cell.kernel : ""].filter(Boolean).join(", ");

// The cells of a condition as objects; `base` is the arm of the reference that ratios are over, `over` its words; times are of a batch in ms, memory in MiB.
function cellsOf(condition) {
  if (parsed.has(condition.block)) return parsed.get(condition.block);
  const block = json(`block-${condition.block}`), words = index.words;
  const at = (name, i) => (Array.isArray(block[name]) ? block[name][i] : block[name]);
  const cells = Array.from({ length: block.count }, (_, i) => {
    const cell = { condition, place: i };
    for (const name of Object.keys(words)) cell[name] = words[name][at(name, i)];
    [cell.kind, cell.reach] = index.mixing[at("variant", i)];
    for (const name of ["speed", "ratio"]) {
      cell[name] = at(name, i) === null ? null : { value: at(name, i), low: at(`${name}_low`, i), high: at(`${name}_high`, i) };
    }
    for (const name of ["macs", "params", "top1", "ties"]) cell[name] = at(name, i);
    cell.memory = at("memory", i) === null ? null : at("memory", i) / 2 ** 20;
    const ms = (speed) => (speed === null ? null : 1000 * condition.images / speed);
    cell.time = cell.speed && { value: ms(cell.speed.value), low: ms(cell.speed.high), high: ms(cell.speed.low) };
    cell.reference = cell.variant === block.reference;
    cell.base = i === block.base;
    cell.key = `${cell.variant}|${cell.runtime}|${cell.kernel}`;
    return cell;
  });
  const base = cells[block.base], alone = cells.filter((c) => c.reference).length < 2;
  Object.assign(cells, { reference: block.reference, limit: block.limit, over: base && !alone ? `${base.variant} (${way(base)})` : block.reference });
  parsed.set(condition.block, cells);
  return cells;
}

// Numbers as `attnbench.report.numbers` writes them: significant digits, no exponents, an interval with its value's decimals.
const decimals = (x, digits) => (x ? digits - 1 - Number(x.toExponential(digits - 1).split("e")[1]) : 0);
const fixed = (x, places) => (places < 0 ? Math.round(x * 10 ** places) / 10 ** places : x).toFixed(Math.min(99, Math.max(0, places)));
function number(x, digits = 3) {
  return x === null || !Number.isFinite(x) ? "–" : fixed(x, decimals(x, digits));
}
const isUnresolved = (e) => Boolean(e && e.low > 0 && e.high / e.low > 10);
function estimate(e, digits = 3) {
  if (!e) return "";
  if (isUnresolved(e)) return "unresolved";
  if (e.low === null || e.high === null) return number(e.value, digits);
  const places = decimals(e.value, digits);
  return `${fixed(e.value, places)} [${fixed(e.low, places)}, ${fixed(e.high, places)}]`;
}
const percent = (e) => (e && e.low !== null && e.high !== null && !isUnresolved(e) ? 50 * (e.high - e.low) / e.value : null);
const isLowerBound = (c) => c.flags.split(" ").includes("lower_bound");
const share = (letters, others) => [...letters.matchAll(/[a-zA-Z]\d*/g)].some(([l]) => [...others.matchAll(/[a-zA-Z]\d*/g)].some(([m]) => l === m));
const tied = (a, b) => Boolean(a.ties && b.ties && share(a.ties, b.ties));

// The fastest first. A rank is one more than the number of arms that are distinguishably faster, and never falls.
function rank(cells) {
  const known = cells.find((c) => c.reference && c.speed), one = known ? known.speed.value / (known.ratio ? known.ratio.value : 1) : 1;
  const merit = (c) => (c.ratio ? c.ratio.value : c.speed ? c.speed.value / one : -1);
  const order = [...cells].sort((a, b) => merit(b) - merit(a));
  let last = 1;
  order.forEach((cell, i) => {
    const faster = order.slice(0, i).filter((o) => o.fits && !tied(o, cell)).length;
    cell.rank = cell.speed && cell.fits ? Math.max(last, 1 + faster) : null;
    last = cell.rank ?? last;
  });
  order.forEach((cell) => { cell.shared = cell.rank !== null && order.some((o) => o !== cell && o.rank === cell.rank); });
  return order;
}

// The cells that no other beats in both numbers: `x` is better smaller, `y` too unless `up`.
function front(cells, x, y, up) {
  const sign = up ? -1 : 1, best = [];
  let least = Infinity;
  for (const cell of [...cells].sort((a, b) => a[x] - b[x] || sign * (a[y] - b[y]))) {
    if (sign * cell[y] < least) { best.push(cell); least = sign * cell[y]; }
  }
  return best;
}

// The ends of an axis that a few far values do not stretch: 3 quartile ranges beyond the quartiles are off it.
function range(values, keep = [], log = true) {
  const to = log ? Math.log : (v) => v, back = log ? Math.exp : (v) => v;
  const sorted = values.map(to).sort((a, b) => a - b), at = (q) => sorted[Math.round(q * (sorted.length - 1))];
  if (!sorted.length) return log ? [0.5, 2] : [0, 1];
  const reach = Math.max(3 * (at(0.75) - at(0.25)), log ? Math.log(4) : 1);
  const inside = sorted.filter((v) => v >= at(0.25) - reach && v <= at(0.75) + reach).concat(keep.map(to));
  const low = Math.min(...inside), high = Math.max(...inside), room = Math.max(0.06 * (high - low), log ? 0.08 : 0.3);
  return [back(low - room), back(high + room)];
}
function logTicks([low, high]) {
  const found = (steps) => {
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e += 1) {
      for (const s of steps) { const v = Number(`${s}e${e}`); if (v >= low && v <= high) ticks.push(v); }
    }
    return ticks;
  };
  const choices = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7], [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9]].map(found);
  return choices.find((ticks) => ticks.length >= 4) || choices[4];
}
