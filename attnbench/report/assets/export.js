// What is shown, to take away: CSV, LaTeX, one SVG of both charts, the command, the address.
function save(name, type, text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
const inert = (text) => (/^[=+\-@\t\r]/.test(text) && !/^-?[\d.]+$/.test(text) ? `'${text}` : text);
const csvCell = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const EXPORTED = {
  variant: (c) => c.variant, kind: (c) => c.kind, reach: (c) => c.reach, ...Object.fromEntries(AXES.map((a) => [a, (c) => c.condition[a]])),
  runtime: (c) => c.runtime, kernel: (c) => c.kernel, rank: (c) => c.rank, latency_ms: (c) => c.time && c.time.value, latency_low_ms: (c) => c.time && c.time.low,
  latency_high_ms: (c) => c.time && c.time.high, ratio: (c) => c.ratio && c.ratio.value, ratio_low: (c) => c.ratio && c.ratio.low, ratio_high: (c) => c.ratio && c.ratio.high,
  peak_memory_mib: (c) => c.memory, macs: (c) => c.macs, params: (c) => c.params, published_top1_pct: (c) => c.top1, ties: (c) => c.ties, outcome: (c) => c.outcome, why: (c) => c.why, flags: (c) => c.flags,
};
function csv() {
  const text = (value) => (value === null || value === undefined ? "" : typeof value === "number" ? String(Number(value.toPrecision(6))) : inert(value));
  const lines = [Object.keys(EXPORTED), ...shown.map((c) => Object.values(EXPORTED).map((read) => text(read(c))))];
  return `${lines.map((line) => line.map(csvCell).join(",")).join("\n")}\n`;
}
const TEX = { "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", $: "\\$", "&": "\\&", "#": "\\#", _: "\\_", "%": "\\%", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "×": "$\\times$", "±": "$\\pm$" };
const tex = (text) => [...text].map((c) => TEX[c] ?? c).join("");
// A column of siunitx: as many digits before and after the point as any of its cells has.
function siunitx(cells) {
  const plain = cells.filter((cell) => !cell.startsWith("{")).map((cell) => cell.replace("\\bfseries ", ""));
  const most = (part) => Math.max(0, ...plain.map((cell) => (cell.split(".")[part] ?? "").length));
  return plain.length ? `S[table-format=${most(0)}.${most(1)}]` : "c";
}
function latex() {
  const columns = [
    ["latency (ms)", (c) => c.time && c.time.value, Math.min], [`speed over ${shown.over || "the reference"}`, (c) => c.ratio && c.ratio.value, Math.max],
    ["± (%)", (c) => percent(c.ratio && !c.base ? c.ratio : c.speed), null], ["memory (MiB)", (c) => c.memory, Math.min],
    ["MACs (G)", (c) => (c.macs === null ? null : c.macs / 1e9), Math.min], ["parameters (M)", (c) => (c.params === null ? null : c.params / 1e6), Math.min],
  ].filter(([, read]) => shown.some((c) => read(c) !== null));
  const written = columns.map(([, read, best]) => {
    const values = shown.map(read), found = values.filter(Number.isFinite);
    const bold = (v) => (best && v === best(...found) ? "\\bfseries " : "");
    return values.map((v) => (!Number.isFinite(v) ? "{--}" : `${bold(v)}${number(v, best ? 3 : 2)}`));
  });
  return [
    "% needs \\usepackage{booktabs} and \\usepackage{siunitx}, version 3", "\\begin{table*}", "\\centering\\small", `\\caption{${tex(`${conditionWords(condition)}.`)}}`,
    "\\sisetup{text-series-to-math=true, reset-text-series=false}",
    `\\begin{tabular}{l${written.map(siunitx).join("")}}`, "\\toprule", `${["variant", ...columns.map(([title]) => `{${tex(title)}}`)].join(" & ")} \\\\`, "\\midrule",
    ...shown.map((c, row) => `${[tex(c.variant), ...written.map((cells) => cells[row])].join(" & ")} \\\\`), "\\bottomrule", "\\end{tabular}", "\\end{table*}", "",
  ].join("\n");
}
const xml = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
// Both charts side by side on white, in the light theme's colours, with the conditions above and the notes below.
async function svg() {
  const root = document.documentElement, theme = root.dataset.theme;
  const ranked = await views["ranked-chart"].view.toSVG();
  await drawFront(Math.max(560, 18 * shown.length), 760, true);
  const view = views["front-chart"].view, points = await view.toSVG();
  const unnamed = view.scenegraph().root.items[0].items.flatMap((mark) => (mark.name === "labels" ? mark.items : [])).filter((label) => !label.opacity).map((label) => label.text);
  await draw();
  const parts = [ranked, points];
  root.dataset.theme = "light";
  const style = getComputedStyle(root), plain = (text) => text.replace(/var\((--\w+)\)/g, (_, name) => style.getPropertyValue(name).trim());
  const sized = parts.map((text) => ({ text, width: Number(text.match(/ width="([\d.]+)"/)[1]), height: Number(text.match(/ height="([\d.]+)"/)[1]) }));
  const words = [[8, 20, 15, "bold", byId("ranked-title").textContent], [sized[0].width + 24, 20, 15, "bold", byId("front-title").textContent], [8, 38, 12, "normal", conditionWords(condition)]];
  const tall = Math.max(...sized.map((s) => s.height)), wide = sized[0].width + sized[1].width + 32;
  words.push([8, tall + 68, 11, "normal", byId("ranked-note").textContent], [8, tall + 84, 11, "normal", [byId("front-note").textContent, unnamed.length ? `Without a name for want of room: ${unnamed.join(", ")}.` : ""].join(" ")]);
  const lines = words.map(([x, y, size, weight, text]) => `<text x="${x}" y="${y}" font-size="${size}" font-weight="${weight}" font-family="sans-serif" fill="var(--ink)">${xml(text)}</text>`);
  const inner = sized.map((s, i) => s.text.replace("<svg ", `<svg x="${i ? sized[0].width + 16 : 0}" y="48" `));
  const made = plain(`<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${wide}" height="${tall + 96}" viewBox="0 0 ${wide} ${tall + 96}"><rect width="100%" height="100%" fill="var(--paper)"/>${lines.join("")}${inner.join("")}</svg>\n`);
  if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
  return made;
}
async function copy(text, what) {
  const out = byId("copied");
  out.replaceChildren(element("code", {}, text));
  try { await navigator.clipboard.writeText(text); out.prepend(`${what} copied: `); } catch { out.prepend(`${what}: `); }
}
const fileName = () => `attnbench-${state.scope}-${condition.res}-batch${condition.batch}`;
const ACTIONS = {
  csv: () => save(`${fileName()}.csv`, "text/csv", csv()),
  svg: async () => save(`${fileName()}.svg`, "image/svg+xml", await svg()),
  latex: () => save(`${fileName()}.tex`, "text/x-tex", latex()),
  command: () => copy(command(shown), "Command"),
  link: () => { writeAddress(); return copy(location.href, "Link"); },
};
